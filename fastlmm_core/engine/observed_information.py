"""Second derivatives of the deviance: exactly from dense matrices of the unknowns, or by differences.

    d2(-2 l) = 2 y'P V_t P V_u P y - tr(P V_t P V_u) + <P - P y y'P, V_tu>

The first two are those of the average and the expected information.  For two parameters of the residual the
third is best taken in R^-1, where V_tu leaves the second derivatives of its coefficients and of log|R| only.
"""

from __future__ import annotations

import numpy as np

from fastlmm_core.engine.expected_information import (
    DIFFERENCE_WORK,
    LARGE_WORK,
    UnknownInverse,
    most_unknowns,
    piece_sums,
    unknown_traces,
)
from fastlmm_core.engine.factorized import FactorizedModel
from fastlmm_core.engine.parameters import (
    average_parts,
    chart_directions,
    residual_theta,
)
from fastlmm_core.engine.second_derivatives import difference_hessian


def second_derivatives(model: FactorizedModel, y: np.ndarray) -> np.ndarray:
    """d2(-2 l) (t, t) of the free parameters, y (n_rows,) with zeros at missing plots."""
    at = np.flatnonzero(model.free)
    if not at.size:  # all of them are held
        return np.zeros((0, 0))
    unknowns = float(model.equations.natural.size)
    differences = DIFFERENCE_WORK * at.size * model.factor.flops
    if unknowns <= most_unknowns(at.size) and unknowns**3 <= max(LARGE_WORK, differences):
        return observed_by_unknowns(model)
    return difference_hessian(model.equations, model.factor.copy(), y, model.theta, at)


def observed_by_unknowns(model: FactorizedModel) -> np.ndarray:
    """d2(-2 l) (t, t) of the free parameters in the chart of the search."""
    e, directions = model.equations, chart_directions(model)
    inverse = UnknownInverse.of(model)
    traces, M = unknown_traces(model, directions, inverse)
    average, own = average_parts(model, directions)
    H = np.zeros((e.n_theta, e.n_theta))
    for k, (term, (coefficients, level)) in enumerate(zip(e.terms, e.slices[0], strict=True)):
        both = slice(coefficients.start, level.stop)
        if model.free[both].any():
            H[both, both] = _term_curvature(model, k, M)
    residual = e.slices[1]
    sums = piece_sums(model, inverse.N) + e.residual.quadratics(model.point.residual)
    H[residual, residual] = e.residual.second_derivatives(residual_theta(model), sums)
    return H[np.ix_(model.free, model.free)] + 2.0 * (average - own) - traces


def _term_curvature(model: FactorizedModel, k: int, M: np.ndarray) -> np.ndarray:
    """<S, d2(T (x) Q^-1)> of term k (t, t), coefficients before levels, S = Z_k'(P - P y y'P) Z_k."""
    e = model.equations
    term, rows = e.terms[k], e.natural.rows[k]
    structure, levels = term.structure, term.levels
    L, m = rows.shape
    theta, level_theta = model.term_theta(k)
    score = M[np.ix_(rows.ravel(), rows.ravel())]
    q = model.point.projected[rows.ravel(), 0]
    score -= np.outer(q, q)
    if levels is None:
        S = np.einsum("lalb->ab", score.reshape(L, m, L, m))
        return structure.covariance_curvature(theta, 0.5 * (S + S.T))

    def contracted(moved: np.ndarray) -> np.ndarray:
        """sum_lj D_lj S_(la)(jb) (m, m) from D S (L, m L m)."""
        out = np.einsum("lalb->ab", moved.reshape(L, m, L, m))
        return 0.5 * (out + out.T)

    n = structure.n_theta
    H = np.zeros((n + levels.n_theta,) * 2)
    spread = levels.multiply_covariance(level_theta, score.reshape(L, -1))
    if n:
        H[:n, :n] = structure.covariance_curvature(theta, contracted(spread))
    if not levels.n_theta:
        return H
    slopes = levels.coefficients(level_theta)[1]
    if n:
        dT = structure.covariance_jacobian(theta)
        for t, slope in enumerate(slopes):
            moved = -levels.multiply_covariance(level_theta, levels.sum_of_pieces(slope) @ spread)
            H[n + t, :n] = H[:n, n + t] = np.tensordot(dT, contracted(moved), axes=2)
    T = structure.covariance(theta)
    own = np.einsum("ab,lajb->lj", T, spread.reshape(L, m, L, m))  # Q^-1 S
    X = levels.multiply_covariance(level_theta, own.T)  # Q^-1 S Q^-1, symmetric
    X = 0.5 * (X + X.T)
    changes = [levels.sum_of_pieces(slope) for slope in slopes]
    solved = [levels.multiply_covariance(level_theta, change @ np.eye(L)) for change in changes]
    for t, change in enumerate(changes):
        for u in range(t, len(changes)):
            value = 2.0 * float(np.sum((change @ X).T * solved[u].T))
            H[n + t, n + u] = H[n + u, n + t] = value
    weights = np.array([float(np.sum(piece.multiply(X))) for piece in levels.pieces])
    H[n:, n:] -= levels.second_derivatives(level_theta, weights)
    return H
