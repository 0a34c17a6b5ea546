"""The mixed model equations of one design with any covariance structures: pattern, pieces, layout.

    C(theta) = F' G(theta_R) F + P(theta_L),     G = W' R^-1 W,   W = [Z E X],   u = F s,   s ~ N(0, P^-1)

G and P are values on fixed patterns, linear in coefficients that depend on theta: G.data = B_G c_R(theta_R)
and P.data = B_P c_P(theta_L), so that one symbolic analysis serves every theta.  E holds the columns of plots
that are missing from a field: unknowns without a prior that are neither fixed nor random effects.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from copy import copy
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import scipy.sparse as sp

from fastlmm_core.engine.equations.confounding import combinations_within_fixed, groups_within_fixed
from fastlmm_core.engine.equations.fixed_columns import FixedCoding, fixed_columns
from fastlmm_core.engine.equations.layout import FactorLayout, Side, lay_out
from fastlmm_core.engine.equations.least_squares import WeightedRegression
from fastlmm_core.engine.equations.loading_map import BlockLoadings, EntryLoadings
from fastlmm_core.engine.equations.null_space import NullShare, null_shares, shared_values, shares_at
from fastlmm_core.engine.equations.observed_levels import observed_terms
from fastlmm_core.engine.equations.pieces import (
    RowPrecision,
    piece_products,
    prior_pieces,
    row_precision,
    without_empty,
)
from fastlmm_core.engine.equations.rotation import RowRotation
from fastlmm_core.engine.equations.terms import EngineTerm
from fastlmm_core.kernels.equations.columns import multiply_columns_transposed
from fastlmm_core.kernels.equations.sparse_products import add_pieces, contract_pieces, multiply_pieces
from fastlmm_core.linalg import make_factor
from fastlmm_core.linalg.base import CholeskyFactor
from fastlmm_core.linalg.compressed import CompressedRows, compressed
from fastlmm_core.linalg.elimination import Elimination
from fastlmm_core.structures.levels.factors import KnownLevels
from fastlmm_core.structures.residuals.base import ResidualGroup, ResidualStructure

LoadingMap = BlockLoadings | EntryLoadings
# Cached properties that cost time and depend on no response.
SHARED = (
    "slices", "lower_bounds", "level_pieces", "row_arrays", "prior_arrays", "X_inside", "to_user",
    "within_fixed", "groups_within_fixed", "observed",
)  # fmt: skip


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
    graph : tuple of int64 arrays
        (below_ptr, below, group): strict lower triangle of the graph of the spherical nodes, and the group of
        each; the last two groups are missing plots and fixed columns.
    natural, spherical : Side
    loading_map : BlockLoadings or EntryLoadings
        F.
    row_precision : RowPrecision
        Sparse R^-1 for any coefficients of its pieces.
    G_pieces : (nnz(G), pieces)
        Dense or csc.
    P_pieces : (nnz(C), 1 + level pieces) csc_array
        The first column belongs to the constant 1.
    coding : FixedCoding
        The way back from the fixed columns as used inside to the user's.
    fixed_last : bool
        Fixed columns are eliminated last (ML).
    rotation : RowRotation or None
        Of the rows, where the equations are those of y* = H W^(1/2) y.
    """

    n: int
    p: int
    terms: tuple[EngineTerm, ...]
    residual: ResidualStructure
    matrix: sp.csr_array
    graph: tuple[np.ndarray, np.ndarray, np.ndarray]
    natural: Side
    spherical: Side
    loading_map: LoadingMap
    row_precision: RowPrecision
    G_pieces: Any
    P_pieces: sp.csc_array
    coding: FixedCoding
    fixed_last: bool
    order: Elimination
    rotation: RowRotation | None = None

    # what `linalg.make_factor` reads: the pattern of C
    @property
    def indptr(self) -> np.ndarray:
        return self.spherical.indptr

    @property
    def indices(self) -> np.ndarray:
        return self.spherical.indices

    def same_pattern(self, other: StructuredEquations) -> bool:
        """Whether a factor of the other equations is one of these."""
        return all(map(np.array_equal, self.spherical.pattern, other.spherical.pattern))

    @property
    def below_ptr(self) -> np.ndarray:
        return self.graph[0]

    @property
    def below(self) -> np.ndarray:
        return self.graph[1]

    @property
    def layout(self) -> FactorLayout:
        return FactorLayout(self.graph[2], self.spherical.start)

    def for_response(self, e: np.ndarray) -> StructuredEquations:
        """The same equations beside the response with residuals e (n,), by which variances are judged."""
        for name in SHARED:  # what is computed once, for all responses
            getattr(self, name)
        out = copy(self)
        own = {"terms": tuple(term.for_response(e) for term in self.terms)}
        observed = None if self.observed is None else self.observed.for_response(e)
        out.__dict__.update(own, residual=self.residual.for_response(e), observed=observed)
        out.__dict__.pop("bounded_sizes", None)  # of another response
        return out

    def with_residual(self, residual: ResidualStructure) -> StructuredEquations:
        """The same equations with another residual of the same pieces."""
        out = copy(self)
        out.__dict__["residual"] = residual
        return out

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
    def related(self) -> bool:
        """Levels are related by a sparse precision, such as that of a pedigree."""
        return any(isinstance(term.levels, KnownLevels) and term.levels.sparse for term in self.terms)

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
    def bounded_sizes(self) -> np.ndarray:
        """Standard deviation of the response's size for every bounded parameter, 1 elsewhere (n_theta,)."""
        out = np.ones(self.n_theta)
        for term, (own, _) in zip(self.terms, self.slices[0], strict=True):
            bounded = own.start + np.flatnonzero(self.lower_bounds[own] == 0.0)
            out[bounded] = 1.0 / np.sqrt(term.column_scale[: bounded.size])
        out[self.slices[1]] = self.residual.bounded_sizes()
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
    def row_arrays(self) -> tuple[CompressedRows, CompressedRows]:
        """W and W' by rows."""
        return compressed(self.matrix), compressed(sp.csr_array(self.matrix.T))

    @cached_property
    def prior_arrays(self) -> tuple[np.ndarray, ...]:
        """Row, column and value of the entries of all pieces of P by (b + 1,) pointers."""
        P, C = self.P_pieces, self.spherical
        column = np.searchsorted(C.indptr, P.indices, side="right") - 1
        return P.indptr.astype(np.int64), C.indices[P.indices], column.astype(np.int64), P.data

    @cached_property
    def X_inside(self) -> sp.csc_array:
        """Fixed columns as used inside, (n, p)."""
        return sp.csc_array(self.matrix[: self.n][:, self.natural.fixed])

    @cached_property
    def observed(self) -> StructuredEquations | None:
        """The equations of the levels that occur, with the same theta; None where these are most of all."""
        terms = observed_terms(self.terms)
        if terms is None or self.rotation is not None:
            return None
        names = ("coding", "fixed_last", "rotation")
        fixed = {name: getattr(self, name) for name in names}
        found = _equations(self.X_inside, terms, self.residual, fixed)
        found.__dict__.update(_factors={}, observed=None)
        return found

    def observed_factor(self, factor: CholeskyFactor) -> CholeskyFactor:
        """A factor of the `observed` equations, by the one who factorizes these with `factor`."""
        assert self.observed is not None
        kind, known = "cholmod" if factor.by_cholmod else "auto", self.observed.__dict__["_factors"]
        if kind not in known:  # one symbolic analysis for all responses
            known[kind] = make_factor(self.observed, None, kind)
        return known[kind].copy()

    @property
    def to_user(self) -> sp.csc_array:
        """beta_user = to_user @ beta_inside, (p, p)."""
        return self.coding.to_user

    @cached_property
    def null_shares(self) -> dict[int, NullShare]:
        """Shares of the splines in the fixed part, by random term."""
        spaces = [term.null for term in self.terms]
        return null_shares(self.regression(np.ones(self.n)), spaces, self.natural.rows)

    @cached_property
    def within_fixed(self) -> dict[int, np.ndarray]:
        """Random terms with effects that lie within the fixed part; see ``combinations_within_fixed``."""
        return combinations_within_fixed(self.regression(np.ones(self.n)), self.terms, self.effects_on_rows)

    def effects_on_rows(self, k: int, r: np.ndarray) -> np.ndarray:
        """Z_a r (n, m) of every coefficient of term k, inside basis, for r (L,)."""
        return np.column_stack([np.asarray(M @ r) for M in self.terms[k].matrices])

    @cached_property
    def groups_within_fixed(self) -> tuple[ResidualGroup, ...]:
        """Groups of the residual whose rows the fixed part explains by themselves."""
        return groups_within_fixed(self.regression(np.ones(self.n)), self.residual)

    def unknowns_of(self, K: np.ndarray) -> np.ndarray:
        """Rows K (r, p) of inside fixed effects as functions of the natural unknowns, (q, r)."""
        out = np.zeros((self.natural.size, K.shape[0]))
        out[self.natural.fixed] = K.T
        for rows, values in shared_values(K, self.null_shares):
            out[rows] = values.T
        return out

    def fixed_coefficients(self, natural: np.ndarray, beside: Collection[int] = ()) -> np.ndarray:
        """Inside coefficients (p, r) at natural unknowns (q, r): the functions `unknowns_of` the identity.

        Those beside a spline that is added itself leave out the polynomials in its B w.
        """
        return natural[self.natural.fixed] + shares_at(natural, self.null_shares, beside)

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

    def fitted(self, coefficients: np.ndarray) -> np.ndarray:
        """W u (n_rows,) of natural scalars u (q,)."""
        return np.asarray(multiply_columns_transposed(*self.row_arrays[0], coefficients))

    def project(self, rows: np.ndarray) -> np.ndarray:
        """W' x (q, 1) of x (n_rows,)."""
        return np.asarray(multiply_columns_transposed(*self.row_arrays[1], rows))[:, None]

    def multiply_prior(self, c_P: np.ndarray, B: np.ndarray) -> np.ndarray:
        """P B for spherical B (q', k) and the coefficients of all pieces; zero on fixed and missing rows."""
        out = np.zeros_like(B)
        multiply_pieces(*self.prior_arrays, c_P, B, out)
        return out

    def prior_sums(self, C_inv: np.ndarray, s: np.ndarray) -> np.ndarray:
        """<C^-1 + s s', P_b> of all pieces, from C^-1 on the pattern of C and s (q',)."""
        out = np.empty(self.P_pieces.shape[1])
        contract_pieces(*self.prior_arrays, C_inv[self.P_pieces.indices], s, out)
        return out

    def prior_slopes(self, k: int, jacobian: np.ndarray, s: np.ndarray) -> np.ndarray:
        """dP_t s (q', t) of the level parameters of term k, for s (q',) and dc (t, pieces of the term)."""
        out = np.empty((s.size, jacobian.shape[0]))
        c = np.zeros(self.P_pieces.shape[1])
        for t, row in enumerate(jacobian):
            c[self.level_pieces[k]] = row
            out[:, t] = self.multiply_prior(c, s[:, None])[:, 0]
        return out

    def spread(self, loadings: np.ndarray, B: np.ndarray) -> np.ndarray:
        """F B, natural (q, k) from spherical scalars."""
        return self.loading_map.spread(loadings, B)

    def gather(self, loadings: np.ndarray, B: np.ndarray) -> np.ndarray:
        """F' B, spherical from natural scalars."""
        return self.loading_map.gather(loadings, B)

    def regression(self, w: np.ndarray) -> WeightedRegression:
        """Least squares on the fixed columns with weights w (n,), kept for the next response."""
        known = self.__dict__.get("_regression")
        if known is None or not np.array_equal(known.weights, w):
            known = self.__dict__["_regression"] = WeightedRegression.of(self.X_inside, w)
        return known

    def crossproducts_at(self, c_R: np.ndarray) -> np.ndarray:
        """Data of G = W' R^-1 W (nnz(G),), kept until other coefficients of R^-1 are asked for."""
        known = self.__dict__.get("_crossproducts")
        if known is None or not np.array_equal(known[0], c_R):
            known = (c_R.copy(), np.asarray(self.G_pieces.dot(c_R), dtype=float))  # `@` is slow for a column
            self.__dict__["_crossproducts"] = known
        return known[1]

    def assemble(self, G: np.ndarray, loadings: np.ndarray, c_P: np.ndarray, C: np.ndarray) -> None:
        """Data of C, into zeros (nnz(C),)."""
        B = self.P_pieces
        add_pieces(B.indptr, B.indices, B.data, c_P, C)
        self.loading_map.assemble(G, loadings, C)


