"""Diagonal covariance: independent coefficients, with their own variances or with one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fastlmm_core.structures.coefficients.boundary import describe_zero_variances, zero_variances
from fastlmm_core.structures.coefficients.entries import LinearEntries
from fastlmm_core.structures.coefficients.linear import LinearCovariance
from fastlmm_core.structures.coefficients.moments import interior_variances
from fastlmm_core.structures.registry import register_coefficient_structure


@register_coefficient_structure
class Diagonal(LinearEntries):
    """T = diag(theta^2)."""

    name = "diag"
    any_scale = absorbs_residual = True
    homogeneous_form, heterogeneous_form = "homdiag", "diag"
    shared_columns = 0

    @property
    def positions(self) -> tuple[tuple[int, int], ...]:
        return tuple((k, k) for k in range(self.m))

    def parts(self) -> Sequence[tuple[Diagonal, range]]:
        return [(Diagonal(1), range(a, a + 1)) for a in range(self.m)]

    def start(self, covariance: np.ndarray) -> np.ndarray:
        return np.sqrt(interior_variances(covariance))

    def theta_of(self, covariance: np.ndarray) -> np.ndarray:
        return np.sqrt(np.maximum(np.diag(covariance), 0.0))

    def canonical(self, theta: np.ndarray) -> np.ndarray:
        return np.abs(theta)

    def natural_directions(self) -> np.ndarray:
        return np.eye(self.m)[:, :, None] * np.eye(self.m)[:, None, :]

    def natural_names(self, labels: Sequence[str]) -> tuple[str, ...]:
        return tuple(f"variance of {label}" for label in labels)

    def boundary(
        self, theta: np.ndarray, names: Sequence[str], least: float | np.ndarray = 0.0
    ) -> tuple[str, ...]:
        return tuple(describe_zero_variances(zero_variances(theta**2, least), names))


@register_coefficient_structure
class HomogeneousDiagonal(LinearCovariance):
    """T = theta^2 I."""

    name = "homdiag"
    absorbs_residual = True
    homogeneous_form, heterogeneous_form = "homdiag", "diag"
    shared_columns = 0

    @property
    def n_theta(self) -> int:
        return 1

    @property
    def roots(self) -> np.ndarray:
        return np.zeros(1, np.int64)

    def start(self, covariance: np.ndarray) -> np.ndarray:
        return np.sqrt(interior_variances(covariance).mean(keepdims=True))

    def loadings(self, theta: np.ndarray) -> np.ndarray:
        return theta[0] * np.eye(self.m)

    def loadings_jacobian(self, theta: np.ndarray) -> np.ndarray:
        return np.eye(self.m)[None]

    def theta_of(self, covariance: np.ndarray) -> np.ndarray:
        return np.sqrt(np.maximum(np.diag(covariance).mean(keepdims=True), 0.0))

    def canonical(self, theta: np.ndarray) -> np.ndarray:
        return np.abs(theta)

    def natural_directions(self) -> np.ndarray:
        return np.eye(self.m)[None]

    def natural_names(self, labels: Sequence[str]) -> tuple[str, ...]:
        return ("variance",)

    def boundary(
        self, theta: np.ndarray, names: Sequence[str], least: float | np.ndarray = 0.0
    ) -> tuple[str, ...]:
        return ("the variance is zero",) if zero_variances(theta**2, least)[0] else ()
