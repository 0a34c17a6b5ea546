"""Products with rows and pieces against dense NumPy, compiled and not."""

import numpy as np
import pytest
import scipy.sparse as sp

from fastlmm_core.kernels.equations.columns import multiply_columns_transposed
from fastlmm_core.kernels.equations.sparse_products import (
    add_pieces,
    add_transposed_product,
    contract_pieces,
    multiply_pieces,
    multiply_row_pieces,
    sum_row_pieces,
)


def plain(kernel):
    return getattr(kernel, "py_func", kernel)


@pytest.fixture(params=[False, True], ids=["compiled", "uncompiled"])
def run(request):
    return plain if request.param else lambda kernel: kernel


def test_rows(run):
    A = sp.random_array((7, 5), density=0.4, format="csr", rng=np.random.default_rng(1))
    x = np.arange(1.0, 6.0)
    found = run(multiply_columns_transposed)(A.indptr.astype(np.int64), A.indices.astype(np.int64), A.data, x)
    np.testing.assert_allclose(found, A.toarray() @ x, rtol=1e-14)


def test_transposed_product_with_several_columns(run):
    A = sp.random_array((7, 5), density=0.4, format="csr", rng=np.random.default_rng(1))
    B = np.random.default_rng(2).normal(size=(7, 3))
    out = np.ones((5, 3))
    run(add_transposed_product)(A.indptr.astype(np.int64), A.indices.astype(np.int64), A.data, B, out)
    np.testing.assert_allclose(out, 1.0 + A.toarray().T @ B, rtol=1e-13)


def test_pieces(run):
    rng = np.random.default_rng(2)
    rows, columns = (part.astype(np.int64) for part in np.tril_indices(6))
    by_column = np.lexsort((rows, columns))
    rows, columns = rows[by_column], columns[by_column]
    P = sp.random_array((rows.size, 3), density=0.5, format="csc", rng=rng)
    indptr, place = P.indptr.astype(np.int64), P.indices.astype(np.int64)
    arrays = indptr, rows[place], columns[place], P.data
    dense = np.zeros((3, 6, 6))
    dense[:, rows, columns] = dense[:, columns, rows] = P.toarray().T
    c, B, s = np.array([0.5, 0.0, -2.0]), rng.normal(size=(6, 2)), rng.normal(size=6)
    entries = np.ones(rows.size)
    run(add_pieces)(indptr, place, P.data, c, entries)
    np.testing.assert_allclose(entries, 1.0 + P @ c, rtol=1e-14)
    out = np.zeros_like(B)
    run(multiply_pieces)(*arrays, c, B, out)
    np.testing.assert_allclose(out, np.tensordot(c, dense, 1) @ B, rtol=1e-12, atol=1e-14)
    inverse = rng.normal(size=(6, 6))
    inverse = inverse + inverse.T
    sums = np.empty(3)
    run(contract_pieces)(*arrays, inverse[rows, columns][place], s, sums)
    expected = [np.sum(inverse * piece) + s @ piece @ s for piece in dense]
    np.testing.assert_allclose(sums, expected, rtol=1e-12)


def test_products_of_the_pieces_that_a_parameter_has(run):
    """Two parameters of three pieces, one of them without the second."""
    rng = np.random.default_rng(6)
    row = np.array([0, 1, 1, 2, 3, 3, 4, 4])
    column = np.array([0, 0, 1, 2, 1, 3, 2, 4])
    piece = np.array([0, 1, 2, 0, 1, 2, 2, 1])
    value, E = rng.normal(size=8), rng.normal(size=5)
    coefficients = np.array([[0.7, 0.0, -1.2], [0.3, 2.0, 0.5]])
    used, number = np.nonzero(coefficients.T)
    users = np.searchsorted(used, np.arange(4)), number, coefficients.T[used, number]
    out = np.ones((5, 2))
    run(multiply_row_pieces)(row, column, piece, value, users, E, out)
    expected = np.ones((5, 2))
    for b in range(3):
        M = np.zeros((5, 5))
        at = piece == b
        M[row[at], column[at]] = M[column[at], row[at]] = value[at]
        expected += np.outer(M @ E, coefficients[:, b])
    np.testing.assert_allclose(out, expected, rtol=1e-13)


def test_quadratic_forms_of_the_pieces_of_rows(run):
    rng = np.random.default_rng(7)
    row, column = np.tril_indices(5)
    piece, value, e = rng.integers(3, size=row.size), rng.normal(size=row.size), rng.normal(size=5)
    out = np.ones(3)
    run(sum_row_pieces)(row, column, piece, value, e, out)
    for b in range(3):
        E = np.zeros((5, 5))
        own = piece == b
        E[row[own], column[own]] = E[column[own], row[own]] = value[own]
        np.testing.assert_allclose(out[b], 1.0 + e @ E @ e, rtol=1e-13)
