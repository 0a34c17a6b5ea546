"""Supernodes, their index maps and the loops on fronts; runs uncompiled too."""

import numpy as np
import pytest
from random_pattern import compress_lower, eliminate_symbolically, on_pattern, random_graph

from fastlmm_core.kernels.factor.joined_fronts import join_fronts, order_joined
from fastlmm_core.kernels.factor.ordering import count_columns, find_parents, order_postfix
from fastlmm_core.kernels.factor.supernodal_factor import (
    add_update,
    eliminate_twig,
    pack_lower,
    place_columns,
    subtract_twigs,
)
from fastlmm_core.kernels.factor.supernodal_inverse import (
    end_leading_rows,
    gather_lower,
    invert_single,
    invert_twigs,
    read_twig,
    unpack_lower,
)
from fastlmm_core.kernels.factor.supernodal_solves import is_zero
from fastlmm_core.kernels.factor.supernodes import (
    COPY_SECONDS,
    Supernodes,
    cut_rows,
    estimate_front,
    find_supernodes,
    merge_supernodes,
    place_fronts,
)
from fastlmm_core.kernels.factor.twigs import find_guests, find_twigs, land_rows, list_twigs
from fastlmm_core.linalg.symbolic import analyze

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
        ones = np.ones(indptr.size - 1, np.int64)
        self.parent, self.count = find_parents(indptr, indices), count_columns(indptr, indices, ones)
        self.place = np.arange(indptr.size)

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
    first = find_supernodes(filled.parent, filled.count, filled.place)
    assert list(first) == [j for j in range(n) if not joined[j]] + [n]


def test_merging_keeps_whole_supernodes_and_forgets_no_row(filled):
    fine = find_supernodes(filled.parent, filled.count, filled.place)
    first = merge_supernodes(fine, filled.parent, filled.count, filled.place, np.zeros(len(filled.L), bool))
    assert set(first) <= set(fine)
    assert np.array_equal(first, filled.symbolic.nodes.first)
    for s in range(first.size - 1):
        front = filled.front(s)
        assert np.all(np.diff(front) > 0)
        for j in range(first[s], first[s + 1]):
            assert set(np.flatnonzero(filled.L[:, j])) <= set(front)
        below = np.flatnonzero(filled.L[:, first[s + 1] - 1])[1:]
        assert np.array_equal(front[first[s + 1] - first[s] :], below)


def test_columns_of_another_factor_land_in_the_panels(filled):
    """With zeros beside its entries, as in other people's supernodes; and a bad pivot is named."""
    at, n = filled.symbolic.nodes, len(filled.L)
    rng = np.random.default_rng(0)
    L = np.tril(filled.L * rng.uniform(0.5, 2.0, (n, n)))
    wider = np.tril(filled.L | (rng.random((n, n)) < 0.2))
    indptr, indices = compress_lower(wider)
    data = on_pattern(indptr, indices, L)
    storage = np.full(filled.symbolic.stored, np.nan)
    assert place_columns(indptr, indices, data, at, storage) == -1
    assert not np.isnan(storage).any()
    for s in range(at.above.size):
        width = at.first[s + 1] - at.first[s]
        panel = storage[at.panel_ptr[s] : at.panel_ptr[s + 1]].reshape(width, -1).T
        assert np.array_equal(np.tril(panel), L[filled.front(s), at.first[s] : at.first[s + 1]])
    for value in (0.0, -1.0, np.nan):
        data[indptr[n - 1]] = value
        assert place_columns(indptr, indices, data, at, storage) == n - 1


def test_narrow_chains_are_merged():
    """A path of equal small fronts costs more calls than the zeros of one panel."""
    band = np.abs(np.subtract.outer(np.arange(12), np.arange(12))) <= 2
    filled = Filled(band)
    fine = find_supernodes(filled.parent, filled.count, filled.place)
    assert filled.symbolic.nodes.first.size < fine.size
    assert filled.symbolic.nnz == filled.L.sum() < filled.symbolic.stored


def test_fronts_nest_and_do_not_overlap_on_a_path(filled):
    at = filled.symbolic.nodes
    n_super = at.first.size - 1
    for traversal, width in ((filled.symbolic.up, 0), (filled.symbolic.down, np.diff(at.first))):
        assert sorted(traversal.order) == list(range(n_super))
        position = np.argsort(traversal.order)
        area = np.where(at.twig, 0, (np.diff(at.row_ptr) + width) ** 2)
        for s in range(n_super):
            below = filled.front(s)[at.first[s + 1] - at.first[s] :]
            assert traversal.offset[s] + area[s] <= traversal.stack_size
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
            if s in shared and area[p] > 0:  # takes the parent's place, so no sibling may come after it
                assert position[s] == max(position[t] for t in siblings)
                assert len(shared) == 1
            else:
                assert traversal.offset[s] >= traversal.offset[p] + area[p]


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
    area = np.array([9, 25, 4, 16, 36])
    offset, heavy = place_fronts(above, np.zeros(5, bool), area)
    assert list(heavy) == [-1, -1, 1, -1, 2]
    assert list(offset) == [4, 0, 0, 36, 0, 52]


