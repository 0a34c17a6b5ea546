"""Diagonal covariance: independent coefficients with their own variances."""

from __future__ import annotations

import numpy as np

from fastlmm_core.covariance.base import CovarianceStructure, register_structure


@register_structure
class Diagonal(CovarianceStructure):
    """T = diag(theta^2)."""

    name = "diag"

    @property
    def positions(self) -> tuple[tuple[int, int], ...]:
        return tuple((k, k) for k in range(self.m))

    def theta_of(self, covariance: np.ndarray) -> np.ndarray:
        return np.sqrt(np.maximum(np.diag(covariance), 0.0))
