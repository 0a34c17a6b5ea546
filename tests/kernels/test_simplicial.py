"""Column-by-column Cholesky, solves and inverse subset against dense linear algebra."""

import numpy as np
import pytest
from random_pattern import (
    compress_lower,
    eliminate_symbolically,
    on_pattern,
    random_graph,
    random_spd,
    to_dense,
)

from fastlmm_core.kernels.factor.ordering import map_pattern
from fastlmm_core.kernels.factor.simplicial import (
    factorize,
    invert_subset,
    log_determinant,
    solve_lower,
    solve_upper,
)

GRAPHS = [(0, 1, 0.5), (1, 10, 0.2), (2, 20, 0.1), (3, 15, 0.0), (4, 12, 1.0), (5, 25, 0.06)]


@pytest.fixture(params=GRAPHS, ids=str)
def system(request):
    seed, n, density = request.param
    adjacent = random_graph(seed, n, density)
    C = random_spd(seed, adjacent)
    indptr, indices = compress_lower(eliminate_symbolically(adjacent))
    C_indptr, C_indices = compress_lower(np.tril(adjacent))
    position = map_pattern(C_indptr, C_indices, indptr, indices)
    L = np.full(indices.size, np.nan)  # what was there before must not matter
    assert factorize(on_pattern(C_indptr, C_indices, C), position, indptr, indices, L) == -1
    return C, indptr, indices, L


def test_factor(system):
    C, indptr, indices, L = system
    dense = to_dense(indptr, indices, L, symmetric=False)
    np.testing.assert_allclose(dense, np.linalg.cholesky(C), rtol=1e-11, atol=1e-12)


def test_log_determinant_of_leading_blocks(system):
    C, indptr, _, L = system
    for size in {len(C), len(C) // 2, 1}:
        expected = np.linalg.slogdet(C[:size, :size])[1]
        np.testing.assert_allclose(log_determinant(indptr, L, size), expected, rtol=1e-11, atol=1e-11)


def test_solves(system):
    C, indptr, indices, L = system
    B = np.random.default_rng(1).normal(size=(len(C), 3))
    half = B.copy()
    solve_lower(indptr, indices, L, half)
    np.testing.assert_allclose(half, np.linalg.solve(np.linalg.cholesky(C), B), rtol=1e-10, atol=1e-11)
    solve_upper(indptr, indices, L, half)
    np.testing.assert_allclose(half, np.linalg.solve(C, B), rtol=1e-10, atol=1e-11)


def test_inverse_subset_whole_and_leading(system):
    C, indptr, indices, L = system
    columns = np.repeat(np.arange(len(C)), np.diff(indptr))
    for size in {len(C), len(C) // 2, 1}:
        Z = np.full(indices.size, np.nan)
        invert_subset(indptr, indices, L, size, Z)
        inverse = np.zeros_like(C)
        inverse[:size, :size] = np.linalg.inv(C[:size, :size])
        np.testing.assert_allclose(Z, inverse[indices, columns], rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("column", [0, 3, 7])
def test_indefinite_matrix_names_the_column(column):
    C = np.eye(8)
    C[column, column] = -1.0
    indptr, indices = compress_lower(np.eye(8, dtype=bool))
    assert factorize(np.diag(C).copy(), np.arange(8), indptr, indices, np.empty(8)) == column


def test_nan_is_not_positive_definite():
    indptr, indices = compress_lower(np.eye(3, dtype=bool))
    assert factorize(np.array([1.0, np.nan, 1.0]), np.arange(3), indptr, indices, np.empty(3)) == 1
