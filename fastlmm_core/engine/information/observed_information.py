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

from functools import cached_property
from itertools import pairwise

import numpy as np

from fastlmm_core.engine.equations.structured_equations import StructuredEquations
from fastlmm_core.engine.factorized import FactorizedModel
from fastlmm_core.engine.information.expected_information import dense_pieces, paired_traces
from fastlmm_core.engine.information.second_derivatives import at_bound, difference_hessian
from fastlmm_core.engine.objective import n_leading
from fastlmm_core.kernels.equations.assembly import multiply_symmetric
from fastlmm_core.kernels.equations.sparse_products import multiply_pieces

# Operations of the products of full matrices, and how many of these are held, in powers of their size.
PRODUCTS = 8.0
LARGEST_NUMBERS = 1e8
# Share of the entries of G, of its lower triangle, up to which its product is that of a sparse matrix.
SPARSE = 0.1
# Least singular value of a Lambda whose inverse takes the place of products, at the cost of its square.
LEAST_LOADING = 1e-2
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
    return difference_hessian(e, factor.copy(), y, model.theta, at, model.residual_nearly_singular)


def dense_pays(e: StructuredEquations, t: int, flops: float) -> bool:
    """Whether full matrices fit, and take fewer operations than differences for t parameters."""
    size, own = float(e.spherical.size), e.residual.n_theta if e.residual.n_pieces > 1 else 0
    dense = PRODUCTS * size**3 + 2.0 * (t * size) ** 2 + 2.0 * own * size**3
    differences = 4.0 * t * (EVALUATION * flops + OVERHEAD)
    return (PRODUCTS + 2.0 * t) * size**2 <= LARGEST_NUMBERS and dense <= differences


def observed_by_unknowns(model: FactorizedModel) -> np.ndarray:
    """d2(-2 l) (t, t) of the free parameters from dense matrices; see the module."""
    e = model.equations
    average, conditional = model.information
    terms = [k for k, (own, level) in enumerate(e.slices[0]) if model.free[own.start : level.stop].any()]
    H = 2.0 * (average - conditional) + _Traces(model, terms).matrix()
    return 0.5 * (H + H.T)[np.ix_(model.free, model.free)]


