"""Nodes that are joined to the same others are ordered as one, without more fill."""

import numpy as np
import pytest
from random_pattern import eliminate_symbolically, random_graph

from fastlmm_core.linalg import elimination


@pytest.fixture
def large(monkeypatch):
    monkeypatch.setattr(elimination, "SMALL_GRAPH", 0)


def lower(graph):
    columns = [np.flatnonzero(np.tril(graph, -1)[:, j]) for j in range(len(graph))]
    ptr = np.concatenate(([0], np.cumsum([own.size for own in columns]))).astype(np.int64)
    return ptr, np.concatenate(columns).astype(np.int64)


@pytest.mark.parametrize("seed", range(3))
def test_order_of_twins(large, seed):
    r = np.random.default_rng(seed)
    groups = r.permutation(np.repeat(np.arange(40), r.integers(1, 6, 40)))
    graph = random_graph(seed, 40, 0.05)[np.ix_(groups, groups)] | np.eye(groups.size, dtype=bool)
    one, several = elimination.twin_nodes(*lower(graph), np.zeros(groups.size, bool))
    assert np.unique(one).size <= 40
    for own in np.split(several, np.cumsum(np.bincount(one))[:-1]):
        assert np.all(graph[own] == graph[own[0]])
    last = r.random(groups.size) < 0.1
    for late in (None, last):
        perm = elimination.order_nodes(*lower(graph), np.ones(groups.size, np.int64), late).perm
        assert sorted(perm) == list(range(groups.size))
        if late is not None:
            assert set(perm[groups.size - late.sum() :]) == set(np.flatnonzero(late))
        fill = eliminate_symbolically(graph[np.ix_(perm, perm)]).sum()
        given = eliminate_symbolically(graph).sum() if late is None else np.inf
        assert fill <= given
