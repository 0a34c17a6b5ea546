"""Roots of many functions of one variable at a time."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]
EPS = float(np.finfo(float).eps)


def find_roots(
    f: Callable[[Floats, NDArray[np.integer]], Floats],
    low: Floats,
    high: Floats,
    tolerance: float,
    max_iterations: int = 100,
) -> Floats:
    """Roots between `low` and `high` by Brent's method.

    The method (Brent 1973, Algorithms for Minimization without Derivatives, chapter 4) keeps the best point
    b, a point c with the other sign and the point a before b.  A step interpolates through them, linearly or
    by the inverse quadratic, where that shortens the bracket faster than bisection; no step is shorter than
    the tolerance.  It ends when c lies within twice the tolerance of b.  Every problem follows its own path:
    the result is that of the problem alone.

    Parameters
    ----------
    f : callable
        ``f(x, rows)`` gives the values of the functions `rows` (m,) at x (m,).
    low, high : ndarray (n,)
        Where the functions have values of different sign.
    tolerance : float
        Half of it is the absolute tolerance, as in the usual implementations.

    Returns
    -------
    ndarray (n,)
    """
    a, b = np.array(low, np.float64), np.array(high, np.float64)
    everything = np.arange(a.size)
    fa, fb = f(a, everything), f(b, everything)
    c, fc = a.copy(), fa.copy()
    rows = everything
    for _ in range(max_iterations):
        previous = b[rows] - a[rows]
        worse = rows[np.abs(fc[rows]) < np.abs(fb[rows])]
        a[worse], b[worse], c[worse] = b[worse], c[worse], b[worse]
        fa[worse], fb[worse], fc[worse] = fb[worse], fc[worse], fb[worse]
        shortest = 2.0 * EPS * np.abs(b[rows]) + 0.5 * tolerance
        open_ = (np.abs(c[rows] - b[rows]) > 2.0 * shortest) & (fb[rows] != 0.0)
        rows, previous, shortest = rows[open_], previous[open_], shortest[open_]
        if rows.size == 0:
            break
        step = _propose_steps((a[rows], b[rows], c[rows]), (fa[rows], fb[rows], fc[rows]), previous, shortest)
        a[rows], fa[rows] = b[rows], fb[rows]
        b[rows] += step
        fb[rows] = f(b[rows], rows)
        same = rows[np.sign(fb[rows]) == np.sign(fc[rows])]
        c[same], fc[same] = a[same], fa[same]
    return b


def _propose_steps(
    points: tuple[Floats, Floats, Floats],
    values: tuple[Floats, Floats, Floats],
    previous: Floats,
    shortest: Floats,
) -> Floats:
    """Steps from b: by interpolation where it is to be trusted, else half way to c."""
    (a, b, c), (fa, fb, fc) = points, values
    half = 0.5 * (c - b)
    with np.errstate(divide="ignore", invalid="ignore"):
        s = fb / fa
        linear = 2.0 * half * s, 1.0 - s
        q, r = fa / fc, fb / fc
        quadratic = s * (2.0 * half * q * (q - r) - (b - a) * (r - 1.0)), (q - 1.0) * (r - 1.0) * (s - 1.0)
        p = np.where(a == c, linear[0], quadratic[0])
        q = np.where(a == c, linear[1], quadratic[1])
        q = np.where(p > 0.0, -q, q)
        p = np.abs(p)
        trusted = (np.abs(previous) >= shortest) & (np.abs(fa) > np.abs(fb))
        trusted &= (p < 1.5 * half * q - 0.5 * np.abs(shortest * q)) & (p < np.abs(0.5 * previous * q))
        step = np.where(trusted, p / q, half)
    return np.where(np.abs(step) < shortest, np.copysign(shortest, step), step)
