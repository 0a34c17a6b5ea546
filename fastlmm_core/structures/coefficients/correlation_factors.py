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
