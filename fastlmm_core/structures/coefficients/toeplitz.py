"""Toeplitz: one correlation for each lag, with own variances or one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from fastlmm_core.structures.coefficients.boundary import BOUND_CORRELATION
from fastlmm_core.structures.coefficients.linear import LinearCovariance
from fastlmm_core.structures.coefficients.moments import mean_by_lag
from fastlmm_core.structures.coefficients.partial_correlations import (
    Rotations,
    inverse_tanh_chart,
    lattice,
    partial_correlations,
)
from fastlmm_core.structures.coefficients.scaled_correlation import (
    CHART_END,
    MARGIN,
    START_CORRELATION,
    ScaledCorrelation,
)
from fastlmm_core.structures.registry import register_coefficient_structure


@register_coefficient_structure
class Toeplitz(ScaledCorrelation):
    """T_ab = sd_a sd_b r_|a - b|, the coefficients in their order.

    The chart holds the partial autocorrelations, p_k = tanh x_k: all of them give positive definite T.
    """

    name = "toep"
    by_distance = absorbs_residual = True
    aliases: ClassVar[tuple[str, ...]] = ("toeph",)
    homogeneous_form, heterogeneous_form = "homtoep", "toep"

    @property
    def n_correlations(self) -> int:
        return self.m - 1

    def untold(self, together: np.ndarray) -> list[tuple[int, int]]:
        return [(0, lag) for lag in range(1, self.m) if not np.diagonal(together, lag).any()]

    def __init__(self, m: int, **options: Any):
        super().__init__(m, **options)
        self._latest: dict[int, tuple[bytes, list[np.ndarray]]] = {}

    def _lattice(self, x: np.ndarray, columns: int, order: int) -> list[np.ndarray]:
        """The jets at x; the latest ones are kept, since one iteration asks for them several times."""
        key = x.tobytes()
        if columns == 1:  # who asks for correlations asks for their derivatives next
            order = max(order, 1)
        at, jets = self._latest.get(columns, (b"", []))
        if at != key or len(jets) <= order:
            jets = lattice(Rotations.of_chart(x, 1.0 - MARGIN), columns, order)
            # Second derivatives of all of K are large, and asked for once.
            self._latest[columns] = key, jets if columns == 1 else jets[:2]
        return jets

    def correlations(self, x: np.ndarray) -> np.ndarray:
        return self._lattice(x, 1, 0)[0][1:, 0]

    def correlations_jacobian(self, x: np.ndarray) -> np.ndarray:
        return self._lattice(x, 1, 1)[1][:, 1:, 0].T

    def correlations_hessian(self, x: np.ndarray) -> np.ndarray:
        return np.moveaxis(self._lattice(x, 1, 2)[2][:, :, 1:, 0], -1, 0)

    def chart_of(self, correlations: np.ndarray) -> np.ndarray:
        return self._chart(partial_correlations(correlations, np.ones(correlations.size, bool)))

    def _chart(self, partial: np.ndarray) -> np.ndarray:
        return inverse_tanh_chart(partial, 1.0 - MARGIN, CHART_END)

    def estimate(self, R: np.ndarray, known: np.ndarray) -> np.ndarray:
        """The mean of each lag; a lag beside zero variances as the shorter ones imply it."""
        partial = partial_correlations(*mean_by_lag(R, known))
        return self.correlations(self._chart(partial))

    def start_correlations(self, c: np.ndarray) -> np.ndarray:
        partial = partial_correlations(c, np.ones(c.size, bool))
        return self.correlations(self._chart(np.clip(partial, -START_CORRELATION, START_CORRELATION)))

    def alternated(self, x: np.ndarray) -> np.ndarray | None:
        """The correlations at odd lags change their sign, and with them the odd partial ones."""
        return (-1.0) ** np.arange(1, x.size + 1) * x

    def factor(self, x: np.ndarray) -> np.ndarray:
        return self._lattice(x, self.m, 0)[0]

    def factor_jacobian(self, x: np.ndarray) -> np.ndarray:
        return self._lattice(x, self.m, 1)[1]

    def factor_hessian(self, x: np.ndarray) -> np.ndarray:
        return self._lattice(x, self.m, 2)[2]

    def matrix_jacobian(self, c: np.ndarray) -> np.ndarray:
        return lag_indicators(self.m)[1:]

    def matrix_hessian(self, c: np.ndarray) -> np.ndarray:
        return np.zeros((c.size, c.size, self.m, self.m))

    def correlation_names(self) -> tuple[str, ...]:
        return tuple(f"correlation at lag {lag}" for lag in range(1, self.m))

    def correlation_bounds(self, x: np.ndarray) -> list[str]:
        words = []
        for lag, p in enumerate(np.tanh(x), start=1):
            if abs(p) >= 1.0 - BOUND_CORRELATION:
                kind = "correlation" if lag == 1 else "partial correlation"
                words.append(f"the {kind} at lag {lag} is {'+1' if p > 0 else '-1'}")
        return words


@register_coefficient_structure
class HomogeneousToeplitz(LinearCovariance, Toeplitz):
    """One variance and a covariance for each lag, which are its natural parameters."""

    name = "homtoep"
    absorbs_subject = True
    aliases = ()
    heterogeneous = False

    def natural_directions(self) -> np.ndarray:
        return lag_indicators(self.m)

    def natural_names(self, labels: Sequence[str]) -> tuple[str, ...]:
        return ("variance", *(f"covariance at lag {lag}" for lag in range(1, self.m)))


def lag_indicators(m: int) -> np.ndarray:
    """Ones where |a - b| is the lag, (m, m, m) for lags 0 to m - 1."""
    lag = np.abs(np.subtract.outer(np.arange(m), np.arange(m)))
    return (lag == np.arange(m)[:, None, None]).astype(float)
