"""emmeans' approximation to Dunnett's test, "dunnettx": tails, and the critical values that emmeans finds."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from fastlmm_core.multiplicity.distributions import t_quantile, t_two_sided
from fastlmm_core.multiplicity.root_finding import find_roots
from fastlmm_core.multiplicity.studentized_range import direct_quantiles, direct_tails
from fastlmm_core.multiplicity.tail_kernels import search_dunnett
from fastlmm_core.multiplicity.tail_tables import (
    CHECKED_DF,
    CHECKED_Q,
    N_DF,
    QUANTILE_NODES,
    chebyshev_nodes,
    chebyshev_transform,
    df_bounds,
    df_pieces,
    df_values,
    tabulated_tails,
)

Floats = NDArray[np.floating]
Piece = tuple[Floats, Floats]

TOLERANCE = 5e-4  # emmeans' on the critical value
T_NODES, DF_NODES = 12, 14
ALLOWED_ERROR = 1e-10  # of the logs of the ends and of the tail between them
PIECES_KEPT = 2048  # 2 kB each


def tukey_size(n_tests: float) -> float:
    """Number of means whose pairwise comparisons would be `n_tests`."""
    return float((1.0 + np.sqrt(1.0 + 8.0 * n_tests)) / 2.0)


def sidak_tail(p: Floats, size: float | NDArray[np.integer]) -> Floats:
    """1 - (1 - p)^size without cancellation."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return -np.expm1(size * np.log1p(-p))


def direct_dunnett_tails(q: Floats, size: float, df: Floats) -> Floats:
    """The tail at sqrt(2) |t| = q (m,): a mean of Tukey's and Šidák's.

    With k tests the weight of Tukey's (for a family of (1 + sqrt(1 + 8k)) / 2 means) is (k - 1) / k.
    """
    weight = (size - 1.0) / size
    sidak = sidak_tail(t_two_sided(q / np.sqrt(2.0), df), size)
    return weight * direct_tails(q, tukey_size(size), df) + (1.0 - weight) * sidak


def dunnett_tail(t: Floats, size: NDArray[np.integer], df: Floats) -> Floats:
    """P values of statistics t (c,) >= 0 in families of `size` (c,) tests."""
    out = np.empty(t.shape)
    for k in np.unique(size).tolist():
        rows = np.flatnonzero(size == k)
        out[rows] = tabulated_tails(direct_dunnett_tails, np.sqrt(2.0) * t[rows], float(k), df[rows])
    return out


def direct_ends(alpha: float, size: int, df: Floats) -> tuple[Floats, Floats]:
    """Tukey's and Šidák's critical values (m,), between which that of dunnettx lies."""
    tukey = direct_quantiles(alpha, tukey_size(size), df) / np.sqrt(2.0)
    return tukey, t_quantile(-np.expm1(np.log1p(-alpha) / size), df)


def dunnett_quantiles(alpha: float, size: int, df: Floats) -> Floats:
    """emmeans' critical values: where `dunnett_tail` is `alpha`, to the accuracy emmeans finds it.

    emmeans takes Tukey's quantile where it and Šidák's differ by less than 5e-4, and else searches between
    them by Brent's method with the tolerance 5e-4, so its limits differ from the root by up to some 1e-4
    standard errors.  They are reproduced here, path of the search included: the method is defined by that
    package.  Where limits still differ, it is by the accuracy of R's `ptukey` and `qtukey` at few df.

    The path is not smooth in df, so every df has a search of its own; what the search evaluates is smooth and
    comes from series, the same ones however many df are asked for.

    Parameters
    ----------
    df : ndarray (m,)
    """
    if size == 1:
        return t_quantile(alpha, df)
    inverse, piece = df_pieces(df)
    found = {
        i: own
        for i in np.unique(piece[piece >= 0]).tolist()
        if (own := dunnett_piece(alpha, size, i)) is not None
    }
    out = np.full(df.shape, np.nan)
    slot_of = np.full(N_DF + 1, -1)  # the last is for piece -1
    slot_of[list(found)] = np.arange(len(found))
    slot = slot_of[piece]
    if found:
        ends, coef = (np.array(parts) for parts in zip(*found.values(), strict=True))
        search_dunnett(inverse, slot, df_bounds(found), ends, coef, alpha, TOLERANCE, out)
    rest = np.flatnonzero((slot < 0) & (df > 0.0))
    if rest.size:
        distinct, back = np.unique(df[rest], return_inverse=True)
        out[rest] = searched_quantiles(alpha, size, distinct)[back]
    return out


@lru_cache(maxsize=PIECES_KEPT)
def dunnett_piece(alpha: float, size: int, i: int) -> Piece | None:
    """Series of what the search needs on the i-th piece of 1/df; None where they are not good enough.

    Returns
    -------
    (2, QUANTILE_NODES)
        Logs of Tukey's and Šidák's critical values over 1/df.
    (DF_NODES, T_NODES)
        Log of the tail over 1/df and log t from the one to the other.
    """
    ends = chebyshev_transform(QUANTILE_NODES) @ np.log(
        direct_ends(alpha, size, df_values(i, chebyshev_nodes(QUANTILE_NODES)))
    ).T  # fmt: skip

    def log_tails(df_positions: Floats, t_positions: Floats) -> Floats:
        tukey, sidak = np.polynomial.chebyshev.chebval(df_positions, ends)
        log_t = tukey[:, None] + np.outer(sidak - tukey, 0.5 * (t_positions + 1.0))
        df = np.broadcast_to(df_values(i, df_positions)[:, None], log_t.shape)
        tails = direct_dunnett_tails(np.sqrt(2.0) * np.exp(log_t).ravel(), size, df.ravel())
        return np.log(tails).reshape(log_t.shape)

    coef = (
        chebyshev_transform(DF_NODES)
        @ log_tails(chebyshev_nodes(DF_NODES), chebyshev_nodes(T_NODES))
        @ chebyshev_transform(T_NODES).T
    )
    error = np.polynomial.chebyshev.chebgrid2d(CHECKED_DF, CHECKED_Q, coef) - log_tails(CHECKED_DF, CHECKED_Q)
    of_ends = np.polynomial.chebyshev.chebval(CHECKED_DF, ends) - np.log(
        direct_ends(alpha, size, df_values(i, CHECKED_DF))
    )
    good = np.abs(error).max() <= ALLOWED_ERROR and np.abs(of_ends).max() <= ALLOWED_ERROR
    return (np.ascontiguousarray(ends.T), coef) if good else None


def searched_quantiles(alpha: float, size: int, df: Floats) -> Floats:
    """`dunnett_quantiles` with every tail computed by itself."""
    tukey, sidak = direct_ends(alpha, size, df)
    apart = np.flatnonzero(np.abs(tukey - sidak) >= TOLERANCE)

    def excess(t: Floats, rows: NDArray[np.integer]) -> Floats:
        return alpha - direct_dunnett_tails(np.sqrt(2.0) * t, size, df[apart[rows]])

    ends = tukey[apart], sidak[apart]
    tukey[apart] = find_roots(excess, np.minimum(*ends), np.maximum(*ends), TOLERANCE)
    return tukey
