"""Supernodes, their index maps and the loops on fronts; runs uncompiled too."""

import numpy as np
import pytest
from random_pattern import compress_lower, eliminate_symbolically, random_graph

from fastlmm_core.kernels.ordering import count_columns, find_parents
from fastlmm_core.kernels.supernodal_factor import add_update, eliminate_single, pack_lower
from fastlmm_core.kernels.supernodal_inverse import (
    count_leading,
    gather_lower,
    gather_packed,
    invert_leaf,
    invert_single,
    unpack_lower,
)
from fastlmm_core.kernels.supernodes import find_supernodes, merge_supernodes, place_fronts, walk_depth_first
from fastlmm_core.linalg.supernodal import analyze

GRAPHS = [(0, 1, 0.5), (1, 12, 0.15), (2, 25, 0.05), (3, 10, 1.0), (4, 8, 0.0), (5, 60, 0.03), (6, 60, 0.08)]


class Filled:
    """A pattern, its Cholesky pattern by brute force, and the symbolic analysis."""

    def __init__(self, adjacent):
        self.C_indptr, self.C_indices = compress_lower(np.tril(adjacent))
        self.L = eliminate_symbolically(adjacent)
        self.symbolic = analyze(self.C_indptr, self.C_indices)
        by_row = [np.flatnonzero(row) for row in np.tril(adjacent)]
        indptr = np.concatenate(([0], np.cumsum([r.size for r in by_row]))).astype(np.int64)
        indices = np.concatenate(by_row).astype(np.int64)
        self.parent, self.count = find_parents(indptr, indices), count_columns(indptr, indices)

    def front(self, s):
        """Rows of the front of a supernode, its own columns first."""
        at = self.symbolic
        below = at.rows[at.row_ptr[s] : at.row_ptr[s + 1]]
        return np.concatenate((np.arange(at.first[s], at.first[s + 1]), below))


@pytest.fixture(params=GRAPHS, ids=str)
def filled(request):
    return Filled(random_graph(*request.param))


def test_supernodes_are_maximal_runs_of_nested_columns(filled):
    n = len(filled.L)
    columns = [set(np.flatnonzero(filled.L[:, j])) for j in range(n)]
    joined = [j > 0 and columns[j] == columns[j - 1] - {j - 1} for j in range(n)]
    first = find_supernodes(filled.parent, filled.count)
    assert list(first) == [j for j in range(n) if not joined[j]] + [n]


def test_merging_keeps_whole_supernodes_and_forgets_no_row(filled):
    fine = find_supernodes(filled.parent, filled.count)
    first = merge_supernodes(fine, filled.parent, filled.count)
    assert set(first) <= set(fine)
    assert np.array_equal(first, filled.symbolic.first)
    for s in range(first.size - 1):
        front = filled.front(s)
        assert np.all(np.diff(front) > 0)
        for j in range(first[s], first[s + 1]):
            assert set(np.flatnonzero(filled.L[:, j])) <= set(front)
        below = np.flatnonzero(filled.L[:, first[s + 1] - 1])[1:]
        assert np.array_equal(front[first[s + 1] - first[s] :], below)


def test_narrow_chains_are_merged():
    """A path of equal small fronts costs more calls than the zeros of one panel."""
    band = np.abs(np.subtract.outer(np.arange(12), np.arange(12))) <= 2
    filled = Filled(band)
    fine = find_supernodes(filled.parent, filled.count)
    assert filled.symbolic.first.size < fine.size
    assert filled.symbolic.nnz == filled.L.sum() < filled.symbolic.stored


def test_fronts_nest_and_do_not_overlap_on_a_path(filled):
    at = filled.symbolic
    n_super = at.first.size - 1
    for traversal, above_columns in ((at.up, False), (at.down, True)):
        assert sorted(traversal.order) == list(range(n_super))
        position = np.argsort(traversal.order)
        width = np.diff(at.first) if above_columns else 0
        side = np.diff(at.row_ptr) + width
        for s in range(n_super):
            below = filled.front(s)[at.first[s + 1] - at.first[s] :]
            assert traversal.offset[s] + side[s] ** 2 <= traversal.stack_size
            if below.size == 0:
                assert at.above[s] == -1
                continue
            p = at.above[s]
            assert at.first[p] <= below[0] < at.first[p + 1]
            assert np.array_equal(
                filled.front(p)[at.relative[at.row_ptr[s] : at.row_ptr[s + 1]]], below
            )
            siblings = [t for t in range(n_super) if at.above[t] == p]
            shared = [t for t in siblings if traversal.offset[t] == traversal.offset[p]]
            if s in shared and side[p] > 0:  # takes the parent's place, so no sibling may come after it
                assert position[s] == max(position[t] for t in siblings)
                assert len(shared) == 1
            else:
                assert traversal.offset[s] >= traversal.offset[p] + side[p] ** 2


def test_places_of_the_entries(filled):
    at = filled.symbolic
    for s in range(at.first.size - 1):
        front = filled.front(s)
        for c, j in enumerate(range(at.first[s], at.first[s + 1])):
            own = slice(filled.C_indptr[j], filled.C_indptr[j + 1])
            rows = at.position[own] - at.panel_ptr[s] - c * front.size
            assert np.array_equal(front[rows], filled.C_indices[own])


