"""W' E_b W of residual pieces on a pattern, one after another and as a list of products, against NumPy."""

import numpy as np
import pytest
import scipy.sparse as sp

from fastlmm_core.kernels.equations.piece_products import (
    expand_piece_products,
    find_entries,
    sum_piece_products,
    sum_row_forms,
)
from fastlmm_core.linalg.compressed import compressed


@pytest.fixture
def system():
    """W (7, 4) by rows, three symmetric pieces (7, 7), the lower triangle of (4, 4) as the pattern."""
    r = np.random.default_rng(2)
    W = r.normal(size=(7, 4)) * (r.uniform(size=(7, 4)) < 0.6)
    pieces = [np.diag(r.normal(size=7)), np.zeros((7, 7)), np.zeros((7, 7))]
    for i, j in ((1, 0), (4, 2), (6, 6)):
        pieces[1][i, j] = pieces[1][j, i] = r.normal()
    pieces[2][5, 3] = pieces[2][3, 5] = 1.0
    indptr = np.concatenate([[0], np.cumsum([4, 3, 2, 1])]).astype(np.int64)
    indices = np.concatenate([np.arange(j, 4) for j in range(4)]).astype(np.int32)
    return W, pieces, indptr, indices


def by_rows(pieces):
    """All entries of the pieces by rows: indptr, column, piece, value."""
    entries = sorted((i, j, b) for b, piece in enumerate(pieces) for i, j in np.argwhere(piece))
    row, column, number = np.array(entries).T.copy()
    value = np.array([pieces[b][i, j] for i, j, b in entries])
    return np.concatenate([[0], np.cumsum(np.bincount(row, minlength=7))]), column, number, value


def arrays(W, pieces):
    rows = sp.csr_array(W)
    row, column, number, value = [], [], [], []
    for b, piece in enumerate(pieces):
        i, j = np.nonzero(np.tril(piece))
        row.append(i), column.append(j), number.append(np.full(i.size, b)), value.append(piece[i, j])
    pairs = tuple(np.concatenate(part) for part in (row, column, number))
    return compressed(rows), (*pairs, np.concatenate(value))


def on_pattern(W, pieces, indptr, indices):
    columns = np.repeat(np.arange(4), np.diff(indptr))
    return np.column_stack([(W.T @ E @ W)[indices, columns] for E in pieces])


def test_products_are_summed(system):
    W, pieces, indptr, indices = system
    out = np.zeros((indices.size, 3))
    turned = compressed(sp.csr_array(W.T))
    sum_piece_products(arrays(W, pieces)[0], turned, by_rows(pieces), indptr, indices, out)
    np.testing.assert_allclose(out, on_pattern(*system), atol=1e-14)


def test_products_are_listed(system):
    W, pieces, indptr, indices = system
    matrix, pairs = arrays(W, pieces)
    count = np.diff(matrix[0])
    total = int(np.sum(count[pairs[0]] * count[pairs[1]]))
    place, piece, product = np.empty(total, np.int64), np.empty(total, np.int64), np.empty(total)
    used = expand_piece_products(matrix, pairs, indptr, indices, place, piece, product)
    assert 0 < used <= total
    out = np.zeros((indices.size, 3))
    np.add.at(out, (place[:used], piece[:used]), product[:used])
    np.testing.assert_allclose(out, on_pattern(*system), atol=1e-14)


def test_entries_are_found_wherever_they_stand(system):
    _, _, indptr, indices = system
    rows = np.array([0, 3, 2, 3, 1])
    columns = np.array([0, 1, 2, 3, 0])
    at = find_entries(indptr, indices, rows, columns)
    np.testing.assert_array_equal(indices[at], rows)
    assert all(indptr[c] <= place < indptr[c + 1] for c, place in zip(columns, at, strict=True))


def test_forms_of_rows(system):
    """a' M a of the pairs on a pattern; a pair off it makes its row NaN, unless one of the two is zero."""
    W = system[0]
    M = np.random.default_rng(1).normal(size=(4, 4))
    M += M.T
    indptr, indices = np.array([0, 4, 6, 8, 9]), np.array([0, 1, 2, 3, 1, 2, 2, 3, 3])  # all but (3, 1)
    columns = np.repeat(np.arange(4), np.diff(indptr))
    rows = sp.csr_array(W)
    rows.data[0] = W[0, rows.indices[0]] = 0.0
    out = np.empty(7)
    sum_row_forms(compressed(rows), indptr, indices, M[indices, columns], out)
    expected = np.einsum("ij,jk,ik->i", W, M, W)
    met = W[:, 1] * W[:, 3] != 0.0
    assert met.any() and not met.all()
    np.testing.assert_allclose(out, np.where(met, np.nan, expected), atol=1e-14)
