"""The general form of the loadings: by entries of F, against full matrices."""

import numpy as np
import pytest
import scipy.sparse as sp

from fastlmm_core.kernels.equations.loading_entries import assemble_entries, read_inverse_entries


@pytest.fixture
def system():
    """Five natural scalars on seven spherical ones; G has gaps, C is full."""
    rng = np.random.default_rng(3)
    F = rng.normal(size=(5, 7)) * (rng.random((5, 7)) < 0.5)
    F[0, 6], F[4, 0] = 1.5, -0.5  # natural and spherical scalars stand in other orders
    G = rng.normal(size=(5, 5)) * (rng.random((5, 5)) < 0.7)
    G = np.tril(G) + np.tril(G, -1).T + np.diag(np.full(5, 2.0))
    inverse = rng.normal(size=(7, 7))
    return sp.csr_array(F), G, inverse + inverse.T


def lower(A):
    """Pattern (indptr, indices) and values of the lower triangle of a matrix, diagonal first in a column."""
    columns = [np.flatnonzero(A[:, j])[np.flatnonzero(A[:, j]) >= j] for j in range(len(A))]
    indptr = np.concatenate(([0], np.cumsum([c.size for c in columns]))).astype(np.int64)
    indices = np.concatenate(columns).astype(np.int32)  # as a system has them
    return (indptr, indices), A[indices, np.repeat(np.arange(len(A)), np.diff(indptr))]


def entries(F):
    return F.indptr.astype(np.int64), F.indices.astype(np.int64), F.data


def test_assembly(system):
    F, G, _ = system
    natural, values = lower(G)
    full, _ = lower(np.ones((7, 7)))
    found = np.ones(28)
    assemble_entries(values, natural, full, entries(F), found)
    expected = 1.0 + F.toarray().T @ G @ F.toarray()
    np.testing.assert_allclose(found, lower(expected)[1], rtol=1e-12)


def test_inverse(system):
    """F C^-1 F' on the pattern of G, and the blocks of G F C^-1 at the entries of F, by their places."""
    F, G, inverse = system
    natural, values = lower(G)
    full, own = lower(inverse)
    place, W, M = np.arange(F.nnz) % 4, np.zeros(4), np.empty(natural[1].size)
    read_inverse_entries(values, own, natural, full, entries(F), place, W, M)
    spread = F.toarray() @ inverse @ F.toarray().T
    columns = np.repeat(np.arange(5), np.diff(natural[0]))
    np.testing.assert_allclose(M, spread[natural[1], columns], rtol=1e-12)
    scores = G @ F.toarray() @ inverse
    rows = np.repeat(np.arange(5), np.diff(F.indptr))
    np.testing.assert_allclose(W, np.bincount(place, scores[rows, F.indices]), rtol=1e-12)
    alone = np.zeros(4)
    read_inverse_entries(values, own, natural, full, entries(F), place, alone, np.empty(0))
    np.testing.assert_array_equal(alone, W)
