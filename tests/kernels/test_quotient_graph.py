"""Approximate minimum degree against elimination by brute force."""

import numpy as np
import pytest
from random_pattern import eliminate_symbolically, random_graph

from fastlmm_core.kernels.factor.ordering import order_minimum_degree
from fastlmm_core.kernels.factor.quotient_graph import (
    close_gaps,
    eliminate_lowest,
    open_graph,
    order_approximate_degree,
    sort_members,
)
from fastlmm_core.kernels.factor.quotient_lists import LEFT, USED, list_degrees


def neighbours(adjacent):
    """`ptr` and `adjacent` of a boolean symmetric matrix, both ways and without the diagonal."""
    rows = [np.flatnonzero(line & (np.arange(line.size) != i)) for i, line in enumerate(adjacent)]
    ptr = np.concatenate(([0], np.cumsum([row.size for row in rows]))).astype(np.int64)
    return ptr, np.concatenate([*rows, []]).astype(np.int64)


def empty(n):
    return np.eye(n, dtype=bool)


def star(n):
    adjacent = empty(n)
    adjacent[0] = adjacent[:, 0] = True
    return adjacent


def tree(n):
    r = np.random.default_rng(n)
    adjacent = empty(n)
    for i in range(1, n):
        j = r.integers(i)
        adjacent[i, j] = adjacent[j, i] = True
    return adjacent


def grid(rows, columns):
    """Neighbours as of a first-order process in both directions."""
    near = [np.abs(np.subtract.outer(np.arange(k), np.arange(k))) < 2 for k in (rows, columns)]
    return np.kron(*near)


def crossed(levels, n, seed=0):
    """Levels of random factors that meet in n rows."""
    r = np.random.default_rng(seed)
    Z = np.hstack([np.eye(k)[r.integers(0, k, n)] for k in levels])
    return Z.T @ Z + np.eye(sum(levels)) > 0


