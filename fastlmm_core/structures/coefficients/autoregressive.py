"""First order autoregression: correlations rho^|a - b|, with one variance or own ones."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from fastlmm_core.structures.coefficients.correlation_factors import autoregressive_factor, powers
from fastlmm_core.structures.coefficients.moments import mean_by_lag
from fastlmm_core.structures.coefficients.one_correlation import OneCorrelation
from fastlmm_core.structures.coefficients.partial_correlations import inverse_tanh_chart, tanh_chart
from fastlmm_core.structures.coefficients.scaled_correlation import CHART_END, MARGIN, START_CORRELATION
from fastlmm_core.structures.registry import register_coefficient_structure

# Share of its standard deviation that an inner coefficient has in some starts, of so few coefficients.
SKIPPED, MOST_SKIPPED = 0.02, 4


def rho_at_distance(correlation: float, lag: int) -> float:
    """rho that an inner correlation at a distance suggests; no power of an even one is below zero."""
    negative = correlation < 0.0 and lag % 2 == 1
    r = -correlation if negative else correlation
    rho = float(np.clip(r, 1.0 - START_CORRELATION, START_CORRELATION)) ** (1.0 / lag)
    return -rho if negative else rho


@register_coefficient_structure
class HeterogeneousAutoregressive(OneCorrelation):
    """T_ab = sd_a sd_b rho^|a - b|, the coefficients in their order; rho = tanh of the chart."""

    name = "hetar1"
    by_distance = True
    aliases: ClassVar[tuple[str, ...]] = ("ar1h",)
    homogeneous_form, heterogeneous_form = "ar1", "hetar1"

    def rho_of(self, x: float) -> tuple[float, float, float]:
        rho, first, second = tanh_chart(np.asarray(x), 1.0 - MARGIN)
        return float(rho), float(first), float(second)

    def chart_of(self, correlations: np.ndarray) -> np.ndarray:
        return inverse_tanh_chart(correlations, 1.0 - MARGIN, CHART_END)

    def estimate(self, R: np.ndarray, known: np.ndarray) -> np.ndarray:
        """From the shortest lag that is known: beside zero variances it need not be the first."""
        by_lag, seen = mean_by_lag(R, known)
        if not seen.any():
            return np.zeros(self.n_correlations)
        lag = int(np.argmax(seen))
        r = by_lag[lag]
        return np.array([np.sign(r) * np.abs(r) ** (1.0 / (lag + 1))])

    def start_at_distance(self, sd: np.ndarray, correlation: float, lag: int) -> np.ndarray:
        R = powers(rho_at_distance(correlation, lag), self._lag)[0]
        return self.theta_of(R * np.outer(sd, sd))

    def start_correlations(self, c: np.ndarray) -> np.ndarray:
        return np.clip(c, -START_CORRELATION, START_CORRELATION)

    def other_starts(self, theta: np.ndarray) -> list[np.ndarray]:
        """Also with hardly any variance of an inner coefficient: that lets those beside it be alike."""
        out = self.strong_starts(theta)
        if not self.heterogeneous or self.m > MOST_SKIPPED:
            return out
        strong = float(self.chart_of(np.array([START_CORRELATION]))[0]) if self.m > 2 else 0.0
        for inner in range(1, self.m - 1):
            for sign in (1.0, -1.0):
                skipped = theta.copy()
                skipped[inner] *= SKIPPED
                skipped[-1] = sign * strong
                out.append(skipped)
        return out

    def alternated(self, x: np.ndarray) -> np.ndarray | None:
        return -x

    def factor_of(self, rho: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return autoregressive_factor(rho, self.m)

    @property
    def _lag(self) -> np.ndarray:
        return np.abs(np.subtract.outer(np.arange(self.m), np.arange(self.m)))

    def matrix_jacobian(self, c: np.ndarray) -> np.ndarray:
        return np.array([powers(rho, self._lag)[1] for rho in c]).reshape(c.size, self.m, self.m)

    def matrix_hessian(self, c: np.ndarray) -> np.ndarray:
        second = [powers(rho, self._lag)[2] for rho in c]
        return np.array(second).reshape(c.size, c.size, self.m, self.m)

    def correlation_names(self) -> tuple[str, ...]:
        return ("rho",) * self.n_correlations


@register_coefficient_structure
class Autoregressive(HeterogeneousAutoregressive):
    """One variance."""

    name = "ar1"
    aliases = ()
    heterogeneous, markov = False, True
