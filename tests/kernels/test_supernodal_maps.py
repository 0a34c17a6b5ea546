"""Index maps of the supernodal inverse, and its fronts of one column; runs uncompiled too."""

import numpy as np
import pytest
from random_pattern import compress_lower, eliminate_symbolically, random_graph

from fastlmm_core.kernels.supernodal_inverse import (
    find_supernodes,
    gather_lower,
    invert_single,
    map_entries,
    map_fronts,
    walk_depth_first,
)

GRAPHS = [(0, 1, 0.5), (1, 12, 0.15), (2, 25, 0.05), (3, 10, 1.0), (4, 8, 0.0)]


@pytest.fixture(params=GRAPHS, ids=str)
def pattern(request):
    adjacent = random_graph(*request.param)
    return compress_lower(np.tril(adjacent)), compress_lower(eliminate_symbolically(adjacent))


def test_supernodes_are_maximal_runs_of_nested_columns(pattern):
    _, (indptr, indices) = pattern
    n = indptr.size - 1
    columns = [set(indices[indptr[j] : indptr[j + 1]]) for j in range(n)]
    joined = [j > 0 and columns[j] == columns[j - 1] - {j - 1} for j in range(n)]
    first = find_supernodes(indptr, indices)
    assert list(first) == [j for j in range(n) if not joined[j]] + [n]


def test_fronts_nest_and_do_not_overlap_on_a_path(pattern):
    _, (indptr, indices) = pattern
    first = find_supernodes(indptr, indices)
    parent, relative_ptr, relative, offset, order = map_fronts(indptr, indices, first)
    assert sorted(order) == list(range(first.size - 1))

    def rows(s):
        return indices[indptr[first[s]] : indptr[first[s] + 1]]

    for s in range(first.size - 1):
        below = rows(s)[first[s + 1] - first[s] :]
        if below.size == 0:
            assert parent[s] == -1
            continue
        p = parent[s]
        assert first[p] <= below[0] < first[p + 1]
        assert np.array_equal(rows(p)[relative[relative_ptr[s] : relative_ptr[s + 1]]], below)
        if offset[s] == offset[p]:  # takes the parent's place, so no sibling may come after it
            position = {t: at for at, t in enumerate(order)}
            siblings = [t for t in range(first.size - 1) if parent[t] == p]
            assert position[s] == max(position[t] for t in siblings)
            assert sum(offset[t] == offset[p] for t in siblings) == 1
        else:
            assert offset[s] >= offset[p] + rows(p).size ** 2
        assert offset[s] + rows(s).size ** 2 <= offset[-1]


def test_places_of_the_entries(pattern):
    (C_indptr, C_indices), (indptr, indices) = pattern
    first = find_supernodes(indptr, indices)
    place = map_entries(C_indptr, C_indices, indptr, indices, first)
    for s in range(first.size - 1):
        front = indices[indptr[first[s]] : indptr[first[s] + 1]]
        for j in range(first[s], first[s + 1]):
            at = slice(C_indptr[j], C_indptr[j + 1])
            assert np.array_equal(front[place[at]], C_indices[at])


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


def test_gather_takes_the_lower_triangle():
    r = np.random.default_rng(0)
    source = r.normal(size=(7, 7))
    relative = np.array([1, 3, 6], np.int32)
    target = np.full((5, 5), np.nan)
    flat = target.ravel(order="F").copy()
    gather_lower(source.ravel(order="F").copy(), 7, relative, 3, flat, 5)
    got = flat.reshape(5, 5, order="F")[:3, :3]
    expected = source[np.ix_(relative, relative)]
    lower = np.tril_indices(3)
    assert np.array_equal(got[lower], expected[lower])
    assert np.isnan(got[np.triu_indices(3, 1)]).all()


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
    invert_single(flat, L[1:, 0].copy(), r)
    np.testing.assert_allclose(np.tril(flat.reshape(r + 1, r + 1, order="F")), np.tril(inverse), atol=1e-12)
