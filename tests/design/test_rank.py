"""Dependent columns: R's choice, the same through the dense and the sparse way, and the null space."""

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from fastlmm_core.design.coding import rank
from fastlmm_core.design.coding.rank import column_rank


def greedy_reference(X, tolerance=1e-9):
    """Columns that raise the rank, one by one from the left (singular values of scaled columns)."""
    kept = []
    size = np.linalg.norm(X, axis=0)
    for j in range(X.shape[1]):
        if size[j] > 0:
            trial = X[:, [*kept, j]] / size[[*kept, j]]
            if np.linalg.svd(trial, compute_uv=False)[-1] > tolerance:
                kept.append(j)
    return kept


def incidence(codes, levels):
    return np.eye(levels)[codes]


def check(X, result):
    null = result.null.toarray()
    assert np.abs(X @ null).max(initial=0.0) <= 1e-9 * max(1.0, np.abs(X).max())
    np.testing.assert_allclose(null[result.dropped], np.eye(result.dropped.size), atol=1e-12)
    assert sorted([*result.kept, *result.dropped]) == list(range(X.shape[1]))


@pytest.fixture(params=["dense", "sparse"])
def way(request, monkeypatch):
    if request.param == "sparse":
        monkeypatch.setattr(rank, "DENSE_WORK", 0)
        monkeypatch.setattr(rank, "DENSE_SUSPECT_WORK", 0)
    return request.param


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from(["dense", "sparse"]))
def test_random_incidences_drop_the_columns_that_do_not_raise_the_rank(seed, chosen):
    rng = np.random.default_rng(seed)
    n = 40
    blocks = [np.ones((n, 1))]
    for _ in range(3):
        levels = int(rng.integers(2, 6))
        blocks.append(incidence(rng.integers(0, levels, n), levels))
    blocks.append(blocks[1][:, :1] * blocks[2] if rng.random() < 0.5 else rng.normal(size=(n, 1)))
    X = np.hstack(blocks)[:, rng.permutation(sum(b.shape[1] for b in blocks))]
    work = (rank.DENSE_WORK, rank.DENSE_SUSPECT_WORK)
    try:
        if chosen == "sparse":
            rank.DENSE_WORK = rank.DENSE_SUSPECT_WORK = 0
        result = column_rank(sp.csc_array(X))
    finally:
        rank.DENSE_WORK, rank.DENSE_SUSPECT_WORK = work
    assert result.kept.tolist() == greedy_reference(X)
    check(X, result)


def test_covariates_far_from_zero_are_judged_by_their_spread(way):
    rng = np.random.default_rng(3)
    x, z = rng.normal(size=(2, 200))
    one = np.ones(200)
    year = 1998.0 + np.arange(200) % 7
    X = np.column_stack([one, 1e8 + x, z, 1e8 + x + z, year, year**2, 3e8 + 2 * (1e8 + x)])
    result = column_rank(sp.csc_array(X))
    assert result.dropped.tolist() == [3, 6]


def test_scales_of_columns_do_not_matter(way):
    rng = np.random.default_rng(4)
    X = rng.normal(size=(60, 5))
    X = np.column_stack([X, X[:, 1] - 2 * X[:, 3]])
    for factor in (1e-9, 1.0, 1e9):
        scaled = X * np.array([1, factor, 1, 1, factor, 1])
        result = column_rank(sp.csc_array(scaled))
        assert result.dropped.tolist() == [5]
        residual = scaled @ result.null.toarray()
        assert np.abs(residual).max() < 1e-9 * np.abs(scaled[:, 5]).max()


def test_zero_columns_are_dropped(way):
    X = np.column_stack([np.ones(9), np.zeros(9), np.arange(9.0)])
    result = column_rank(sp.csc_array(X))
    assert result.dropped.tolist() == [1]
    check(X, result)


def test_more_columns_than_rows(way):
    X = np.random.default_rng(5).normal(size=(6, 10))
    result = column_rank(sp.csc_array(X))
    assert result.kept.tolist() == list(range(6))
    check(X, result)


def test_disconnected_blocks_of_many_levels_lose_one_column():
    rng = np.random.default_rng(6)
    n, genotypes, blocks = 6000, 600, 500
    g = rng.integers(0, genotypes, n)
    half = genotypes // 2
    b = np.where(g < half, rng.integers(0, blocks // 2, n), rng.integers(blocks // 2, blocks, n))
    columns = [sp.csc_array(np.ones((n, 1)))]
    columns += [
        sp.csc_array(sp.eye_array(k, format="csr")[c][:, 1:]) for c, k in ((g, genotypes), (b, blocks))
    ]
    X = sp.csc_array(sp.hstack(columns))
    assert n * X.shape[1] ** 2 > rank.DENSE_SUSPECT_WORK
    result = column_rank(X)
    assert result.dropped.tolist() == [genotypes + blocks - 2]
    assert np.abs((X @ result.null).toarray()).max() < 1e-10


def test_nested_levels_of_many_groups_are_found_group_by_group():
    n, groups = 3000, 1000
    g = np.arange(n) // 3
    dummies = sp.eye_array(groups, format="csr")[g]
    within = sp.eye_array(n, format="csr")
    X = sp.csc_array(sp.hstack([dummies, within]))
    result = column_rank(X)
    assert result.dropped.tolist() == [groups + 3 * k + 2 for k in range(groups)]
    assert abs(X @ result.null).max() < 1e-10
