"""Quantiles of Student's t at one level for very many degrees of freedom.

At a fixed tail the quantile is a smooth function of 1/df, also at its normal limit 1/df = 0; so it is
tabulated by Chebyshev polynomials on a few
intervals, once for every tail.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import pairwise

import numpy as np
from numpy.polynomial import chebyshev
from numpy.typing import NDArray

from fastlmm_core.inference.multiplicity import t_quantile

Floats = NDArray[np.floating]

DEGREE = 22
EDGES = (0.0, 0.01, 0.04, 0.1, 0.2, 0.35, 0.5)  # of 1/df; below two df the exact function is used
FEWEST = 500


@lru_cache(maxsize=32)
def tabulate_quantiles(tail: float) -> tuple[Floats, ...]:
    """Chebyshev coefficients (DEGREE + 1,) of the quantile over every interval of 1/df."""
    nodes = np.cos(np.pi * (np.arange(DEGREE + 1) + 0.5) / (DEGREE + 1))
    fits = []
    for low, high in pairwise(EDGES):
        inverse = 0.5 * (low + high) + 0.5 * (high - low) * nodes
        exact = t_quantile(tail, 1.0 / inverse)
        fits.append(chebyshev.chebfit(nodes, exact, DEGREE))
    return tuple(fits)


def t_quantiles(tail: float, df: Floats) -> Floats:
    """|t| exceeded with probability `tail` on both sides together, for each of `df` (c,).

    Agrees with ``multiplicity.t_quantile`` to 1e-12 (relative).
    """
    if df.size < FEWEST:
        return t_quantile(tail, df)
    with np.errstate(divide="ignore", invalid="ignore"):
        inverse = 1.0 / df
    out = np.full(df.shape, np.nan)
    other = ~((inverse >= 1e-9) & (inverse <= EDGES[-1]))  # near infinity: the exact function's normal limit
    piece = np.clip(np.searchsorted(EDGES, inverse, side="right") - 1, 0, len(EDGES) - 2)
    for k, coefficients in enumerate(tabulate_quantiles(float(tail))):
        own = np.flatnonzero((piece == k) & ~other)
        if own.size:
            low, high = EDGES[k], EDGES[k + 1]
            out[own] = chebyshev.chebval((2.0 * inverse[own] - low - high) / (high - low), coefficients)
    if other.any():
        out[other] = t_quantile(tail, df[other])
    return out
