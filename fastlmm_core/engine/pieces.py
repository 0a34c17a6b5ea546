"""G, P and R^-1 as fixed pieces times coefficients that depend on theta."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse as sp

from fastlmm_core.engine.layout import Side
from fastlmm_core.engine.terms import EngineTerm
from fastlmm_core.kernels.cliques import add_block_products
from fastlmm_core.kernels.loadings import expand_piece_products, find_entries, sum_piece_products
from fastlmm_core.linalg.compressed import compressed
from fastlmm_core.structures.residuals.base import ResidualStructure
from fastlmm_core.structures.residuals.dense_rows import DensePrecision, DenseRows

# Numbers up to which the pieces of G are kept as a dense array (nnz, pieces).
DENSE_PIECES = 4_000_000
# Share of the pattern of G that may be empty before G gets a pattern of its own.
EMPTY = 0.5


@dataclass(frozen=True)
class RowPrecision:
    """R^-1 (n_rows, n_rows) as a matrix whose values follow from the coefficients of its pieces."""

    indptr: np.ndarray
    indices: np.ndarray
    piece: np.ndarray
    value: np.ndarray
    dense: tuple[DenseRows, ...] = ()

    def at(self, c: np.ndarray) -> sp.csr_array | DensePrecision:
        n = self.indptr.size - 1
        entries = sp.csr_array((c[self.piece] * self.value, self.indices, self.indptr), shape=(n, n))
        return DensePrecision(entries, self.dense, float(c[0])) if self.dense else entries


def piece_products(
    matrix: sp.csr_array, residual: ResidualStructure, precision: RowPrecision, side: Side
) -> Any:
    """B_G (nnz(G), pieces): dense where that is small, else compressed columns."""
    W = compressed(matrix)
    nnz = int(side.indptr[-1])
    if residual.n_pieces == 1 or nnz * residual.n_pieces <= DENSE_PIECES:
        out = np.zeros((nnz, residual.n_pieces))
        by_columns = compressed(sp.csr_array(matrix.T))
        pairs = (precision.indptr, precision.indices, precision.piece, precision.value)
        sum_piece_products(W, by_columns, pairs, side.indptr, side.indices, out)
        place = np.empty(side.size, np.int64)
        for own in residual.dense:
            add_block_products(W, own.rows, own.block, side.indptr, side.indices, place, out.reshape(-1))
        return out
    pairs = residual.entries.arrays()
    count = np.diff(matrix.indptr).astype(np.int64)
    total = int(np.sum(count[pairs[0]] * count[pairs[1]]))
    place, piece, product = np.empty(total, np.int64), np.empty(total, np.int64), np.empty(total)
    used = expand_piece_products(W, pairs, side.indptr, side.indices, place, piece, product)
    entries = (product[:used], (place[:used], piece[:used]))
    return sp.csc_array(entries, shape=(nnz, residual.n_pieces))


def without_empty(pieces: Any, side: Side) -> tuple[Any, Side]:
    """B_G and the pattern of G without the entries that no piece has, where those are many.

    The pattern holds full blocks of nodes. Coefficients that exclude each other in a row, such as the
    environments of a plot, leave most of such a block empty.
    """
    if isinstance(pieces, np.ndarray):
        kept = (pieces != 0.0).any(axis=1)
    else:
        kept = np.zeros(pieces.shape[0], bool)
        kept[pieces.indices[pieces.data != 0.0]] = True
    kept[side.indptr[:-1]] = True
    if np.count_nonzero(kept) > (1.0 - EMPTY) * kept.size:
        return pieces, side
    own = pieces[kept] if isinstance(pieces, np.ndarray) else sp.csc_array(sp.csr_array(pieces)[kept])
    return own, side.with_entries(kept)


def prior_pieces(terms: Sequence[EngineTerm], side: Side) -> sp.csc_array:
    """B_P (nnz(C), 1 + pieces)."""
    place, piece, value = [], [], []
    number = 1
    for k, term in enumerate(terms):
        rows = side.rows[k]
        if term.levels is None:
            at = side.indptr[rows.ravel()]
            place.append(at)
            piece.append(np.zeros(at.size, np.int64))
            value.append(np.ones(at.size))
            continue
        for matrix in term.levels.pieces:
            coo = sp.tril(matrix).tocoo()
            for c in range(rows.shape[1]):
                place.append(find_entries(side.indptr, side.indices, rows[coo.row, c], rows[coo.col, c]))
                piece.append(np.full(coo.nnz, number))
                value.append(coo.data)
            number += 1
    shape = (int(side.indptr[-1]), number)
    if not place:
        return sp.csc_array(shape)
    entries = (np.concatenate(value), (np.concatenate(place), np.concatenate(piece)))
    return sp.csc_array(entries, shape=shape)


def row_precision(residual: ResidualStructure) -> RowPrecision:
    e = residual.entries
    off = e.row != e.column
    row = np.concatenate([e.row, e.column[off]])
    column = np.concatenate([e.column, e.row[off]])
    source = np.concatenate([np.arange(e.row.size), np.flatnonzero(off)])
    order = np.lexsort((column, row))
    indptr = np.concatenate(([0], np.cumsum(np.bincount(row, minlength=residual.n_rows))))
    source = source[order]
    return RowPrecision(indptr, column[order], e.piece[source], e.value[source], residual.dense)
