"""Sums of the Chebyshev series of ``tail_tables`` and ``dunnett``.

In one file, since Numba's cache of a kernel does not see changes of other files.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from fastlmm_core.kernels.compile import kernel

Floats = NDArray[np.floating]
Integers = NDArray[np.integer]

EPS = float(np.finfo(float).eps)
MAX_ITERATIONS = 100


@kernel
def chebyshev_sum(coef: Floats, x: float) -> float:
    """Value at x of the series `coef` (n,), by Clenshaw's recurrence."""
    b1 = 0.0
    b2 = 0.0
    for i in range(coef.size - 1, 0, -1):
        b0 = 2.0 * x * b1 - b2 + coef[i]
        b2 = b1
        b1 = b0
    return x * b1 - b2 + coef[0]


@kernel
def fold_series(coef: Floats, x: float, out: Floats) -> None:
    """out = sum_j T_j(x) coef[j]: the series (n_out,) in the other variable at x, from coef (n, n_out)."""
    for i in range(out.size):
        out[i] = coef[0, i]
    before = 1.0
    now = x
    for j in range(1, coef.shape[0]):
        for i in range(out.size):
            out[i] += now * coef[j, i]
        after = 2.0 * x * now - before
        before = now
        now = after


@kernel
def sum_tail_pieces(
    q: Floats, inverse_df: Floats, slot: Integers, bounds: Floats, coef: Floats, out: Floats
) -> None:
    """out[i] = exp of the series of piece slot[i] at (q[i], 1/df); left alone where slot[i] < 0.

    bounds : (m, 4) lower end and length of each piece in q, then in 1/df.
    coef : (m, n_df, n_q)
    """
    inner = np.empty(coef.shape[2])
    for i in range(q.size):
        s = slot[i]
        if s < 0:
            continue
        fold_series(coef[s], 2.0 * (inverse_df[i] - bounds[s, 2]) / bounds[s, 3] - 1.0, inner)
        value = chebyshev_sum(inner, 2.0 * (q[i] - bounds[s, 0]) / bounds[s, 1] - 1.0)
        out[i] = math.exp(min(value, 0.0))


@kernel
def sum_quantile_pieces(
    inverse_df: Floats, slot: Integers, bounds: Floats, coef: Floats, out: Floats
) -> None:
    """out[i] = exp of the series slot[i] at 1/df; left alone where slot[i] < 0.

    bounds : (m, 2) lower end and length of each piece in 1/df.
    """
    for i in range(inverse_df.size):
        s = slot[i]
        if s >= 0:
            out[i] = math.exp(
                chebyshev_sum(coef[s], 2.0 * (inverse_df[i] - bounds[s, 0]) / bounds[s, 1] - 1.0)
            )


@kernel
def excess(t: float, log_start: float, log_length: float, series: Floats, alpha: float) -> float:
    """alpha - P(t), log P being `series` over log t from log_start on; log_length may be negative."""
    return alpha - math.exp(chebyshev_sum(series, 2.0 * (math.log(t) - log_start) / log_length - 1.0))


@kernel
def propose_step(
    a: float, b: float, c: float, fa: float, fb: float, fc: float, previous: float, shortest: float
) -> float:
    """The step of ``root_finding`` from b."""
    half = 0.5 * (c - b)
    step = half
    if abs(previous) >= shortest and abs(fa) > abs(fb):
        s = fb / fa
        if a == c:
            p = 2.0 * half * s
            q = 1.0 - s
        else:
            q = fa / fc
            r = fb / fc
            p = s * (2.0 * half * q * (q - r) - (b - a) * (r - 1.0))
            q = (q - 1.0) * (r - 1.0) * (s - 1.0)
        if p > 0.0:
            q = -q
        p = abs(p)
        if p < 1.5 * half * q - 0.5 * abs(shortest * q) and p < abs(0.5 * previous * q):
            step = p / q
    return step if abs(step) >= shortest else math.copysign(shortest, step)


@kernel
def search_root(
    low: float,
    high: float,
    log_start: float,
    log_length: float,
    series: Floats,
    alpha: float,
    tolerance: float,
) -> float:
    """The path of ``root_finding.find_roots`` for one root of `excess`, step by step."""
    a = low
    b = high
    fa = excess(a, log_start, log_length, series, alpha)
    fb = excess(b, log_start, log_length, series, alpha)
    c = a
    fc = fa
    for _ in range(MAX_ITERATIONS):
        previous = b - a
        if abs(fc) < abs(fb):
            a = b
            b = c
            c = a
            fa = fb
            fb = fc
            fc = fa
        shortest = 2.0 * EPS * abs(b) + 0.5 * tolerance
        if abs(c - b) <= 2.0 * shortest or fb == 0.0:
            break
        step = propose_step(a, b, c, fa, fb, fc, previous, shortest)
        a = b
        fa = fb
        b += step
        fb = excess(b, log_start, log_length, series, alpha)
        if np.sign(fb) == np.sign(fc):
            c = a
            fc = fa
    return b


@kernel
def search_dunnett(
    inverse_df: Floats, slot: Integers, bounds: Floats, ends: Floats, coef: Floats, alpha: float,
    tolerance: float, out: Floats,
) -> None:  # fmt: skip
    """out[i] = critical value of piece slot[i] at 1/df; left alone where slot[i] < 0.

    bounds : (m, 2) lower end and length of each piece in 1/df.
    ends : (m, 2, n_ends) series of the logs of the values between which the root lies.
    coef : (m, n_df, n_t) series of the log of the tail.
    """
    series = np.empty(coef.shape[2])
    for i in range(inverse_df.size):
        s = slot[i]
        if s < 0:
            continue
        x = 2.0 * (inverse_df[i] - bounds[s, 0]) / bounds[s, 1] - 1.0
        log_tukey = chebyshev_sum(ends[s, 0], x)
        log_sidak = chebyshev_sum(ends[s, 1], x)
        tukey = math.exp(log_tukey)
        sidak = math.exp(log_sidak)
        out[i] = tukey
        if abs(tukey - sidak) >= tolerance:
            fold_series(coef[s], x, series)
            low = min(tukey, sidak)
            high = max(tukey, sidak)
            out[i] = search_root(low, high, log_tukey, log_sidak - log_tukey, series, alpha, tolerance)
