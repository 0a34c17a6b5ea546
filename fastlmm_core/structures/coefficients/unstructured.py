"""Unstructured covariance: every variance and covariance free; a scalar variance is its m = 1 case."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fastlmm_core.structures.coefficients.entries import LinearEntries
from fastlmm_core.structures.coefficients.moments import interior
from fastlmm_core.structures.registry import register_coefficient_structure


@register_coefficient_structure
class Unstructured(LinearEntries):
    """T = Lambda Lambda' with a full lower triangular Lambda, theta its columns (Bates et al. 2015)."""

    name = "us"
    aliases = ("un",)
    any_scale = any_basis = absorbs_residual = absorbs_subject = True

    @property
    def positions(self) -> tuple[tuple[int, int], ...]:
        return tuple((row, col) for col in range(self.m) for row in range(col, self.m))

    def untold(self, together: np.ndarray) -> list[tuple[int, int]]:
        return [(col, row) for row, col in self.positions if row > col and not together[row, col]]

    def start(self, covariance: np.ndarray) -> np.ndarray:
        return self.theta_of(interior(covariance))

    def theta_of(self, covariance: np.ndarray) -> np.ndarray:
        return lower_factor(covariance)[self._places]

    def canonical(self, theta: np.ndarray) -> np.ndarray:
        sign = np.where(theta[self.diagonal] < 0.0, -1.0, 1.0)
        return sign[self._places[1]] * theta

    def natural_directions(self) -> np.ndarray:
        rows, columns = self._places
        directions = np.zeros((self.n_theta, self.m, self.m))
        every = np.arange(self.n_theta)
        directions[every, rows, columns] = directions[every, columns, rows] = 1.0
        return directions

    def natural_names(self, labels: Sequence[str]) -> tuple[str, ...]:
        return tuple(
            f"variance of {labels[a]}" if a == b else f"covariance of {labels[b]} and {labels[a]}"
            for a, b in self.positions
        )


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
