"""REML and ML criterion of the structured equations at a theta, with gradient and average information.

    -2 l = log|C| - log|P| + log|R| + e' R^-1 e + s' P s + dof log 2 pi

Every parameter gives a pair (f_t, g_t), and one formula holds for all (docs/architecture.md;
Gilmour, Thompson & Cullis 1995; Johnson & Thompson 1995):

    Lambda     f_t = W dF_t s         g_t = dF_t' W' R^-1 e
    level      f_t = 0                g_t = -dP_t s
    residual   f_t = -R dRinv_t e     g_t = 0
    D_tu = f_t' R^-1 f_u + g_t' P^-1 g_u - (b_t - g_t)' C^-1 (b_u - g_u),     b_t = F' W' R^-1 f_t
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from fastlmm_core.engine.equations.structured_equations import StructuredEquations
from fastlmm_core.engine.information.level_information import (
    average_to_observed,
    bending_terms,
    level_information,
)
from fastlmm_core.engine.slopes import (
    prior_inverse_form,
    prior_slopes,
    row_slopes,
    subtract_slopes,
    term_slopes,
)
from fastlmm_core.kernels.equations.slopes import contract_slopes, multiply_slopes
from fastlmm_core.linalg.base import CholeskyFactor

LOG_TWO_PI = float(np.log(2.0 * np.pi))
EPSILON = float(np.finfo(float).eps)
# Residual variance of a row, in units of the response's, below which log|X'V^-1 X| is corrected for rounding,
# and numbers that the correction may hold.
TINY_RESIDUAL = 1e-6
LARGEST_CORRECTION = 20_000_000


@dataclass(frozen=True)
class StructuredPoint:
    """A factorized theta.

    Attributes
    ----------
    theta : (n_theta,)
    deviance : float
        -2 log-likelihood without the constants of the scales of y and X; inf where C is not definite.
    loadings : (K + 2, m, r)
    G : (nnz(G),)
    precision : (n_rows, n_rows)
        R^-1, a sparse matrix or what multiplies as it does.
    solution : (q', 1)
        Spherical s with the fixed and missing unknowns.
    coefficients : (q, 1)
        F s, natural.
    residual : (n_rows,)
        y - W F s.
    projected : (q, 1)
        W' R^-1 e.
    diagonal : (q',)
        Of C.
    """

    theta: np.ndarray
    deviance: float
    loadings: np.ndarray
    G: np.ndarray
    precision: Any
    solution: np.ndarray
    coefficients: np.ndarray
    residual: np.ndarray
    projected: np.ndarray
    diagonal: np.ndarray


def n_leading(e: StructuredEquations) -> int:
    """Rows whose determinant enters the criterion: all for REML, all but the fixed ones for ML."""
    return e.spherical.size - (e.p if e.fixed_last else 0)


def evaluate(
    e: StructuredEquations, factor: CholeskyFactor, y: np.ndarray, theta: np.ndarray
) -> StructuredPoint:
    """Factorize at theta and solve; y (n_rows,) has zeros at missing plots."""
    own = theta[e.slices[1]]
    log_R, _ = e.residual.log_determinant(own)
    log_P = sum(
        term.width * term.levels.log_determinant(theta[level])[0]
        for term, (_, level) in zip(e.terms, e.slices[0], strict=True) if term.levels is not None
    )  # fmt: skip
    if not np.isfinite(log_R) or not np.isfinite(log_P):
        return _failed_at(theta)
    c_R = e.residual.piece_coefficients(own)
    precision = e.residual.row_precision(own)
    if precision is None:
        precision = e.row_precision.at(c_R)
    G = e.crossproducts_at(c_R)
    loadings, c_P, C = e.loadings_at(theta), e.level_coefficients(theta), factor.zeros(e.indices.size)
    e.assemble(G, loadings, c_P, C)
    if not np.isfinite(C.sum()):
        return _failed_at(theta)
    diagonal = C[e.indptr[:-1]]
    if not factor.factorize(C):
        return _failed_at(theta)
    solution = factor.solve(e.gather(loadings, e.project(precision @ y)))

    def remainder() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        coefficients = e.spread(loadings, solution)
        residual = y - e.fitted(coefficients[:, 0])
        weighted = precision @ residual
        return coefficients, residual, weighted, e.project(weighted), e.multiply_prior(c_P, solution)

    # one step of refinement on the residual itself keeps e' R^-1 e accurate where variances are far apart
    *_, projected, prior = remainder()
    solution = solution + factor.solve(e.gather(loadings, projected) - prior)
    coefficients, residual, weighted, projected, prior = remainder()
    quadratic = float(residual @ weighted) + float(solution[:, 0] @ prior[:, 0])
    dof = e.n if e.fixed_last else e.n - e.p
    deviance = factor.log_determinant(n_leading(e)) - log_P + log_R + quadratic + dof * LOG_TWO_PI
    return StructuredPoint(
        theta, float(deviance), loadings, G, precision, solution, coefficients, residual, projected,
        diagonal,
    )  # fmt: skip


def _failed_at(theta: np.ndarray) -> StructuredPoint:
    none = np.empty((0, 0))
    return StructuredPoint(theta, np.inf, none, none, none, none, none, none, none, none)


def without_cancellation(
    e: StructuredEquations, factor: CholeskyFactor, point: StructuredPoint
) -> StructuredPoint:
    """The factorized point with log|X'V^-1 X| to nearly full precision where residual variances are tiny.

    Where R^-1 holds large numbers, X'V^-1 X is what is left of their difference in the last pivots of C.
    With B = C^-1 [0 I]' as computed, Phi = (X'V^-1 X)^-1 is its fixed rows but for the first order of the
    rounding, and B_x + B_x' - B'C B but for the second; B'C B is formed from residuals, which do not cancel.
    """
    work = e.p * e.spherical.size
    if e.fixed_last or not work or work > LARGEST_CORRECTION or not np.isfinite(point.deviance):
        return point
    if float(e.residual.variances(point.theta[e.slices[1]]).min()) > TINY_RESIDUAL:
        return point
    B = np.zeros((e.spherical.size, e.p))
    B[e.spherical.fixed, np.arange(e.p)] = 1.0
    B = factor.solve(B)
    rows = np.asarray(e.matrix @ e.spread(point.loadings, B))
    energy = rows.T @ (point.precision @ rows) + B.T @ e.multiply_prior(e.level_coefficients(point.theta), B)
    computed = B[e.spherical.fixed]
    accurate = computed + computed.T - 0.5 * (energy + energy.T)
    (sign, before), (sign_after, after) = np.linalg.slogdet(computed), np.linalg.slogdet(accurate)
    change = before - after
    if sign <= 0.0 or sign_after <= 0.0 or not abs(change) < 0.1:
        return point
    return replace(point, deviance=point.deviance + float(change))


@dataclass(frozen=True)
class Score:
    """Derivatives of the deviance at a point.

    Attributes
    ----------
    gradient : (t,)
    curvature : (t, t)
        Average information, with the second derivatives of T where the score of T is known.
    scores : list of (m, m) or None
        S_k = d(-2l) / dT_k of every term (inside basis).
    rounding : float
        What cancellation may cost log|C|: eps sum_j C_jj (C^-1)_jj, large where a smoothing parameter is.
    observed : (t, t) or None
        Curvature with the observed for the average information of loadings, where there are several optima.
    """

    gradient: np.ndarray
    curvature: np.ndarray
    scores: list[np.ndarray | None]
    rounding: float
    observed: np.ndarray | None = None


def gradient_at(
    e: StructuredEquations, factor: CholeskyFactor, point: StructuredPoint, residual: bool = True,
    C_inv: np.ndarray | None = None, W: np.ndarray | None = None,
) -> tuple[np.ndarray, list[np.ndarray]]:  # fmt: skip
    """Exact gradient of the deviance, and N_k = S_k Lambda_k (m, r) of every term.

    Zeros for the residual's parameters without `residual`, where all of them are held.  `C_inv` (nnz(C),) is
    the inverse subset, where it is known already, and into W (q, max r), zeros, go the blocks (G F C^-1)_jj
    of all levels, for who wants them.
    """
    theta = point.theta
    if C_inv is None:
        C_inv = factor.inverse_subset(n_leading(e))
    W, M = e.loading_map.read_inverse(point.G, C_inv, point.loadings, spread=residual, blocks=W)
    gradient = np.zeros(e.n_theta)
    N = []
    s, q = point.solution[:, 0], point.projected[:, 0]
    level_sums = e.prior_sums(C_inv, s) if any(term.n_level_theta for term in e.terms) else np.zeros(0)
    for k, (term, (own, level)) in enumerate(zip(e.terms, e.slices[0], strict=True)):
        part = W[k, : term.m, : term.width] - q[e.natural.rows[k]].T @ s[e.spherical.rows[k]]
        N.append(part)
        if term.structure.n_theta:
            jacobian = term.structure.loadings_jacobian(theta[own])
            gradient[own] = 2.0 * (jacobian.reshape(len(jacobian), -1) @ part.ravel())
        if term.n_level_theta:
            assert term.levels is not None
            _, jacobian = term.levels.coefficients(theta[level])
            gradient[level] = jacobian @ level_sums[e.level_pieces[k]]
            gradient[level] -= term.width * term.levels.log_determinant(theta[level])[1]
    if not residual:
        return gradient, N
    own = e.slices[1]
    pieces = np.asarray(e.G_pieces.T @ (e.natural.both_triangles(M))) + e.residual.quadratics(point.residual)
    gradient[own] = e.residual.gradient(theta[own], pieces)
    return gradient, N


def score_at(
    e: StructuredEquations, factor: CholeskyFactor, point: StructuredPoint, residual: bool = True
) -> Score:
    """Gradient, curvature and the scores of the covariances at the factorized point; see `gradient_at`."""
    C_inv = factor.inverse_subset(n_leading(e))
    bending = bending_terms(e, point.theta)
    W = np.zeros((e.natural.size if bending else 0, point.loadings.shape[2]))
    gradient, N = gradient_at(e, factor, point, residual, C_inv, W if bending else None)
    rounding = EPSILON * float(point.diagonal @ C_inv[e.indptr[:-1]])
    expected = {k: level_information(e, point.loadings, C_inv, W, k) for k in bending}
    del C_inv  # as large as C, and of no use to the curvature
    curvature = average_information(e, factor, point, residual)
    observed = average_to_observed(e, curvature, expected)
    scores: list[np.ndarray | None] = []
    for k, (term, (own, level)) in enumerate(zip(e.terms, e.slices[0], strict=True)):
        S = covariance_score(N[k], point.loadings[k, : term.m, : term.width], term.separate)
        scores.append(S)
        if term.levels is not None and term.n_level_theta:
            curvature[level, level] += term.levels.curvature(point.theta[level], gradient[level])
        if S is not None and term.structure.n_theta:
            curvature[own, own] += term.structure.covariance_curvature(point.theta[own], S)
    if residual:
        own = e.slices[1]
        curvature[own, own] += e.residual.curvature(point.theta[own], gradient[own])
    return Score(gradient, curvature, scores, rounding, None if observed is None else observed + curvature)


def covariance_score(N: np.ndarray, loadings: np.ndarray, separate: bool = False) -> np.ndarray | None:
    """S (m, m) from S Lambda = N; from the diagonal last columns of Lambda where it is wide.

    None where Lambda has a zero, or too few columns, and leaves some of S undetermined. Of `separate`
    coefficients the inverse tells the diagonal of S only, and the rest is zero.
    """
    m, r = loadings.shape
    if r < m:
        return None
    if m == r == 1:
        return None if loadings[0, 0] == 0.0 else N / loadings[0, 0]
    own = loadings[:, r - m :]
    if r > m or not np.any(own - np.diag(np.diag(own))):
        diagonal = np.diag(own)
        if np.any(diagonal == 0.0):
            return None
        S = N[:, r - m :] / diagonal
        if separate:
            S = np.diag(np.diag(S))
    elif np.any(np.diag(own) == 0.0):
        return None
    else:
        S = np.linalg.solve(own.T, N.T).T
    return 0.5 * (S + S.T)


def average_information(
    e: StructuredEquations, factor: CholeskyFactor, point: StructuredPoint, residual: bool = True
) -> np.ndarray:
    """D (t, t) of all parameters from the pairs (f, g); zeros for the residual's without `residual`."""
    return information_parts(e, factor, point, residual)[0]


def information_parts(
    e: StructuredEquations, factor: CholeskyFactor, point: StructuredPoint, residual: bool = True
) -> tuple[np.ndarray, np.ndarray]:
    """D (t, t), and of it g' P^-1 g and the residual's f' R^-1 f (t, t): what is conditional on s."""
    theta, t = point.theta, e.n_theta
    s, terms = point.solution[:, 0], term_slopes(e, theta)
    g = prior_slopes(e, terms, theta, s, point.projected[:, 0])
    H = row_slopes(e, terms, s)  # f_t = W h_t
    G_natural, D = np.empty((e.natural.size, t)), np.zeros((t, t))
    multiply_slopes(point.G, e.natural.indptr, e.natural.indices, H, G_natural)
    contract_slopes(H, G_natural, D)
    conditional = prior_inverse_form(e, theta, g)
    if residual:
        own = e.slices[1]
        W, q = e.row_arrays[0], e.natural.size
        projected, form = e.residual.chart_products(theta[own], point.residual, W, q)
        G_natural[:, own] -= projected
        cross = np.zeros((t, projected.shape[1]))
        contract_slopes(H, np.ascontiguousarray(projected), cross)
        D[:, own] -= cross
        D[own, :] -= cross.T
        conditional[own, own] += form
    D += conditional
    moved = e.gather(point.loadings, G_natural)
    subtract_slopes(g, moved)
    half = factor.solve_lower(moved, overwrite=True)
    D -= half.T @ half
    return 0.5 * (D + D.T), conditional
