"""Tables of tail probabilities over q and 1/df, kept between calls, for very many statistics.

log P(Q > q) of one family is analytic in q and in 1/df, also at 1/df = 0.  On each of a fixed set of
rectangles it is a product series of Chebyshev polynomials, computed when a call first has many statistics
there and checked against the tails themselves.  Which statistics are taken from a table follows from their
call alone, never from calls before it; so results do not depend on the order of the work.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from fastlmm_core.multiplicity.tail_kernels import sum_quantile_pieces, sum_tail_pieces

Floats = NDArray[np.floating]
Integers = NDArray[np.integer]
Tails = Callable[[Floats, float, Floats], Floats]  # (q, k, df), each (m,), to P(Q > q)
Quantiles = Callable[[float, float, Floats], Floats]  # (tail, k, df (m,)) to q

INVERSE_DF_EDGES = np.array(
    [0.0, 0.003, 0.006, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.55, 0.75, 1.0]
)
N_DF = INVERSE_DF_EDGES.size - 1
SMALLEST_Q, LARGEST_Q = 2.0**-12, 60.0
N_OCTAVES = 11  # pieces below 0.5, each twice as long as the one before it
N_Q = N_OCTAVES + 119  # and pieces of length 0.5 from there on
Q_NODES, DF_NODES = 14, 12
QUANTILE_NODES = 18
ALLOWED_ERROR = 2e-11  # of a tail probability
ALLOWED_RELATIVE = 1e-9
ALLOWED_QUANTILE = 1e-11  # relative
SMALLEST_TAIL = 1e-290
CHECKED_Q = np.array([-1.0, -0.7, 0.2, 0.95])  # within a piece, none a node
CHECKED_DF = np.array([-1.0, -0.3, 0.55, 1.0])
WORTH = 40  # statistics of one call in one piece from which its table is used
PIECES_KEPT = 8192  # 1.3 kB each


def chebyshev_nodes(n: int) -> Floats:
    """The n zeros of the Chebyshev polynomial of degree n."""
    return np.cos(np.pi * (np.arange(n) + 0.5) / n)


def chebyshev_transform(n: int) -> Floats:
    """Matrix (n, n) from values at the nodes to coefficients."""
    i = np.arange(n)
    transform = np.cos(np.pi * np.outer(i, i + 0.5) / n) * (2.0 / n)
    transform[0] *= 0.5
    return transform


def df_pieces(df: Floats) -> tuple[Floats, Integers]:
    """(1/df, piece of each), both (m,); piece -1 for df below one and NaN."""
    with np.errstate(divide="ignore", invalid="ignore"):
        inverse = 1.0 / df
        piece = np.searchsorted(INVERSE_DF_EDGES[1:-1], inverse, side="right")
        return inverse, np.where((inverse >= 0.0) & (inverse <= 1.0), piece, -1)


def df_values(i: int, positions: Floats) -> Floats:
    """df at positions (n,) in [-1, 1] of the i-th piece of 1/df."""
    low, high = INVERSE_DF_EDGES[i : i + 2]
    return 1.0 / np.maximum(low + 0.5 * (positions + 1.0) * (high - low), 1e-15)


def df_bounds(pieces: Iterable[int]) -> Floats:
    """(lower end, length) of pieces of 1/df, (m, 2)."""
    i = np.array(list(pieces))
    return np.column_stack([INVERSE_DF_EDGES[i], np.diff(INVERSE_DF_EDGES)[i]])


def q_pieces(q: Floats) -> Integers:
    """Piece of each q (m,); -1 outside of the tables and for NaN."""
    inside = (q >= SMALLEST_Q) & (q < LARGEST_Q)
    own = np.where(inside, q, 1.0)
    below = np.frexp(own)[1] + N_OCTAVES
    piece = np.where(own < 0.5, below, (2.0 * own).astype(np.int64) + N_OCTAVES - 1)
    return np.where(inside, piece, -1)


def q_bounds(j: int) -> tuple[float, float]:
    """(lower end, length) of the j-th piece of q."""
    if j < N_OCTAVES:
        return 2.0 ** (j - N_OCTAVES - 1), 2.0 ** (j - N_OCTAVES - 1)
    return 0.5 * (j - N_OCTAVES + 1), 0.5


@lru_cache(maxsize=PIECES_KEPT)
def tail_piece(tails: Tails, k: float, i: int, j: int) -> Floats | None:
    """Coefficients (DF_NODES, Q_NODES) of log P on one rectangle; None where the series is no good."""

    def at(q_positions: Floats, df_positions: Floats) -> Floats:
        low, length = q_bounds(j)
        q = low + 0.5 * (q_positions + 1.0) * length
        both = np.broadcast_arrays(q, df_values(i, df_positions)[:, None])
        return tails(both[0].ravel(), k, both[1].ravel()).reshape(both[0].shape)

    values = at(chebyshev_nodes(Q_NODES), chebyshev_nodes(DF_NODES))
    if not np.min(values) > SMALLEST_TAIL:
        return None
    coef = chebyshev_transform(DF_NODES) @ np.log(values) @ chebyshev_transform(Q_NODES).T
    want = at(CHECKED_Q, CHECKED_DF)
    got = np.exp(np.polynomial.chebyshev.chebgrid2d(CHECKED_DF, CHECKED_Q, coef))
    error = np.abs(got - want)
    good = (error <= ALLOWED_ERROR).all() and (error <= ALLOWED_RELATIVE * want).all()
    return coef if good else None


def tabulated_tails(tails: Tails, q: Floats, k: float, df: Floats, worth: int = WORTH) -> Floats:
    """P(Q > q) for many statistics.

    Parameters
    ----------
    tails : callable
        (q, k, df) to tail probabilities, each computed by itself; a function of a module, since tables are
        kept by it.
    q, df : ndarray (m,)
    k : float
    worth : int
        Statistics of this call in one piece from which its table is used; with 1, what a statistic gets
        does not depend on the others either.

    Returns
    -------
    ndarray (m,)
        Within 2e-11 of `tails`, and within 1e-9 of small ones relative to them, wherever a table was found
        to be so on a sample; elsewhere, and where statistics are few, `tails` itself.
    """
    if q.size < worth:
        return tails(q, k, df)
    inverse, i = df_pieces(df)
    j = q_pieces(q)
    piece = np.where((i >= 0) & (j >= 0), i * N_Q + j, N_DF * N_Q)
    counts = np.bincount(piece, minlength=N_DF * N_Q + 1)[:-1]
    slot_of = np.full(N_DF * N_Q + 1, -1)
    found = {
        own: coef
        for own in np.flatnonzero(counts >= worth).tolist()
        if (coef := tail_piece(tails, k, *divmod(own, N_Q))) is not None
    }
    if not found:
        return tails(q, k, df)
    slot_of[list(found)] = np.arange(len(found))
    bounds = np.column_stack([[q_bounds(own % N_Q) for own in found], df_bounds(own // N_Q for own in found)])
    slot, out = slot_of[piece], np.empty(q.size)
    sum_tail_pieces(q, inverse, slot, bounds, np.array(list(found.values())), out)
    rest = np.flatnonzero(slot < 0)
    if rest.size:
        out[rest] = tails(q[rest], k, df[rest])
    return out


@lru_cache(maxsize=PIECES_KEPT)
def quantile_piece(quantiles: Quantiles, tail: float, k: float, i: int) -> Floats | None:
    """Coefficients (QUANTILE_NODES,) of the log of a quantile on the i-th piece of 1/df, None as above."""
    values = quantiles(tail, k, df_values(i, chebyshev_nodes(QUANTILE_NODES)))
    coef = chebyshev_transform(QUANTILE_NODES) @ np.log(values)
    want = quantiles(tail, k, df_values(i, CHECKED_DF))
    got = np.exp(np.polynomial.chebyshev.chebval(CHECKED_DF, coef))
    return coef if (np.abs(got - want) <= ALLOWED_QUANTILE * want).all() else None


def tabulated_quantiles(
    quantiles: Quantiles, tail: float, k: float, df: Floats, worth: int = WORTH
) -> Floats:
    """The q with P(Q > q) = tail for each of `df` (m,), smooth in 1/df.

    Parameters
    ----------
    quantiles : callable
        (tail, k, df) to quantiles; a function of a module.
    worth : int
        As in `tabulated_tails`.

    Returns
    -------
    ndarray (m,)
        Within 1e-11 of `quantiles`, relatively, and by the rule of `tabulated_tails` either from a table or
        those themselves.
    """
    if df.size < worth:
        return quantiles(tail, k, df)
    inverse, piece = df_pieces(df)
    counts = np.bincount(piece + 1, minlength=N_DF + 1)[1:]
    found = {
        i: coef
        for i in np.flatnonzero(counts >= worth).tolist()
        if (coef := quantile_piece(quantiles, tail, k, i)) is not None
    }
    if not found:
        return quantiles(tail, k, df)
    slot_of = np.full(N_DF + 1, -1)  # the last is for piece -1
    slot_of[list(found)] = np.arange(len(found))
    slot, out = slot_of[piece], np.empty(df.size)
    sum_quantile_pieces(inverse, slot, df_bounds(found), np.array(list(found.values())), out)
    rest = np.flatnonzero(slot < 0)
    if rest.size:
        out[rest] = quantiles(tail, k, df[rest])
    return out