def build_structured_equations(
    X: sp.csc_array, terms: Sequence[EngineTerm], residual: ResidualStructure, *,
    has_intercept: bool = True, fixed_last: bool = False, rotation: RowRotation | None = None,
    weak_columns: np.ndarray | None = None,
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
    rotation : RowRotation, optional
        Of the rows of X; terms and residual are given in the new rows.
    weak_columns : (c,) int64, optional
        Columns that may nearly depend on others.
    """
    columns, coding = fixed_columns(X, has_intercept, weak_columns)
    X_inside = sp.csc_array(columns[::-1], shape=X.shape)
    if rotation is not None:
        X_inside = sp.csc_array(rotation.forward(X_inside.toarray()))
    fixed = {"coding": coding, "fixed_last": fixed_last, "rotation": rotation}
    return _equations(X_inside, terms, residual, fixed)


def _equations(
    X: sp.csc_array, terms: Sequence[EngineTerm], residual: ResidualStructure, fixed: dict[str, Any]
) -> StructuredEquations:
    """The equations of inside columns X (n, p), with the attributes `fixed` of the fixed part."""
    layout = lay_out(terms, X, residual, fixed["fixed_last"])
    terms, natural, spherical = layout.terms, layout.natural, layout.spherical
    precision = row_precision(residual)
    G_pieces = piece_products(layout.matrix, residual, precision, natural, layout.dense)
    if not layout.paired or int(np.diff(natural.start).max(initial=1)) > 1:
        G_pieces, natural = without_empty(G_pieces, natural)  # the loops for scalars take one pattern
    if layout.paired:
        loading_map: LoadingMap = BlockLoadings(layout.groups, layout.graph, natural, spherical)
    else:
        shape = len(terms) + 2, max(t.m for t in terms), max(t.width for t in terms)
        loading_map = EntryLoadings(shape, layout.groups, natural, spherical)
    return StructuredEquations(
        n=X.shape[0], p=X.shape[1], terms=terms, residual=residual, matrix=layout.matrix,
        graph=layout.graph, natural=natural, spherical=spherical, loading_map=loading_map,
        row_precision=precision, G_pieces=G_pieces, P_pieces=prior_pieces(terms, spherical),
        order=layout.order, **fixed,
    )  # fmt: skip
