"""Prediction errors of rows that are functions of a fit's unknowns: k' C^-1 k.

With the unknowns of the equations as in ``observation_rows``, the predicted mean of a row k of natural
coefficients has the variance sigma2 k' F C^-1 F' k (Henderson 1975, Biometrics 31, 423-447).  A row
of the data multiplies pairs of unknowns that have met in a plot: these lie on the pattern of C, where the
inverse subset is known from one pass over the factor.  Others, a genotype in an environment where it did
not stand, take a solve each; so do rows of so many unknowns, markers of a relationship of low rank, that a
look at every pair of them takes longer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse as sp

from fastlmm_core.engine.equations.null_space import NullShare, shared_values
from fastlmm_core.engine.solution import StructuredSolution
from fastlmm_core.kernels.equations.piece_products import sum_row_forms
from fastlmm_core.linalg.base import CholeskyFactor
from fastlmm_core.linalg.compressed import compressed
from fastlmm_core.reml.solved import SolvedEquations

if TYPE_CHECKING:
    from fastlmm_core.results.fitted_model import FittedModel
    from fastlmm_core.results.residual_prediction import ConditionalResiduals

# Rows that are formed together, and solved for together; up to so many take no inverse subset.
BLOCK, SOLVED = 4096, 256
# Entries of a factor that are solved with while one of the inverse subset is found (17 by columns, 150 by
# fronts), and unknowns of a row up to which that is not asked.
FIND, FEW = 32, 32

Pattern = tuple[np.ndarray, np.ndarray]


def row_forms(
    A: sp.csr_array, factor: CholeskyFactor, pattern: Pattern | None, inverse_subset: np.ndarray | None
) -> np.ndarray:
    """Diagonal of A C^-1 A' (n,).

    Parameters
    ----------
    A : (n, s) csr_array
    factor : CholeskyFactor
        Of C (s, s).
    pattern : (indptr, indices) or None
        Lower triangle of C by columns; None for solves alone.
    inverse_subset : (nnz,) float64 or None
        C^-1 there.
    """
    out = np.full(A.shape[0], np.nan)
    if pattern is not None and inverse_subset is not None:
        size = np.diff(A.indptr).astype(np.int64)
        short = np.flatnonzero((size <= FEW) | (FIND * size * (size + 1) // 2 <= factor.nnz))
        own = np.empty(short.size)
        sum_row_forms(compressed(A[short]), *pattern, inverse_subset, own)
        out[short] = own
    left = np.flatnonzero(np.isnan(out))
    for begin in range(0, left.size, SOLVED):
        rows = left[begin : begin + SOLVED]
        right = np.ascontiguousarray(A[rows].T.toarray())
        out[rows] = np.sum(right * factor.solve(right), axis=0)
    return out


@dataclass(frozen=True)
class Unknowns:
    """Where the coefficients of a model stand among its natural unknowns, and F to the spherical ones.

    Attributes
    ----------
    fixed : (p,) int64
    places : by random term (L, m) int64
    bases : by random term (m_user, m) float64
        From the user's coefficients to those of the equations.
    roots : by random term (L_user, L) float64 or None
        Of relationships of low rank.
    shares : by random term
        Polynomials that splines and fixed columns have in common.
    loadings : (q, s) csr_array
        F.
    """

    fixed: np.ndarray
    places: Sequence[np.ndarray]
    bases: Sequence[np.ndarray]
    roots: Sequence[np.ndarray | None]
    shares: dict[int, NullShare]
    loadings: sp.csr_array

    @classmethod
    def of(cls, solved: SolvedEquations | StructuredSolution) -> Unknowns:
        bases, loadings = [term.basis for term in solved.equations.terms], loading_matrix(solved)
        if isinstance(solved, StructuredSolution):
            e, roots = solved.equations, [term.root for term in solved.equations.terms]
            return cls(e.natural.fixed, e.natural.rows, bases, roots, e.null_shares, loadings)
        layout = solved.equations.layout
        return cls(layout.fixed_rows, layout.random_rows, bases, [None] * len(bases), {}, loadings)

    def rows(self, fixed: sp.csr_array, evaluated: Sequence[tuple[int, Any, Any]]) -> sp.csr_array:
        """F' k by rows (n, s), of inside fixed effects (n, p) and of random terms as `predict` has them."""
        n = fixed.shape[0]
        shared = shared_values(fixed, self.shares, {k for k, _, _ in evaluated})
        parts = [_placed(fixed, self.fixed), *(_placed(sp.csr_array(own), at) for at, own in shared)]
        for k, codes, z in evaluated:
            at = self.places[k]
            if codes is None:
                parts.append(_placed(sp.csr_array(z), at[:, 0]))
                continue
            inside = z @ self.bases[k]
            known = np.flatnonzero(codes >= 0)
            for c in range(inside.shape[1]):
                values, root = inside[known, c], self.roots[k]
                if root is None:
                    parts.append((known, at[codes[known], c], values))
                else:
                    own = np.zeros((n, root.shape[1]))
                    own[known] = values[:, None] * root[codes[known]]
                    parts.append(_placed(sp.csr_array(own), at[:, c]))
        row, column, value = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
        natural = sp.csr_array(sp.coo_array((value, (row, column)), shape=(n, self.loadings.shape[0])))
        out = sp.csr_array(natural @ self.loadings)
        out.sort_indices()
        return out


