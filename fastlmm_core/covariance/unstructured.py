"""Unstructured covariance: every variance and covariance free; a scalar variance is its m = 1 case."""

from __future__ import annotations

import numpy as np

from fastlmm_core.covariance.base import CovarianceStructure, register_structure


@register_structure
class Unstructured(CovarianceStructure):
    """T = Lambda Lambda' with a full lower triangular Lambda, theta its columns (Bates et al. 2015)."""

    name = "us"

    @property
    def positions(self) -> tuple[tuple[int, int], ...]:
        return tuple((row, col) for col in range(self.m) for row in range(col, self.m))

    def theta_of(self, covariance: np.ndarray) -> np.ndarray:
        return np.array([lower_factor(covariance)[row, col] for row, col in self.positions])


def lower_factor(covariance: np.ndarray) -> np.ndarray:
    """Lower Cholesky factor of a positive semidefinite matrix; a zero pivot gives a zero column.

    Pivots below 1e-14 of their diagonal are rounding and count as zero.
    """
    m = covariance.shape[0]
    factor = np.zeros((m, m))
    for col in range(m):
        pivot = covariance[col, col] - factor[col, :col] @ factor[col, :col]
        if pivot <= 1e-14 * covariance[col, col] or pivot <= 0.0:
            continue
        factor[col, col] = np.sqrt(pivot)
        below = slice(col + 1, m)
        factor[below, col] = covariance[below, col] - factor[below, :col] @ factor[col, :col]
        factor[below, col] /= factor[col, col]
    return factor
