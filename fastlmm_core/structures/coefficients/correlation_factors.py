"""Cholesky factors of correlation matrices in closed form, with derivatives."""

from __future__ import annotations

import numpy as np


def compound_symmetry_factor(rho: float, m: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """K of (1 - rho) I + rho J, and its first two derivatives in rho, (m, m) each.

    With a = 1 + (j - 1) rho, b = 1 + j rho, g = 1 - rho, column j (from 0) holds sqrt(g b / a) on the
    diagonal and rho sqrt(g / (a b)) below it: the pivot and the common element of the Schur complement, which
    is compound symmetric again. Derivatives through those of the logarithms.
    """
    j = np.arange(m, dtype=float)
    a, b, g = 1.0 + (j - 1.0) * rho, 1.0 + j * rho, 1.0 - rho
    da, db, dg = (j - 1.0) / a, j / b, -1.0 / g
    diagonal = np.sqrt(g * b / a)
    first, second = 0.5 * (dg + db - da), 0.5 * (-(dg**2) - db**2 + da**2)
    on = diagonal, diagonal * first, diagonal * (first**2 + second)
    root = np.sqrt(g / (a * b))
    first, second = 0.5 * (dg - db - da), 0.5 * (-(dg**2) + db**2 + da**2)
    slope, bend = root * first, root * (first**2 + second)
    off = rho * root, root + rho * slope, 2.0 * slope + rho * bend
    below = np.tri(m, k=-1)
    out = [np.diag(d) + below * o for d, o in zip(on, off, strict=True)]
    return out[0], out[1], out[2]


def autoregressive_factor(rho: float, m: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """K of rho^|i - j|, and its first two derivatives in rho, (m, m) each.

    x_i = rho x_{i-1} + sqrt(1 - rho^2) e_i from x_0 = e_0: column 0 is rho^i, column j is the innovation's
    share sqrt(1 - rho^2) rho^(i - j).
    """
    lag = np.maximum(np.subtract.outer(np.arange(m), np.arange(m)), 0)
    power, slope, bend = (np.tril(p) for p in powers(rho, lag))
    c = np.sqrt((1.0 - rho) * (1.0 + rho))
    dc, d2c = -rho / c, -1.0 / c**3
    K, dK, d2K = c * power, dc * power + c * slope, d2c * power + 2.0 * dc * slope + c * bend
    K[:, 0], dK[:, 0], d2K[:, 0] = power[:, 0], slope[:, 0], bend[:, 0]
    return K, dK, d2K


def powers(rho: float, n: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """rho^n and its first two derivatives in rho, for integers n >= 0."""
    k = np.arange(int(n.max(initial=0)) + 1)  # matrices hold each power many times
    return (
        (rho**k)[n],
        (k * rho ** np.maximum(k - 1, 0))[n],
        (k * (k - 1) * rho ** np.maximum(k - 2, 0))[n],
    )
