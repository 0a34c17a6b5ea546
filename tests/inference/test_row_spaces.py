"""Ranks, bases and estimable parts of rows of coefficients."""

import numpy as np
import pytest
import scipy.sparse as sp

from fastlmm_core.inference import row_spaces
from fastlmm_core.inference.row_spaces import estimable_part, family_ranks, row_basis, row_rank


def rows_of_rank(rank, seed=0):
    r = np.random.default_rng(seed)
    return r.normal(size=(6, rank)) @ r.normal(size=(rank, 5))


@pytest.mark.parametrize("rank", range(6))
@pytest.mark.parametrize("scale", [1.0, 1e6])
def test_rank(rank, scale):
    assert row_rank(scale * rows_of_rank(rank)) == rank


@pytest.mark.parametrize("whole", [sp.csr_array, np.asarray])
def test_rank_of_every_family(whole):
    K = rows_of_rank(3)
    A = sp.csr_array(np.vstack([np.diff(np.eye(6), axis=0), np.zeros((1, 6)), np.eye(6)[:2]]))
    members = [np.array([0, 1]), np.array([2, 3, 4]), np.array([5]), np.array([5, 6, 7])]
    expected = [np.linalg.matrix_rank(A.toarray()[rows] @ K) for rows in members]
    assert list(family_ranks(A, whole(K), members)) == expected == [2, 3, 0, 2]


@pytest.mark.parametrize("rank", range(6))
def test_basis_spans_the_rows(rank):
    L = rows_of_rank(rank)
    basis = row_basis(L)
    assert basis.shape == (rank, 5)
    np.testing.assert_allclose(basis @ basis.T, np.eye(rank), atol=1e-10)
    np.testing.assert_allclose(L @ basis.T @ basis, L, atol=1e-9)


def test_the_estimable_part_is_orthogonal_to_the_null_space():
    null = np.array([[1.0], [-1.0], [0.0], [0.0]])
    rows, lost = estimable_part(np.eye(4)[:3], null)
    assert lost
    assert rows.shape == (2, 4)
    np.testing.assert_allclose(rows @ null, 0.0, atol=1e-12)
    rows, lost = estimable_part(np.array([[1.0, 1.0, 0.0, 0.0]]), null)
    assert not lost
    assert len(rows) == 1


@pytest.mark.parametrize("rows", [1, 7, 12])
def test_a_basis_is_that_of_gram_schmidt_however_it_is_found(rows):
    rng = np.random.default_rng(rows)
    L = rng.normal(size=(rows, 12)) * 10.0 ** rng.integers(-2, 5, size=(rows, 1))
    basis = row_spaces.row_basis(L)
    np.testing.assert_allclose(basis, row_spaces._greedy_basis(L), atol=1e-12)
    np.testing.assert_allclose(basis @ basis.T, np.eye(rows), atol=1e-13)
    # a row that those before it make, and one too many, have no part of their own
    more = np.vstack([L[:1], L[:1] * 2.0, L[1:], rng.normal(size=(13 - rows, 12))])
    np.testing.assert_allclose(row_spaces.row_basis(more)[:rows], basis, atol=1e-12)
    assert len(row_spaces.row_basis(more)) == 12
