"""Henderson's mixed model equations of one design: pattern, constant cross-products, layout.

Everything here is independent of the response and of the variance parameters.  Inside, the fixed columns are
centred and scaled and the coefficients of each random term are taken in an orthonormal basis, so that extreme
units of covariates neither cost accuracy nor change the path of the optimizer; ``to_user_*`` lead back.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import scipy.sparse as sp

from fastlmm_core.engine.equations.confounding import combinations_within_fixed
from fastlmm_core.engine.equations.fixed_columns import FixedCoding, fixed_columns
from fastlmm_core.engine.equations.least_squares import WeightedRegression
from fastlmm_core.errors import DataError
from fastlmm_core.kernels.equations.columns import (
    list_entries,
    multiply_columns,
    multiply_columns_transposed,
)
from fastlmm_core.kernels.equations.crossproducts import (
    expand_coefficients,
    expand_pattern,
    fill_crossproducts,
    find_node_pattern,
    permute_pattern,
    project_response,
    select_block,
    transpose_entries,
)
from fastlmm_core.kernels.equations.systems import Parameters, Pattern
from fastlmm_core.linalg.elimination import Elimination, order_nodes
from fastlmm_core.linalg.ordered_factor import DENSE_NORMAL, normal_solver
from fastlmm_core.reml.layout import Layout, TermLayout, lay_out, standardize_term
from fastlmm_core.reml.theta_places import theta_places

# Geometric mean of the weights, or of their inverse, above which the variance ratios leave the range of the
# search.
LARGEST_WEIGHT = 1e12


@dataclass(frozen=True)
class RowEntries:
    """[Z X] by observation; see ``kernels.equations.crossproducts``."""

    row_ptr: np.ndarray
    row_node: np.ndarray
    row_val: np.ndarray
    values: np.ndarray
    node_ptr: np.ndarray
    node_entry: np.ndarray
    entry_row: np.ndarray


@dataclass(frozen=True)
class MixedModelEquations:
    """Constant half of the equations; the values of C are F' G F + penalty at any theta.

    Attributes
    ----------
    n, p, q : int
    terms : tuple of TermLayout
    layout : Layout
    entries : RowEntries
    below_ptr, below : node pattern; indptr, indices : scalar pattern (lower triangle)
    G, penalty : (nnz,) float64
    weights : (n,) float64
    log_weights : float
        Sum of log w_i.
    columns : tuple (indptr, indices, data)
        Fixed columns as used inside, compressed.
    coding : FixedCoding
        The way back from these to the user's.
    theta_term, theta_row, theta_col : (n_theta,) int64
        Where theta sits in the factors.
    fixed_last : bool
        Fixed columns are eliminated last (ML fits).
    order : Elimination
        Order of the nodes.
    """

    n: int
    p: int
    q: int
    terms: tuple[TermLayout, ...]
    layout: Layout
    entries: RowEntries
    below_ptr: np.ndarray
    below: np.ndarray
    indptr: np.ndarray
    indices: np.ndarray
    G: np.ndarray
    penalty: np.ndarray
    weights: np.ndarray
    log_weights: float
    columns: tuple[np.ndarray, np.ndarray, np.ndarray]
    coding: FixedCoding
    theta_term: np.ndarray
    theta_row: np.ndarray
    theta_col: np.ndarray
    fixed_last: bool
    order: Elimination

    @cached_property
    def X_inside(self) -> sp.csc_array:
        """Fixed columns as used inside, (n, p)."""
        indptr, indices, data = self.columns
        return sp.csc_array((data, indices, indptr), shape=(self.n, self.p))

    @property
    def to_user(self) -> sp.csc_array:
        """beta_user = to_user @ beta_inside, (p, p)."""
        return self.coding.to_user

    def fixed_predictor(self, beta: np.ndarray) -> np.ndarray:
        """X_inside beta, (n,)."""
        out = np.zeros(self.n)
        multiply_columns(*self.columns, beta, out)
        return out

    def least_squares(self, y: np.ndarray) -> np.ndarray:
        """Weighted least squares coefficients (p,) of y on X_inside."""
        return self.fixed_solver(multiply_columns_transposed(*self.columns, self.weights * y))

    related = False  # its levels are independent

    @property
    def n_theta(self) -> int:
        return self.theta_term.size

    @property
    def sizes(self) -> np.ndarray:
        """Coefficients per level of each term (K,) int64."""
        return np.array([term.m for term in self.terms], dtype=np.int64)

    @property
    def width(self) -> int:
        return max([term.m for term in self.terms], default=1)

    @cached_property
    def pattern(self) -> Pattern:
        """The pattern as kernels take it."""
        layout = self.layout
        return Pattern(self.indptr, self.indices, self.below_ptr, self.below, layout.start, layout.term)

    @cached_property
    def parameters(self) -> Parameters:
        """The places of theta as kernels take them."""
        return Parameters(self.sizes, self.theta_term, self.theta_row, self.theta_col)

    def empty_factors(self) -> np.ndarray:
        """Array (K + 1, m, m) with the unit factor of the fixed columns in place."""
        factors = np.zeros((len(self.terms) + 1, self.width, self.width))
        factors[-1, 0, 0] = 1.0
        return factors

    def right_hand_side(self, y: np.ndarray) -> np.ndarray:
        """[Z X]' W y in elimination order, (q + p, 1), for y (n,)."""
        e = self.entries
        out = np.zeros(self.q + self.p)
        project_response(e.row_ptr, e.row_node, e.row_val, e.values, self.layout.start, self.weights * y, out)
        return out[:, None]

    def linear_predictor(self, coefficients: np.ndarray) -> np.ndarray:
        """[Z X] coefficients, (n,), for natural coefficients (q + p,) in elimination order."""
        e = self.entries
        out = np.empty(self.n)
        expand_coefficients(
            e.row_ptr, e.row_node, e.row_val, e.values, self.layout.start, coefficients, out
        )
        return out

    @cached_property
    def within_fixed(self) -> dict[int, np.ndarray]:
        """Random terms with effects that lie within the fixed part; see ``combinations_within_fixed``."""
        return combinations_within_fixed(self.regression, self.terms, self.effects_on_rows)

    @property
    def regression(self) -> WeightedRegression:
        """Weighted least squares on X_inside."""
        return WeightedRegression(
            self.X_inside, sp.csr_array(self.X_inside.T), self.weights, self.fixed_solver
        )

    def effects_on_rows(self, k: int, r: np.ndarray) -> np.ndarray:
        """Z_a r (n, m) of every coefficient of term k, inside basis, for r (L,)."""
        out = np.empty((self.n, self.terms[k].m))
        for a, rows in enumerate(self.layout.random_rows[k].T):
            coefficients = np.zeros(self.q + self.p)
            coefficients[rows] = r
            out[:, a] = self.linear_predictor(coefficients)
        return out

    @cached_property
    def fixed_solver(self) -> Callable[[np.ndarray], np.ndarray]:
        """Solves X'WX b = r for r (p,): dense for moderate p, sparse for thousands of columns."""
        row, column, value = select_block(self.indptr, self.indices, self.G, self.layout.fixed_rows)
        # good enough: every least squares fit is refined once on its own residual
        if self.p <= DENSE_NORMAL:
            XWX = np.zeros((self.p, self.p))
            XWX[row, column] = XWX[column, row] = value
            return normal_solver(XWX)
        # an entry stands on the side on which its rows were eliminated
        off = row != column
        both = np.r_[row, column[off]], np.r_[column, row[off]]
        return normal_solver(sp.csc_array((np.r_[value, value[off]], both), shape=(self.p, self.p)))

    def with_weights(self, weights: np.ndarray) -> MixedModelEquations:
        """The same design with other prior weights; pattern and order are kept."""
        if self.terms:
            check_weight_size(weights)
        weights = np.array(weights, float)
        G = _fill(self.entries, weights, self.layout.start, self.indptr, self.indices)
        return replace(self, G=G, weights=weights, log_weights=float(np.sum(np.log(weights))))


