"""The supernodal inverse subset against np.linalg.inv.

Calls BLAS through addresses, which only exists in compiled code: with NUMBA_DISABLE_JIT=1 this file is
skipped, the index maps are tested by ``test_supernodal_maps``.
"""

import os

import numpy as np
import pytest
from random_pattern import compress_lower, eliminate_symbolically, on_pattern, random_graph, random_spd

from fastlmm_core.linalg.cholmod import CholmodFactor, InversePlan, order_graph

pytestmark = pytest.mark.skipif(
    os.environ.get("NUMBA_DISABLE_JIT", "0") != "0", reason="BLAS by address needs compiled kernels"
)


def block_graph(seed, blocks, width, density):
    """Groups of columns with equal structure: wide supernodes."""
    return np.kron(random_graph(seed, blocks, density), np.ones((width, width), bool))


GRAPHS = {
    "one": random_graph(0, 1, 0.5),
    "sparse": random_graph(1, 30, 0.05),
    "medium": random_graph(2, 40, 0.15),
    "dense": random_graph(3, 25, 1.0),
    "diagonal": random_graph(4, 9, 0.0),
    "blocks of 3": block_graph(5, 12, 3, 0.15),
    "blocks of 17": block_graph(6, 7, 17, 0.2),
    "forest": np.kron(np.eye(4, dtype=bool), random_graph(7, 8, 0.4)),
}


@pytest.mark.parametrize("name", GRAPHS)
def test_plan_on_the_exact_pattern(name):
    adjacent = GRAPHS[name]
    C = random_spd(1, adjacent)
    indptr, indices = compress_lower(eliminate_symbolically(adjacent))
    C_indptr, C_indices = compress_lower(np.tril(adjacent))
    plan = InversePlan(indptr, indices, C_indptr, C_indices)
    L = on_pattern(indptr, indices, np.linalg.cholesky(C))
    for _ in range(2):  # work arrays are used again
        got = plan.invert(L)
    np.testing.assert_allclose(got, on_pattern(C_indptr, C_indices, np.linalg.inv(C)), rtol=1e-9, atol=1e-13)


@pytest.mark.parametrize("name", GRAPHS)
def test_plan_on_a_pattern_with_stored_zeros(name):
    """Relaxed supernodes hold zeros; here the whole triangle is stored."""
    adjacent = GRAPHS[name]
    C = random_spd(2, adjacent)
    indptr, indices = compress_lower(np.tril(np.ones_like(adjacent)))
    C_indptr, C_indices = compress_lower(np.tril(adjacent))
    plan = InversePlan(indptr, indices, C_indptr, C_indices)
    got = plan.invert(on_pattern(indptr, indices, np.linalg.cholesky(C)))
    np.testing.assert_allclose(got, on_pattern(C_indptr, C_indices, np.linalg.inv(C)), rtol=1e-9, atol=1e-13)


@pytest.mark.parametrize("name", GRAPHS)
def test_cholmod_factor(name):
    """Every method of the adapter, for the whole matrix and leading blocks, after a refactorization."""
    adjacent = GRAPHS[name]
    indptr, indices = compress_lower(np.tril(adjacent))
    factor = CholmodFactor(indptr, indices)
    assert factor.nnz == eliminate_symbolically(adjacent).sum()
    B = np.random.default_rng(0).normal(size=(len(adjacent), 2))
    for seed in (3, 4):
        C = random_spd(seed, adjacent)
        assert factor.factorize(on_pattern(indptr, indices, C))
        np.testing.assert_allclose(factor.solve(B), np.linalg.solve(C, B), rtol=1e-9, atol=1e-12)
        half = factor.solve_lower(B)
        np.testing.assert_allclose(half.T @ half, B.T @ np.linalg.solve(C, B), rtol=1e-9, atol=1e-12)
        for lead in {len(C), max(1, 2 * len(C) // 3), 1}:
            inverse = np.zeros_like(C)
            inverse[:lead, :lead] = np.linalg.inv(C[:lead, :lead])
            got = factor.inverse_subset(lead)
            np.testing.assert_allclose(got, on_pattern(indptr, indices, inverse), rtol=1e-9, atol=1e-12)
            expected = np.linalg.slogdet(C[:lead, :lead])[1]
            np.testing.assert_allclose(factor.log_determinant(lead), expected, rtol=1e-10, atol=1e-10)


def test_copy_keeps_its_own_values():
    adjacent = GRAPHS["medium"]
    indptr, indices = compress_lower(np.tril(adjacent))
    A, B = random_spd(5, adjacent), random_spd(6, adjacent)
    factor = CholmodFactor(indptr, indices)
    factor.factorize(on_pattern(indptr, indices, A))
    twin = factor.copy()
    twin.factorize(on_pattern(indptr, indices, B))
    right = np.ones((len(A), 1))
    np.testing.assert_allclose(factor.solve(right), np.linalg.solve(A, right), rtol=1e-10)
    np.testing.assert_allclose(twin.solve(right), np.linalg.solve(B, right), rtol=1e-10)


def test_indefinite_matrix_is_reported():
    adjacent = GRAPHS["medium"]
    indptr, indices = compress_lower(np.tril(adjacent))
    factor = CholmodFactor(indptr, indices)
    C = random_spd(7, adjacent)
    assert not factor.factorize(on_pattern(indptr, indices, C - 100 * np.eye(len(C))))
    assert factor.factorize(on_pattern(indptr, indices, C))


def test_order_is_a_permutation_with_little_fill():
    import scipy.sparse as sp

    n = 200
    arrow = np.eye(n, dtype=bool)
    arrow[0] = arrow[:, 0] = True
    perm, name = order_graph(sp.csc_array(np.tril(arrow, -1).astype(float)))
    assert sorted(perm) == list(range(n))
    assert eliminate_symbolically(arrow[np.ix_(perm, perm)]).sum() == 2 * n - 1
    assert name in ("amd", "metis")
