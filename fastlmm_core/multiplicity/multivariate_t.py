"""Distribution of the largest |t| among correlated t statistics, with the error of the figure.

General correlations: separation of variables (Genz 1992, J. Comput. Graph. Stat. 1:141), extended to singular
matrices by letting every row bound the last variable it contains (Genz & Kwong 2000, J. Stat. Comput. Simul.
68:1), integrated over randomly shifted rank-1 lattice points with a fixed seed. One-factor correlations
(comparisons with one control, Dunnett 1955, JASA 50:1096) reduce to a double integral, done by the
trapezoidal rule.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaincinv, gammaln, ndtr, ndtri

from fastlmm_core.multiplicity.distributions import t_quantile

Floats = NDArray[np.floating]

N_SHIFTS = 10
FIRST_POINTS = 1_000
LARGEST_POINTS = 16_000
TARGET_ERROR = 5e-5
TINY = 1e-300


@dataclass(frozen=True)
class Probability:
    """Estimated probabilities and three standard errors of each; zero error for the deterministic rule.

    Attributes
    ----------
    value, error : ndarray (m,)
    """

    value: Floats
    error: Floats


@dataclass(frozen=True)
class CorrelationFactor:
    """corr = A A' with the rows of A in pivot order.

    Attributes
    ----------
    A : ndarray (d, r)
        Lower trapezoidal.
    rows : tuple of ndarray
        For each of the r columns, the rows whose last nonzero entry it is.
    """

    A: Floats
    rows: tuple[NDArray[np.intp], ...]


def factor_correlation(corr: Floats, tolerance: float = 1e-10) -> CorrelationFactor:
    """Pivoted Cholesky factor of a (possibly singular) correlation matrix (d, d)."""
    remaining = np.array(corr, dtype=np.float64)
    order: list[int] = []
    columns: list[Floats] = []
    for _ in range(corr.shape[0]):
        diagonal = remaining.diagonal().copy()
        diagonal[order] = -1.0
        pivot = int(np.argmax(diagonal))
        if diagonal[pivot] < tolerance:
            break
        column = remaining[:, pivot] / np.sqrt(diagonal[pivot])
        column[order] = 0.0
        remaining -= np.outer(column, column)
        order.append(pivot)
        columns.append(column)
    A = np.column_stack(columns)
    A[np.abs(A) < np.sqrt(tolerance)] = 0.0
    rest = np.setdiff1d(np.arange(corr.shape[0]), order)
    A = A[np.concatenate([order, rest]).astype(np.intp)]
    last = A.shape[1] - 1 - np.argmax(A[:, ::-1] != 0.0, axis=1)
    return CorrelationFactor(A, tuple(np.flatnonzero(last == j) for j in range(A.shape[1])))


def one_factor_loadings(corr: Floats, tolerance: float = 1e-8) -> Floats | None:
    """Loadings b (d,) with corr_ij = b_i b_j off the diagonal, or None when there are none below 0.995."""
    d = corr.shape[0]
    if d < 3:
        return None
    if np.abs(corr[~np.eye(d, dtype=bool)]).min() < 1e-6:
        return None
    b = np.empty(d)
    b[0] = np.sqrt(abs(corr[0, 1] * corr[0, 2] / corr[1, 2]))
    b[1:] = corr[0, 1:] / b[0]
    misfit = np.abs(np.outer(b, b) - corr)[~np.eye(d, dtype=bool)].max()
    return b if misfit < tolerance and np.abs(b).max() < 0.995 else None


def lattice_points(n: int, dim: int, seed: int) -> Floats:
    """Shifted Richtmyer lattice with the tent transform, shape (N_SHIFTS, n, dim), inside (0, 1)."""
    sieve = np.ones(max(16 * dim, 64), dtype=bool)
    sieve[:2] = False
    for i in range(2, int(sieve.size**0.5) + 1):
        if sieve[i]:
            sieve[i * i :: i] = False
    generator = np.sqrt(np.flatnonzero(sieve)[:dim].astype(np.float64)) % 1.0
    shift = np.random.default_rng(seed).random((N_SHIFTS, 1, dim))
    base = np.arange(1, n + 1)[:, None] * generator % 1.0
    return np.clip(np.abs(2.0 * ((base + shift) % 1.0) - 1.0), 1e-15, 1.0 - 1e-15)


def chi_scale(u: Floats, df: float) -> Floats:
    """s with P(s' < s) = u for df s'^2 ~ chi^2_df; one for infinite df."""
    return np.ones_like(u) if np.isinf(df) else np.sqrt(2.0 * gammaincinv(0.5 * df, u) / df)


def box_probabilities(limit: Floats, factor: CorrelationFactor, u: Floats) -> Floats:
    """Genz's integrand of P(|A z| < limit) at the points.

    Parameters
    ----------
    limit : ndarray (n,)
        Half-width of the box at each point.
    u : ndarray (n, r - 1)
        Uniform points.
    """
    A, n_columns = factor.A, factor.A.shape[1]
    z = np.zeros((limit.size, n_columns), order="F")
    value = np.ones(limit.size)
    for j, rows in enumerate(factor.rows):
        low = np.full(limit.size, -np.inf)
        high = np.full(limit.size, np.inf)
        for row in rows:
            centre = -(z[:, :j] @ A[row, :j]) / A[row, j]
            half = limit / abs(A[row, j])
            np.maximum(low, centre - half, out=low)
            np.minimum(high, centre + half, out=high)
        p_low, p_high = ndtr(low), ndtr(high)
        width = np.maximum(p_high - p_low, 0.0)
        value *= width
        if j + 1 < n_columns:
            z[:, j] = ndtri(np.clip(p_low + u[:, j] * width, TINY, 1.0 - 1e-16))
    return value


@dataclass(frozen=True)
class LatticeRule:
    """Points for P(max |T| < t) at one number of degrees of freedom, the same for all t.

    Attributes
    ----------
    factor : CorrelationFactor
        Of r columns.
    scale : ndarray (N_SHIFTS n,)
        Values of s, see `chi_scale`.
    u : ndarray (N_SHIFTS n, r - 1)
        Uniform points, columns contiguous.
    """

    factor: CorrelationFactor
    scale: Floats
    u: Floats

    @classmethod
    def of(cls, df: float, factor: CorrelationFactor, n: int, seed: int) -> LatticeRule:
        """The rule with `n` points per shift."""
        points = lattice_points(n, factor.A.shape[1], seed)
        flat = np.asfortranarray(points.reshape(-1, points.shape[2]))
        return cls(factor, chi_scale(flat[:, 0], df), flat[:, 1:])

    def probability(self, t: float) -> tuple[float, float]:
        """P(max |T| < t) and three standard errors."""
        value = box_probabilities(t * self.scale, self.factor, self.u).reshape(N_SHIFTS, -1).mean(axis=1)
        return float(value.mean()), float(3.0 * value.std(ddof=1) / np.sqrt(N_SHIFTS))


def lattice_probability(
    t: float, df: float, factor: CorrelationFactor, n: int, seed: int
) -> tuple[float, float]:
    """P(max |T| < t) and three standard errors, from `n` points per shift."""
    return LatticeRule.of(df, factor, n, seed).probability(t)


def one_factor_probability(t: float, df: float, loadings: Floats) -> float:
    """P(max |T| < t) for corr_ij = b_i b_j: the integral over the common factor and over u = log s."""
    rest = np.sqrt(1.0 - loadings**2)
    z = np.arange(-8.5, 8.5, min(0.2, 0.5 * float(rest.min())))
    weight = np.exp(-0.5 * z**2)
    weight /= weight.sum()
    if np.isinf(df):
        s, s_weight = np.ones(1), np.ones(1)
    else:
        spread = 1.0 / np.sqrt(2.0 * df)
        u = np.arange(-max(9.0 * spread, 34.0 / df), 6.0 * spread + 0.5, min(0.1, 0.4 * spread))
        x = 0.5 * df
        density = df * (u - 0.5 * np.expm1(2.0 * u)) + x * np.log(x) - x - gammaln(x)
        s, s_weight = np.exp(u), np.exp(density)
        s_weight /= s_weight.sum()
    product = np.ones((s.size, z.size))
    for b, r in zip(loadings, rest, strict=True):
        product *= ndtr((b * z + t * s[:, None]) / r) - ndtr((b * z - t * s[:, None]) / r)
    return float(s_weight @ product @ weight)


def max_abs_t_cdf(t: Floats, df: Floats, corr: Floats, *, seed: int = 20240229) -> Probability:
    """P(max_j |T_j| < t_i), each with its own degrees of freedom.

    Parameters
    ----------
    t, df : ndarray (m,)
        Bounds and degrees of freedom (infinite allowed).
    corr : ndarray (d, d)
        Correlations of the statistics; may be singular.
    seed : int
        Of the lattice shifts; the same seed gives the same figures.

    Returns
    -------
    Probability
        Values (m,) and their errors (three standard errors).
    """
    loadings = one_factor_loadings(corr)
    if loadings is not None:
        values = [one_factor_probability(float(a), float(b), loadings) for a, b in zip(t, df, strict=True)]
        return Probability(np.array(values), np.zeros(len(values)))
    factor = factor_correlation(corr)
    largest = LARGEST_POINTS if t.size <= 20 else LARGEST_POINTS // 4
    value, error = np.empty(t.size), np.empty(t.size)
    for i in range(t.size):
        n = FIRST_POINTS
        while True:
            value[i], error[i] = lattice_probability(float(t[i]), float(df[i]), factor, n, seed)
            if error[i] < TARGET_ERROR or n >= largest:
                break
            n *= 4
    return Probability(value, error)


def max_abs_t_quantile(level: float, df: float, corr: Floats, *, seed: int = 20240229) -> float:
    """t with P(max |T| < t) = `level`, by the secant method on one fixed set of points.

    Parameters
    ----------
    level : float
        Joint coverage, between 0 and 1.
    df : float
        Degrees of freedom, infinite allowed.
    corr : ndarray (d, d)
    """
    loadings = one_factor_loadings(corr)
    if loadings is None:
        rule = LatticeRule.of(df, factor_correlation(corr), 4 * FIRST_POINTS, seed)

    def excess(t: float) -> float:  # of logarithms of tails, which are nearly linear in t
        inside = one_factor_probability(t, df, loadings) if loadings is not None else rule.probability(t)[0]
        return float(np.log1p(-level) - np.log(max(1.0 - inside, TINY)))

    # between that of one test and Bonferroni's, but for what the points are off
    alpha = 1.0 - level
    low = 0.99 * float(t_quantile(alpha, np.full(1, df))[0])
    high = 1.01 * float(t_quantile(alpha / len(corr), np.full(1, df))[0])
    f_low, f_high = excess(low), excess(high)
    while f_low > 0.0 and low > 1e-6:
        low, f_low = 0.5 * low, excess(0.5 * low)
    while f_high < 0.0 and high < 1e6:
        high, f_high = 2.0 * high, excess(2.0 * high)
    return bisected_secant(excess, low, high, f_low, f_high)


def bisected_secant(
    function: Callable[[float], float], low: float, high: float, f_low: float, f_high: float
) -> float:
    """Root of an increasing function with these values at low and high: the Illinois form of regula falsi."""
    side = 0
    for _ in range(80):
        middle = (low * f_high - high * f_low) / (f_high - f_low)
        value = function(middle)
        if abs(high - low) < 1e-9 * high or abs(value) < 1e-10:
            return float(middle)
        if value > 0.0:
            high, f_high = middle, value
            f_low = 0.5 * f_low if side == 1 else f_low
            side = 1
        else:
            low, f_low = middle, value
            f_high = 0.5 * f_high if side == -1 else f_high
            side = -1
    return float(middle)
