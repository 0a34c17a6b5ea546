"""Tabulated tails and quantiles against those computed one by one."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from fastlmm_core.multiplicity.distributions import t_quantile, t_two_sided
from fastlmm_core.multiplicity.dunnett import direct_dunnett_tails
from fastlmm_core.multiplicity.studentized_range import direct_quantiles, direct_tails
from fastlmm_core.multiplicity.t_tables import t_quantiles, t_tails
from fastlmm_core.multiplicity.tail_kernels import sum_tail_pieces
from fastlmm_core.multiplicity.tail_tables import (
    INVERSE_DF_EDGES,
    LARGEST_Q,
    N_DF,
    N_Q,
    SMALLEST_Q,
    WORTH,
    df_pieces,
    q_bounds,
    q_pieces,
    quantile_piece,
    tabulated_quantiles,
    tabulated_tails,
    tail_piece,
)

SIZES = [2.0, 2.01, 2.7, 5.0, 37.3, 300.0, 2000.0]


def dense_grid(rng, n=12_000):
    """(q, df): q up to 20, df in every piece, so that each piece of q and df in use has many."""
    piece = np.repeat(np.arange(N_DF), n // N_DF)
    x = INVERSE_DF_EDGES[piece] + rng.uniform(size=piece.size) * np.diff(INVERSE_DF_EDGES)[piece]
    q = rng.uniform(0.0, 1.0, x.size) * np.where(rng.uniform(size=x.size) < 0.2, 0.6, 10.0)
    return q, 1.0 / x


def test_pieces_cover_q_and_df_without_gaps():
    edges = [q_bounds(j) for j in range(N_Q)]
    assert edges[0][0] == SMALLEST_Q and sum(edges[-1]) == LARGEST_Q
    assert all(sum(a) == b[0] for a, b in pairwise(edges))
    q = np.concatenate([[low, low + 0.4 * length] for low, length in edges])
    np.testing.assert_array_equal(q_pieces(q), np.repeat(np.arange(N_Q), 2))
    np.testing.assert_array_equal(q_pieces(np.array([0.0, 1e-9, 60.0, np.inf, np.nan])), -1)
    df = np.array([np.inf, 1e9, 200.0, 15.0, 1.0, 0.99, np.nan, -1.0, 0.0])
    np.testing.assert_array_equal(df_pieces(df)[1], [0, 0, 1, 6, N_DF - 1, -1, -1, -1, -1])


@pytest.mark.parametrize("k", SIZES)
@pytest.mark.parametrize("tails", [direct_tails, direct_dunnett_tails])
def test_tails_agree_with_those_computed_one_by_one(tails, k):
    q, df = dense_grid(np.random.default_rng(4))
    q[:5], df[:5] = [np.nan, 0.0, 200.0, 3.0, np.inf], [9.0, 9.0, 9.0, np.inf, 5.0]
    got = tabulated_tails(tails, q, k, df)
    some = np.arange(0, q.size, 5)
    some = np.union1d(some, np.arange(5))
    want = tails(q[some], k, df[some])
    np.testing.assert_allclose(got[some], want, rtol=1e-8, atol=1e-300)
    np.testing.assert_allclose(got[some], want, rtol=0, atol=5e-11)


@pytest.mark.parametrize("k", SIZES)
def test_where_tables_are_in_use(k):
    """Nearly everywhere: only far out, where p values are below 1e-30, are tails computed one by one."""
    for i in (0, 2, 6, 10):
        assert all(tail_piece(direct_tails, k, i, j) is not None for j in range(13, 34, 4))


@pytest.mark.parametrize("df", [(300.0, 1e9), (80.0, 120.0), (5.0, 9.0)])
def test_small_p_values_keep_their_relative_accuracy(df):
    rng = np.random.default_rng(2)
    t, df = rng.uniform(0.0, 40.0, 20_000), np.exp(rng.uniform(*np.log(df), 20_000))
    got, want = t_tails(t, df), t_two_sided(t, df)
    seen = want > 1e-290
    np.testing.assert_allclose(got[seen], want[seen], rtol=1e-8)
    np.testing.assert_allclose(got, want, rtol=0, atol=5e-11)


def test_a_table_serves_many_statistics_of_one_call_only():
    """What a statistic gets does not depend on calls before."""
    rng = np.random.default_rng(5)
    few = rng.uniform(3.0, 3.4, WORTH - 1), rng.uniform(40.0, 48.0, WORTH - 1)
    many = rng.uniform(3.0, 3.4, 500), rng.uniform(40.0, 48.0, 500)
    tail_piece.cache_clear()
    before = [tabulated_tails(direct_tails, q, 9.0, df) for q, df in (few, many)]
    after = [tabulated_tails(direct_tails, q, 9.0, df) for q, df in (few, many)]
    np.testing.assert_array_equal(before[0], direct_tails(few[0], 9.0, few[1]))
    for a, b in zip(before, after, strict=True):
        np.testing.assert_array_equal(a, b)
    both = [np.concatenate(pair) for pair in zip(many, few, strict=True)]
    np.testing.assert_array_equal(tabulated_tails(direct_tails, both[0], 9.0, both[1])[:500], before[1])


def test_kernels_without_compilation_give_the_same():
    rng = np.random.default_rng(9)
    q, x, slot = rng.uniform(3.0, 3.5, 20), rng.uniform(0.01, 0.02, 20), np.arange(20) % 2 - 1
    bounds, coef = np.array([[3.0, 0.5, 0.01, 0.01]]), tail_piece(direct_tails, 7.0, 3, 16)[None]
    out = np.full((2, 20), -1.0)
    sum_tail_pieces(q, x, slot, bounds, coef, out[0])
    getattr(sum_tail_pieces, "py_func", sum_tail_pieces)(q, x, slot, bounds, coef, out[1])
    np.testing.assert_allclose(out[0], out[1], rtol=1e-14)
    np.testing.assert_allclose(out[0][1::2], direct_tails(q[1::2], 7.0, 1.0 / x[1::2]), rtol=1e-10)
    np.testing.assert_array_equal(out[0][::2], -1.0)


@pytest.mark.parametrize("tail", [0.1, 0.05, 0.01, 1e-4, 1e-7])
def test_t_quantiles_of_many_df(tail):
    rng = np.random.default_rng(1)
    df = np.concatenate([rng.uniform(0.5, 12, 400), rng.uniform(10, 400, 400), 10 ** rng.uniform(2, 12, 200)])
    df = np.concatenate([df, [1.0, 2.0, 5.0, 10.0, 25.0, 100.0, np.inf, np.nan]])
    got, want = t_quantiles(tail, df), t_quantile(tail, df)
    np.testing.assert_allclose(got[df < 1e8], want[df < 1e8], rtol=1e-11)
    np.testing.assert_allclose(got, want, rtol=3e-9)  # from 1e10 on the exact function is that of the normal
    np.testing.assert_array_equal(t_quantiles(tail, df[:3]), t_quantile(tail, df[:3]))


@pytest.mark.parametrize("k", SIZES)
@pytest.mark.parametrize("tail", [0.5, 0.05, 1e-4])
def test_range_quantiles_of_many_df(tail, k):
    df = np.concatenate([np.exp(np.random.default_rng(3).uniform(0.0, 7.0, 900)), [np.inf, 0.7, np.nan]])
    got, some = tabulated_quantiles(direct_quantiles, tail, k, df), np.arange(0, df.size, 3)
    np.testing.assert_allclose(got[some], direct_quantiles(tail, k, df[some]), rtol=2e-11)
    assert all(quantile_piece(direct_quantiles, tail, k, i) is not None for i in range(1, 8))
