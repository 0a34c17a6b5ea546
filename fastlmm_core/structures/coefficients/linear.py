"""Structures whose natural parameters are variances and covariances: T = sum_j g_j E_j."""

from __future__ import annotations

from abc import abstractmethod
from functools import cached_property

import numpy as np

from fastlmm_core.structures.coefficients.base import CoefficientStructure


class LinearCovariance(CoefficientStructure):
    """T linear in its natural parameters, which are elements of T."""

    linear = True

    @abstractmethod
    def natural_directions(self) -> np.ndarray:
        """E_j = dT of each natural parameter, (s, m, m) symmetric 0/1, no element in two of them."""

    @cached_property
    def _directions(self) -> np.ndarray:
        directions = self.natural_directions()
        directions.flags.writeable = False
        return directions

    @cached_property
    def _places(self) -> tuple[np.ndarray, np.ndarray]:
        """Row and column of one element of T for each natural parameter."""
        first = self._directions.reshape(len(self._directions), -1).argmax(axis=1)
        rows, columns = np.divmod(first, self.m)
        return rows, columns

    def natural(self, theta: np.ndarray) -> np.ndarray:
        return self.covariance(theta)[self._places]

    def natural_jacobian(self, theta: np.ndarray) -> np.ndarray:
        rows, columns = self._places
        return self.covariance_jacobian(theta)[:, rows, columns].T

    def natural_hessian(self, theta: np.ndarray, index: int) -> np.ndarray:
        """Second derivatives of one natural parameter in theta, (n_theta, n_theta)."""
        weights = np.zeros((self.m, self.m))
        weights[self._places[0][index], self._places[1][index]] = 1.0
        return np.asarray(self.covariance_curvature(theta, 0.5 * (weights + weights.T)))

    def covariance_by_natural(self, theta: np.ndarray) -> np.ndarray:
        return self._directions

    def covariance_second_by_natural(self, theta: np.ndarray) -> np.ndarray:
        s = len(self._directions)
        # A view of a single zero: for us and many coefficients s^2 m^2 numbers would not fit.
        return np.broadcast_to(np.zeros(()), (s, s, self.m, self.m))
