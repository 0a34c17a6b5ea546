"""Stationary correlations from partial autocorrelations: any of them in (-1, 1) give a definite matrix.

Barndorff-Nielsen & Schou (1973, J. Multivariate Analysis 3:408), Durbin (1960).  The Cholesky factor comes
from the normalized lattice filter (Itakura & Saito 1971, Makhoul 1977), run from the innovations to the
series: with forward errors f and backward errors b of unit variance, at time i and for k = i down to 1,

    f^(k-1)_i = s_k f^(k)_i + p_k b^(k-1)_{i-1},    b^(k)_i = s_k b^(k-1)_{i-1} - p_k f^(k)_i,

s_k = sqrt(1 - p_k^2), f^(i)_i the innovation of time i, x_i = f^(0)_i = b^(0)_i.  Every step is a rotation:
nothing cancels near the singular matrices, where a factorization of the correlations would break down.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

# An innovation variance below this is rounding: the series is known from its past, further p_k do not matter.
KNOWN_FROM_PAST = 1e-13


@dataclass(frozen=True)
class Rotations:
    """p_k and s_k = sqrt(1 - p_k^2) with their derivatives in the chart x_k, p_k = bound tanh x_k.

    Attributes
    ----------
    p, s : (q, 3) float64
        Value, first and second derivative.
    """

    p: np.ndarray
    s: np.ndarray

    @classmethod
    def of_chart(cls, x: np.ndarray, bound: float) -> Rotations:
        p, dp, d2p = tanh_chart(x, bound)
        s = np.sqrt((1.0 - p) * (1.0 + p))
        ds = -p * dp / s
        d2s = -(dp**2 + p * d2p + ds**2) / s
        return cls(np.stack([p, dp, d2p], axis=1), np.stack([s, ds, d2s], axis=1))


def tanh_chart(x: np.ndarray, bound: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """bound tanh x with its first two derivatives."""
    p = np.tanh(x)
    slope = (1.0 - p) * (1.0 + p)
    return bound * p, bound * slope, -2.0 * bound * p * slope


def inverse_tanh_chart(p: np.ndarray, bound: float, end: float) -> np.ndarray:
    """x of p, |p / bound| taken as at most 1 - end."""
    return np.arctanh(np.clip(p / bound, end - 1.0, 1.0 - end))


def tanh_chart_at(distance: float) -> float:
    """|x| where tanh x is so far from its bound, for small distances: tanh x = 1 - 2 exp(-2 x) + ..."""
    return float(-0.5 * np.log(0.5 * distance))


def lattice(rotations: Rotations, columns: int, order: int) -> list[np.ndarray]:
    """Leading columns of the Cholesky factor K of the correlations, with derivatives in the chart.

    Cells (i, k) of one 2 i - k need only the two waves before it: 2 m vectorized steps instead of m^2 / 2.
    The arrays hold the latest f^(k) and b^(k) of every order k; neighbours in k belong to different waves.

    Parameters
    ----------
    rotations : Rotations
        Of q = m - 1 partial autocorrelations.
    columns : int
        Columns of K; the first alone holds the correlations by lag.
    order : int
        Highest derivative, 0 to 2.

    Returns
    -------
    list of arrays
        K (m, columns), and as asked dK (q, m, columns), d2K (q, q, m, columns).
    """
    q = len(rotations.p)
    m = q + 1
    p, s = rotations.p, rotations.s
    out, forward, backward = ([np.zeros((m, *(q,) * d, columns)) for d in range(order + 1)] for _ in range(3))
    for wave in range(2 * m - 1):
        last = min(wave, 2 * q - wave)
        k = np.arange(wave % 2, last + 1, 2)
        inner = k[k < wave]  # k = i starts from its innovation
        mixed = _mix(s[inner], _at(forward, inner + 1), p[inner], _at(backward, inner), inner)
        for f, value in zip(forward, mixed, strict=True):
            f[inner] = value
            if last == wave:
                f[wave] = 0.0
        if last == wave < columns:
            forward[0][wave, wave] = 1.0
        inner = k[k > 0]
        before = inner - 1
        mixed = _mix(s[before], _at(backward, before), -p[before], _at(forward, inner), before)
        for b, value in zip(backward, mixed, strict=True):
            b[inner] = value
        if wave % 2 == 0:
            for b, f, result in zip(backward, forward, out, strict=True):
                b[0] = f[0]
                result[wave // 2] = f[0]
    return [np.moveaxis(result, 0, -2) for result in out]


def _at(jet: list[np.ndarray], k: np.ndarray) -> list[np.ndarray]:
    return [values[k] for values in jet]


def _mix(
    a: np.ndarray, u: list[np.ndarray], b: np.ndarray, v: list[np.ndarray], index: np.ndarray
) -> list[np.ndarray]:
    """a u + b v of n cells with derivatives; a and b (n, 3) depend on the chart's `index` (n,) alone."""

    def combined(order: int, derivative: int) -> np.ndarray:
        shape = (-1, *(1,) * (u[order].ndim - 1))
        return a[:, derivative].reshape(shape) * u[order] + b[:, derivative].reshape(shape) * v[order]

    out = [combined(order, 0) for order in range(len(u))]
    cell = np.arange(index.size)
    if len(out) > 1:
        out[1][cell, index] += combined(0, 1)
    if len(out) > 2:
        cross = combined(1, 1)
        out[2][cell, index] += cross
        out[2][cell, :, index] += cross
        out[2][cell, index, index] += combined(0, 2)
    return out


def partial_correlations(r: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Partial autocorrelations (q,) of the correlations r (q,) at lags 1 to q, by Levinson's recursion.

    A lag that is not `known` (q,) has the partial correlation zero, and so the correlation that the shorter
    lags imply.
    """
    p = np.zeros(r.size)
    coefficients = np.zeros(0)
    implied = np.zeros(r.size)
    variance = 1.0
    for k in range(r.size):
        expected = float(coefficients @ implied[:k][::-1])
        if known[k] and variance > KNOWN_FROM_PAST:
            p[k] = np.clip((r[k] - expected) / variance, -1.0, 1.0)
        implied[k] = expected + p[k] * variance
        coefficients = np.append(coefficients - p[k] * coefficients[::-1], p[k])
        variance *= (1.0 - p[k]) * (1.0 + p[k])
    return p