def families(n, sires, seed=0):
    """Offspring of a few sires and of many dams, joined to both of them as the parents are."""
    r = np.random.default_rng(seed)
    adjacent = empty(n)
    for i in range(2 * sires, n):
        trio = [i, r.integers(sires) + sires * (i > n // 2), r.integers(2 * sires, i) if i > 2 * sires else i]
        adjacent[np.ix_(trio, trio)] = True
    return adjacent


GRAPHS = {
    "none": empty(0),
    "one": empty(1),
    "isolated": empty(7),
    "isolated beside others": np.kron(np.diag([1, 0, 1]), random_graph(1, 6, 0.4)) + empty(18) > 0,
    "star": star(30),
    "complete": np.ones((25, 25), bool),
    "tree": tree(40),
    "grid": grid(6, 7),
    "crossed": crossed((14, 9, 6), 40),
    "nested": np.kron(np.eye(6), np.ones((4, 4))) + star(24) > 0,
    "lists that wait": families(260, 2),  # longer than `LONG`
    "several lists that wait": families(300, 3, seed=4),
    "two halves": np.kron(np.eye(2), random_graph(5, 15, 0.2)) > 0,
    **{f"random {density}": random_graph(3, 40, density) for density in (0.01, 0.05, 0.1, 0.3)},
}


@pytest.mark.parametrize("name", GRAPHS)
def test_every_node_comes_once(name):
    perm = order_approximate_degree(*neighbours(GRAPHS[name]))
    assert sorted(perm) == list(range(len(GRAPHS[name])))


def fill_after(adjacent, perm):
    return int(eliminate_symbolically(adjacent[np.ix_(perm, perm)]).sum())


@pytest.mark.parametrize("name", ["isolated", "star", "tree", "complete", "nested"])
def test_where_an_order_without_fill_exists_it_is_found(name):
    adjacent = GRAPHS[name]
    perm = order_approximate_degree(*neighbours(adjacent))
    assert fill_after(adjacent, perm) == np.tril(adjacent).sum()


@pytest.mark.parametrize("seed", range(3))
def test_dense_nodes_come_last_and_do_not_count(seed):
    """Among 600 nodes, more than 245 neighbours are many."""
    adjacent = np.kron(np.eye(50, dtype=bool), np.ones((12, 12), bool))
    dense = np.random.default_rng(seed).choice(600, 3, replace=False)
    adjacent[dense] = adjacent[:, dense] = True
    perm = order_approximate_degree(*neighbours(adjacent))
    assert set(perm[-3:]) == set(dense)
    assert fill_after(adjacent, perm) == np.tril(adjacent).sum()


def roots(graph):
    """The node that each node went into at last."""
    owner = np.array(graph.owner)
    while not np.array_equal(owner, owner[owner]):
        owner = owner[owner]
    return owner


@pytest.mark.parametrize("name", [name for name in GRAPHS if len(GRAPHS[name]) > 1])
@pytest.mark.parametrize("room", ["much", "as little as may be"])
def test_elements_are_the_cliques_of_elimination(name, room):
    """Every step leaves the pivot's neighbours as its element; degrees are bounds from above."""
    adjacent = GRAPHS[name]
    n = len(adjacent)
    ptr, entries = neighbours(adjacent)
    graph = open_graph(ptr, entries)
    if room != "much":
        most = np.diff(ptr).max()  # of an element that is formed while all lists still stand
        graph = graph._replace(entries=graph.entries[: max(entries.size + most, n)])
    list_degrees(graph)
    left = adjacent & ~empty(n)
    alive = graph.weight > 0
    while graph.state[LEFT] > 0:
        pivot = eliminate_lowest(graph)
        root = roots(graph)
        gone = np.flatnonzero(root == pivot)
        front = np.flatnonzero(left[gone].any(axis=0) & alive)
        left[np.ix_(front, front)] = True
        alive[gone] = False
        first = graph.start[pivot]
        listed = graph.entries[first : first + graph.length[pivot]]
        assert listed.size == np.unique(listed).size and np.array_equal(root[root], root)
        np.testing.assert_array_equal(np.flatnonzero(np.isin(root, listed)), np.setdiff1d(front, gone))
        for i in np.flatnonzero(graph.weight):
            own = np.flatnonzero(root == i)
            met = left[own].any(axis=0) & alive
            met[own] = False
            assert graph.weight[i] == len(own)
            assert graph.degree[i] >= met.sum()
        assert graph.state[LEFT] == alive.sum()


@pytest.mark.parametrize("seed", range(4))
def test_about_as_little_work_as_by_exact_degrees(seed):
    """Bounds instead of degrees may go astray, as ties may; by a tenth here."""
    adjacent = crossed((40, 25, 15), 100, seed)
    below = neighbours(np.triu(adjacent))  # rows of the upper triangle = columns of the lower one
    exact = order_minimum_degree(*below, np.ones(80, np.int64), np.zeros(80, np.bool_))
    approximate = order_approximate_degree(*neighbours(adjacent))
    work = [
        np.sum(eliminate_symbolically(adjacent[np.ix_(p, p)]).sum(axis=0) ** 2) for p in (approximate, exact)
    ]
    assert work[0] < 1.1 * work[1]


def test_lists_keep_their_entries_when_gaps_are_closed():
    graph = open_graph(*neighbours(GRAPHS["crossed"]))
    list_degrees(graph)
    for _ in range(6):
        eliminate_lowest(graph)

    def lists():
        return [graph.entries[a : a + k].tolist() for a, k in zip(graph.start, graph.length, strict=True)]

    before, used = lists(), graph.state[USED]
    close_gaps(graph)
    assert lists() == before
    assert graph.state[USED] == graph.length.sum() < used


def test_members_follow_their_pivot_and_what_has_none_is_last():
    owner = np.array([0, 0, 5, 3, 2, 5], np.int64)  # 4 went into 2, which went into 5
    rank = np.array([1, -1, -1, -1, -1, 0], np.int64)
    assert sort_members(owner, rank).tolist() == [2, 4, 5, 0, 1, 3]
