"""Structures whose theta are entries of Lambda, one each."""

from __future__ import annotations

from functools import cached_property

import numpy as np

from fastlmm_core.structures.coefficients.base import CoefficientStructure
from fastlmm_core.structures.coefficients.linear import LinearCovariance


class LoadingEntries(CoefficientStructure):
    """Lambda_{row, column} = theta for the row and column of each theta, zero (or constant) elsewhere."""

    @property
    def positions(self) -> tuple[tuple[int, int], ...]:
        """Row and column in Lambda of each theta, column by column (lme4's order)."""
        raise NotImplementedError(f"covariance structure '{self.name}' has to define positions")

    @cached_property
    def _places(self) -> tuple[np.ndarray, np.ndarray]:
        places = np.array(self.positions, dtype=np.int64).reshape(-1, 2)
        return places[:, 0].copy(), places[:, 1].copy()

    @property
    def n_theta(self) -> int:
        return self._places[0].size

    @property
    def diagonal(self) -> np.ndarray:
        """Indices of the theta on the diagonal of Lambda, int64."""
        rows, columns = self._places
        return np.flatnonzero(rows == columns)

    @property
    def roots(self) -> np.ndarray:
        """Those that have a column of Lambda to themselves: T depends on their squares."""
        columns = self._places[1]
        return np.flatnonzero(np.bincount(columns, minlength=1)[columns] == 1)

    def loadings(self, theta: np.ndarray) -> np.ndarray:
        loadings = np.zeros((self.m, self.width), dtype=np.result_type(theta, float))
        loadings[self._places] = theta
        return loadings

    @cached_property
    def _jacobian(self) -> np.ndarray:
        jacobian = np.zeros((self.n_theta, self.m, self.width))
        jacobian[np.arange(self.n_theta), *self._places] = 1.0
        jacobian.flags.writeable = False
        return jacobian

    @cached_property
    def _same_column(self) -> np.ndarray:
        columns = self._places[1]
        return columns[:, None] == columns

    def loadings_jacobian(self, theta: np.ndarray) -> np.ndarray:
        return self._jacobian

    def covariance_jacobian(self, theta: np.ndarray) -> np.ndarray:
        """E_ac Lambda' + its transpose: row and column a of the derivative are column c of Lambda."""
        rows, columns = self._places
        loadings = self.loadings(theta)
        out = np.zeros((self.n_theta, self.m, self.m), dtype=loadings.dtype)
        every = np.arange(self.n_theta)
        out[every, rows, :] = loadings.T[columns]
        return out + np.swapaxes(out, 1, 2)

    def covariance_curvature(self, theta: np.ndarray, weights: np.ndarray) -> np.ndarray:
        rows = self._places[0]
        return 2.0 * weights[rows[:, None], rows] * self._same_column

    def rescaled(self, theta: np.ndarray, factor: float) -> np.ndarray:
        return np.sqrt(factor) * theta


class LinearEntries(LoadingEntries, LinearCovariance):
    """Entries of a lower triangular Lambda, T linear in its elements: what a change of basis leaves alone."""

    @property
    def roots(self) -> np.ndarray:
        return self.diagonal
