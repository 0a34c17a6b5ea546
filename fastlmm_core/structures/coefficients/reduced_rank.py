"""Reduced rank: T = Gamma Gamma' of rank d."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from fastlmm_core.structures.coefficients.boundary import describe_zero_variances, zero_variances
from fastlmm_core.structures.coefficients.factor_loadings import (
    FactorLoadings,
    leading_factors,
    lift_rows,
    principal_axes,
)
from fastlmm_core.structures.coefficients.moments import LEAST, interior_variances
from fastlmm_core.structures.registry import register_coefficient_structure

# The m columns beside Gamma: e I with e this part of the largest loading. T does not see e^2 = 1e-18, while
# the score of all of T can be read off these columns.
PROBE = 2.0**-30


@register_coefficient_structure
class ReducedRank(FactorLoadings):
    """Gamma (m, d), ``rr(x | g, d=2)``.

    Lambda = [Gamma | e I]: e is a power of two near 1e-9 of the largest loading, and so constant in theta but
    for its jumps.
    """

    name = "rr"
    option_names: ClassVar[tuple[str, ...]] = ("d",)

    def __init__(self, m: int, **options: Any):
        super().__init__(m, **options)
        self.d = self.k = self._factors("d")

    @property
    def shared_columns(self) -> int:
        return self.d

    def parts(self) -> Sequence[tuple[CommonFactors, range]]:
        return [(CommonFactors(self.m, d=self.d), range(self.m))]

    @property
    def n_par(self) -> int:
        return self.m * self.d - self.d * (self.d - 1) // 2

    def loadings(self, theta: np.ndarray) -> np.ndarray:
        loadings = super().loadings(theta)
        own = np.abs(self.gamma(theta)).max(axis=1)
        least = float(own[own > 0.0].min(initial=np.inf))
        size = np.where(own > 0.0, own, least if np.isfinite(least) else 1.0)
        loadings[:, self.d :] = PROBE * np.diag(2.0 ** np.ceil(np.log2(size)))
        return loadings

    def covariance(self, theta: np.ndarray) -> np.ndarray:
        gamma = self.gamma(theta)
        return gamma @ gamma.T

    def start(self, covariance: np.ndarray) -> np.ndarray:
        sd = np.sqrt(interior_variances(covariance))
        R = covariance / np.outer(sd, sd)
        R = R + np.diag(np.where(np.diag(R) < LEAST, LEAST, 0.0))
        gamma = lift_rows(leading_factors(R, self.d, LEAST))
        return self._with_gamma(sd[:, None] * gamma, np.zeros(self.n_theta))

    def theta_of(self, covariance: np.ndarray) -> np.ndarray:
        return self._with_gamma(principal_axes(leading_factors(covariance, self.d)), np.zeros(self.n_theta))

    def boundary(
        self, theta: np.ndarray, names: Sequence[str], least: float | np.ndarray = 0.0
    ) -> tuple[str, ...]:
        zero = zero_variances(np.diag(self.covariance(theta)), least)
        words = describe_zero_variances(zero, names)
        return tuple(words + ([] if zero.all() else self._rank_words(theta)))


class CommonFactors(ReducedRank):
    """The factors alone, Lambda = Gamma: where effects beside them cost more than the score of T is worth."""

    @property
    def width(self) -> int:
        return self.d

    def parts(self) -> Sequence[tuple[CommonFactors, range]]:
        return ()

    def loadings(self, theta: np.ndarray) -> np.ndarray:
        return self.gamma(theta).astype(np.result_type(theta, float))