def test_a_guest_leaves_the_place_to_its_host():
    above = np.array([2, 2, -1])
    offset, heavy = place_fronts(above, np.array([False, True, False]), np.array([9, 25, 36]))
    assert list(heavy) == [-1, -1, 0]
    assert list(offset) == [0, 36, 0, 61]


def make_nodes(first, row_ptr, relative, above, guest):
    """Supernodes given by the places of their rows; `rows` follow from the places."""
    first, row_ptr, above = np.array(first), np.array(row_ptr), np.array(above)
    relative, guest = np.array(relative, np.int32), np.array(guest)
    rows = relative.copy()
    for s in range(above.size - 1, -1, -1):
        p = above[s]
        if p >= 0:
            front = np.concatenate((np.arange(first[p], first[p + 1]), rows[row_ptr[p] : row_ptr[p + 1]]))
            rows[row_ptr[s] : row_ptr[s + 1]] = front[relative[row_ptr[s] : row_ptr[s + 1]]]
    twig = find_twigs(first, above)
    sizes = np.diff(first) * (np.diff(first) + np.diff(row_ptr))
    landing = land_rows(first, row_ptr, relative, above, guest)
    twigs = list_twigs(first, row_ptr, relative, above, twig)
    panel_ptr = np.concatenate(([0], np.cumsum(sizes)))
    none, empty = np.zeros(above.size, bool), np.empty(0, np.int64)
    return Supernodes(first, row_ptr, rows, relative, above, panel_ptr, twig, guest, landing, *twigs,
                      none, none, np.full(above.size, -1), empty, empty.astype(np.int32))  # fmt: skip


def test_guests_have_long_runs_in_the_front_of_a_root():
    """A child of the root with two runs, one whose rows lie apart, and one whose parent is no root."""
    runs = np.concatenate((np.arange(100), np.arange(150, 250)))
    apart = np.arange(0, 400, 2)
    inner = np.arange(2, 160)
    relative = np.concatenate((runs, apart, inner)).astype(np.int32)
    first, row_ptr = np.array([0, 2, 4, 6, 406]), np.array([0, 200, 400, 558, 558])
    above = np.array([3, 3, 0, -1])
    guest = find_guests(first, row_ptr, relative, above, find_twigs(first, above))
    assert list(guest) == [True, False, False, False]
    landing = land_rows(first, row_ptr, relative, above, guest)
    assert np.array_equal(landing[400:], runs[inner - 2])
    assert np.all(landing[:400] == -1)
    nodes = make_nodes(first, row_ptr, relative, above, guest)
    start, place = cut_rows(nodes, 0, 200, 64)
    assert list(start) == [0, 64, 100, 164, 200]
    assert list(place) == [0, 64, 150, 214]
    start, place = cut_rows(nodes, 1, 200 + 70, 64)
    assert list(start) == [0, 64, 70]
    assert list(place) == [0, 64]


def lower_of(flat, n):
    return np.tril(flat.reshape(n, n, order="F"))


# A child with three rows in a front of two columns over three rows.
CHILD = {"first": [0, 1, 3], "row_ptr": [0, 3, 6], "above": [1, -1]}


def child_of_a_front(guest):
    """The front is a root of five rows split at two, or a guest in a root of seven."""
    if not guest:
        return make_nodes(CHILD["first"], CHILD["row_ptr"], [0, 2, 4, 0, 0, 0], CHILD["above"], [False] * 2)
    return make_nodes([0, 1, 3, 10], [0, 3, 6, 6], [0, 2, 4, 1, 2, 6], [1, 2, -1], [False, True, False])


