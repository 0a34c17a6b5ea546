"""Lambda = 1: terms whose variances are all in the precision of their levels."""

from __future__ import annotations

import numpy as np

from fastlmm_core.structures.coefficients.base import CoefficientStructure


class UnitLoadings(CoefficientStructure):
    """T = 1 without parameters, for the coefficients of a spline; no formula writes it."""

    name = "spline"
    linear = True
    n_theta = 0

    def loadings(self, theta: np.ndarray) -> np.ndarray:
        return np.ones((1, 1))

    def loadings_jacobian(self, theta: np.ndarray) -> np.ndarray:
        return np.zeros((0, 1, 1))

    def start(self, covariance: np.ndarray) -> np.ndarray:
        return np.zeros(0)

    def theta_of(self, covariance: np.ndarray) -> np.ndarray:
        return np.zeros(0)
