"""Nodes of the equations, their pattern, and where their scalars stand.

A node is one level of a term, one missing plot, or one fixed column.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp

from fastlmm_core.engine.terms import EngineTerm
from fastlmm_core.kernels.cliques import join_cliques
from fastlmm_core.kernels.crossproducts import expand_pattern
from fastlmm_core.linalg.memory import check_memory
from fastlmm_core.structures.residuals.base import ResidualStructure

# Share of its entries from which a precision of levels joins all of them.
CLIQUE = 0.9
# Entries of C that always fit; bytes that one takes in pattern, products and places in the factor.
FEW_ENTRIES = 5_000_000
ENTRY_BYTES = 24
FEWER_COEFFICIENTS = (
    "Every pair of related levels has a block of all coefficients: take fewer of them or of the levels, fit "
    "parts of the data, or use a machine with more memory"
)


@dataclass(frozen=True)
class Side:
    """Layout of the natural or of the spherical scalars.

    Attributes
    ----------
    start : (N + 1,) int64
        First scalar of each node in elimination order.
    indptr, indices : lower triangle of the pattern
    rows : tuple of (L_k, size_k) int64
        Scalars of the levels of every term.
    missing, fixed : int64 arrays
        Scalars of missing plots and of fixed columns.
    """

    start: np.ndarray
    indptr: np.ndarray
    indices: np.ndarray
    rows: tuple[np.ndarray, ...]
    missing: np.ndarray
    fixed: np.ndarray

    @property
    def size(self) -> int:
        return int(self.start[-1])

    @property
    def pair(self) -> tuple[np.ndarray, np.ndarray]:
        return self.start, self.indptr

    def leave_random(self, B: np.ndarray) -> None:
        """Zeros in the rows of B (size, r) of missing plots and fixed columns, in place."""
        B[self.fixed] = 0.0
        B[self.missing] = 0.0

    @property
    def columns(self) -> np.ndarray:
        """Column of every entry (nnz,)."""
        return np.repeat(np.arange(self.size), np.diff(self.indptr))

    def both_triangles(self, values: np.ndarray) -> np.ndarray:
        """The lower triangle (nnz,) in place with entries off the diagonal twice, as they stand in both."""
        values *= 2.0
        values[self.indptr[:-1]] *= 0.5
        return values


def row_entries(
    terms: Sequence[EngineTerm], X: sp.csc_array, residual: ResidualStructure, first_node: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """W as triplets: row, node, coefficient within the node, value."""
    parts = []
    for k, term in enumerate(terms):
        for a, matrix in enumerate(term.matrices):
            coo = matrix.tocoo()
            parts.append((coo.row, first_node[k] + coo.col, np.full(coo.nnz, a), coo.data))
    K = len(terms)
    n = residual.n_rows - residual.n_missing
    extra = np.arange(residual.n_missing)
    parts.append((n + extra, first_node[K] + extra, np.zeros(extra.size, np.int64), np.ones(extra.size)))
    coo = X.tocoo()
    parts.append((coo.row, first_node[K + 1] + coo.col, np.zeros(coo.nnz, np.int64), coo.data))
    row, node, offset, value = (np.concatenate(part) for part in zip(*parts, strict=True))
    return row.astype(np.int64), node.astype(np.int64), offset.astype(np.int64), value.astype(float)


def node_pattern(
    row: np.ndarray, node: np.ndarray, n_nodes: int, terms: Sequence[EngineTerm],
    residual: ResidualStructure, first_node: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    """Strict lower triangle of the graph: nodes meet in a row, in rows that R^-1 joins, or in Q."""
    incidence = sp.csr_array((np.ones(row.size, np.float32), (row, node)), shape=(residual.n_rows, n_nodes))
    joined = incidence
    e = residual.entries
    if np.any(e.row != e.column):
        ones = np.ones(e.row.size, np.float32)
        lower = sp.csr_array((ones, (e.row, e.column)), shape=(residual.n_rows,) * 2)
        joined = sp.csr_array((lower + lower.T) @ incidence)
    cliques = [np.unique(incidence[own.rows].indices).astype(np.int64) for own in residual.dense]
    pairs = [_below_diagonal(sp.csc_array(incidence.T @ joined), 0)]
    for k, term in enumerate(terms):
        for piece in () if term.levels is None else term.levels.pieces:
            if piece.nnz > CLIQUE * term.n_levels**2:
                cliques.append(np.arange(first_node[k], first_node[k + 1]))
            else:
                pairs.append(_below_diagonal(piece, int(first_node[k])))
    i, j = (np.concatenate(own) for own in zip(*pairs, strict=True))
    pattern = sp.csc_array((np.ones(i.size, np.int8), (i, j)), shape=(n_nodes, n_nodes))
    pattern.sum_duplicates()
    pattern.sort_indices()
    below = pattern.indptr.astype(np.int64), pattern.indices.astype(np.int64)
    if not cliques:
        return below
    bounds = np.concatenate(([0], np.cumsum([own.size for own in cliques]))).astype(np.int64)
    return join_cliques(*below, bounds, np.concatenate(cliques))


def _below_diagonal(matrix: sp.csc_array, first: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns of the entries below the diagonal, from number `first` on."""
    coo = matrix.tocoo()
    keep = coo.row > coo.col
    return first + coo.row[keep], first + coo.col[keep]


def check_entries(below_ptr: np.ndarray, below: np.ndarray, size: np.ndarray) -> None:
    """Refuse a pattern that alone does not fit: levels of many coefficients that all meet.

    Raises
    ------
    MemoryForecastError
        Naming the entries, before they are listed.
    """
    pairs = np.repeat(size, np.diff(below_ptr)) @ size[below]
    entries = int(pairs + np.sum(size * (size + 1) // 2))
    if entries > FEW_ENTRIES:
        what = f"the list of {entries:,} entries of {int(size.sum()):,} equations"
        check_memory(ENTRY_BYTES * entries, None, what, advice=FEWER_COEFFICIENTS)


def lay_out_side(
    size: np.ndarray, perm: np.ndarray, place: np.ndarray, first_node: np.ndarray, K: int,
    below_ptr: np.ndarray, below: np.ndarray,
) -> Side:  # fmt: skip
    start = np.concatenate(([0], np.cumsum(size[perm]))).astype(np.int64)
    indptr, indices = expand_pattern(below_ptr, below, start)
    rows = []
    for k in range(K):
        nodes = place[first_node[k] : first_node[k + 1]]
        width = int(size[first_node[k]]) if nodes.size else 1
        rows.append(start[nodes][:, None] + np.arange(width))
    missing = start[place[first_node[K] : first_node[K + 1]]]
    fixed = start[place[first_node[K + 1] : first_node[K + 2]]]
    return Side(start, indptr, indices, tuple(rows), missing, fixed)
