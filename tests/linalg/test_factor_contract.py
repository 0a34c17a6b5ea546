"""What every factor promises, for all of them, against dense NumPy."""

import pickle

import numpy as np
import pytest
from random_pattern import compress_lower, eliminate_symbolically, on_pattern, random_graph, random_spd
from scikit_sparse import needs_scikit_sparse

from fastlmm_core.errors import MemoryForecastError
from fastlmm_core.linalg import base
from fastlmm_core.linalg.cholmod import CholmodFactor
from fastlmm_core.linalg.simplicial import SimplicialFactor
from fastlmm_core.linalg.supernodal import SupernodalFactor


def by_columns(indptr, indices):
    """Every scalar is a node."""
    n = indptr.size - 1
    off_diagonal = indices != np.repeat(np.arange(n), np.diff(indptr))
    below_ptr = indptr - np.arange(n + 1)
    return SimplicialFactor(
        below_ptr, indices[off_diagonal].astype(np.int64), np.arange(n + 1), indptr, indices
    )


FACTORS = [
    pytest.param(by_columns, id="simplicial"),
    pytest.param(SupernodalFactor, id="supernodal"),
    pytest.param(CholmodFactor, id="cholmod", marks=needs_scikit_sparse),
]


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
    "chain": np.abs(np.subtract.outer(np.arange(50), np.arange(50))) <= 2,
    "no postorder": random_graph(8, 150, 0.02),
}


@pytest.fixture(params=FACTORS)
def make(request):
    return request.param


