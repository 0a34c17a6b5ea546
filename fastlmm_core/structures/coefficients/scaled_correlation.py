"""Standard deviations times a correlation matrix of few parameters: Lambda = D(sd) K(x), K K' = R.

theta = (sd, x): standard deviations (signed, so that Lambda is smooth where one is zero), m of them or one,
and an unbounded chart x of the correlation parameters c.  The natural parameters are the variances and c.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from fastlmm_core.structures.coefficients.base import CoefficientStructure
from fastlmm_core.structures.coefficients.boundary import describe_zero_variances, zero_variances
from fastlmm_core.structures.coefficients.moments import correlations_of, interior_variances
from fastlmm_core.structures.coefficients.partial_correlations import tanh_chart_at

# Correlations (and partial ones) stay this far from the singular ones: 1 / (1 - rho^2) appears in residuals.
MARGIN = 1e-8
# The chart stops this far from the ends of its range, so that theta is finite for singular T.
CHART_END = 1e-12
# Correlations start no nearer to their bounds than this.
START_CORRELATION = 0.9
# A start in which standard deviations rise has the last so many times the middle one.
RISE = 2.0


class ScaledCorrelation(CoefficientStructure):
    """D(sd) R(c) D(sd); a family says how R depends on c, and c and the factor K on the chart x."""

    heterogeneous: ClassVar[bool] = True

    # -- what a family defines, q = n_correlations --------------------------------------------------------

    @property
    @abstractmethod
    def n_correlations(self) -> int:
        """Length q of c and of x; 0 for m = 1."""

    @abstractmethod
    def correlations(self, x: np.ndarray) -> np.ndarray:
        """c(x), (q,)."""

    @abstractmethod
    def correlations_jacobian(self, x: np.ndarray) -> np.ndarray:
        """d c / d x, (q, q)."""

    @abstractmethod
    def correlations_hessian(self, x: np.ndarray) -> np.ndarray:
        """d2 c / d x d x', (q, q, q), c first."""

    @abstractmethod
    def chart_of(self, correlations: np.ndarray) -> np.ndarray:
        """x of c, finite also for a c at or beyond its bounds."""

    @abstractmethod
    def estimate(self, R: np.ndarray, known: np.ndarray) -> np.ndarray:
        """c of a correlation matrix (m, m) whose elements are only partly `known` (m, m); 0 where unknown."""

    @abstractmethod
    def start_correlations(self, c: np.ndarray) -> np.ndarray:
        """An interior c close to `c`."""

    @abstractmethod
    def factor(self, x: np.ndarray) -> np.ndarray:
        """K(x), (m, m) lower triangular with rows of norm 1."""

    @abstractmethod
    def factor_jacobian(self, x: np.ndarray) -> np.ndarray:
        """d K / d x, (q, m, m)."""

    @abstractmethod
    def factor_hessian(self, x: np.ndarray) -> np.ndarray:
        """d2 K / d x d x', (q, q, m, m)."""

    @abstractmethod
    def matrix_jacobian(self, c: np.ndarray) -> np.ndarray:
        """d R / d c, (q, m, m)."""

    @abstractmethod
    def matrix_hessian(self, c: np.ndarray) -> np.ndarray:
        """d2 R / d c d c', (q, q, m, m)."""

    @abstractmethod
    def correlation_names(self) -> tuple[str, ...]:
        """Names of c."""

    @abstractmethod
    def correlation_bounds(self, x: np.ndarray) -> list[str]:
        """Phrases for the correlations at a bound."""

    # -- theta --------------------------------------------------------------------------------------------

    @property
    def n_sd(self) -> int:
        return self.m if self.heterogeneous else 1

    @property
    def n_theta(self) -> int:
        return self.n_sd + self.n_correlations

    def split(self, theta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """sd (n_sd,) and x (q,)."""
        return theta[: self.n_sd], theta[self.n_sd :]

    @property
    def roots(self) -> np.ndarray:
        return np.arange(self.n_sd, dtype=np.int64)

    def lower_bounds(self) -> np.ndarray:
        bounds = np.full(self.n_theta, -np.inf)
        if self.heterogeneous and self.m > 1:
            bounds[: self.m] = 0.0
        return bounds

    def start(self, covariance: np.ndarray) -> np.ndarray:
        variances = interior_variances(covariance)
        c = self.start_correlations(self.estimate(*correlations_of(covariance)))
        return np.concatenate([np.sqrt(self._pooled(variances)), self.chart_of(c)])

    def correlation_charts(self) -> np.ndarray:
        return np.arange(self.n_theta) >= self.n_sd

    def chart_at(self, distance: float) -> float:
        return tanh_chart_at(distance)

    def other_starts(self, theta: np.ndarray) -> list[np.ndarray]:
        return self.strong_starts(theta)

    def strong_starts(self, theta: np.ndarray) -> list[np.ndarray]:
        """Strong and negative correlations: moments show weak ones also where the best are at a bound."""
        if not self.n_correlations:
            return []
        lag = np.abs(np.subtract.outer(np.arange(self.m), np.arange(self.m)))
        # half way to the bound
        negative = (-0.5) ** lag if self.by_distance else np.full(lag.shape, -0.5 / (self.m - 1.0))
        sd, strong = self.split(theta)[0], np.full(lag.shape, START_CORRELATION)
        return [self._correlated(sd, R) for R in (strong, negative)]

    def spread_starts(self, theta: np.ndarray) -> list[np.ndarray]:
        """Standard deviations as they are, rising and falling along the coefficients, strongly correlated.

        What the fixed part leaves of the means is then one draw for all levels, in units of the standard
        deviations: an optimum of its own, which moments of the residuals do not see.
        """
        if not self.heterogeneous or not self.n_correlations or self.m < 3:
            return []
        sd = np.abs(self.split(theta)[0])
        slope = RISE ** np.linspace(-1.0, 1.0, self.m) * np.sqrt(np.mean(sd**2))
        strong = np.full((self.m, self.m), START_CORRELATION)
        return [self._correlated(own, strong) for own in (slope, slope[::-1], sd)]

    def _correlated(self, sd: np.ndarray, correlation: np.ndarray) -> np.ndarray:
        """theta with correlations near those outside the diagonal of a matrix (m, m)."""
        apart = ~np.eye(self.m, dtype=bool)
        c = self.start_correlations(self.estimate(np.where(apart, correlation, 1.0), apart))
        return np.concatenate([sd, self.chart_of(c)])

    def theta_of(self, covariance: np.ndarray) -> np.ndarray:
        variances = self._pooled(np.maximum(np.diag(covariance), 0.0))
        c = self.estimate(*correlations_of(covariance))
        return np.concatenate([np.sqrt(variances), self.chart_of(c)])

    def _pooled(self, variances: np.ndarray) -> np.ndarray:
        return variances if self.heterogeneous else variances.mean(keepdims=True)

    def rescaled(self, theta: np.ndarray, factor: float) -> np.ndarray:
        sd, x = self.split(theta)
        return np.concatenate([np.sqrt(factor) * sd, x])

    def canonical(self, theta: np.ndarray) -> np.ndarray:
        """Positive standard deviations, where T is of the structure; with other signs it is not."""
        sd, x = self.split(theta)
        sign, alternate = np.sign(sd), (-1.0) ** np.arange(sd.size)
        for pattern in (1.0, -1.0):
            if np.all(sign * pattern >= 0.0):
                return np.concatenate([np.abs(sd), x])
        turned = self.alternated(x)
        for pattern in (1.0, -1.0):
            if turned is not None and np.all(sign * pattern * alternate >= 0.0):
                return np.concatenate([np.abs(sd), turned])
        return theta.copy()

    def alternated(self, x: np.ndarray) -> np.ndarray | None:
        """x where every second coefficient changes its sign; None where the structure has no such R."""
        return None

    # -- Lambda -------------------------------------------------------------------------------------------

    def loadings(self, theta: np.ndarray) -> np.ndarray:
        sd, x = self.split(theta)
        return sd[:, None] * self.factor(x)

    def loadings_jacobian(self, theta: np.ndarray) -> np.ndarray:
        sd, x = self.split(theta)
        out = np.zeros((self.n_theta, self.m, self.m))
        out[: self.n_sd] = self._by_sd(self.factor(x))
        out[self.n_sd :] = sd[:, None] * self.factor_jacobian(x)
        return out

    def _by_sd(self, K: np.ndarray) -> np.ndarray:
        """d (D K) / d sd of matrices (..., m, m) -> (..., n_sd, m, m)."""
        if not self.heterogeneous:
            return K[..., None, :, :]
        return np.eye(self.m)[:, :, None] * K[..., None, :, :]

    def loadings_hessian(self, theta: np.ndarray) -> np.ndarray:
        sd, x = self.split(theta)
        n, t = self.n_sd, self.n_theta
        out = np.zeros((t, t, self.m, self.m))
        mixed = self._by_sd(self.factor_jacobian(x))
        out[n:, :n] = mixed
        out[:n, n:] = np.swapaxes(mixed, 0, 1)
        out[n:, n:] = sd[:, None] * self.factor_hessian(x)
        return out

    def loadings_curvature(self, theta: np.ndarray, weights: np.ndarray) -> np.ndarray:
        sd, x = self.split(theta)
        n, t = self.n_sd, self.n_theta
        out = np.zeros((t, t))
        mixed = np.einsum("kab,ab->ka", self.factor_jacobian(x), weights)
        out[n:, :n] = mixed if self.heterogeneous else mixed.sum(axis=1, keepdims=True)
        out[:n, n:] = out[n:, :n].T
        out[n:, n:] = self.factor_curvature(x, sd[:, None] * weights)
        return out

    def factor_curvature(self, x: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """sum_ab weights_ab d2 K_ab / d x d x', (q, q)."""
        return np.tensordot(self.factor_hessian(x), weights, axes=((2, 3), (0, 1)))

    # -- T = D R D ----------------------------------------------------------------------------------------

    def _correlation_jacobian(self, x: np.ndarray) -> np.ndarray:
        """d R / d x, (q, m, m)."""
        by_correlation = self.matrix_jacobian(self.correlations(x))
        return np.tensordot(self.correlations_jacobian(x).T, by_correlation, axes=1)

    def covariance_jacobian(self, theta: np.ndarray) -> np.ndarray:
        sd, x = self.split(theta)
        K = self.factor(x)
        half = self._by_sd(K @ K.T * sd)
        return np.concatenate(
            [half + np.swapaxes(half, 1, 2), self._scaled(sd, self._correlation_jacobian(x))]
        )

    def covariance_curvature(self, theta: np.ndarray, weights: np.ndarray) -> np.ndarray:
        sd, x = self.split(theta)
        n, t = self.n_sd, self.n_theta
        K, c, J = self.factor(x), self.correlations(x), self.correlations_jacobian(x)
        out = np.zeros((t, t))
        by_sd = 2.0 * weights * (K @ K.T)
        out[:n, :n] = by_sd if self.heterogeneous else by_sd.sum()
        mixed = 2.0 * np.einsum("ab,kab->ka", weights * sd, self._correlation_jacobian(x))
        out[n:, :n] = mixed if self.heterogeneous else mixed.sum(axis=1, keepdims=True)
        out[:n, n:] = out[n:, :n].T
        inner = self._scaled(sd, weights)
        by_c = np.tensordot(self.matrix_jacobian(c), inner, axes=((1, 2), (0, 1)))
        by_two_c = np.tensordot(self.matrix_hessian(c), inner, axes=((2, 3), (0, 1)))
        out[n:, n:] = np.tensordot(by_c, self.correlations_hessian(x), axes=1) + J.T @ by_two_c @ J
        return out

    # -- natural parameters: variances and c --------------------------------------------------------------

    def natural_names(self, labels: Sequence[str]) -> tuple[str, ...]:
        if not self.heterogeneous:
            return ("variance", *self.correlation_names())
        return (*(f"variance of {label}" for label in labels), *self.correlation_names())

    def natural(self, theta: np.ndarray) -> np.ndarray:
        sd, x = self.split(theta)
        return np.concatenate([sd**2, self.correlations(x)])

    def natural_jacobian(self, theta: np.ndarray) -> np.ndarray:
        sd, x = self.split(theta)
        out = np.zeros((self.n_theta, self.n_theta))
        out[: self.n_sd, : self.n_sd] = np.diag(2.0 * sd)
        out[self.n_sd :, self.n_sd :] = self.correlations_jacobian(x)
        return out

    def natural_hessian(self, theta: np.ndarray, index: int) -> np.ndarray:
        """Second derivatives of one natural parameter in theta, (n_theta, n_theta)."""
        out, n = np.zeros((self.n_theta, self.n_theta)), self.n_sd
        if index < n:
            out[index, index] = 2.0
        else:
            out[n:, n:] = self.correlations_hessian(self.split(theta)[1])[index - n]
        return out

    def _by_variance(self, sd: np.ndarray, matrices: np.ndarray) -> np.ndarray:
        """d (s s' o M) / d variance, s = sqrt(variance), of matrices M (..., m, m) -> (..., n_sd, m, m).

        s_i s_j / v_a has the derivative factor (delta_ai + delta_aj) / 2; it is infinite where v_a is zero.
        """
        if not self.heterogeneous:
            return matrices[..., None, :, :]
        unit = np.eye(self.m)
        share = 0.5 * (unit[:, :, None] + unit[:, None, :])
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = np.where(share > 0.0, np.outer(sd, sd) / (sd**2)[:, None, None], 0.0)
            return share * ratio * matrices[..., None, :, :]

    def covariance_by_natural(self, theta: np.ndarray) -> np.ndarray:
        sd, x = self.split(theta)
        K = self.factor(x)
        by_correlation = self.matrix_jacobian(self.correlations(x))
        return np.concatenate([self._by_variance(sd, K @ K.T), self._scaled(sd, by_correlation)])

    def _scaled(self, sd: np.ndarray, matrices: np.ndarray) -> np.ndarray:
        """D M D of matrices (..., m, m)."""
        return sd[:, None] * matrices * sd

    def covariance_second_by_natural(self, theta: np.ndarray) -> np.ndarray:
        sd, x = self.split(theta)
        n, s = self.n_sd, self.n_theta
        c, K = self.correlations(x), self.factor(x)
        out = np.zeros((s, s, self.m, self.m))
        if self.heterogeneous:
            first = self._by_variance(sd, K @ K.T)
            with np.errstate(divide="ignore", invalid="ignore"):
                out[:n, :n] = self._by_two_variances(sd, first)
        mixed = self._by_variance(sd, self.matrix_jacobian(c))
        out[n:, :n] = mixed
        out[:n, n:] = np.swapaxes(mixed, 0, 1)
        out[n:, n:] = self._scaled(sd, self.matrix_hessian(c))
        return out

    def _by_two_variances(self, sd: np.ndarray, first: np.ndarray) -> np.ndarray:
        """d2 T / d v_a d v_b (m, m, m, m) from dT / d v_b (m, m, m): o (share_a - delta_ab) / v_a."""
        unit = np.eye(self.m)
        share = 0.5 * (unit[:, :, None] + unit[:, None, :])
        weight = (share[:, None] - unit[:, :, None, None]) / (sd**2)[:, None, None, None]
        return np.where(first[None] != 0.0, weight * first[None], 0.0)

    # -- words --------------------------------------------------------------------------------------------

    def boundary(
        self, theta: np.ndarray, names: Sequence[str], least: float | np.ndarray = 0.0
    ) -> tuple[str, ...]:
        sd, x = self.split(theta)
        zero = zero_variances(sd**2, least)
        if not self.heterogeneous:
            return ("the variance is zero",) if zero[0] else tuple(self.correlation_bounds(x))
        words = describe_zero_variances(zero, names)
        if np.count_nonzero(~zero) > 1:
            words += self.correlation_bounds(x)
        return tuple(words)
