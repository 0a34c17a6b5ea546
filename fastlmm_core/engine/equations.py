"""The mixed model equations of one design with any covariance structures: pattern, pieces, layout.

    C(theta) = F' G(theta_R) F + P(theta_L),     G = W' R^-1 W,   W = [Z E X],   u = F s,   s ~ N(0, P^-1)

G and P are values on fixed patterns, linear in coefficients that depend on theta: G.data = B_G c_R(theta_R)
and P.data = B_P c_P(theta_L), so that one symbolic analysis serves every theta.  E holds the columns of plots
that are missing from a field: unknowns without a prior that are neither fixed nor random effects.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import scipy.sparse as sp

from fastlmm_core.engine.confounding import terms_within_fixed
from fastlmm_core.engine.null_space import NullShare, NullSpace, null_shares
from fastlmm_core.kernels.columns import standardize_columns
from fastlmm_core.kernels.crossproducts import expand_pattern, permute_pattern
from fastlmm_core.kernels.loadings import (
    apply_loadings,
    apply_loadings_transposed,
    assemble_loadings,
    expand_piece_products,
    find_entries,
    sum_piece_products,
)
from fastlmm_core.linalg.elimination import order_nodes
from fastlmm_core.structures.levels.base import LevelStructure
from fastlmm_core.structures.residuals.base import ResidualStructure

# Numbers up to which the pieces of G are kept as a dense array (nnz, pieces).
DENSE_PIECES = 4_000_000


@dataclass(frozen=True)
class EngineTerm:
    """A random term as the engine takes it.

    Attributes
    ----------
    structure : CoefficientStructure
        Covariance of the m coefficients of a level, in the inside basis.
    levels : LevelStructure or None
        Precision of the levels; None for independent ones.
    matrices : tuple of (n, L) csr_array
        Incidence of every coefficient on the levels, inside basis.
    basis : (m, m) float64
        u_user = basis u_inside, T_user = basis T_inside basis'.
    root : (L_user, L) float64 or None
        u_user = root u for a relationship of low rank; None where the levels are the user's.
    null : NullSpace or None
        Polynomials that a spline leaves to the fixed part.
    """

    structure: Any
    levels: LevelStructure | None
    matrices: tuple[sp.csr_array, ...]
    basis: np.ndarray
    root: np.ndarray | None = None
    null: NullSpace | None = None

    @property
    def n_levels(self) -> int:
        return int(self.matrices[0].shape[1])

    @property
    def m(self) -> int:
        return len(self.matrices)

    @property
    def width(self) -> int:
        return int(self.structure.width)

    @property
    def n_level_theta(self) -> int:
        return 0 if self.levels is None else self.levels.n_theta

    @cached_property
    def column_scale(self) -> np.ndarray:
        """Mean square of the entries of each coefficient (m,): what makes a variance one of the response."""
        return np.array([float(np.mean(M.data**2)) if M.nnz else 1.0 for M in self.matrices])


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

    @cached_property
    def columns(self) -> np.ndarray:
        """Column of every entry (nnz,)."""
        return np.repeat(np.arange(self.size), np.diff(self.indptr))

    @cached_property
    def twice(self) -> np.ndarray:
        """How often an entry of the lower triangle stands in the matrix (nnz,): 1 on the diagonal, else 2."""
        return np.where(self.indices == self.columns, 1.0, 2.0)


@dataclass(frozen=True)
class RowPrecision:
    """R^-1 (n_rows, n_rows) as a sparse matrix whose values follow from the coefficients of its pieces."""

    indptr: np.ndarray
    indices: np.ndarray
    piece: np.ndarray
    value: np.ndarray

    def at(self, c: np.ndarray) -> sp.csr_array:
        n = self.indptr.size - 1
        return sp.csr_array((c[self.piece] * self.value, self.indices, self.indptr), shape=(n, n))


@dataclass(frozen=True, eq=False)
class StructuredEquations:
    """Constant half of the equations.

    Attributes
    ----------
    n, p : int
        Observed rows; fixed columns.
    terms : tuple of EngineTerm
    residual : ResidualStructure
    matrix : (n_rows, q) csr_array
        W in elimination order of the natural scalars.
    term : (N,) int64
        Term of each node; K for missing plots, K + 1 for fixed columns.
    below_ptr, below : node pattern
    natural, spherical : Side
    G_pieces : (nnz(G), pieces)
        Dense or csc.
    P_pieces : (nnz(C), 1 + level pieces) csc_array
        The first column belongs to the constant 1.
    row_precision : RowPrecision
    shift, scale, first_value
        x_inside = (x_user - shift) / scale; value of the intercept column.
    fixed_last : bool
        Fixed columns are eliminated last (ML).
    """

    n: int
    p: int
    terms: tuple[EngineTerm, ...]
    residual: ResidualStructure
    matrix: sp.csr_array
    term: np.ndarray
    below_ptr: np.ndarray
    below: np.ndarray
    natural: Side
    spherical: Side
    G_pieces: Any
    P_pieces: sp.csc_array
    row_precision: RowPrecision
    shift: np.ndarray
    scale: np.ndarray
    first_value: float
    fixed_last: bool
    ordering: str

    # what `linalg.make_factor` reads: the pattern of C
    @property
    def indptr(self) -> np.ndarray:
        return self.spherical.indptr

    @property
    def indices(self) -> np.ndarray:
        return self.spherical.indices

    @property
    def layout(self) -> Any:
        return _FactorLayout(self.term, self.spherical.start)

    @property
    def graph(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return self.below_ptr, self.below, self.term

    @cached_property
    def slices(self) -> tuple[tuple[tuple[slice, slice], ...], slice]:
        """Places of every term's coefficient and level parameters in theta, and of the residual's."""
        at, out = 0, []
        for term in self.terms:
            coefficient = slice(at, at + term.structure.n_theta)
            level = slice(coefficient.stop, coefficient.stop + term.n_level_theta)
            out.append((coefficient, level))
            at = level.stop
        return tuple(out), slice(at, at + self.residual.n_theta)

    @property
    def n_theta(self) -> int:
        return int(self.slices[1].stop)

    @cached_property
    def lower_bounds(self) -> np.ndarray:
        """Least theta (n_theta,): 0 where a negative standard deviation leaves the structure, else -inf."""
        out = np.full(self.n_theta, -np.inf)
        for term, (own, _) in zip(self.terms, self.slices[0], strict=True):
            if term.structure.n_theta:
                out[own] = term.structure.lower_bounds()
        out[self.slices[1]] = self.residual.lower_bounds()
        return out

    @cached_property
    def level_pieces(self) -> tuple[slice, ...]:
        """Columns of `P_pieces` of every term; an empty slice for independent levels."""
        at, out = 1, []
        for term in self.terms:
            count = 0 if term.levels is None else len(term.levels.pieces)
            out.append(slice(at, at + count))
            at += count
        return tuple(out)

    @cached_property
    def to_user(self) -> sp.csc_array:
        """beta_user = to_user @ beta_inside, (p, p) upper triangular."""
        moved = np.flatnonzero(self.shift)
        rows = np.concatenate((np.arange(self.p), np.zeros(moved.size, np.int64)))
        columns = np.concatenate((np.arange(self.p), moved))
        entries = np.concatenate((1.0 / self.scale, -(self.shift / self.scale)[moved] / self.first_value))
        return sp.csc_array((entries, (rows, columns)), shape=(self.p, self.p))

    @cached_property
    def null_shares(self) -> dict[int, NullShare]:
        """Shares of the splines in the fixed part, by random term."""
        return null_shares(self)

    @cached_property
    def within_fixed(self) -> tuple[int, ...]:
        """Random terms that lie within the fixed part."""
        return terms_within_fixed(self)

    def loadings_at(self, theta: np.ndarray) -> np.ndarray:
        """Lambda of every term, (K + 2, m, r); the last two are the 1 of missing plots and fixed columns."""
        m = max([t.m for t in self.terms], default=1)
        r = max([t.width for t in self.terms], default=1)
        out = np.zeros((len(self.terms) + 2, m, r))
        out[-2:, 0, 0] = 1.0
        for k, (term, (own, _)) in enumerate(zip(self.terms, self.slices[0], strict=True)):
            out[k, : term.m, : term.width] = term.structure.loadings(theta[own])
        return out

    def level_coefficients(self, theta: np.ndarray) -> np.ndarray:
        """c_P of all pieces of P, the constant first."""
        parts = [np.ones(1)]
        for term, (_, level) in zip(self.terms, self.slices[0], strict=True):
            if term.levels is not None:
                parts.append(term.levels.coefficients(theta[level])[0])
        return np.concatenate(parts)

    def spread(self, loadings: np.ndarray, B: np.ndarray) -> np.ndarray:
        """F B, natural (q, k) from spherical scalars."""
        out = np.zeros((self.natural.size, B.shape[1]))
        apply_loadings(self.term, self.natural.start, self.spherical.start, loadings, B, out)
        return out

    def gather(self, loadings: np.ndarray, B: np.ndarray) -> np.ndarray:
        """F' B, spherical from natural scalars."""
        out = np.zeros((self.spherical.size, B.shape[1]))
        apply_loadings_transposed(self.term, self.natural.start, self.spherical.start, loadings, B, out)
        return out

    def assemble(self, G: np.ndarray, loadings: np.ndarray, c_P: np.ndarray) -> np.ndarray:
        """Data of C."""
        C = np.asarray(self.P_pieces @ c_P, dtype=float)
        assemble_loadings(G, self.graph, self.natural.pair, self.spherical.pair, loadings, C)
        return C