@pytest.mark.parametrize("name", GRAPHS)
def test_every_method(make, name):
    """Factor, solves, determinant and inverse, for leading blocks, after a refactorization."""
    adjacent = GRAPHS[name]
    n = len(adjacent)
    indptr, indices = compress_lower(np.tril(adjacent))
    factor = make(indptr, indices)
    counts = eliminate_symbolically(adjacent).sum(axis=0)
    assert (factor.size, factor.nnz, factor.flops) == (n, counts.sum(), np.sum(counts**2))
    B = np.random.default_rng(0).normal(size=(n, 2))
    for seed in (3, 4):
        C = random_spd(seed, adjacent)
        assert factor.factorize(on_pattern(indptr, indices, C))
        for right in (B, B[:, 0][:, None], B[:, :1]):
            np.testing.assert_allclose(factor.solve(right), np.linalg.solve(C, right), rtol=1e-9, atol=1e-12)
            half = np.linalg.solve(np.linalg.cholesky(C), right)
            np.testing.assert_allclose(factor.solve_lower(right), half, rtol=1e-9, atol=1e-12)
            spare = right.copy()
            np.testing.assert_allclose(factor.solve_lower(spare, overwrite=True), half, rtol=1e-9, atol=1e-12)
        for lead in {n, max(1, 2 * n // 3), 1}:
            inverse = np.zeros_like(C)
            inverse[:lead, :lead] = np.linalg.inv(C[:lead, :lead])
            got = factor.inverse_subset(lead)
            np.testing.assert_allclose(got, on_pattern(indptr, indices, inverse), rtol=1e-9, atol=1e-12)
            for order in (np.arange(lead), np.random.default_rng(lead).permutation(lead)):
                whole = factor.inverse(order)
                np.testing.assert_allclose(whole, inverse[np.ix_(order, order)], rtol=1e-9, atol=1e-12)
                np.testing.assert_array_equal(whole, whole.T)
            expected = np.linalg.slogdet(C[:lead, :lead])[1]
            np.testing.assert_allclose(factor.log_determinant(lead), expected, rtol=1e-10, atol=1e-10)


def test_right_hand_sides_are_left_as_they_are(make):
    adjacent = GRAPHS["medium"]
    indptr, indices = compress_lower(np.tril(adjacent))
    factor = make(indptr, indices)
    assert factor.factorize(on_pattern(indptr, indices, random_spd(3, adjacent)))
    B = np.random.default_rng(1).normal(size=(factor.size, 3))
    before = B.copy()
    for right, own in ((B, before), (B[:, :1], before[:, :1])):
        factor.solve(right)
        factor.solve_lower(right)
        assert np.array_equal(right, own)


def test_right_hand_sides_that_begin_late(make):
    adjacent = GRAPHS["blocks of 3"]
    C = random_spd(5, adjacent)
    indptr, indices = compress_lower(np.tril(adjacent))
    factor = make(indptr, indices)
    assert factor.factorize(on_pattern(indptr, indices, C))
    right = np.zeros((len(C), 4))
    right[[20, 25, 35, 35], np.arange(4)] = [1.0, 2.0, 1.0, -3.0]
    half = np.linalg.solve(np.linalg.cholesky(C), right)
    np.testing.assert_allclose(factor.solve_lower(right), half, rtol=1e-9, atol=1e-12)


def test_copies_keep_values_of_their_own(make):
    adjacent = GRAPHS["medium"]
    indptr, indices = compress_lower(np.tril(adjacent))
    A, B = random_spd(5, adjacent), random_spd(6, adjacent)
    factor = make(indptr, indices)
    assert factor.factorize(on_pattern(indptr, indices, A))
    factor.inverse_subset(factor.size)
    twin = factor.copy()
    assert type(twin) is type(factor)
    assert twin.factorize(on_pattern(indptr, indices, B))
    right = np.ones((len(A), 1))
    for own, C in ((factor, A), (twin, B)):
        np.testing.assert_allclose(own.solve(right), np.linalg.solve(C, right), rtol=1e-10)
        inverse = on_pattern(indptr, indices, np.linalg.inv(C))
        np.testing.assert_allclose(own.inverse_subset(len(C)), inverse, rtol=1e-9, atol=1e-12)


def test_a_pickled_factor_has_its_values_and_takes_new_ones(make):
    adjacent = GRAPHS["blocks of 17"]
    indptr, indices = compress_lower(np.tril(adjacent))
    A, B = random_spd(5, adjacent), random_spd(6, adjacent)
    factor = make(indptr, indices)
    assert factor.factorize(on_pattern(indptr, indices, A))
    again = pickle.loads(pickle.dumps(factor))
    right = np.ones((len(A), 1))
    assert np.array_equal(again.solve(right), factor.solve(right))
    assert again.factorize(on_pattern(indptr, indices, B))
    np.testing.assert_allclose(again.solve(right), np.linalg.solve(B, right), rtol=1e-10)


@pytest.mark.parametrize("name", ["one", "diagonal", "medium", "blocks of 17"])
def test_what_is_not_positive_definite_is_reported(make, name):
    """Shifted, with a negative pivot in the middle, with NaN; and the factor recovers."""
    adjacent = GRAPHS[name]
    indptr, indices = compress_lower(np.tril(adjacent))
    factor = make(indptr, indices)
    C = random_spd(7, adjacent)
    wrong = [C - 100 * np.eye(len(C))]
    for j in {0, len(C) // 2, len(C) - 1}:
        for value in (-1.0, 0.0, np.nan):
            wrong.append(C.copy())
            wrong[-1][j, j] = value
    for matrix in wrong:
        assert not factor.factorize(on_pattern(indptr, indices, matrix))
    assert factor.factorize(on_pattern(indptr, indices, C))
    right = np.ones((len(C), 1))
    np.testing.assert_allclose(factor.solve(right), np.linalg.solve(C, right), rtol=1e-10)


def test_nothing_is_computed_over_the_memory_allowed(make, monkeypatch):
    indptr, indices = compress_lower(np.tril(GRAPHS["dense"]))
    factor = make(indptr, indices)
    assert factor.admit("1MB") is factor
    factor.memory = 8 * 10**6
    with pytest.raises(MemoryForecastError, match=r"factorization of 25 equations .* raise max_memory"):
        factor.admit("1MB")
    monkeypatch.setattr("fastlmm_core.linalg.memory.available_memory", lambda: 10**6)
    assert factor.admit() is factor  # so little is not held against the machine
    monkeypatch.setattr(base, "NEGLIGIBLE_MEMORY", 0)
    with pytest.raises(MemoryForecastError, match="available memory is"):
        factor.admit()
