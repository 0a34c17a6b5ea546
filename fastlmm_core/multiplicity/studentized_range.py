"""Upper tail and quantiles of the studentized range, for many statistics with many degrees of freedom.

For a family of `k` means (not necessarily a whole number) and `df` degrees of freedom

    P(Q > q) = int_0^inf f_s(s; df) T(q s; k) ds,      df s^2 ~ chi^2_df,
    T(w; k)  = k int phi(z) { Phi(z)^(k-1) - [Phi(z) - Phi(z-w)]^(k-1) } dz

(Lund & Lund 1983, Appl. Statist. 32:204, give the lower-tail form). Written as the upper tail every term is
positive, so small p values keep their relative accuracy. The inner integral depends on `k` only: log T is
stored as piecewise Chebyshev polynomials in w, filled when first needed, and each statistic then costs one
short sum over u = log s. Both integrands are analytic and decay at both ends, which makes the trapezoidal
rule converge
exponentially (Trefethen & Weideman 2014, SIAM Rev. 56:385).
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastlmm_core.errors import OptionError
from fastlmm_core.kernels.compile import kernel
from fastlmm_core.multiplicity.tail_tables import tabulated_quantiles, tabulated_tails

Floats = NDArray[np.floating]
Flags = NDArray[np.bool_]

Z_STEP = 0.125
Z_GRID = np.arange(-80, 321) * Z_STEP  # phi(z)^2 is still a normal number at the upper end
PHI = np.exp(-0.5 * Z_GRID**2) / math.sqrt(2.0 * math.pi)
WIDTH = 0.25  # of one Chebyshev piece
N_PIECES = 200  # up to w = 50, where T < 1e-270
DEGREE = 11
LARGEST_DF = 1e12  # above, the normal range
LARGEST_LOG_Q = 700.0  # quantiles above exp of it are infinite


class RangeTable(NamedTuple):
    """What the tails of a family are computed from.

    Attributes
    ----------
    k : float
        Means of the family.
    coef : (N_PIECES, DEGREE + 1) float64
        Chebyshev coefficients of log T(w; k) on each piece, once it is filled.
    filled : (N_PIECES,) bool
    z, phi : (m,) float64
        Nodes of the inner integral and normal densities there.
    """

    k: float
    coef: Floats
    filled: Flags
    z: Floats
    phi: Floats


@kernel
def normal_cdf(z: float) -> float:
    """Phi(z), to full relative accuracy in the lower tail."""
    return 0.5 * math.erfc(-z * 0.7071067811865476)


@kernel
def log_range_tail(w: float, table: RangeTable) -> float:
    """log T(w; k), the tail of the range of k standard normal variables, by the trapezoidal rule."""
    k = table.k
    total = 0.0
    for i in range(table.z.size):
        a = normal_cdf(table.z[i])
        b = normal_cdf(table.z[i] - w)
        log_a = math.log(a)
        weight = table.phi[i] * math.exp((k - 1.0) * log_a)
        ratio = b / a
        if ratio >= 1.0:
            total += weight
        else:
            total -= weight * math.expm1((k - 1.0) * math.log1p(-ratio))
    total *= k * Z_STEP
    if total >= 1.0:
        return 0.0
    return math.log(total) if total > 0.0 else -745.0


@kernel
def log_scaled_head(w: float, table: RangeTable) -> float:
    """log of [1 - T(w; k)] / w^(k-1), which is smooth in w down to 0 for any real k."""
    k = table.k
    total = 0.0
    for i in range(table.z.size):
        middle = 0.5 * w + table.z[i]  # Phi(z) - Phi(z-w) is largest around z = w/2
        if middle > 0.0:
            inside = normal_cdf(w - middle) - normal_cdf(-middle)
        else:
            inside = normal_cdf(middle) - normal_cdf(middle - w)
        if inside > 0.0:
            total += math.exp(-0.5 * middle * middle) * (inside / w) ** (k - 1.0)
    return math.log(k * Z_STEP * 0.3989422804014327 * total)


@kernel
def fill_piece(piece: int, table: RangeTable) -> None:
    """Chebyshev coefficients of log T on [piece WIDTH, (piece + 1) WIDTH] into the table.

    The first piece holds log [(1 - T) / w^(k-1)], since T itself is not smooth at 0 unless k is whole.
    """
    n = table.coef.shape[1]
    values = np.empty(n)
    for j in range(n):
        x = math.cos(math.pi * (j + 0.5) / n)
        w = (piece + 0.5 * (x + 1.0)) * WIDTH
        if piece == 0:
            values[j] = log_scaled_head(w, table)
        else:
            values[j] = log_range_tail(w, table)
    for i in range(n):
        total = 0.0
        for j in range(n):
            total += values[j] * math.cos(math.pi * i * (j + 0.5) / n)
        table.coef[piece, i] = total * (1.0 if i == 0 else 2.0) / n
    table.filled[piece] = True


@kernel
def tabulated_log_tail(w: float, table: RangeTable) -> tuple[float, float]:
    """log T(w; k) and its derivative in w from the table, filling the piece if it is empty."""
    k, coef = table.k, table.coef
    if not w < WIDTH * coef.shape[0]:  # before the division is made an integer, which may not hold it
        return -745.0, -0.5 * w
    piece = int(w / WIDTH)
    if piece == 0 and k > 25.0:  # 1 - T is below 1e-22 there
        return 0.0, 0.0
    if not table.filled[piece]:
        fill_piece(piece, table)
    x = 2.0 * (w / WIDTH - piece) - 1.0
    b1 = 0.0  # Clenshaw's recurrence for the value, and its derivative alongside
    b2 = 0.0
    d1 = 0.0
    d2 = 0.0
    for i in range(coef.shape[1] - 1, 0, -1):
        d0 = 2.0 * b1 + 2.0 * x * d1 - d2
        b0 = 2.0 * x * b1 - b2 + coef[piece, i]
        d2 = d1
        d1 = d0
        b2 = b1
        b1 = b0
    value = x * b1 - b2 + coef[piece, 0]
    slope = (b1 + x * d1 - d2) * 2.0 / WIDTH
    if piece == 0:
        head = math.exp(value + (k - 1.0) * math.log(w)) if w > 0.0 else 0.0
        return math.log1p(-head), -head * (slope + (k - 1.0) / max(w, 1e-300)) / (1.0 - head)
    return min(value, 0.0), slope


@kernel
def log_chi_kernel(u: float, df: float) -> float:
    """u - (exp(2u) - 1) / 2 times df: the log density of u = log s without its constant."""
    if abs(u) > 0.02:
        return df * (u - 0.5 * math.expm1(2.0 * u))
    term = u  # series, because the two parts cancel near 0
    total = 0.0
    for i in range(2, 12):
        term *= 2.0 * u / i
        total += term
    return -df * total


@kernel
def log_chi_constant(df: float) -> float:
    """log of 2 (df/2)^(df/2) exp(-df/2) / Gamma(df/2)."""
    x = 0.5 * df
    if x < 15.0:
        return math.log(2.0) + x * math.log(x) - x - math.lgamma(x)
    inverse = 1.0 / (x * x)
    series = (1.0 / 12.0 - inverse * (1.0 / 360.0 - inverse * (1.0 / 1260.0 - inverse / 1680.0))) / x
    return math.log(2.0) + 0.5 * math.log(x / (2.0 * math.pi)) - series


@kernel
def log_studentized_tail(q: float, df: float, table: RangeTable) -> tuple[float, float]:
    """log P(Q > q) and its derivative in log q, by the trapezoidal rule in u = log s."""
    if df > LARGEST_DF:
        value, slope = tabulated_log_tail(q, table)
        return value, slope * q
    spread = 1.0 / math.sqrt(2.0 * df)
    # T's fall takes a width of about 1 / log k in u; 0.2 of it leaves 1e-12 for k up to 1,414 (measured).
    step = min(0.125, 0.2 / math.log(table.k), 0.6 * spread)
    # Log-concave in u; the mode lies between that of chi^2 alone and that with T ~ exp(-w^2/4).
    low = 0.5 * math.log(df) - math.log(math.hypot(math.sqrt(df), q * 0.7071067811865476)) - spread
    high = 0.0
    for _ in range(60):
        middle = 0.5 * (low + high)
        s = math.exp(middle)
        _, slope = tabulated_log_tail(q * s, table)
        if df * (1.0 - s * s) + q * s * slope > 0.0:
            low = middle
        else:
            high = middle
        if high - low < 0.5 * step:
            break
    mode = 0.5 * (low + high)
    log_t, _ = tabulated_log_tail(q * math.exp(mode), table)
    top = log_chi_kernel(mode, df) + log_t
    total = 0.0
    moment = 0.0
    for direction in (1.0, -1.0):
        i = 0 if direction > 0.0 else 1
        while True:
            u = mode + direction * i * step
            w = q * math.exp(u)
            log_t, slope = tabulated_log_tail(w, table)
            term = math.exp(log_chi_kernel(u, df) + log_t - top)
            total += term
            moment += term * w * slope
            if term < 1e-16 * total:
                break
            if w < 1e-17 and u < -20.0:  # T and exp(2u) are constant from here on: a geometric series
                total += term / math.expm1(df * step)
                break
            i += 1
    return min(top + math.log(total * step) + log_chi_constant(df), 0.0), moment / total


@kernel
def fill_tails(q: Floats, df: Floats, table: RangeTable, out: Floats) -> None:
    """out[i] = P(Q > q[i]) for df[i]; NaN passes through."""
    for i in range(q.size):
        if math.isnan(q[i]) or not df[i] > 0.0:
            out[i] = math.nan
        elif q[i] <= 0.0:
            out[i] = 1.0
        elif q[i] == math.inf:
            out[i] = 0.0
        else:
            value, _ = log_studentized_tail(q[i], df[i], table)
            out[i] = math.exp(value)


@kernel
def fill_quantiles(tail: float, df: Floats, table: RangeTable, out: Floats) -> None:
    """out[i] = q with P(Q > q) = tail at df[i], by Newton's method in log q.

    log P is concave and decreasing in log q, so Newton's steps converge from the right after at most one
    overshoot; the previous solution is the next start.
    """
    log_tail = math.log(tail)
    x = math.log(3.5)
    for i in range(df.size):
        if not df[i] > 0.0:
            out[i] = math.nan
            continue
        if -LARGEST_LOG_Q * df[i] > log_tail:  # the tail falls like q^-df
            out[i] = math.inf
            continue
        longest = max(2.0, 1.0 / df[i])
        for _ in range(100):
            value, slope = log_studentized_tail(math.exp(x), df[i], table)
            if slope > -1e-8:  # q so small that the tail is 1: move up
                x += 0.7
                continue
            step = max((value - log_tail) / slope, -longest)
            x = min(x - step, LARGEST_LOG_Q)
            if abs(step) < 1e-7:  # quadratic convergence: the step just made leaves an error of its square
                break
        out[i] = math.exp(x)


@lru_cache(maxsize=128)
def range_table(k: float) -> RangeTable:
    """Table of log T(w; k), empty at first."""
    coef, filled = np.zeros((N_PIECES, DEGREE + 1)), np.zeros(N_PIECES, dtype=np.bool_)
    return RangeTable(float(k), coef, filled, Z_GRID, PHI)


def check_family(k: float) -> float:
    """`k` as a float of at least 2.

    Raises
    ------
    OptionError
        For a family of fewer than two means.
    """
    k = float(k)
    if not k >= 2.0 or not math.isfinite(k):
        raise OptionError(f"k={k:g}: the studentized range needs a finite family of at least two means")
    return k


def studentized_range_sf(q: ArrayLike, k: float, df: ArrayLike) -> Floats:
    """Upper tail probability of the studentized range.

    Parameters
    ----------
    q : array_like
        Statistics; for a comparison of two means, sqrt(2) times the absolute t. Broadcast against `df`.
    k : float
        Number of means of the family, at least 2; need not be whole.
    df : array_like
        Degrees of freedom, positive, need not be whole; infinity gives the range of normal variables.

    Returns
    -------
    ndarray
        P(Q > q), of the broadcast shape; NaN where `q` or `df` is NaN.
    """
    k = check_family(k)
    q_all, df_all = np.broadcast_arrays(np.asarray(q, dtype=np.float64), np.asarray(df, dtype=np.float64))
    flat_q, flat_df = np.ascontiguousarray(q_all).ravel(), np.ascontiguousarray(df_all).ravel()
    return tabulated_tails(direct_tails, flat_q, k, flat_df).reshape(q_all.shape)


def direct_tails(q: Floats, k: float, df: Floats) -> Floats:
    """P(Q > q) of each statistic (m,) by its own sum."""
    out = np.empty(q.size)
    fill_tails(q, df, range_table(k), out)
    return out


def studentized_range_isf(tail: float, k: float, df: ArrayLike) -> Floats:
    """Quantile of the studentized range: the q with P(Q > q) = `tail`.

    Parameters
    ----------
    tail : float
        Upper tail probability, above 0 and below 1.
    k : float
        Number of means of the family, at least 2.
    df : array_like
        Degrees of freedom, positive or infinite.

    Returns
    -------
    ndarray
        Quantiles, of the shape of `df`; NaN where `df` is NaN.
    """
    k = check_family(k)
    if not 0.0 < tail < 1.0:
        raise OptionError(f"tail={tail!r}: a probability above 0 and below 1 is needed")
    df_all = np.asarray(df, dtype=np.float64)
    return tabulated_quantiles(direct_quantiles, float(tail), k, df_all.ravel()).reshape(df_all.shape)


def direct_quantiles(tail: float, k: float, df: Floats) -> Floats:
    """The q with P(Q > q) = tail for each of `df` (m,), by its own iterations; equal ones are solved once."""
    rounded = np.where(df > 0.0, np.maximum(np.round(df, 11), 1e-11), df)
    distinct, inverse = np.unique(rounded, return_inverse=True)
    out = np.empty(distinct.size)
    fill_quantiles(tail, distinct, range_table(k), out)
    return out[inverse]