def build_equations(
    X: sp.csc_array,
    random: Sequence,
    *,
    weights: np.ndarray | None = None,
    has_intercept: bool = True,
    fixed_last: bool = False,
    weak_columns: np.ndarray | None = None,
) -> MixedModelEquations:
    """Assemble the constant part of the equations.

    Parameters
    ----------
    X : csc_array (n, p)
        Fixed columns of full rank.
    random : sequence of RandomTerm
        Each with `codes` (n,), `values` (n, m), `levels`, `structure`.
    weights : (n,) float64, optional
        Prior weights, Var(e_i) = sigma2 / w_i.
    has_intercept : bool
        A constant lies in the span of the first column of X; dense columns are then centred.
    fixed_last : bool
        Eliminate the fixed columns last, as ML needs log |C_zz| by itself.
    weak_columns : (c,) int64, optional
        Columns that may nearly depend on others.
    """
    n, p = X.shape
    if random and weights is not None:
        check_weight_size(weights)
    # a copy: for a column that cannot be written Numba would compile anew
    weights = np.ones(n) if weights is None else np.array(weights, float)
    columns, coding = fixed_columns(X, has_intercept, weak_columns)
    terms, values = [], [np.empty((n, 0))]
    for term in random:
        own, inside = standardize_term(term)
        terms.append(own)
        values.append(inside)
    codes = np.array([term.codes for term in random], dtype=np.int64).reshape(len(terms), n)
    n_levels = np.array([t.n_levels for t in terms], dtype=np.int64)
    width = np.array([t.m for t in terms], dtype=np.int64)
    first_node = np.concatenate(([0], np.cumsum(n_levels)))
    n_nodes = int(first_node[-1]) + p
    counts = np.append(n_levels, p)
    node_size = np.repeat(np.append(width, 1), counts)
    node_term = np.repeat(np.arange(len(terms) + 1), counts)
    node_level = np.arange(n_nodes) - np.repeat(first_node, counts)
    row_ptr, row_node, row_val, flat = list_entries(*columns, codes, np.hstack(values), width, first_node)
    entries = RowEntries(row_ptr, row_node, row_val, flat, *transpose_entries(row_ptr, row_node, n_nodes))
    pattern = find_node_pattern(
        row_ptr, row_node, entries.node_ptr, entries.node_entry, entries.entry_row
    )
    order = order_nodes(
        pattern[0], pattern[1], node_size, node_term == len(terms) if fixed_last else None, kind=node_term
    )
    perm = order.perm
    place = np.empty(n_nodes, np.int64)
    place[perm] = np.arange(n_nodes)
    row_node = place[row_node]
    entries = RowEntries(row_ptr, row_node, row_val, flat, *transpose_entries(row_ptr, row_node, n_nodes))
    below_ptr, below = permute_pattern(*pattern, place)
    layout = lay_out(node_term[perm], node_level[perm], node_size[perm], terms, p)
    indptr, indices = expand_pattern(below_ptr, below, layout.start)
    G = _fill(entries, weights, layout.start, indptr, indices)
    theta = theta_places([term.structure for term in terms])
    return MixedModelEquations(
        n=n, p=p, q=int(sum(t.n_levels * t.m for t in terms)), terms=tuple(terms), layout=layout,
        entries=entries, below_ptr=below_ptr, below=below, indptr=indptr, indices=indices, G=G,
        penalty=_identity_penalty(layout, len(terms), indptr), weights=weights,
        log_weights=float(np.sum(np.log(weights))), columns=columns, coding=coding,
        theta_term=theta.term, theta_row=theta.row, theta_col=theta.col,
        fixed_last=fixed_last, order=order,
    )  # fmt: skip


