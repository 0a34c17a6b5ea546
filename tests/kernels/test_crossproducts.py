"""[Z X]'W[Z X] on its block pattern against the dense product."""

import numpy as np
import pytest
from random_pattern import node_matrix, random_pattern, to_dense

from fastlmm_core.kernels.equations.crossproducts import (
    bound_runs,
    expand_coefficients,
    fill_crossproducts,
    make_room,
    project_response,
)

SHAPES = [
    {"terms": ((6, 1), (5, 2)), "p": 3},
    {"terms": ((4, 3),), "p": 2},
    {"terms": (), "p": 4},
    {"terms": ((9, 1), (3, 1)), "p": 0},
]


@pytest.fixture(params=range(len(SHAPES)))
def pattern(request):
    return random_pattern(request.param, **SHAPES[request.param])


def test_entries_by_node_are_the_transpose(pattern):
    node_ptr, node_entry, entry_row = pattern.by_node
    rows = np.repeat(np.arange(pattern.row_ptr.size - 1), np.diff(pattern.row_ptr))
    assert np.array_equal(entry_row, rows)
    for node in range(pattern.n_nodes):
        assert np.array_equal(
            node_entry[node_ptr[node] : node_ptr[node + 1]], np.flatnonzero(pattern.row_node == node)
        )


def test_node_pattern_is_that_of_the_product(pattern):
    below_ptr, below = pattern.below
    incidence = np.zeros((pattern.row_ptr.size - 1, pattern.n_nodes))
    incidence[pattern.by_node[2], pattern.row_node] = 1.0
    meets = incidence.T @ incidence > 0
    assert np.array_equal(node_matrix(below_ptr, below), meets | np.eye(pattern.n_nodes, dtype=bool))
    for j in range(pattern.n_nodes):
        assert np.all(np.diff(below[below_ptr[j] : below_ptr[j + 1]]) > 0)


def test_scalar_pattern_has_full_blocks_and_ascending_rows(pattern):
    indptr, indices = pattern.scalar
    nodes = np.repeat(np.arange(pattern.n_nodes), np.diff(pattern.start))
    expected = np.tril(node_matrix(*pattern.below)[np.ix_(nodes, nodes)])
    assert np.array_equal(to_dense(indptr, indices, np.ones(indices.size), symmetric=False) > 0, expected)
    assert all(np.all(np.diff(indices[indptr[j] : indptr[j + 1]]) > 0) for j in range(indptr.size - 1))


def test_crossproducts_equal_the_dense_product(pattern):
    weights = np.random.default_rng(5).uniform(0.1, 3.0, pattern.dense.shape[0])
    indptr, indices = pattern.scalar
    data = fill_crossproducts(
        pattern.row_ptr, pattern.row_node, pattern.row_val, pattern.values, weights, *pattern.by_node,
        pattern.start,
        indptr, indices,
    )  # fmt: skip
    dense = pattern.dense.T @ (weights[:, None] * pattern.dense)
    np.testing.assert_allclose(to_dense(indptr, indices, data), dense, rtol=1e-12, atol=1e-12)


def test_products_with_vectors(pattern):
    r = np.random.default_rng(6)
    n, size = pattern.dense.shape
    wy, b = r.normal(size=n), r.normal(size=size)
    wy[::4] = 0.0
    out = np.zeros(size)
    project_response(
        pattern.row_ptr, pattern.row_node, pattern.row_val, pattern.values, pattern.start, wy, out
    )
    np.testing.assert_allclose(out, pattern.dense.T @ wy, atol=1e-12)
    fitted = np.empty(n)
    expand_coefficients(
        pattern.row_ptr, pattern.row_node, pattern.row_val, pattern.values, pattern.start, b, fitted
    )
    np.testing.assert_allclose(fitted, pattern.dense @ b, atol=1e-12)


def test_room_is_made_only_where_it_is_short():
    rows = np.arange(6)
    assert make_room(rows, 4, 2).size == 6
    grown = make_room(rows, 4, 3)
    assert grown.size >= 2 * rows.size
    assert np.array_equal(grown[:4], rows[:4])


@pytest.mark.parametrize("counts", [[], [0], [3], [2, 0, 0, 5, 1]])
def test_counts_become_bounds(counts):
    ptr = np.array([0, *counts], np.int64)
    fill = bound_runs(ptr)
    assert np.array_equal(ptr, np.cumsum([0, *counts]))
    assert np.array_equal(fill, ptr[:-1])
