"""Compound symmetry: one correlation of all pairs, with own variances or one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from fastlmm_core.structures.coefficients.correlation_factors import compound_symmetry_factor
from fastlmm_core.structures.coefficients.linear import LinearCovariance
from fastlmm_core.structures.coefficients.one_correlation import OneCorrelation
from fastlmm_core.structures.coefficients.scaled_correlation import CHART_END, MARGIN, START_CORRELATION
from fastlmm_core.structures.registry import register_coefficient_structure


@register_coefficient_structure
class CompoundSymmetry(OneCorrelation):
    """T_ab = sd_a sd_b rho for a != b, -1/(m-1) < rho < 1; rho logistic in the chart."""

    name = "cs"
    absorbs_residual = True
    aliases: ClassVar[tuple[str, ...]] = ("csh",)
    homogeneous_form, heterogeneous_form = "homcs", "cs"

    @property
    def least_rho(self) -> float:
        return -1.0 / max(self.m - 1, 1)

    @property
    def _range(self) -> tuple[float, float]:
        """Least and largest rho of the chart."""
        return self.least_rho * (1.0 - MARGIN), 1.0 - MARGIN

    def rho_of(self, x: float) -> tuple[float, float, float]:
        least, largest = self._range
        # Both tails of the logistic function without cancellation.
        small = np.exp(-abs(x))
        p, q = (1.0, small) if x >= 0.0 else (small, 1.0)
        p, q = p / (p + q), q / (p + q)
        first = (largest - least) * p * q
        return least * q + largest * p, first, first * (q - p)

    def chart_of(self, correlations: np.ndarray) -> np.ndarray:
        least, largest = self._range
        p = np.clip((correlations - least) / (largest - least), CHART_END, 1.0 - CHART_END)
        return np.log(p / (1.0 - p))

    def chart_at(self, distance: float) -> float:
        return float(-np.log(distance))  # the logistic function is 1 - exp(-x) + ...

    def estimate(self, R: np.ndarray, known: np.ndarray) -> np.ndarray:
        mean = float(R[known].mean()) if known.any() else 0.0
        return np.full(self.n_correlations, mean)

    def start_correlations(self, c: np.ndarray) -> np.ndarray:
        return np.clip(c, START_CORRELATION * self.least_rho, START_CORRELATION)

    def alternated(self, x: np.ndarray) -> np.ndarray | None:
        return -x if self.m == 2 else None

    def factor_of(self, rho: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return compound_symmetry_factor(rho, self.m)

    def matrix_jacobian(self, c: np.ndarray) -> np.ndarray:
        return np.repeat((1.0 - np.eye(self.m))[None], c.size, axis=0)

    def matrix_hessian(self, c: np.ndarray) -> np.ndarray:
        return np.zeros((c.size, c.size, self.m, self.m))

    def correlation_names(self) -> tuple[str, ...]:
        return ("correlation",) * self.n_correlations


@register_coefficient_structure
class HomogeneousCompoundSymmetry(LinearCovariance, CompoundSymmetry):
    """One variance and one covariance, which are its natural parameters."""

    name = "homcs"
    absorbs_subject = True
    aliases = ()
    heterogeneous = False

    def natural_directions(self) -> np.ndarray:
        unit = np.eye(self.m)
        return np.stack([unit, 1.0 - unit][: self.n_theta])

    def natural_names(self, labels: Sequence[str]) -> tuple[str, ...]:
        return ("variance", "covariance")[: self.n_theta]