@dataclass(frozen=True)
class _FactorLayout:
    term: np.ndarray
    start: np.ndarray


def build_structured_equations(
    X: sp.csc_array, terms: Sequence[EngineTerm], residual: ResidualStructure, *,
    has_intercept: bool = True, fixed_last: bool = False,
) -> StructuredEquations:  # fmt: skip
    """Pattern, elimination order and pieces of a design.

    Parameters
    ----------
    X : (n, p) csc_array
        Fixed columns of full rank.
    terms : sequence of EngineTerm
    residual : ResidualStructure
        Its observed rows are those of X.
    has_intercept : bool
        The first column of X is constant; dense columns are then centred.
    fixed_last : bool
        Eliminate the fixed columns last, as ML needs the determinant of the rest by itself.
    """
    n, p = X.shape
    first_value = float(X.data[0]) if p and X.nnz else 1.0
    indptr, indices, data, shift, scale = standardize_columns(X.indptr, X.indices, X.data, n, has_intercept)
    X_inside = sp.csc_array((data, indices, indptr), shape=(n, p))
    K = len(terms)
    counts = np.array([t.n_levels for t in terms] + [residual.n_missing, p], dtype=np.int64)
    natural_size = np.repeat(np.array([t.m for t in terms] + [1, 1], dtype=np.int64), counts)
    spherical_size = np.repeat(np.array([t.width for t in terms] + [1, 1], dtype=np.int64), counts)
    node_term = np.repeat(np.arange(K + 2), counts)
    first_node = np.concatenate(([0], np.cumsum(counts)))
    row, node, offset, value = _row_entries(terms, X_inside, residual, first_node)
    below_ptr, below = _node_pattern(row, node, int(first_node[-1]), terms, residual, first_node)
    last = node_term == K + 1 if fixed_last else None
    perm, ordering = order_nodes(below_ptr, below, spherical_size, last)
    place = np.empty(perm.size, np.int64)
    place[perm] = np.arange(perm.size)
    below_ptr, below = permute_pattern(below_ptr, below, place)
    natural = _side(natural_size, perm, place, first_node, K, below_ptr, below)
    spherical = _side(spherical_size, perm, place, first_node, K, below_ptr, below)
    column = natural.start[place[node]] + offset
    matrix = sp.csr_array((value, (row, column)), shape=(residual.n_rows, natural.size))
    matrix.sum_duplicates()
    matrix.sort_indices()
    return StructuredEquations(
        n=n, p=p, terms=tuple(terms), residual=residual, matrix=matrix, term=node_term[perm],
        below_ptr=below_ptr, below=below, natural=natural, spherical=spherical,
        G_pieces=_piece_products(matrix, residual, natural),
        P_pieces=_prior_pieces(terms, spherical), row_precision=_row_precision(residual),
        shift=shift, scale=scale, first_value=first_value, fixed_last=fixed_last, ordering=ordering,
    )  # fmt: skip


