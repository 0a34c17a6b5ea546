"""Dense rows of R^-1 and the cliques they make, against dense NumPy."""

import numpy as np
import pytest
import scipy.sparse as sp
from random_pattern import compress_lower, random_graph

from fastlmm_core.kernels.equations.cliques import add_block_products, join_cliques, list_block_columns
from fastlmm_core.kernels.factor.ordering import mix_neighbours, select_nodes


def strict_lower(adjacent):
    """Strict lower triangle of a graph as compressed columns."""
    columns = [np.flatnonzero(np.tril(adjacent, -1)[:, j]) for j in range(len(adjacent))]
    ptr = np.concatenate(([0], np.cumsum([own.size for own in columns]))).astype(np.int64)
    return ptr, np.concatenate(columns).astype(np.int64)


def adjacency(ptr, rows):
    out = np.eye(ptr.size - 1, dtype=bool)
    for j in range(ptr.size - 1):
        assert np.all(rows[ptr[j] : ptr[j + 1]] > j)
        assert np.unique(rows[ptr[j] : ptr[j + 1]]).size == ptr[j + 1] - ptr[j]
        out[rows[ptr[j] : ptr[j + 1]], j] = out[j, rows[ptr[j] : ptr[j + 1]]] = True
    return out


@pytest.mark.parametrize("seed", range(3))
def test_every_pair_of_a_clique_is_joined_once(seed):
    n, r = 14, np.random.default_rng(seed)
    graph = random_graph(seed, n, 0.1)
    cliques = [np.sort(r.permutation(n)[:size]).astype(np.int64) for size in (5, 1, 6)]
    bounds = np.concatenate(([0], np.cumsum([own.size for own in cliques]))).astype(np.int64)
    expected = graph | np.eye(n, dtype=bool)
    for own in cliques:
        expected[np.ix_(own, own)] = True
    found = adjacency(*join_cliques(*strict_lower(graph), bounds, np.concatenate(cliques)))
    assert np.array_equal(found, expected)


def test_products_of_dense_rows():
    r = np.random.default_rng(1)
    W = r.normal(size=(9, 6)) * (r.uniform(size=(9, 6)) < 0.5)
    rows = np.array([7, 2, 4, 3])
    block = r.normal(size=(4, 4))
    block = block + block.T
    indptr, indices = compress_lower(np.tril(np.ones((6, 6), bool)))
    out = r.normal(size=indices.size)
    columns = np.repeat(np.arange(6), np.diff(indptr))
    expected = out + (W[rows].T @ block @ W[rows])[indices, columns]
    by_row = sp.csr_array(W)
    matrix = by_row.indptr.astype(np.int64), by_row.indices.astype(np.int64), by_row.data
    assert np.array_equal(list_block_columns(matrix, rows), np.flatnonzero(np.any(W[rows] != 0.0, axis=0)))
    place = np.zeros(6, np.int64)
    add_block_products(matrix, rows, block, indptr.astype(np.int64), indices.astype(np.int32), place, out)
    np.testing.assert_allclose(out, expected, atol=1e-14)


def test_twins_mix_to_the_same_number():
    groups = np.repeat(np.arange(7), [1, 3, 1, 2, 1, 1, 4])
    graph = random_graph(3, 7, 0.3)[np.ix_(groups, groups)]
    keys = np.random.default_rng(0).integers(1, 2**62, groups.size)
    mixed = mix_neighbours(*strict_lower(graph), keys)
    neighbours = [tuple(np.flatnonzero(row)) for row in graph | np.eye(groups.size, dtype=bool)]
    for i in range(groups.size):
        for j in range(groups.size):
            assert (mixed[i] == mixed[j]) == (neighbours[i] == neighbours[j])


def test_part_of_a_graph():
    graph = random_graph(5, 12, 0.3)
    nodes = np.array([1, 2, 5, 6, 10])
    number = np.full(12, -1)
    number[nodes] = np.arange(5)
    found = adjacency(*select_nodes(*strict_lower(graph), number, 5))
    assert np.array_equal(found, graph[np.ix_(nodes, nodes)] | np.eye(5, dtype=bool))