def _placed(rows: sp.csr_array, columns: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Row, column and value of entries whose columns stand elsewhere."""
    entries = sp.coo_array(rows)
    return entries.row, columns[entries.col], entries.data


def loading_matrix(solved: SolvedEquations | StructuredSolution) -> sp.csr_array:
    """F (q, s) at the estimates, from spherical to natural unknowns.

    Zeros of the loadings stay entries, for they stand on the pattern of C too.
    """
    if isinstance(solved, StructuredSolution):
        return solved.equations.loading_map.matrix(solved.point.loadings)
    layout, width = solved.equations.layout, solved.equations.q + solved.equations.p
    ones = layout.fixed_rows
    row, column, value = [ones], [ones], [np.ones(ones.size)]
    for k, own in enumerate(layout.random_rows):
        for a, c in np.ndindex(own.shape[1], own.shape[1]):
            row.append(own[:, a])
            column.append(own[:, c])
            value.append(np.full(own.shape[0], solved.factors[k, a, c]))
    entries = (np.concatenate(value), (np.concatenate(row), np.concatenate(column)))
    return sp.csr_array(entries, shape=(width, width))


def term_covariance(fit: FittedModel, k: int) -> np.ndarray:
    """Covariance (m, m) of the coefficients of random term k, units of the response."""
    solved = fit.solved
    if isinstance(solved, StructuredSolution):
        return solved.covariance(k)
    return np.asarray(solved.user_sigma2 * solved.user_covariance(k))


def predicted_variance(
    fit: FittedModel, X: sp.csr_array, evaluated: Sequence[tuple[int, Any, Any]],
    beside: ConditionalResiduals | None = None,
) -> np.ndarray:  # fmt: skip
    """Variance of the predicted mean of every row (n,), or of what it is with its residual.

    Parameters
    ----------
    X : (n, p_full) csr_array
    evaluated : sequence of (k, codes, z)
        Of every random term in the mean: codes of its levels (n,), -1 of those that did not occur in the
        fit, and its values (n, m); of a spline None and its basis (n, b).
    beside : ConditionalResiduals, optional
        What is known of the residuals of the rows.
    """
    solved = fit.solved
    unknowns, e = Unknowns.of(solved), solved.equations
    fixed = sp.csr_array(X[:, fit.design.kept] @ e.to_user)
    pattern, subset, block = None, None, BLOCK
    if beside is not None:
        assert isinstance(solved, StructuredSolution)
        rows_of_fit = sp.csr_array(solved.equations.matrix @ unknowns.loadings)
    whole = any(unknowns.roots[k] is not None for k, _, _ in evaluated)  # all of their unknowns in every row
    if whole:
        block = SOLVED
    elif X.shape[0] > SOLVED and getattr(e, "rotation", None) is None:
        pattern, subset = (e.indptr, e.indices), solved.inverse_subset
    out = np.empty(X.shape[0])
    for begin in range(0, X.shape[0], block):
        rows = slice(begin, begin + block)
        own = [(k, None if codes is None else codes[rows], z[rows]) for k, codes, z in evaluated]
        A = unknowns.rows(fixed[rows], own)
        if beside is not None:
            A = sp.csr_array(A - beside.weights[rows] @ rows_of_fit)
        out[rows] = solved.user_sigma2 * row_forms(A, solved.factor, pattern, subset)
    if beside is not None:
        out += solved.user_sigma2 * beside.variances
    for k, codes, z in evaluated:
        new = np.flatnonzero(codes < 0) if codes is not None else np.empty(0, np.int64)
        if new.size:
            T = new_level_variance(fit, k) * term_covariance(fit, k)
            out[new] += np.einsum("ia,ab,ib->i", z[new], T, z[new])
    return out


def new_level_variance(fit: FittedModel, k: int) -> float:
    """Variance of a level of random term k that the fit does not have, relative to that of its coefficients.

    1, or what levels of its relationship have on average: a component counts times the diagonal of G.
    """
    relation = fit.design.random[k].relation
    related = [getattr(own, "relationship", None) for own in (() if relation is None else relation.factors)]
    return float(np.prod([own.unseen_variance for own in related if own is not None]))
