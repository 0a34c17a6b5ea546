"""Orthogonal polynomial contrasts, exactly, and in the whole numbers that emmeans shows."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from math import gcd, lcm

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]


def orthogonal_polynomials(k: int, degree: int) -> list[list[Fraction]]:
    """Orthogonal polynomials of degree 1..degree on 1..k, exactly, each rising at the upper end.

    Three-term recurrence for equally spaced points: with x centred,
    P_(j+1) = x P_j - (j^2 (k^2 - j^2) / (4 (4 j^2 - 1))) P_(j-1).
    """
    x = [Fraction(2 * i - k + 1, 2) for i in range(k)]
    before, now = [Fraction(0)] * k, [Fraction(1)] * k
    out = []
    for j in range(degree):
        ratio = Fraction(j * j * (k * k - j * j), 4 * (4 * j * j - 1))
        before, now = now, [xi * a - ratio * b for xi, a, b in zip(x, now, before, strict=True)]
        out.append(now)
    return out


def whole_numbers(exact: Sequence[Fraction]) -> Floats:
    """The multiple of a contrast (k,) in whole numbers, by emmeans' rule where that ends.

    The rule: scale to length 1, divide by the smallest entry above 0.01; while some entry is more than 0.05
    from a whole number divide by that distance; round. It does not end for many levels; then the smallest
    multiple in whole numbers is taken.
    """
    column = np.array([float(x) for x in exact])
    column /= np.linalg.norm(column)
    positive = column[column > 0.01]
    scaled = column / (positive.min() if positive.size else np.abs(column).max())
    while np.abs(scaled).max() < 1e4:
        distance = np.abs(scaled - np.round(scaled)).max()
        if distance <= 0.05:
            return np.round(scaled)
        scaled = scaled / distance
    common = lcm(*(x.denominator for x in exact))
    whole = [int(x * common) for x in exact]
    return np.array(whole, dtype=object).astype(np.float64) / gcd(*whole)
