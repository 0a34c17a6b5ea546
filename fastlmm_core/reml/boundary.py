"""Variances at zero: which of them belong there, and ways on from a stationary point that is no minimum."""

from __future__ import annotations

import numpy as np

from fastlmm_core.kernels.thresholds import BOUNDARY, CURVATURE, GROWTH
from fastlmm_core.reml.equations import MixedModelEquations
from fastlmm_core.reml.optimizer import Optimum


def snap_boundary(equations: MixedModelEquations, optimum: Optimum) -> np.ndarray:
    """theta with the diagonals that sit at a boundary minimum set to exact zero.

    Near zero the curvature in theta is 2 S_cc plus an information that vanishes with theta; where the score
    S_cc carries most of it the deviance rises from zero on, and zero is the optimum.
    """
    theta = optimum.theta.copy()
    diagonal = np.flatnonzero(equations.theta_row == equations.theta_col)
    for t in diagonal:
        k, c = equations.theta_term[t], equations.theta_col[t]
        if abs(theta[t]) < BOUNDARY and 2.0 * optimum.S[k, c, c] > 0.5 * optimum.hessian[t, t]:
            column = (equations.theta_term == k) & (equations.theta_col == c)
            if np.all(np.abs(theta[column]) < BOUNDARY):
                theta[column] = 0.0
            else:
                theta[t] = 0.0
    return theta


def boundary_scores(
    equations: MixedModelEquations, theta: np.ndarray, S: np.ndarray
) -> tuple[float, tuple[int, np.ndarray] | None]:
    """Smallest eigenvalue of S_k on the null space of T_k over all terms, with its (term, vector)."""
    smallest, where = np.inf, None
    diagonal = equations.theta_row == equations.theta_col
    if np.all(np.abs(theta[diagonal]) > 1e-5):
        return smallest, where
    for k, term in enumerate(equations.terms):
        T = term.structure.covariance(theta[equations.theta_term == k])
        values, vectors = np.linalg.eigh(T)
        null = vectors[:, values <= 1e-12 * max(1.0, values.max())]
        if null.shape[1] == 0:
            continue
        if term.structure.name == "diag":
            null = np.eye(term.m)[:, np.diag(T) == 0]
            scores = np.diag(S[k, : term.m, : term.m])[np.diag(T) == 0]
            at = int(np.argmin(scores))
            value, vector = float(scores[at]), null[:, at]
        else:
            inner, rotation = np.linalg.eigh(null.T @ S[k, : term.m, : term.m] @ null)
            value, vector = float(inner[0]), null @ rotation[:, 0]
        if value < smallest:
            smallest, where = value, (k, vector)
    return smallest, where


def score_tolerance(S: np.ndarray) -> float:
    """How far below zero rounding may bring a score at zero variance."""
    return GROWTH * (1.0 + float(np.abs(S).max()))


def curvature_tolerance(hessian: np.ndarray) -> float:
    """How far below zero rounding may bring the smallest eigenvalue of the curvature."""
    return CURVATURE * max(1.0, float(np.abs(hessian).max()))


def leave_saddle(optimum: Optimum) -> np.ndarray:
    """theta moved downhill along the most negative curvature: a variance stuck close to zero starts again."""
    direction = np.linalg.eigh(optimum.hessian)[1][:, 0]
    return optimum.theta - 0.3 * direction * (1.0 if direction @ optimum.gradient >= 0.0 else -1.0)


def leave_boundary(
    equations: MixedModelEquations, theta: np.ndarray, direction: tuple[int, np.ndarray]
) -> np.ndarray:
    """theta of T_k + v v' / 10, the other terms unchanged."""
    k, vector = direction
    structure = equations.terms[k].structure
    at = equations.theta_term == k
    out = theta.copy()
    out[at] = structure.theta_of(structure.covariance(theta[at]) + 0.1 * np.outer(vector, vector))
    return out
