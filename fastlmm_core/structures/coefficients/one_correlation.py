"""Correlation matrices of one parameter rho: the chain rule, common to compound symmetry and AR(1)."""

from __future__ import annotations

from abc import abstractmethod

import numpy as np

from fastlmm_core.structures.coefficients.boundary import BOUND_CORRELATION
from fastlmm_core.structures.coefficients.scaled_correlation import ScaledCorrelation


class OneCorrelation(ScaledCorrelation):
    """c = (rho,), absent for m = 1."""

    @abstractmethod
    def rho_of(self, x: float) -> tuple[float, float, float]:
        """rho and its first two derivatives in the chart."""

    @abstractmethod
    def factor_of(self, rho: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """K and its first two derivatives in rho, (m, m) each."""

    @property
    def n_correlations(self) -> int:
        return 1 if self.m > 1 else 0

    def untold(self, together: np.ndarray) -> list[tuple[int, int]]:
        return [] if self.m < 2 or np.tril(together, -1).any() else [(0, 1)]

    def correlations(self, x: np.ndarray) -> np.ndarray:
        return np.array([self.rho_of(value)[0] for value in x])

    def correlations_jacobian(self, x: np.ndarray) -> np.ndarray:
        return np.array([[self.rho_of(value)[1]] for value in x]).reshape(x.size, x.size)

    def correlations_hessian(self, x: np.ndarray) -> np.ndarray:
        return np.array([[[self.rho_of(value)[2]]] for value in x]).reshape((x.size,) * 3)

    def factor(self, x: np.ndarray) -> np.ndarray:
        return self.factor_of(self.rho_of(x[0])[0])[0] if x.size else np.eye(1)

    def factor_jacobian(self, x: np.ndarray) -> np.ndarray:
        if not x.size:
            return np.zeros((0, 1, 1))
        rho, first, _ = self.rho_of(x[0])
        return first * self.factor_of(rho)[1][None]

    def factor_hessian(self, x: np.ndarray) -> np.ndarray:
        if not x.size:
            return np.zeros((0, 0, 1, 1))
        rho, first, second = self.rho_of(x[0])
        _, dK, d2K = self.factor_of(rho)
        return (first**2 * d2K + second * dK)[None, None]

    def correlation_bounds(self, x: np.ndarray) -> list[str]:
        words = []
        for rho in self.correlations(x):
            if rho >= 1.0 - BOUND_CORRELATION:
                words.append("the correlation is +1")
            elif rho <= self.least_rho * (1.0 - BOUND_CORRELATION):
                least = "-1" if self.least_rho == -1.0 else f"-1/{self.m - 1}"
                words.append(f"the correlation is {least}" + (", its least" if least != "-1" else ""))
        return words
