"""Weighted least squares on the fixed columns."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp

from fastlmm_core.linalg.ordered import normal_solver


def least_squares(X: sp.csc_array, w: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Coefficients of y, (n,) or (n, j), on X (n, p) of full rank with weights w (n,), and the residual."""
    p = X.shape[1]
    beta, residual = np.zeros((p, *y.shape[1:])), y
    if not p:
        return beta, residual
    solve = normal_solver(sp.csc_array(X.T @ sp.csc_array(X.multiply(w[:, None]))))
    for _ in range(2):  # the second pass removes the rounding of the first
        beta = beta + solve(X.T @ (w * residual.T).T)
        residual = y - X @ beta
    return beta, residual
