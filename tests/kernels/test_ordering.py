"""Elimination order and symbolic factorization against brute-force elimination."""

import numpy as np
import pytest
from random_pattern import compress_lower, eliminate_symbolically, node_matrix, random_graph

from fastlmm_core.kernels.factor.ordering import (
    count_columns,
    fill_node_pattern,
    list_children,
    list_left,
    map_pattern,
    order_minimum_degree,
    order_postfix,
)


def strict_lower(adjacent):
    indptr, indices = compress_lower(np.tril(adjacent) | np.eye(len(adjacent), dtype=bool))
    keep = np.ones(indices.size, bool)
    keep[indptr[:-1]] = False
    return indptr - np.arange(indptr.size), indices[keep].astype(np.int64)


def no_last(n):
    return np.zeros(n, np.bool_)


@pytest.mark.parametrize(
    ("seed", "n", "density"), [(0, 1, 0.5), (1, 12, 0.2), (2, 25, 0.1), (3, 25, 0.02), (4, 18, 0.6)]
)
def test_fill_is_that_of_elimination(seed, n, density):
    adjacent = random_graph(seed, n, density)
    ptr, rows = fill_node_pattern(*strict_lower(adjacent))
    assert np.array_equal(np.tril(node_matrix(ptr, rows)), eliminate_symbolically(adjacent))


@pytest.mark.parametrize(("seed", "n", "density"), [(1, 12, 0.2), (2, 25, 0.1), (3, 25, 0.02), (4, 18, 0.6)])
def test_column_counts_are_those_of_elimination(seed, n, density):
    adjacent = random_graph(seed, n, density)
    # rows of the lower triangle = columns of the upper one
    rows = [np.flatnonzero(np.tril(adjacent)[i]) for i in range(n)]
    indptr = np.concatenate(([0], np.cumsum([r.size for r in rows]))).astype(np.int64)
    ones = np.ones(n, np.int64)
    counts = count_columns(indptr, np.concatenate(rows).astype(np.int64), ones)
    assert np.array_equal(counts, eliminate_symbolically(adjacent).sum(axis=0))


def fill_after(adjacent, perm):
    return int(eliminate_symbolically(adjacent[np.ix_(perm, perm)]).sum())


def test_order_of_a_tree_has_no_fill():
    r = np.random.default_rng(7)
    n = 30
    adjacent = np.eye(n, dtype=bool)
    for i in range(1, n):
        j = r.integers(i)
        adjacent[i, j] = adjacent[j, i] = True
    perm = order_minimum_degree(*strict_lower(adjacent), np.ones(n, np.int64), no_last(n))
    assert sorted(perm) == list(range(n))
    assert fill_after(adjacent, perm) == 2 * n - 1


def test_dense_rows_go_last():
    n = 20
    adjacent = np.eye(n, dtype=bool)
    adjacent[0] = adjacent[:, 0] = True
    perm = order_minimum_degree(*strict_lower(adjacent), np.ones(n, np.int64), no_last(n))
    assert fill_after(adjacent, perm) == 2 * n - 1  # natural order would fill the whole triangle


@pytest.mark.parametrize("seed", range(4))
def test_chosen_nodes_come_after_all_others(seed):
    n = 24
    adjacent = random_graph(seed, n, 0.1)
    last = np.random.default_rng(seed).random(n) < 0.3
    size = np.random.default_rng(seed).integers(1, 4, n)
    perm = order_minimum_degree(*strict_lower(adjacent), size, last)
    assert sorted(perm) == list(range(n))
    assert not last[perm[: n - last.sum()]].any()


@pytest.mark.parametrize("seed", range(3))
def test_greedy_choice_by_scalar_degree(seed):
    """Every pivot has the smallest front, in scalars, of those left."""
    n = 15
    adjacent = random_graph(seed, n, 0.2)
    size = np.random.default_rng(seed).integers(1, 4, n)
    perm = order_minimum_degree(*strict_lower(adjacent), size, no_last(n))
    graph, alive = adjacent & ~np.eye(n, dtype=bool), np.ones(n, bool)
    for pivot in perm:
        degree = (graph & alive) @ size
        assert degree[pivot] == degree[alive].min()
        front = np.flatnonzero(graph[pivot] & alive)
        graph[np.ix_(front, front)] = True
        graph[front, front] = False
        alive[pivot] = False


def test_positions_in_the_larger_pattern():
    adjacent = random_graph(9, 14, 0.2)
    lower = np.tril(adjacent)
    indptr, indices = compress_lower(lower)
    L_indptr, L_indices = compress_lower(eliminate_symbolically(adjacent))
    position = map_pattern(indptr, indices, L_indptr, L_indices)
    assert np.array_equal(L_indices[position], indices)
    columns = np.repeat(np.arange(14), np.diff(indptr))
    assert np.all((position >= L_indptr[columns]) & (position < L_indptr[columns + 1]))


FORESTS = {
    "none": [],
    "roots": [-1, -1, -1],
    "chain": [1, 2, 3, -1],
    "star": [3, 3, 3, -1],
    "two trees": [4, 5, 4, 5, -1, -1],
    "not a postorder": [3, 4, 3, 5, 5, -1],
}


@pytest.mark.parametrize("name", FORESTS)
def test_children_are_listed_in_order(name):
    parent = np.array(FORESTS[name], np.int64)
    n = parent.size
    child, sibling = list_children(parent)
    for p in range(n + 1):
        listed, c = [], child[p]
        while c >= 0:
            listed.append(c)
            c = sibling[c]
        assert listed == [s for s in range(n) if parent[s] == (p if p < n else -1)]


@pytest.mark.parametrize("name", FORESTS)
def test_a_postorder_keeps_subtrees_together(name):
    parent = np.array(FORESTS[name], np.int64)
    perm = order_postfix(parent)
    place = np.argsort(perm)
    assert sorted(perm) == list(range(parent.size))
    below = {s: {s} for s in range(parent.size)}
    for s in perm:
        if parent[s] >= 0:
            assert place[s] < place[parent[s]]
            below[parent[s]] |= below[s]
    for s, members in below.items():
        assert {place[j] for j in members} == set(range(place[s] - len(members) + 1, place[s] + 1))
    size = {s: len(members) for s, members in below.items()}
    for p in set(parent[parent >= 0].tolist()):
        assert size[perm[place[p] - 1]] == max(size[s] for s in np.flatnonzero(parent == p))


def test_rows_of_a_lower_triangle():
    adjacent = random_graph(6, 18, 0.3)
    ptr, columns = list_left(*strict_lower(adjacent))
    for i in range(18):
        assert columns[ptr[i] : ptr[i + 1]].tolist() == np.flatnonzero(adjacent[i, :i]).tolist()
