"""Independent residuals, one variance for all rows or one for every level of a factor."""

from __future__ import annotations

from copy import copy
from typing import Any

import numpy as np

from fastlmm_core.structures.residuals.base import (
    SETTLES,
    PieceEntries,
    ResidualGroup,
    ScaledPieces,
    block_names,
)

# Least residual variance, relative to the mean square of the least squares residuals of the same rows: at
# zero R has no inverse, and below this the equations lose the digits of the criterion.
FLOOR = 1e-9
# Mean square of some rows, relative to that of all, below which it is rounding.
LEAST_SQUARE = 1e-20


class IndependentResiduals(ScaledPieces):
    """R = diag(sigma2_g(i) / w_i), theta_g the standard deviation: sigma2_g = theta_g^2 + least_g.

    A residual variance of zero, where random terms take everything, is a smooth minimum in theta.

    Parameters
    ----------
    weights : (n,) float64
    codes : (n,) int64
        Group of every row.
    levels : tuple
        Labels of the groups; ``(None,)`` for one variance.
    """

    def __init__(self, weights: np.ndarray, codes: np.ndarray, levels: tuple[Any, ...]):
        n = weights.size
        self.weights, self.codes, self.levels = weights, np.asarray(codes, np.int64), levels
        self.n_rows, self.n_theta, self.n_pieces = n, len(levels), len(levels)
        rows = np.arange(n)
        self.entries = PieceEntries(rows, rows, self.codes, np.asarray(weights, float))
        self.counts = np.bincount(self.codes, minlength=self.n_theta).astype(float)
        self.log_weights = float(np.sum(np.log(weights)))
        self.least = np.full(self.n_theta, FLOOR)

    def groups(self) -> list[ResidualGroup]:
        if self.n_theta == 1:
            return []
        return [
            ResidualGroup(level, np.flatnonzero(self.codes == g), slice(g, g + 1))
            for g, level in enumerate(self.levels)
        ]

    def for_response(self, e: np.ndarray) -> IndependentResiduals:
        out = copy(self)
        squares = self._mean_squares(e)
        # of rows that the fixed part explains by themselves nothing is known: any variance serves
        out.least = FLOOR * np.where(squares > LEAST_SQUARE, squares, max(float(squares.max()), LEAST_SQUARE))
        return out

    def with_least(self, factor: float) -> IndependentResiduals:
        out = copy(self)
        out.least = factor * self.least
        return out

    def _mean_squares(self, e: np.ndarray) -> np.ndarray:
        """Weighted mean square of e (n,) by group."""
        return np.bincount(self.codes, self.weights * e**2, minlength=self.n_theta) / self.counts

    def start(self, moments: Any) -> np.ndarray:
        return np.sqrt(np.maximum(0.5 * self._mean_squares(moments), 0.02 / FLOOR * self.least))

    def coefficients(self, theta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        c = 1.0 / self.natural(theta)
        return c, -np.diag(2.0 * theta * c * c)

    def log_determinant(self, theta: np.ndarray) -> tuple[float, np.ndarray]:
        variances = self.natural(theta)
        log = float(self.counts @ np.log(variances)) - self.log_weights
        return log, self.counts * 2.0 * theta / variances

    def second_derivatives(self, theta: np.ndarray, weights: np.ndarray) -> np.ndarray:
        variances = self.natural(theta)
        share = 2.0 * theta**2 / variances
        of_precision = weights / variances * (2.0 * share - 1.0)
        return np.diag(2.0 / variances * (of_precision + self.counts * (1.0 - share)))

    def multiply_covariance(self, theta: np.ndarray, V: np.ndarray) -> np.ndarray:
        return V * self.variances(theta)[:, None]

    def natural(self, theta: np.ndarray) -> np.ndarray:
        return theta * theta + self.least

    def natural_jacobian(self, theta: np.ndarray) -> np.ndarray:
        return np.diag(2.0 * theta)

    def natural_pieces(self, theta: np.ndarray) -> np.ndarray:
        return -np.diag(1.0 / self.natural(theta) ** 2)  # also where theta is zero

    def settled(self, theta: np.ndarray) -> np.ndarray:
        return np.where(theta * theta < SETTLES / FLOOR * self.least, 0.0, theta)

    def curvature(self, theta: np.ndarray, gradient: np.ndarray) -> np.ndarray:
        return np.diag(np.divide(gradient, theta, out=np.zeros_like(theta), where=theta != 0.0))

    def natural_names(self) -> tuple[str, ...]:
        return block_names(self.levels)

    def zero_variances(self, theta: np.ndarray) -> np.ndarray:
        return np.asarray(theta * theta <= self.least)

    def held(self, variance: float, group: int = 0) -> float:
        return float(np.sqrt(max(variance - self.least[group], 0.0)))

    def rescaled(self, theta: np.ndarray, factor: float) -> np.ndarray:
        return theta * np.sqrt(factor)

    def variances(self, theta: np.ndarray) -> np.ndarray:
        return self.natural(theta)[self.codes] / self.weights

    def covariance_jacobian(self, theta: np.ndarray) -> list[np.ndarray]:
        return [row[:, None, None] for row in np.diag(2.0 * theta)]

    def blocks(self, theta: np.ndarray) -> list[dict[str, Any]]:
        own = np.where(self.zero_variances(theta), 0.0, self.natural(theta))
        return [
            {"at": level, "names": ["(Intercept)"], "T": np.array([[variance]]), "n_par": 1, "group_corr": {},
             "struct": "homdiag"}
            for level, variance in zip(self.levels, own, strict=True)
        ]  # fmt: skip
