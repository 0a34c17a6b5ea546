"""Weighted least squares on the fixed columns."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp

from fastlmm_core.linalg.ordered_factor import normal_solver


@dataclass(frozen=True, eq=False)
class WeightedRegression:
    """Regression on X (n, p) of full rank with weights w (n,), whose normal equations are solved many times.

    Attributes
    ----------
    X, X_transposed : csc_array, csr_array
    weights : (n,)
    solve : callable
        (X'WX)^-1 r for r (p,) or (p, j).
    """

    X: sp.csc_array
    X_transposed: sp.csr_array
    weights: np.ndarray
    solve: Callable[[np.ndarray], np.ndarray] | None

    @classmethod
    def of(cls, X: sp.csc_array, w: np.ndarray) -> WeightedRegression:
        turned = sp.csr_array(X.T)
        if not X.shape[1]:
            return cls(X, turned, w, None)
        return cls(X, turned, w, normal_solver(sp.csc_array(turned @ sp.csc_array(X.multiply(w[:, None])))))

    def fit(self, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Coefficients of y, (n,) or (n, j), and the residual."""
        beta, residual = np.zeros((self.X.shape[1], *y.shape[1:])), y
        if self.solve is None:
            return beta, residual
        for _ in range(2):  # the second pass removes the rounding of the first
            beta = beta + self.solve(self.X_transposed @ (self.weights * residual.T).T)
            residual = y - self.X @ beta
        return beta, residual


def least_squares(X: sp.csc_array, w: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Coefficients of y, (n,) or (n, j), on X (n, p) of full rank with weights w (n,), and the residual."""
    return WeightedRegression.of(X, w).fit(y)
