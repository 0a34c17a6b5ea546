"""Chebyshev interpolation of the studentized range over q and 1/df, for tables of very many comparisons."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import numpy as np
from numba import njit
from numpy.typing import NDArray

Floats = NDArray[np.floating]
Tails = Callable[[Floats, float, Floats], Floats]

INVERSE_DF_EDGES = (0.0, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.55, 0.75, 1.0)
Q_WIDTH = 0.5
LARGEST_Q = 60.0
Q_NODES = 14
DF_NODES = 12
QUANTILE_NODES = 18
ALLOWED_ERROR = 5e-11  # of a tail probability, checked on a sample
SAMPLE = 200
FEW = 5_000  # statistics of one df piece below which each is computed by itself


def chebyshev_nodes(n: int) -> Floats:
    """The n zeros of the Chebyshev polynomial of degree n."""
    return np.cos(np.pi * (np.arange(n) + 0.5) / n)


def chebyshev_transform(n: int) -> Floats:
    """Matrix (n, n) from values at the nodes to coefficients."""
    i = np.arange(n)
    transform = np.cos(np.pi * np.outer(i, i + 0.5) / n) * (2.0 / n)
    transform[0] *= 0.5
    return transform


@njit(cache=True, nogil=True)
def chebyshev_sum(coef: Floats, x: float) -> float:
    """Value at x of the series `coef` (n,), by Clenshaw's recurrence."""
    b1 = 0.0
    b2 = 0.0
    for i in range(coef.size - 1, 0, -1):
        b0 = 2.0 * x * b1 - b2 + coef[i]
        b2 = b1
        b1 = b0
    return x * b1 - b2 + coef[0]


@njit(cache=True, nogil=True)
def evaluate_pieces(q: Floats, x: Floats, first: int, width: float, coef: Floats, out: Floats) -> None:
    """out[i] = exp of the tensor series of q's piece at (q[i], x[i]).

    coef : (n_pieces, n_q, n_df), the first piece starting at first * width.
    """
    n_q = coef.shape[1]
    inner = np.empty(n_q)
    for i in range(q.size):
        piece = int(q[i] / width)
        for j in range(n_q):
            inner[j] = chebyshev_sum(coef[piece - first, j], x[i])
        out[i] = np.exp(min(chebyshev_sum(inner, 2.0 * (q[i] / width - piece) - 1.0), 0.0))


def piece_coefficients(tails: Tails, k: float, low: float, high: float, first: int, last: int) -> Floats:
    """Coefficients of log P(Q > q) on the q pieces first..last and 1/df in [low, high].


    Shape (last - first + 1, Q_NODES, DF_NODES).
    """
    pieces = np.arange(first, last + 1)
    q = (pieces[:, None] + 0.5 * (chebyshev_nodes(Q_NODES) + 1.0)) * Q_WIDTH
    df = 1.0 / (low + 0.5 * (chebyshev_nodes(DF_NODES) + 1.0) * (high - low))
    shape = (pieces.size, Q_NODES, DF_NODES)
    values = tails(
        np.broadcast_to(q[:, :, None], shape).ravel(), k, np.broadcast_to(df, shape).ravel()
    ).reshape(shape)
    logs = np.log(np.maximum(values, 1e-300))
    return np.ascontiguousarray(
        np.einsum("ia,pab,jb->pij", chebyshev_transform(Q_NODES), logs, chebyshev_transform(DF_NODES))
    )


def interpolated_tails(tails: Tails, q: Floats, k: float, df: Floats) -> Floats:
    """P(Q > q) for many statistics: interpolated in q and 1/df, checked on a sample of each piece.

    Parameters
    ----------
    tails : callable
        (q, k, df) to tail probabilities, each computed by itself.
    q, df : ndarray (m,)
    k : float

    Returns
    -------
    ndarray (m,)
        Within 5e-11 of `tails` on the sample; where that fails, `tails` itself.
    """
    out = np.full(q.shape, np.nan)
    with np.errstate(divide="ignore", invalid="ignore"):
        x = 1.0 / df
        # Below the first piece the tail need not be smooth in q; above the last it is as good as 0.
        suits = (q >= Q_WIDTH) & (q < LARGEST_Q) & (x >= 0.0) & (x <= 1.0)
    out[~suits] = tails(q[~suits], k, df[~suits])
    for n, (low, high) in enumerate(pairwise(INVERSE_DF_EDGES)):
        rows = np.flatnonzero(suits & (x <= high) & ((x > low) | (n == 0)))
        if rows.size:
            out[rows] = piece_tails(tails, q[rows], k, df[rows], x[rows])
    return out


def piece_tails(tails: Tails, q: Floats, k: float, df: Floats, x: Floats) -> Floats:
    """Tails for x = 1/df within one piece."""
    if q.size < FEW:
        return tails(q, k, df)
    low, high = float(x.min()), float(x.max())
    if high - low < 1e-9:
        low, high = max(0.0, low - 1e-6), high + 1e-6
    first, last = int(q.min() / Q_WIDTH), int(q.max() / Q_WIDTH)
    coef = piece_coefficients(tails, k, low, high, first, last)
    out = np.empty(q.size)
    evaluate_pieces(q, 2.0 * (x - low) / (high - low) - 1.0, first, Q_WIDTH, coef, out)
    sample = np.linspace(0, q.size - 1, SAMPLE).astype(np.intp)
    error = np.abs(out[sample] - tails(q[sample], k, df[sample]))
    return out if error.max() <= ALLOWED_ERROR else tails(q, k, df)


def interpolated_quantiles(solve: Callable[[Floats, Floats], None], inverse_df: Floats) -> Floats:
    """Quantiles at many 1/df (m,), interpolating log q on pieces of their range.

    Parameters
    ----------
    solve : callable
        (df, target): fills `target` with the quantiles at `df`.
    """
    out = np.empty(inverse_df.size)
    low_most = inverse_df.min()
    edges = np.unique(np.clip(INVERSE_DF_EDGES, low_most, max(inverse_df.max(), low_most + 1e-12)))
    x, transform = chebyshev_nodes(QUANTILE_NODES), chebyshev_transform(QUANTILE_NODES)
    for low, high in pairwise(edges):
        inside = (inverse_df >= low) & (inverse_df <= high)
        if not inside.any():
            continue
        q = np.empty(QUANTILE_NODES)
        solve(1.0 / np.maximum(low + 0.5 * (x + 1.0) * (high - low), 1e-300), q)
        position = 2.0 * (inverse_df[inside] - low) / (high - low) - 1.0
        out[inside] = np.exp(np.polynomial.chebyshev.chebval(position, transform @ np.log(q)))
    return out
