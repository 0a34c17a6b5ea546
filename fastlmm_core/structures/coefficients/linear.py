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

    def covariance_by_natural(self, theta: np.ndarray) -> np.ndarray:
        return self._directions

    def covariance_second_by_natural(self, theta: np.ndarray) -> np.ndarray:
        s = len(self._directions)
        # A view of a single zero: for us and many coefficients s^2 m^2 numbers would not fit.
        return np.broadcast_to(np.zeros(()), (s, s, self.m, self.m))

    def natural_curvature(self, theta: np.ndarray, weights: np.ndarray) -> np.ndarray:
        return np.zeros((self.m, self.m))

    # Kenward-Roger's view of the same, from the covariance alone (inference/own_parameters.py).

    def parameter_jacobian(self, covariance: np.ndarray) -> np.ndarray:
        """d G / d s of the parameters s in which the structure is written, (s, m, m).

        Parameters
        ----------
        covariance : (m, m)
            G = sigma2 T of the coefficients as the user wrote them, where the derivative is taken. Parameters
            that are not determined there give a column of zeros or of non-finite numbers.
        """
        self._refuse_nonlinear("parameter_jacobian")
        return self.natural_directions()

    def parameter_hessian(self, covariance: np.ndarray) -> np.ndarray:
        """d2 G / d s d s', (s, s, m, m), at G = `covariance`."""
        self._refuse_nonlinear("parameter_hessian")
        s = len(self._directions)
        return np.zeros((s, s, self.m, self.m))

    def _refuse_nonlinear(self, method: str) -> None:
        """A subclass that is not linear after all has to say what its derivatives are."""
        if not self.linear:
            raise NotImplementedError(
                f"covariance structure '{self.name}' is not linear and has to define {method}"
            )