@pytest.mark.parametrize("n_lead", [0, 1, 7, 19, 25])
def test_leading_part_of_a_front(n_lead):
    filled = Filled(random_graph(2, 25, 0.05))
    at = filled.symbolic
    for s in range(at.first.size - 1):
        m, r = count_leading(at.first, at.row_ptr, at.rows, s, n_lead)
        if m > 0:
            width = at.first[s + 1] - at.first[s]
            assert m == np.sum(filled.front(s)[:width] < n_lead)
            assert r == np.sum(filled.front(s)[width:] < n_lead)


@pytest.mark.parametrize("parent", [[-1], [2, 3, 4, 4, -1], [-1, -1, -1], [3, 2, 4, 4, -1, 6, -1]])
def test_walk_finishes_a_subtree_before_the_next(parent):
    heavy = np.array(
        [max([c for c, p in enumerate(parent) if p == s], default=-1) for s in range(len(parent))]
    )
    order = list(walk_depth_first(np.array(parent), heavy))
    path = []
    for s in order:  # the parent is on the path from the root to the node before
        while path and path[-1] != parent[s]:
            path.pop()
        assert (path[-1] if path else -1) == parent[s]
        path.append(s)
    assert sorted(order) == list(range(len(parent)))
    for s, last in enumerate(heavy):
        children = [c for c, p in enumerate(parent) if p == s]
        assert not children or max(children, key=order.index) == last


def test_the_largest_subtree_shares_the_place_of_its_parent():
    above = np.array([2, 2, 4, 4, -1])
    side = np.array([3, 5, 2, 4, 6])
    offset, heavy = place_fronts(above, side)
    assert list(heavy) == [-1, -1, 1, -1, 4 - 2]
    assert list(offset) == [36 - 36 + 4, 0, 0, 36, 0, 52]


def lower_of(flat, n):
    return np.tril(flat.reshape(n, n, order="F"))


def test_gather_takes_the_lower_triangle():
    r = np.random.default_rng(0)
    source = r.normal(size=(7, 7))
    relative = np.array([1, 3, 6], np.int32)
    flat_source = source.ravel(order="F").copy()
    expected = np.tril(source[np.ix_(relative, relative)])
    for target in (np.full(25, np.nan), np.full(25, np.nan)):
        gather_lower(flat_source, 7, relative, 3, target, 5)
        got = target.reshape(5, 5, order="F")[:3, :3]
        assert np.array_equal(np.tril(got), expected)
        assert np.isnan(got[np.triu_indices(3, 1)]).all()
    packed, target = np.empty(6), np.full(25, np.nan)
    gather_packed(flat_source, 7, relative, 3, packed)
    unpack_lower(packed, 3, target, 5)
    assert np.array_equal(np.tril(target.reshape(5, 5, order="F")[:3, :3]), expected)


@pytest.mark.parametrize("m", [0, 2, 5])
def test_updates_are_added_where_the_rows_lie(m):
    """A child's update matrix lands in the parent's panel and in the square below it."""
    r = np.random.default_rng(m)
    size, relative = 5, np.array([0, 2, 3], np.int32)
    below = size - m
    update = r.normal(size=(3, 3))
    front = r.normal(size=(size, size))
    expected = front.copy()
    expected[np.ix_(relative, relative)] += np.tril(update)
    packed = np.empty(6)
    pack_lower(update.ravel(order="F").copy(), 3, packed)
    for ld, values in ((3, update.ravel(order="F").copy()), (0, packed)):
        panel = front[:, :m].ravel(order="F").copy()
        rest = front[m:, m:].ravel(order="F").copy()
        add_update(values, 3, ld, relative, panel, m, (rest, below))
        assert np.array_equal(np.tril(panel.reshape(size, m, order="F")), np.tril(expected[:, :m]))
        assert np.array_equal(lower_of(rest, below), np.tril(expected[m:, m:]))


def test_a_leaf_of_one_column_is_eliminated_into_its_parent():
    column = np.array([4.0, 2.0, -6.0])
    panel, rest = np.zeros(3), np.zeros(4)  # one column above, two rows below it
    assert eliminate_single(column, 2, np.array([0, 2], np.int32), panel, 1, (rest, 2))
    assert list(column) == [2.0, 1.0, -3.0]
    assert list(panel) == [-1.0, 0.0, 3.0]
    assert list(rest) == [0.0, 0.0, 0.0, -9.0]
    assert not eliminate_single(np.array([0.0, 1.0]), 1, np.array([0], np.int32), panel, 1, (rest, 2))


@pytest.mark.parametrize("r", [0, 1, 4])
def test_front_of_one_column(r):
    """Z of the leading row from L and the inverse of the rest, stored as a front or read from the parent's."""
    A = np.random.default_rng(r).normal(size=(r + 1, r + 1))
    C = A @ A.T + np.eye(r + 1)
    L = np.linalg.cholesky(C)
    inverse = np.linalg.inv(C)
    front = np.tril(inverse)
    front[:, 0] = [L[0, 0], *np.zeros(r)]
    flat = front.ravel(order="F").copy()
    invert_single(flat, r + 1, L[1:, 0].copy(), r)
    np.testing.assert_allclose(lower_of(flat, r + 1), np.tril(inverse), atol=1e-12)
    held = np.full((r + 2, r + 2), np.nan)
    held[2:, 2:] = np.tril(inverse[1:, 1:])[: r, : r]
    column = np.empty(r + 1)
    places = np.arange(2, r + 2).astype(np.int32)
    invert_leaf(held.ravel(order="F").copy(), r + 2, places, L[:, 0].copy(), r, np.empty(r), column)
    np.testing.assert_allclose(column, inverse[:, 0], atol=1e-12)
