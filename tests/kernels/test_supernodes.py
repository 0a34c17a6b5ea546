"""Supernodes, their index maps and the loops on fronts; runs uncompiled too."""

import numpy as np
import pytest
from random_pattern import compress_lower, eliminate_symbolically, random_graph

from fastlmm_core.kernels.ordering import count_columns, find_parents
from fastlmm_core.kernels.supernodal_factor import add_update, eliminate_twig, pack_lower, subtract_twigs
from fastlmm_core.kernels.supernodal_inverse import (
    end_leading_rows,
    gather_lower,
    gather_packed,
    invert_single,
    invert_twigs,
    read_twig,
    unpack_lower,
)
from fastlmm_core.kernels.supernodes import (
    Supernodes,
    find_supernodes,
    find_twigs,
    list_twigs,
    merge_supernodes,
    place_fronts,
)
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
        at = self.symbolic.nodes
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
    assert np.array_equal(first, filled.symbolic.nodes.first)
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
    assert filled.symbolic.nodes.first.size < fine.size
    assert filled.symbolic.nnz == filled.L.sum() < filled.symbolic.stored


def test_fronts_nest_and_do_not_overlap_on_a_path(filled):
    at = filled.symbolic.nodes
    n_super = at.first.size - 1
    for traversal, above_columns in ((filled.symbolic.up, False), (filled.symbolic.down, True)):
        assert sorted(traversal.order) == list(range(n_super))
        position = np.argsort(traversal.order)
        width = np.diff(at.first) if above_columns else 0
        side = np.where(at.twig, 0, np.diff(at.row_ptr) + width)
        for s in range(n_super):
            below = filled.front(s)[at.first[s + 1] - at.first[s] :]
            assert traversal.offset[s] + side[s] ** 2 <= traversal.stack_size
            if below.size == 0:
                assert at.above[s] == -1
                continue
            p = at.above[s]
            assert at.first[p] <= below[0] < at.first[p + 1]
            assert np.array_equal(filled.front(p)[at.relative[at.row_ptr[s] : at.row_ptr[s + 1]]], below)
            siblings = [t for t in range(n_super) if at.above[t] == p and not at.twig[t]]
            shared = [t for t in siblings if traversal.offset[t] == traversal.offset[p]]
            if at.twig[s]:  # has no front of its own
                continue
            if s in shared and side[p] > 0:  # takes the parent's place, so no sibling may come after it
                assert position[s] == max(position[t] for t in siblings)
                assert len(shared) == 1
            else:
                assert traversal.offset[s] >= traversal.offset[p] + side[p] ** 2


def test_places_of_the_entries(filled):
    at = filled.symbolic.nodes
    for s in range(at.first.size - 1):
        front = filled.front(s)
        for c, j in enumerate(range(at.first[s], at.first[s + 1])):
            own = slice(filled.C_indptr[j], filled.C_indptr[j + 1])
            rows = filled.symbolic.position[own] - at.panel_ptr[s] - c * front.size
            assert np.array_equal(front[rows], filled.C_indices[own])


@pytest.mark.parametrize("n_lead", [0, 1, 7, 19, 25])
def test_leading_part_of_a_front(n_lead):
    filled = Filled(random_graph(2, 25, 0.05))
    at = filled.symbolic.nodes
    ends = end_leading_rows(at, n_lead)
    for s in range(at.first.size - 1):
        width = at.first[s + 1] - at.first[s]
        assert ends[s] - at.row_ptr[s] == np.sum(filled.front(s)[width:] < n_lead)


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


@pytest.fixture
def twigs_of_one_front():
    """A front of three rows, the first its own column, and two twigs that reach rows (0, 2) and (1, 2)."""
    first, row_ptr = np.array([0, 1, 2, 5]), np.array([0, 2, 4, 4])
    relative, above = np.array([0, 2, 1, 2], np.int32), np.array([2, 2, -1])
    twig = find_twigs(first, above)
    assert list(twig) == [True, True, False]
    twigs = list_twigs(first, row_ptr, relative, above, twig)
    assert list(twigs[0]) == [-1, -1, 0]
    panel_ptr, rows = np.array([0, 3, 6, 15]), relative + np.int32(2)
    L = np.concatenate(([4.0, 2.0, -6.0], [9.0, 3.0, 12.0], np.zeros(9)))
    return Supernodes(first, row_ptr, rows, relative, above, panel_ptr, twig, *twigs), L


def test_twigs_are_eliminated_into_their_parent(twigs_of_one_front):
    nodes, L = twigs_of_one_front
    assert eliminate_twig(L[:3])
    assert eliminate_twig(L[3:6])
    assert list(L[:6]) == [2.0, 1.0, -3.0, 3.0, 1.0, 4.0]
    columns = np.array([[1.0, 0.0, -3.0], [0.0, 1.0, 4.0]])
    expected = -np.tril(columns.T @ columns)
    for m in (1, 3):
        panel, rest = np.zeros(3 * m), np.zeros((3 - m) ** 2)
        subtract_twigs(L, nodes, 2, panel, m, (rest, 3 - m))
        assert np.array_equal(panel.reshape(3, m, order="F"), expected[:, :m])
        assert np.array_equal(lower_of(rest, 3 - m), expected[m:, m:])
    assert not eliminate_twig(np.array([0.0, 1.0]))
    assert not eliminate_twig(np.array([np.nan, 1.0]))


@pytest.mark.parametrize("leading", [3, 2])
def test_columns_of_the_inverse_that_are_twigs(twigs_of_one_front, leading):
    """From the inverse of the rest, whole or of its leading rows; the first entry of C is left out."""
    nodes, L = twigs_of_one_front
    A = np.random.default_rng(0).normal(size=(3, 3))
    Z = A @ A.T + np.eye(3)
    front, total = np.tril(Z).ravel(order="F").copy(), np.full(4, np.nan)
    row_end = end_leading_rows(nodes, 2 + leading)
    invert_twigs(L, nodes, 2, row_end, leading, front, 3, total)
    C_indptr, position = np.array([0, 2, 5]), np.array([0, 2, 3, 4, 5])
    C_inv = np.zeros(5)
    for s in range(2):
        at = nodes.panel_ptr[s]
        read_twig(L, nodes, s, row_end[s], total, C_indptr, position, C_inv)
        rows = nodes.relative[nodes.row_ptr[s] : row_end[s]]
        column = L[at + 1 : at + 1 + rows.size] / L[at]
        below = -Z[np.ix_(rows, rows)] @ column
        expected = [1 / L[at] ** 2 - column @ below, *below]
        own = position[C_indptr[s] : C_indptr[s + 1]] - at
        got = C_inv[C_indptr[s] : C_indptr[s + 1]]
        np.testing.assert_allclose(got, [expected[row] if row < len(expected) else 0.0 for row in own])


@pytest.mark.parametrize("r", [0, 1, 4])
def test_front_of_one_column(r):
    """Z of the leading row from L and the inverse of the rest."""
    A = np.random.default_rng(r).normal(size=(r + 1, r + 1))
    C = A @ A.T + np.eye(r + 1)
    L = np.linalg.cholesky(C)
    inverse = np.linalg.inv(C)
    front = np.tril(inverse)
    front[:, 0] = [L[0, 0], *np.zeros(r)]
    flat = front.ravel(order="F").copy()
    invert_single(flat, r + 1, L[1:, 0].copy(), r)
    np.testing.assert_allclose(lower_of(flat, r + 1), np.tril(inverse), atol=1e-12)
