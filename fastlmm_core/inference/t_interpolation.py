"""Quantiles at one level for very many degrees of freedom.

At a fixed tail the quantile is a smooth function of 1/df, also at its normal limit 1/df = 0; so it is
tabulated by Chebyshev polynomials on a few
intervals, once for every tail.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import numpy as np
from numpy.polynomial import chebyshev
from numpy.typing import NDArray

from fastlmm_core.inference.distributions import t_quantile

Floats = NDArray[np.floating]

DEGREE = 22
EDGES = (0.0, 0.01, 0.04, 0.1, 0.2, 0.35, 0.5)  # of 1/df; below two df the exact function is used
FEWEST = 500


@lru_cache(maxsize=32)
def tabulate_quantiles(tail: float) -> tuple[Floats, ...]:
    """`tabulate` of the t quantile."""
    return tuple(tabulate(lambda df: t_quantile(tail, df), k) for k in range(len(EDGES) - 1))


def tabulate(exact: Callable[[Floats], Floats], k: int) -> Floats:
    """Chebyshev coefficients (DEGREE + 1,) of a function of df over the k-th interval of 1/df."""
    nodes = np.cos(np.pi * (np.arange(DEGREE + 1) + 0.5) / (DEGREE + 1))
    low, high = EDGES[k], EDGES[k + 1]
    inverse = 0.5 * (low + high) + 0.5 * (high - low) * nodes
    return chebyshev.chebfit(nodes, exact(1.0 / inverse), DEGREE)


def t_quantiles(tail: float, df: Floats) -> Floats:
    """|t| exceeded with probability `tail` on both sides together, for each of `df` (c,).

    Agrees with ``distributions.t_quantile`` to 1e-12 (relative).
    """
    table = tabulate_quantiles(float(tail))
    return over_many_df(lambda some: t_quantile(tail, some), df, lambda k: table[k])


def over_many_df(
    exact: Callable[[Floats], Floats], df: Floats, table: Callable[[int], Floats] | None = None
) -> Floats:
    """A smooth function of 1/df, such as a critical value at a fixed level, for each of `df` (c,).

    Parameters
    ----------
    exact : callable
        The function, for an array of df; called for a few df only when there are many.
    table : callable, optional
        Coefficients of the k-th interval where they are known already.
    """
    if df.size < FEWEST:
        return exact(df)
    with np.errstate(divide="ignore", invalid="ignore"):
        inverse = 1.0 / df
    out = np.full(df.shape, np.nan)
    other = ~((inverse >= 1e-9) & (inverse <= EDGES[-1]))  # near infinity: the exact function's normal limit
    piece = np.clip(np.searchsorted(EDGES, inverse, side="right") - 1, 0, len(EDGES) - 2)
    for k in range(len(EDGES) - 1):
        own = np.flatnonzero((piece == k) & ~other)
        if own.size:
            low, high = EDGES[k], EDGES[k + 1]
            coefficients = tabulate(exact, k) if table is None else table(k)
            out[own] = chebyshev.chebval((2.0 * inverse[own] - low - high) / (high - low), coefficients)
    if other.any():
        out[other] = exact(df[other])
    return out