class _Traces:
    """What dense matrices give of the second derivatives, rows of parameters that are held left out.

    Their rows and columns are sorted by term, so that blocks are slices. With C X = I most products of three
    matrices are at hand: F' S = I - P X, and beside the levels of a term whose Lambda has an inverse

        S = Lambda^-T (I - P X),     M = S P Lambda^-1
    """

    def __init__(self, model: FactorizedModel, terms: list[int]):
        e = model.equations
        self.model, self.terms = model, terms
        parts = [*(rows.ravel() for rows in e.spherical.rows), e.spherical.missing, e.spherical.fixed]
        order = np.concatenate(parts)
        self.order = order[order < n_leading(e)]
        bounds = np.cumsum([0, *(rows.size for rows in e.spherical.rows)]).tolist()
        self.at = [slice(lo, hi) for lo, hi in pairwise(bounds)]
        self.X = model.factor.inverse(self.order)
        self.C_inv = model.factor.inverse_subset(self.order.size)
        self.dF = {k: e.terms[k].structure.loadings_jacobian(model.term_theta(k)[0]) for k in terms}
        self.back = {k: _inverse_of(e.terms[k].structure.loadings(model.term_theta(k)[0])) for k in terms}
        self.FS, self.PX = self._prior_products()
        self.S = {k: self._score_rows(k) for k in terms if len(self.dF[k])}

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

    def _prior_products(self) -> tuple[np.ndarray, dict[int, np.ndarray]]:
        """F' S = I - P X of the leading rows, and dP_t X of the rows of every term (t, L r, q')."""
        FS, slopes = np.negative(self.X), {}
        for k, rows in enumerate(self.at):
            levels, X = self.model.equations.terms[k].levels, self.X[rows]
            if levels is None:
                slopes[k] = np.empty((0, *X.shape))
                continue
            c, jacobian = levels.coefficients(self.model.term_theta(k)[1])
            slopes[k] = np.zeros((len(jacobian), *X.shape))
            FS[rows] = 0.0
            for factors, into in zip((-c, *jacobian), (FS[rows], *slopes[k]), strict=True):
                self._add_prior_product(k, factors, into)
        FS[self.at[-1].stop if self.at else 0 :] = 0.0  # missing plots and fixed columns have no prior
        FS[np.diag_indices_from(FS)] += 1.0
        return FS, slopes

    def _add_prior_product(self, k: int, c: np.ndarray, out: np.ndarray) -> None:
        """out (L r, q') += sum_b c_b P_b X on the rows of term k, for its pieces b of P and c (b,)."""
        e, pieces = self.model.equations, self.model.equations.level_pieces[k]
        indptr, row, column, value = e.prior_arrays
        indptr = indptr[pieces.start : pieces.stop + 1]
        own = slice(indptr[0], indptr[-1])
        place = np.empty(e.spherical.size, np.int64)
        place[e.spherical.rows[k].ravel()] = np.arange(len(out))
        row, column, X = place[row[own]], place[column[own]], self.X[self.at[k]]
        multiply_pieces(indptr - own.start, row, column, value[own], np.ascontiguousarray(c), X, out)

    @cached_property
    def G(self) -> np.ndarray:
        return dense_pieces(self.model, self.model.point.G)

    @cached_property
    def FX(self) -> np.ndarray:
        """(q, q'), the columns by term."""
        e = self.model.equations
        X = np.zeros((e.spherical.size, self.order.size))
        X[self.order] = self.X
        return e.spread(self.model.point.loadings, X)

    @cached_property
    def FG(self) -> np.ndarray:
        """F' G (q', q), the rows by term."""
        return self.model.equations.gather(self.model.point.loadings, self.G)[self.order]

    def _score_rows(self, k: int) -> np.ndarray:
        """The rows (L, m, q') of S that are those of term k."""
        natural, back = self.model.equations.natural.rows[k], self.back[k]
        if back is None:
            return (self.G[natural.ravel()] @ self.FX).reshape(*natural.shape, -1)
        return np.matmul(back.T, self.FS[self.at[k]].reshape(*natural.shape, -1))

    def _products(self, k: int, j: int) -> np.ndarray:
        """The block of M of terms k and j (L, m, J m')."""
        e, levels, back = self.model.equations, self.model.equations.terms[j].levels, self.back[j]
        rows, columns = e.natural.rows[k], e.natural.rows[j]
        if back is not None:
            SP = self.S[k][:, :, self.at[j]].reshape(rows.size, *columns.shape)
            if levels is not None:
                Q = levels.precision(self.model.term_theta(j)[1])
                SP = np.swapaxes((Q @ np.swapaxes(SP, 0, 1).reshape(columns.shape[0], -1)).reshape(
                    columns.shape[0], rows.size, -1), 0, 1)  # fmt: skip
            out = np.dot(SP.reshape(-1, len(back)), back)  # `matmul` is slow for a single coefficient
        elif self.back[k] is not None:
            out = self._products(j, k).reshape(columns.size, rows.size).T
        else:
            direct = self.G[np.ix_(rows.ravel(), columns.ravel())]
            out = direct - self.S[k].reshape(rows.size, -1) @ self.FG[:, columns.ravel()]
        return out.reshape(*rows.shape, columns.size)

    def _scores(self, k: int, j: int) -> np.ndarray:
        """dF_t' S of the levels of terms k and j (t, L r, J r')."""
        part = self.S[k][:, :, self.at[j]]
        out = _multiply_levels(np.swapaxes(self.dF[k], 1, 2), part)
        return out.reshape(len(out), -1, part.shape[2])

    def _loadings(self, k: int, j: int) -> np.ndarray:
        """Of the loadings of term k by those of term j."""
        if k not in self.S or j not in self.S:
            return np.zeros((len(self.dF[k]), len(self.dF[j])))
        rows = self.model.equations.spherical.rows
        left = _multiply_levels(np.swapaxes(self.dF[k], 1, 2), self._products(k, j))
        right = _multiply_levels(self.dF[j], self.X[self.at[j], self.at[k]].reshape(*rows[j].shape, -1))
        outer = rows[k].size
        return 2.0 * (
            paired_traces(left.reshape(len(left), outer, -1), right.reshape(len(right), -1, outer))
            - paired_traces(self._scores(k, j), self._scores(j, k))
        )

    def _levels(self, k: int, j: int) -> np.ndarray:
        """Of the level parameters of term k by those of term j."""
        return -paired_traces(self.PX[k][:, :, self.at[j]], self.PX[j][:, :, self.at[k]])

    def _loadings_by_level(self, k: int, j: int) -> np.ndarray:
        """Of the loadings of term k by the level parameters of term j."""
        if k not in self.S or not len(self.PX[j]):
            return np.zeros((len(self.dF[k]), len(self.PX[j])))
        return -2.0 * paired_traces(self._scores(k, j), self.PX[j][:, :, self.at[k]])

    def _own_curvature(self, H: np.ndarray, k: int) -> None:
        """Second derivatives of Lambda and of Q of one term, added to H."""
        e, point = self.model.equations, self.model.point
        term, (own, level) = e.terms[k], e.slices[0][k]
        natural, spherical = e.natural.rows[k], e.spherical.rows[k]
        theta, level_theta = self.model.term_theta(k)
        s = point.solution[:, 0]
        if term.structure.n_theta:
            N = self._same_level(k, self.S[k]) - point.projected[natural, 0].T @ s[spherical]
            H[own, own] += 2.0 * term.structure.loadings_curvature(theta, N)
        if term.n_level_theta:
            assert term.levels is not None
            weights = e.prior_sums(self.C_inv, s)[e.level_pieces[k]]
            H[level, level] += term.levels.second_derivatives(level_theta, weights, term.width)

    def _same_level(self, k: int, S: np.ndarray) -> np.ndarray:
        """Sum (m, r) over the levels of term k of their blocks in its rows S (L, m, q')."""
        own = S[:, :, self.at[k]].reshape(*S.shape[:2], S.shape[0], -1)
        return np.asarray(np.einsum("lalb->ab", own))

    def _add_residual(self, H: np.ndarray) -> None:
        """Rows and columns of the residual's parameters."""
        e, point = self.model.equations, self.model.point
        residual, theta = e.slices[1], self.model.theta[e.slices[1]]
        # F X F' on the pattern of G
        _, N = e.loading_map.read_inverse(point.G, self.C_inv, point.loadings, spread=True)
        sums = e.G_pieces.T @ e.natural.both_triangles(N) + e.residual.quadratics(point.residual)
        H[residual, residual] += e.residual.second_derivatives(theta, np.asarray(sums))
        slopes = e.residual.coefficients(theta)[1]
        if e.residual.n_pieces == 1:  # dG is a multiple of G
            self._add_multiples(H, slopes[:, 0] / e.residual.coefficients(theta)[0][0])
            return
        Z = np.empty((len(slopes), *self.X.shape))
        blocks = {k: np.empty((len(slopes), *self.dF[k].shape[1:])) for k in self.S}
        for u, slope in enumerate(slopes):
            S = self._moved_by(np.asarray(e.G_pieces @ slope))
            Z[u] = e.gather(point.loadings, S)[self.order]
            for k in self.S:
                blocks[k][u] = self._level_sums(k, S[e.natural.rows[k]], Z[u])
        H[residual, residual] -= paired_traces(Z, Z)
        for k in self.terms:
            own, level = e.slices[0][k]
            if k in self.S:
                block = np.tensordot(self.dF[k], blocks[k], axes=((1, 2), (1, 2)))
                self._add(H, own, residual, 2.0 * block)
            self._add(H, level, residual, -paired_traces(self.PX[k], Z[:, :, self.at[k]]))

    def _moved_by(self, dG: np.ndarray) -> np.ndarray:
        """dG F X (q, q') for values (nnz(G),) on the pattern of G."""
        side = self.model.equations.natural
        if side.indices.size > SPARSE * side.size**2:
            return dense_pieces(self.model, dG) @ self.FX
        out = np.empty_like(self.FX)
        multiply_symmetric(dG, side.indptr, side.indices, self.FX, out)
        return out

    def _add_multiples(self, H: np.ndarray, share: np.ndarray) -> None:
        """The same where dG_u = share_u G, share (u,): Z_u is that of F' S, S_u that of S."""
        e, Z = self.model.equations, self.FS[None]
        residual = e.slices[1]
        H[residual, residual] -= np.outer(share, share) * paired_traces(Z, Z)
        for k in self.terms:
            own, level = e.slices[0][k]
            if k in self.S:
                block = np.tensordot(self.dF[k], self._level_sums(k, self.S[k], self.FS), axes=2)
                self._add(H, own, residual, 2.0 * np.outer(block, share))
            self._add(H, level, residual, -paired_traces(self.PX[k], Z[:, :, self.at[k]]) * share)

    def _level_sums(self, k: int, S: np.ndarray, Z: np.ndarray) -> np.ndarray:
        """Sum over the levels of term k of their blocks (m, r) of S_u - S Z_u, for its rows of S_u."""
        turned = Z[:, self.at[k]].reshape(len(Z), S.shape[0], -1)
        return self._same_level(k, S) - np.tensordot(self.S[k], turned, axes=((0, 2), (1, 0)))


def _inverse_of(loadings: np.ndarray) -> np.ndarray | None:
    """Lambda^-1 (r, m), None where it has none or its least singular value is small."""
    m, r = loadings.shape
    if m != r or np.linalg.svd(loadings, compute_uv=False).min() < LEAST_LOADING:
        return None
    return np.linalg.inv(loadings)


def _multiply_levels(A: np.ndarray, B: np.ndarray) -> np.ndarray:
    """A_t B_l (t, L, m, x) of A (t, m, r) and B (L, r, x)."""
    return np.asarray(np.matmul(A[:, None], B[None]))