@pytest.mark.parametrize("guest", [False, True])
def test_gather_takes_the_lower_triangle(guest):
    """Z of rows 0, 2 and 4 of the parent's front, whose last three rows may lie in the front of a root."""
    nodes = child_of_a_front(guest)
    Z = np.random.default_rng(0).normal(size=(5, 5))
    front = np.tril(Z)
    expected = np.tril(Z[np.ix_([0, 2, 4], [0, 2, 4])])
    stack, rest, ld_rest = front.ravel(order="F"), 2 * 5 + 2, 5
    if guest:
        host = np.full((7, 7), np.nan)
        host[np.ix_([1, 2, 6], [1, 2, 6])] = front[2:, 2:]
        front[2:, 2:] = np.nan
        stack, rest, ld_rest = np.concatenate((front.ravel(order="F"), host.ravel(order="F"))), 25, 7
    target = np.full(16, np.nan)
    gather_lower(stack, nodes, 0, 3, 0, 5, rest, ld_rest, target, 0, 4)
    got = target.reshape(4, 4, order="F")[:3, :3]
    assert np.array_equal(np.tril(got), expected)
    assert np.isnan(got[np.triu_indices(3, 1)]).all()
    packed, target = np.empty(6), np.full(18, np.nan)
    gather_lower(stack, nodes, 0, 3, 0, 5, rest, ld_rest, packed, 0, 0)
    unpack_lower(packed, 3, target, 2, 4)
    assert np.array_equal(np.tril(target[2:].reshape(4, 4, order="F")[:3, :3]), expected)


@pytest.mark.parametrize("guest", [False, True])
def test_updates_are_added_where_the_rows_lie(guest):
    """A child's update lands in the parent's panel, and in the square below it or in the root's front."""
    nodes = child_of_a_front(guest)
    r = np.random.default_rng(1)
    update = r.normal(size=(3, 3))
    front = r.normal(size=(5, 5))
    expected = front.copy()
    expected[np.ix_([0, 2, 4], [0, 2, 4])] += np.tril(update)
    packed = np.empty(6)
    pack_lower(update.ravel(order="F").copy(), 3, packed)
    for ld, values in ((3, update.ravel(order="F").copy()), (0, packed)):
        panel = front[:, :2].ravel(order="F").copy()
        side, base, places = (7, 4, [1, 2, 6]) if guest else (3, 4, [0, 1, 2])
        square = np.zeros((side, side))
        square[np.ix_(places, places)] = front[2:, 2:]
        rest = np.concatenate((np.zeros(base), square.ravel(order="F")))
        add_update(values, 3, ld, nodes, 0, panel, rest, base, side)
        assert np.array_equal(np.tril(panel.reshape(5, 2, order="F")), np.tril(expected[:, :2]))
        got = rest[base:].reshape(side, side, order="F")[np.ix_(places, places)]
        assert np.array_equal(np.tril(got), np.tril(expected[2:, 2:]))


def two_twigs(m):
    """A front of three rows, m of them its own columns, and two twigs that reach rows (0, 2) and (1, 2)."""
    row_ptr = [0, 2, 4, 4 + 3 - m]
    nodes = make_nodes([0, 1, 2, 2 + m], row_ptr, [0, 2, 1, 2, 0, 0][: row_ptr[-1]], [2, 2, -1], [False] * 3)
    assert list(nodes.twig) == [True, True, False]
    assert list(nodes.meet_base) == [-1, -1, 0]
    return nodes, np.concatenate(([4.0, 2.0, -6.0], [9.0, 3.0, 12.0], np.zeros(3 * m)))


@pytest.mark.parametrize("m", [1, 2, 3])
def test_twigs_are_eliminated_into_their_parent(m):
    nodes, L = two_twigs(m)
    assert eliminate_twig(L[:3])
    assert eliminate_twig(L[3:6])
    assert list(L[:6]) == [2.0, 1.0, -3.0, 3.0, 1.0, 4.0]
    columns = np.array([[1.0, 0.0, -3.0], [0.0, 1.0, 4.0]])
    expected = -np.tril(columns.T @ columns)
    panel, rest = np.zeros(3 * m), np.zeros(2 + (3 - m) ** 2)
    subtract_twigs(L, nodes, 2, panel, rest, 2, 3 - m)
    assert np.array_equal(panel.reshape(3, m, order="F"), expected[:, :m])
    assert np.array_equal(lower_of(rest[2:], 3 - m), expected[m:, m:])
    assert not eliminate_twig(np.array([0.0, 1.0]))
    assert not eliminate_twig(np.array([np.nan, 1.0]))


def test_twigs_of_a_guest_reach_the_front_of_the_root():
    """The second row below the guest's column is row 5 of the root."""
    nodes = make_nodes([0, 1, 2, 9], [0, 2, 4, 4], [0, 2, 2, 5], [1, 2, -1], [False, True, False])
    L = np.array([2.0, 1.0, -3.0])
    panel, root = np.zeros(3), np.zeros(49)
    subtract_twigs(L, nodes, 1, panel, root, 0, 7)
    assert list(panel) == [-1.0, 0.0, 3.0]
    assert np.flatnonzero(root) == 5 * 7 + 5
    assert root[40] == -9.0
    Z = np.array([[2.0, 0.0, 0.5], [0.0, 1.0, 0.0], [0.5, 0.0, 3.0]])
    host, total = np.full((7, 7), np.nan), np.empty(4)
    host[5, 5] = Z[2, 2]
    stack = np.concatenate((Z[:, 0], host.ravel(order="F")))
    invert_twigs(L, nodes, 1, np.array([2, 4, 4]), 3, stack, 0, 3, 3, 7, total)
    np.testing.assert_allclose(total[:2], Z[np.ix_([0, 2], [0, 2])] @ [1.0, -3.0])


