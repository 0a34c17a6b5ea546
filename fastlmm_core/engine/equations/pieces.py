"""G, P and R^-1 as fixed pieces times coefficients that depend on theta."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from copy import copy
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import scipy.sparse as sp

from fastlmm_core.engine.equations.layout import Side
from fastlmm_core.engine.equations.terms import EngineTerm
from fastlmm_core.kernels.equations.cliques import add_block_products
from fastlmm_core.kernels.equations.piece_products import (
    expand_piece_products,
    find_entries,
    sum_piece_products,
)
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

    @cached_property
    def _pattern(self) -> sp.csr_array:
        n = self.indptr.size - 1
        return sp.csr_array((self.value, self.indices, self.indptr), shape=(n, n))

    def at(self, c: np.ndarray) -> sp.csr_array | DensePrecision:
        entries = copy(self._pattern)  # SciPy would look through the pattern at every step of a search
        entries.data = c[self.piece] * self.value
        return DensePrecision(entries, self.dense, float(c[0])) if self.dense else entries


def piece_products(
    matrix: sp.csr_array, residual: ResidualStructure, precision: RowPrecision, side: Side,
    dense: Sequence[np.ndarray] = (),
) -> Any:  # fmt: skip
    """B_G (nnz(G), pieces): dense where that is small, else compressed columns.

    Columns of W in the sets `dense` are multiplied as full matrices.
    """
    nnz, b = int(side.indptr[-1]), residual.n_pieces
    sparse = _without_columns(matrix, np.concatenate(dense)) if dense else matrix
    W = compressed(sparse)
    if b == 1 or nnz * b <= DENSE_PIECES:
        out = np.zeros((nnz, b))
        by_columns = compressed(sp.csr_array(sparse.T))
        pairs = (precision.indptr, precision.indices, precision.piece, precision.value)
        sum_piece_products(W, by_columns, pairs, side.indptr, side.indices, out)
        for at, number, values in _dense_products(matrix, precision, b, side, dense):
            out[at, number] += values
        place = np.empty(side.size, np.int64)
        whole = compressed(matrix)
        for own in residual.dense:
            add_block_products(whole, own.rows, own.block, side.indptr, side.indices, place, out.reshape(-1))
        return out
    pairs = residual.entries.arrays()
    count = np.diff(sparse.indptr).astype(np.int64)
    total = int(np.sum(count[pairs[0]] * count[pairs[1]]))
    place, piece, product = np.empty(total, np.int64), np.empty(total, np.int64), np.empty(total)
    used = expand_piece_products(W, pairs, side.indptr, side.indices, place, piece, product)
    parts = [(place[:used], piece[:used], product[:used])]
    for at, number, values in _dense_products(matrix, precision, b, side, dense):
        there = values != 0.0
        parts.append((at[there], np.full(int(there.sum()), number), values[there]))
    place, piece, product = (np.concatenate(part) for part in zip(*parts, strict=True))
    return sp.csc_array((product, (place, piece)), shape=(nnz, b))


def _without_columns(matrix: sp.csr_array, columns: np.ndarray) -> sp.csr_array:
    """The matrix with only the entries in other columns."""
    other = np.ones(matrix.shape[1], bool)
    other[columns] = False
    kept = other[matrix.indices]
    indptr = np.concatenate(([0], np.cumsum(kept)))[matrix.indptr]
    return sp.csr_array((matrix.data[kept], matrix.indices[kept], indptr), shape=matrix.shape)


def _dense_products(
    matrix: sp.csr_array, precision: RowPrecision, n_pieces: int, side: Side, dense: Sequence[np.ndarray]
) -> Iterator[tuple[np.ndarray, int, np.ndarray]]:
    """Entries of W' E_b W with a scalar of a set in `dense`: places in the pattern, b, and values.

    An entry of two of the sets comes with the first of them.
    """
    n, q = matrix.shape
    by_column = sp.csc_array(matrix)
    full = [by_column[:, own].toarray() for own in dense]
    row, column = side.indices, side.columns if dense else side.indices
    done = np.zeros(q, bool)
    for g, own in enumerate(dense):
        number = np.full(q, -1)
        number[own] = np.arange(own.size)
        place = np.flatnonzero(((number[row] >= 0) | (number[column] >= 0)) & ~done[row] & ~done[column])
        in_column = number[column[place]] >= 0
        other = np.where(in_column, row[place], column[place])
        mine = number[np.where(in_column, column[place], row[place])]
        done[own] = True
        rest = np.setdiff1d(np.unique(other), np.concatenate(dense))
        for b in range(n_pieces):
            values = np.where(precision.piece == b, precision.value, 0.0)
            E = sp.csr_array((values, precision.indices, precision.indptr), shape=(n, n))
            X = E @ full[g]
            product = np.zeros((q, own.size))
            product[rest] = by_column[:, rest].T @ X
            for second in range(g, len(dense)):
                product[dense[second]] = full[second].T @ X
            yield place, b, product[other, mine]


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