def _row_entries(
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


def _node_pattern(
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
    graph = sp.csc_array(incidence.T @ joined)
    parts = [graph.tocoo()]
    rows, columns = [parts[0].row], [parts[0].col]
    for k, term in enumerate(terms):
        if term.levels is not None:
            for piece in term.levels.pieces:
                coo = piece.tocoo()
                rows.append(first_node[k] + coo.row)
                columns.append(first_node[k] + coo.col)
    i, j = np.concatenate(rows), np.concatenate(columns)
    keep = i > j
    pattern = sp.csc_array((np.ones(int(keep.sum()), np.int8), (i[keep], j[keep])), shape=(n_nodes, n_nodes))
    pattern.sum_duplicates()
    pattern.sort_indices()
    return pattern.indptr.astype(np.int64), pattern.indices.astype(np.int64)


def _side(
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


def _piece_products(matrix: sp.csr_array, residual: ResidualStructure, side: Side) -> Any:
    """B_G (nnz(G), pieces): dense where that is small, else compressed columns."""
    W = (matrix.indptr.astype(np.int64), matrix.indices.astype(np.int64), matrix.data)
    pairs = residual.entries.arrays()
    nnz = int(side.indptr[-1])
    if nnz * residual.n_pieces <= DENSE_PIECES:
        out = np.zeros((nnz, residual.n_pieces))
        sum_piece_products(W, pairs, side.indptr, side.indices, out)
        return out
    count = np.diff(matrix.indptr).astype(np.int64)
    total = int(np.sum(count[pairs[0]] * count[pairs[1]]))
    place, piece, product = np.empty(total, np.int64), np.empty(total, np.int64), np.empty(total)
    used = expand_piece_products(W, pairs, side.indptr, side.indices, place, piece, product)
    entries = (product[:used], (place[:used], piece[:used]))
    return sp.csc_array(entries, shape=(nnz, residual.n_pieces))


def _prior_pieces(terms: Sequence[EngineTerm], side: Side) -> sp.csc_array:
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


def _row_precision(residual: ResidualStructure) -> RowPrecision:
    e = residual.entries
    off = e.row != e.column
    row = np.concatenate([e.row, e.column[off]])
    column = np.concatenate([e.column, e.row[off]])
    source = np.concatenate([np.arange(e.row.size), np.flatnonzero(off)])
    order = np.lexsort((column, row))
    indptr = np.concatenate(([0], np.cumsum(np.bincount(row, minlength=residual.n_rows))))
    source = source[order]
    return RowPrecision(indptr, column[order], e.piece[source], e.value[source])
