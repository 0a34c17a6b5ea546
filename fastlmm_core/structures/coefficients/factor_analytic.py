"""Factor analytic: T = Gamma Gamma' + diag(psi), common factors and specific variances."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from fastlmm_core.structures.coefficients.base import CoefficientStructure
from fastlmm_core.structures.coefficients.boundary import describe_zero_variances, zero_variances
from fastlmm_core.structures.coefficients.diagonal import Diagonal
from fastlmm_core.structures.coefficients.factor_loadings import (
    FactorLoadings,
    leading_factors,
    lift_rows,
    principal_axes,
)
from fastlmm_core.structures.coefficients.moments import interior_variances
from fastlmm_core.structures.coefficients.reduced_rank import CommonFactors
from fastlmm_core.structures.registry import register_coefficient_structure

# Iterations of the principal factor method for the start, and the least specific part there.
PRINCIPAL_STEPS = 50
LEAST_SPECIFIC = 1e-2
# Correlations that a given T is to be met within, and starts that are tried for it.
MET = 1e-10
ATTEMPTS = 5


@register_coefficient_structure
class FactorAnalytic(FactorLoadings):
    """Gamma (m, k) and the square roots of psi (m,), ``fa(x | g, k=2)``: Lambda = [Gamma | diag(sqrt psi)].

    A single coefficient has nothing in common with others, and only its specific variance.
    """

    name = "fa"
    absorbs_residual = True
    option_names: ClassVar[tuple[str, ...]] = ("k",)

    def __init__(self, m: int, **options: Any):
        super().__init__(m, **options)
        self.k = self._factors("k") if m > 1 else min(0, self._factors("k"))

    @property
    def shared_columns(self) -> int:
        return self.k

    def parts(self) -> Sequence[tuple[CoefficientStructure, range]]:
        if self.exceeds_elements:
            return ()
        common = [(CommonFactors(self.m, d=self.k), range(self.m))] if self.k else []
        return [*common, *Diagonal(self.m).parts()]

    @property
    def n_par(self) -> int:
        return self.m * self.k + self.m - self.k * (self.k - 1) // 2

    @property
    def positions(self) -> tuple[tuple[int, int], ...]:
        return (*super().positions, *((row, self.k + row) for row in range(self.m)))

    def specific(self, theta: np.ndarray) -> np.ndarray:
        """Specific variances psi, (m,)."""
        return theta[self.m * self.k :] ** 2

    def start(self, covariance: np.ndarray) -> np.ndarray:
        sd = np.sqrt(interior_variances(covariance))
        gamma, psi = principal_factors(covariance / np.outer(sd, sd), self.k)
        if self.k:
            gamma = lift_rows(gamma)
        return self._join(sd[:, None] * gamma, sd * np.sqrt(psi))

    def _join(self, gamma: np.ndarray, specific_sd: np.ndarray) -> np.ndarray:
        return np.concatenate([gamma.T.ravel(), specific_sd])

    def theta_of(self, covariance: np.ndarray) -> np.ndarray:
        """Least squares on the correlations, from the principal factors or, if these fail, elsewhere."""
        variances = np.maximum(np.diag(covariance), 0.0)
        there = np.flatnonzero(variances > 0.0)
        if there.size < self.m:
            return self._beside_zeros(covariance, there)
        sd = np.sqrt(variances)
        R = covariance / np.outer(sd, sd)
        best = self._meet(R, self.start(R))
        random = np.random.default_rng(0)
        for _ in range(ATTEMPTS):
            if self._distance(R, best) < MET:
                break
            begin = np.append(0.5 * random.normal(size=self.m * self.k), np.full(self.m, 0.5))
            best = min(best, self._meet(R, begin), key=lambda theta: self._distance(R, theta))
        gamma, psi = self.gamma(best), self.specific(best)
        return self.canonical(self._join(sd[:, None] * gamma, sd * np.sqrt(psi)))

    def _beside_zeros(self, covariance: np.ndarray, there: np.ndarray) -> np.ndarray:
        """theta_of where only the coefficients `there` have a variance."""
        gamma, specific_sd = np.zeros((self.m, self.k)), np.zeros(self.m)
        if there.size:
            inner = FactorAnalytic(there.size, k=max(1, min(self.k, there.size)))
            theta = inner.theta_of(covariance[np.ix_(there, there)])
            gamma[there, : inner.k] = inner.gamma(theta)
            specific_sd[there] = theta[inner.m * inner.k :]
        return self._join(gamma, specific_sd)

    def _distance(self, R: np.ndarray, theta: np.ndarray) -> float:
        return float(np.abs(self.covariance(theta) - R).max())

    def _meet(self, R: np.ndarray, begin: np.ndarray) -> np.ndarray:
        from scipy.optimize import least_squares  # takes a quarter of a second to load

        lower = np.tril_indices(self.m)
        return least_squares(
            lambda theta: (self.covariance(theta) - R)[lower],
            begin,
            jac=lambda theta: self.covariance_jacobian(theta)[:, lower[0], lower[1]].T,
            xtol=1e-15, ftol=1e-15, gtol=1e-15, max_nfev=200,
        ).x  # fmt: skip

    def null_directions(self, theta: np.ndarray) -> np.ndarray:
        """Rotations; where there are more parameters than elements of T, all that leaves T to first order."""
        if not self.exceeds_elements:
            return super().null_directions(theta)
        lower = np.tril_indices(self.m)
        flat = self.covariance_jacobian(theta)[:, lower[0], lower[1]]
        return np.linalg.svd(flat, full_matrices=True)[0][:, self.n_elements :].T

    def canonical(self, theta: np.ndarray) -> np.ndarray:
        gamma = principal_axes(self.gamma(theta)) if self.k else self.gamma(theta)
        return self._join(gamma, np.abs(theta[gamma.size :]))

    def boundary(
        self, theta: np.ndarray, names: Sequence[str], least: float | np.ndarray = 0.0
    ) -> tuple[str, ...]:
        variances = np.diag(self.covariance(theta))
        zero = zero_variances(variances, least)
        words = describe_zero_variances(zero, names)
        if zero.all() or not self.k:
            return tuple(words)
        heywood = self.heywood(theta, least) & ~zero
        words += describe_zero_variances(heywood, names, "specific variance")
        return tuple(words + self._rank_words(theta))

    def heywood(self, theta: np.ndarray, least: float | np.ndarray = 0.0) -> np.ndarray:
        """Coefficients (m,) whose specific variance is zero beside the largest variance, or below `least`."""
        variances = np.concatenate([self.specific(theta), np.diag(self.covariance(theta))])
        both = np.tile(least, 2) if isinstance(least, np.ndarray) else least
        return zero_variances(variances, both)[: self.m]


def principal_factors(R: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Gamma (m, k) and psi (m,) of a correlation matrix by the principal factor method.

    Columns keep a length (a factor that starts at zero stays there), specific parts stay positive.
    """
    m = len(R)
    if k == 0:
        return np.zeros((m, 0)), np.ones(m)
    psi = np.full(m, 0.5)
    for _ in range(PRINCIPAL_STEPS):
        gamma = leading_factors(R - np.diag(psi), k)
        psi = np.clip(1.0 - np.sum(gamma**2, axis=1), LEAST_SPECIFIC, 1.0)
    values = np.linalg.eigvalsh(R - np.diag(psi))
    if values[-1] <= LEAST_SPECIFIC:  # nothing in common
        return leading_factors(np.eye(m) * LEAST_SPECIFIC + LEAST_SPECIFIC, k), psi
    return leading_factors(R - np.diag(psi), k, LEAST_SPECIFIC), psi
