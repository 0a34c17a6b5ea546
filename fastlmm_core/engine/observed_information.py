"""Second derivatives of the deviance: from full matrices of the unknowns, or by differences.

With X = C^-1, S = G F X, M = G - S F'G, D and c the average information and what of it is conditional on the
effects (`objective.information_parts`), and sums over blocks (l, j) of levels

    Lambda, Lambda   2 (D - c) + 2 sum tr(dF_t' M dF_u X) - 2 sum tr(dF_t' S dF_u' S) + 2 <d2F_tu, N>
    Lambda, level    2 (D - c) - 2 sum tr(dF_t' S dP_u X)
    level, level     2 (D - c) -   sum tr(dP_t X dP_u X) + <X + s s', d2P_tu> - d2 log|P|

and for the residual, with S_u = dG_u F X and Z_u = F' S_u,

    Lambda, R        2 (D - c) + 2 sum tr(dF_t' (S_u - S Z_u))
    level, R         2 (D - c) -   sum tr(dP_t X Z_u)
    R, R             2 (D - c) -   sum tr(Z_t Z_u) + <F X F', d2G_tu> + e' d2R^-1_tu e + d2 log|R|

They are the derivatives of `objective.gradient_at`.  For ML the traces have the inverse of C without its
fixed rows.
"""

from __future__ import annotations

import numpy as np

from fastlmm_core.engine.equations import StructuredEquations
from fastlmm_core.engine.expected_information import dense_pieces, paired_traces, piece_sums
from fastlmm_core.engine.factorized import FactorizedModel
from fastlmm_core.engine.objective import information_parts, n_leading
from fastlmm_core.engine.second_derivatives import at_bound, difference_hessian

# Operations of the products of full matrices, and how many of these are held, in powers of their size.
PRODUCTS = 8.0
LARGEST_NUMBERS = 1e8
# Operations of a gradient in those of a factorization, and what the rest of one takes: some 1 ms.
EVALUATION = 12.0
OVERHEAD = 2e7


def second_derivatives(model: FactorizedModel, y: np.ndarray) -> np.ndarray:
    """d2(-2 l) (t, t) of the free parameters, y (n_rows,) with zeros at missing plots."""
    at = np.flatnonzero(model.free)
    if not at.size:  # all of them are held
        return np.zeros((0, 0))
    e, factor = model.equations, model.factor
    # beside the large numbers of R^-1 the sums below are what is left of their terms
    if dense_pays(e, at.size, factor.flops) and not model.residual_nearly_singular:
        H = observed_by_unknowns(model)
        known = at_bound(e, model.theta, at)
        H[known], H[:, known] = 0.0, 0.0
        return H
    return difference_hessian(e, factor.copy(), y, model.theta, at)


def dense_pays(e: StructuredEquations, t: int, flops: float) -> bool:
    """Whether full matrices fit, and take fewer operations than differences for t parameters."""
    size, own = float(e.spherical.size), e.residual.n_theta if e.residual.n_pieces > 1 else 0
    dense = PRODUCTS * size**3 + 2.0 * (t * size) ** 2 + 2.0 * own * size**3
    differences = 4.0 * t * (EVALUATION * flops + OVERHEAD)
    return (PRODUCTS + 2.0 * t) * size**2 <= LARGEST_NUMBERS and dense <= differences


def observed_by_unknowns(model: FactorizedModel) -> np.ndarray:
    """d2(-2 l) (t, t) of the free parameters from dense matrices; see the module."""
    e = model.equations
    average, conditional = information_parts(e, model.factor, model.point)
    terms = [k for k, (own, level) in enumerate(e.slices[0]) if model.free[own.start : level.stop].any()]
    H = 2.0 * (average - conditional) + _Traces(model, terms).matrix()
    return 0.5 * (H + H.T)[np.ix_(model.free, model.free)]