def check_weight_size(weights: np.ndarray) -> None:
    """Refuse weights (n,) beside which every variance ratio would look like zero, or like infinity.

    Raises
    ------
    DataError
    """
    size = float(np.exp(np.mean(np.log(weights))))
    if not 1.0 / LARGEST_WEIGHT <= size <= LARGEST_WEIGHT:
        raise DataError(
            f"weights are about {size:.1g}; beside random terms they should be near 1: divide them by their "
            "mean, which changes nothing but the unit of the residual variance"
        )


def _fill(
    entries: RowEntries, weights: np.ndarray, start: np.ndarray, indptr: np.ndarray, indices: np.ndarray
) -> np.ndarray:
    e = entries
    return fill_crossproducts(
        e.row_ptr, e.row_node, e.row_val, e.values, weights, e.node_ptr, e.node_entry, e.entry_row,
        start, indptr, indices,
    )  # fmt: skip


def _identity_penalty(layout: Layout, n_terms: int, indptr: np.ndarray) -> np.ndarray:
    """blockdiag(I, 0) on the pattern: ones on the diagonal of random rows."""
    penalty = np.zeros(indptr[-1])
    random_scalar = np.repeat(layout.term < n_terms, np.diff(layout.start))
    penalty[indptr[:-1][random_scalar]] = 1.0
    return penalty