@pytest.mark.parametrize("leading", [3, 2])
def test_columns_of_the_inverse_that_are_twigs(leading):
    """From the inverse of the rest, whole or of its leading rows; the first entry of C is left out."""
    nodes, L = two_twigs(3)
    A = np.random.default_rng(0).normal(size=(3, 3))
    Z = A @ A.T + np.eye(3)
    front, total = np.tril(Z).ravel(order="F").copy(), np.full(4, np.nan)
    row_end = end_leading_rows(nodes, 2 + leading)
    invert_twigs(L, nodes, 2, row_end, leading, front, 0, 3, 0, 3, total)
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


def test_zero_rows():
    B = np.zeros((5, 2))
    B[3, 1] = -1.0
    assert is_zero(B, 0, 3)
    assert is_zero(B, 4, 1)
    assert not is_zero(B, 2, 2)


def test_fronts_that_are_joined_stand_together(filled):
    """Children come before parents, so that nothing more fills in, and the model counts no more seconds."""
    n = filled.parent.size
    perm = order_joined(filled.parent, filled.count, np.ones(n, np.int64))
    place = np.argsort(perm)
    assert sorted(perm) == list(range(n))
    assert all(place[j] < place[filled.parent[j]] for j in range(n) if filled.parent[j] >= 0)
    seconds = []
    for own in (order_postfix(filled.parent), perm):
        at = Filled(node_matrix_of(filled, own)).symbolic.nodes
        m, r = np.diff(at.first), np.diff(at.row_ptr)
        seconds.append(sum(map(estimate_front, m, r, at.twig)))
    assert seconds[1] <= seconds[0] * (1.0 + 1e-12)


def node_matrix_of(filled, perm):
    """The whole pattern of C in another order."""
    n = len(filled.L)
    lower = np.zeros((n, n), bool)
    lower[filled.C_indices, np.repeat(np.arange(n), np.diff(filled.C_indptr))] = True
    return (lower | lower.T)[np.ix_(perm, perm)]


@pytest.mark.parametrize("size", [1, 2])
def test_nodes_of_several_columns_are_joined_as_these(size):
    filled = Filled(np.kron(random_graph(5, 60, 0.03), np.ones((size, size), bool)))
    nodes = Filled(random_graph(5, 60, 0.03))
    count = filled.count[::size].copy()
    perm = order_joined(nodes.parent, count, np.full(60, size))
    by_columns = order_joined(filled.parent, filled.count, np.ones(60 * size, np.int64))
    assert np.array_equal(by_columns[::size] // size, perm)


def test_single_columns_below_a_wide_front_are_taken_into_it():
    """Leaves between them keep all but one out of it in a postorder."""
    blocks, leaves, root = 5, 3, 120
    first = blocks * leaves
    n = first + blocks + root
    adjacent = np.eye(n, dtype=bool)
    adjacent[first + blocks :, first + blocks :] = True
    for a in range(first):
        for i in (first + a // leaves, n - 2, n - 1):
            adjacent[i, a] = adjacent[a, i] = True
    half = n - root // 2
    adjacent[half:, first : first + blocks] = adjacent[first : first + blocks, half:] = True
    filled = Filled(adjacent)
    widths = []
    for perm in (
        order_postfix(filled.parent), order_joined(filled.parent, filled.count, np.ones(n, np.int64)),
    ):  # fmt: skip
        symbolic = Filled(adjacent[np.ix_(perm, perm)]).symbolic
        assert symbolic.nnz == filled.symbolic.nnz
        widths.append(int(np.diff(symbolic.nodes.first)[-1]))
    assert widths[0] < root + blocks == widths[1]


def test_fronts_that_may_be_guests_are_not_charged_for_copies():
    """A front of 60 columns and 500 rows: its copy, but not its products, would pay for the zeros."""
    above, width, below = np.array([1, -1]), np.array([60, 560]), np.array([500, 0])
    apart = estimate_front(60, 500, True) + estimate_front(560, 0, False)
    assert apart - COPY_SECONDS * 500**2 < estimate_front(620, 0, False) < apart
    assert join_fronts(above, width, below).tolist() == [0, 1]