class _Traces:
    """What dense matrices give of the second derivatives, rows of parameters that are held left out."""

    def __init__(self, model: FactorizedModel, terms: list[int]):
        e = model.equations
        self.model, self.terms = model, terms
        half = model.factor.solve_lower(np.eye(e.spherical.size))[: n_leading(e)]
        self.X = half.T @ half
        self.FX = e.spread(model.point.loadings, self.X)
        self.G = dense_pieces(model, model.point.G)
        self.S = self.G @ self.FX
        self.M = self.G - self.S @ e.gather(model.point.loadings, self.G)
        self.dF = {k: e.terms[k].structure.loadings_jacobian(model.term_theta(k)[0]) for k in terms}
        self.PX = {k: self._prior_products(k) for k in terms}

    def matrix(self) -> np.ndarray:
        """(n_theta, n_theta)."""
        e = self.model.equations
        H = np.zeros((e.n_theta, e.n_theta))
        for k in self.terms:
            own, level = e.slices[0][k]
            self._own_curvature(H, k)
            for j in self.terms:
                if j >= k:
                    others, other_level = e.slices[0][j]
                    self._add(H, own, others, self._loadings(k, j))
                    self._add(H, own, other_level, self._loadings_by_level(k, j))
                    self._add(H, level, other_level, self._levels(k, j))
                    if j > k:
                        self._add(H, others, level, self._loadings_by_level(j, k))
        if self.model.free[e.slices[1]].any():
            self._add_residual(H)
        return H

    @staticmethod
    def _add(H: np.ndarray, rows: slice, columns: slice, block: np.ndarray) -> None:
        H[rows, columns] += block
        if rows != columns:
            H[columns, rows] += block.T

    def _blocks(self, A: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        """A (L m, columns) of scalars (L, m) and (J, r) as (L, m, J r)."""
        return A[np.ix_(rows.ravel(), columns.ravel())].reshape(*rows.shape, columns.size)

    def _scores(self, k: int, j: int) -> np.ndarray:
        """dF_t' S of the levels of terms k and j (t, L r, J r')."""
        e = self.model.equations
        part = self._blocks(self.S, e.natural.rows[k], e.spherical.rows[j])
        out = _multiply_levels(np.swapaxes(self.dF[k], 1, 2), part)
        return out.reshape(len(out), e.spherical.rows[k].size, part.shape[2])

    def _loadings(self, k: int, j: int) -> np.ndarray:
        """Of the loadings of term k by those of term j."""
        e = self.model.equations
        M = self._blocks(self.M, e.natural.rows[k], e.natural.rows[j])
        left = _multiply_levels(np.swapaxes(self.dF[k], 1, 2), M)
        X = self._blocks(self.X, e.spherical.rows[j], e.spherical.rows[k])
        right = _multiply_levels(self.dF[j], X)
        inner, outer = e.natural.rows[j].size, e.spherical.rows[k].size
        return 2.0 * (
            paired_traces(left.reshape(len(left), outer, inner), right.reshape(len(right), inner, outer))
            - paired_traces(self._scores(k, j), self._scores(j, k))
        )

    def _prior_products(self, k: int) -> np.ndarray:
        """dP_t X of the rows of term k (t, L r, q')."""
        e = self.model.equations
        levels, rows = e.terms[k].levels, e.spherical.rows[k]
        slopes = () if levels is None else levels.coefficients(self.model.term_theta(k)[1])[1]
        X = self.X[rows.ravel()]
        out = np.empty((len(slopes), *X.shape))
        for t, slope in enumerate(slopes):
            assert levels is not None
            out[t] = (levels.sum_of_pieces(slope) @ X.reshape(rows.shape[0], -1)).reshape(X.shape)
        return out

    def _levels(self, k: int, j: int) -> np.ndarray:
        """Of the level parameters of term k by those of term j."""
        rows = self.model.equations.spherical.rows
        left = self.PX[k][:, :, rows[j].ravel()]
        return -paired_traces(left, self.PX[j][:, :, rows[k].ravel()])

    def _loadings_by_level(self, k: int, j: int) -> np.ndarray:
        """Of the loadings of term k by the level parameters of term j."""
        rows = self.model.equations.spherical.rows
        return -2.0 * paired_traces(self._scores(k, j), self.PX[j][:, :, rows[k].ravel()])

    def _own_curvature(self, H: np.ndarray, k: int) -> None:
        """Second derivatives of Lambda and of Q of one term, added to H."""
        e, point = self.model.equations, self.model.point
        term, (own, level) = e.terms[k], e.slices[0][k]
        natural, spherical = e.natural.rows[k], e.spherical.rows[k]
        theta, level_theta = self.model.term_theta(k)
        s = point.solution[:, 0]
        if term.structure.n_theta:
            N = self.S[natural[:, :, None], spherical[:, None, :]].sum(axis=0)
            N -= point.projected[natural, 0].T @ s[spherical]
            H[own, own] += 2.0 * term.structure.loadings_curvature(theta, N)
        if term.n_level_theta:
            assert term.levels is not None
            X = self.X + np.outer(s, s)
            inside = sum(X[np.ix_(column, column)] for column in spherical.T)
            weights = np.array([float(np.sum(piece.multiply(inside))) for piece in term.levels.pieces])
            H[level, level] += term.levels.second_derivatives(level_theta, weights, term.width)

    def _add_residual(self, H: np.ndarray) -> None:
        """Rows and columns of the residual's parameters."""
        e, point = self.model.equations, self.model.point
        residual, theta = e.slices[1], self.model.theta[e.slices[1]]
        N = e.spread(point.loadings, self.FX.T)
        sums = piece_sums(self.model, N) + e.residual.quadratics(point.residual)
        H[residual, residual] += e.residual.second_derivatives(theta, sums)
        slopes = e.residual.coefficients(theta)[1]
        Z = np.empty((len(slopes), *self.X.shape))
        blocks = {k: np.empty((len(slopes), *self.dF[k].shape[1:])) for k in self.terms}
        for u, slope in enumerate(slopes):
            if e.residual.n_pieces == 1:  # G is a multiple of it
                S = slope[0] / e.residual.coefficients(theta)[0][0] * self.S
            else:
                S = dense_pieces(self.model, np.asarray(e.G_pieces @ slope)) @ self.FX
            Z[u] = e.gather(point.loadings, S)
            for k in self.terms:
                blocks[k][u] = self._level_sums(k, S, Z[u])
        H[residual, residual] -= paired_traces(Z, Z)
        for k in self.terms:
            own, level = e.slices[0][k]
            columns = Z[:, :, e.spherical.rows[k].ravel()]
            self._add(H, own, residual, 2.0 * np.tensordot(self.dF[k], blocks[k], axes=((1, 2), (1, 2))))
            self._add(H, level, residual, -paired_traces(self.PX[k], columns))

    def _level_sums(self, k: int, S: np.ndarray, Z: np.ndarray) -> np.ndarray:
        """Sum over the levels of term k of their blocks (m, r) of S_u - S Z_u."""
        natural, spherical = self.model.equations.natural.rows[k], self.model.equations.spherical.rows[k]
        block = S[natural[:, :, None], spherical[:, None, :]].sum(axis=0)
        turned = np.swapaxes(Z.T[spherical], 0, 1).reshape(spherical.shape[1], -1)
        return block - np.swapaxes(self.S[natural], 0, 1).reshape(natural.shape[1], -1) @ turned.T


def _multiply_levels(A: np.ndarray, B: np.ndarray) -> np.ndarray:
    """A_t B_l (t, L, m, x) of A (t, m, r) and B (L, r, x)."""
    return np.asarray(np.matmul(A[:, None], B[None]))
