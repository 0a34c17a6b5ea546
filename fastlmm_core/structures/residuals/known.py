"""A residual whose covariance is known but for its scale."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.linalg.lapack import dpotrf

from fastlmm_core.errors import DataError
from fastlmm_core.linalg.definite import inverse_from_factor
from fastlmm_core.structures.residuals.base import PieceEntries, ScaledPieces
from fastlmm_core.structures.residuals.dense_rows import DenseRows

# Rows of a block of Omega^-1, and share of its entries that are not zero, from which it is kept as a matrix.
DENSE_ROWS = 24
DENSE_SHARE = 0.5
# Entries of Omega^-1 below this share of its largest are rounding.
ROUNDING = 1e-15


class KnownResiduals(ScaledPieces):
    """R = sigma2 W^(-1/2) Omega W^(-1/2) with Omega known, theta = log sigma2.

    Parameters
    ----------
    weights : (n,)
    omega : (n, n) array, or list of (rows (k,), (k, k) array)
        Omega, or its blocks: rows of different ones are uncorrelated.
    """

    def __init__(self, weights: np.ndarray, omega: np.ndarray | Sequence[tuple[np.ndarray, np.ndarray]]):
        n = weights.size
        root = np.sqrt(weights)
        given = [(np.arange(n), omega)] if isinstance(omega, np.ndarray) else omega
        if not np.all(root == 1.0):
            given = [(rows, own / root[rows][:, None] / root[rows]) for rows, own in given]
        self.blocks_of_rows = list(given)
        self.n_rows, self.n_theta, self.n_pieces = n, 1, 1
        self.counts = np.array([float(n)])
        self._diagonal, self._log_omega = np.empty(n), 0.0
        dense, parts = [], [(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0))]
        for rows, own in self.blocks_of_rows:
            inverse, log = _inverse(own)
            self._log_omega += log
            self._diagonal[rows] = np.diag(own)
            present = np.abs(inverse) > ROUNDING * np.abs(inverse).max()
            if rows.size >= DENSE_ROWS and np.mean(present) >= DENSE_SHARE:
                dense.append(DenseRows(np.asarray(rows, np.int64), inverse))
            else:
                parts.append(_lower_entries(rows, inverse, present))
        row, column, value = (np.concatenate(part) for part in zip(*parts, strict=True))
        self.entries = PieceEntries(row, column, np.zeros(row.size, np.int64), value)
        self.dense = tuple(dense)

    def start(self, moments: Any) -> np.ndarray:
        return np.log(np.maximum(np.array([0.5 * float(np.mean(moments**2 / self._diagonal))]), 1e-3))

    def coefficients(self, theta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        c = np.exp(-theta)
        return c, -np.diag(c)

    def log_determinant(self, theta: np.ndarray) -> tuple[float, np.ndarray]:
        return self.n_rows * float(theta[0]) + self._log_omega, np.array([float(self.n_rows)])

    def multiply_covariance(self, theta: np.ndarray, V: np.ndarray) -> np.ndarray:
        out = np.empty_like(V)
        for rows, own in self.blocks_of_rows:
            out[rows] = own @ V[rows]
        return np.exp(theta[0]) * out

    def natural(self, theta: np.ndarray) -> np.ndarray:
        return np.exp(theta)

    def natural_jacobian(self, theta: np.ndarray) -> np.ndarray:
        return np.diag(np.exp(theta))

    def natural_names(self) -> tuple[str, ...]:
        return ("Residual",)

    def held(self, variance: float, group: int = 0) -> float:
        return float(np.log(variance))

    def rescaled(self, theta: np.ndarray, factor: float) -> np.ndarray:
        return theta + np.log(factor)

    def variances(self, theta: np.ndarray) -> np.ndarray:
        return np.exp(theta[0]) * self._diagonal

    def covariance_jacobian(self, theta: np.ndarray) -> list[np.ndarray]:
        return [np.exp(theta)[:, None, None]]

    def blocks(self, theta: np.ndarray) -> list[dict[str, Any]]:
        return [{"at": None, "names": ["(Intercept)"], "T": np.array([[np.exp(theta[0])]]), "n_par": 1,
                 "group_corr": {}, "struct": "vm"}]  # fmt: skip


def _inverse(omega: np.ndarray) -> tuple[np.ndarray, float]:
    """Inverse of a covariance (k, k) and the logarithm of its determinant."""
    factor, failed = dpotrf(omega, lower=1, clean=1)
    if failed:
        raise DataError("the known covariance of the residual is not positive definite")
    log = 2.0 * float(np.sum(np.log(np.diag(factor))))
    return inverse_from_factor(factor, overwrite=True), log


def _lower_entries(
    rows: np.ndarray, inverse: np.ndarray, present: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Entries (row, column, value) of an inverse that are present, on and below the diagonal of all rows."""
    one, other = np.nonzero(np.tril(present))
    first, second = rows[one], rows[other]
    return np.maximum(first, second), np.minimum(first, second), inverse[one, other]
