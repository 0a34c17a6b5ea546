"""The curvature that a search steps by, without the directions in which loadings turn."""

from __future__ import annotations

import numpy as np

from fastlmm_core.engine.equations.structured_equations import StructuredEquations
from fastlmm_core.engine.objective import Score

# Decrement of the average information below which the observed one may take its place, at least and for
# every row, and its least eigenvalue, scaled to unit diagonal, for which it does.
NEAR, NEAR_BY_ROW = 30.0, 0.01
DEFINITE = 0.02


def search_model(e: StructuredEquations, theta: np.ndarray, score: Score) -> tuple[np.ndarray, np.ndarray]:
    """Gradient and curvature that a search steps by, the flat rotations of loadings taken out.

    Near the optimum the observed information takes the place of the average information where it is known and
    positive definite: far from it, or where it is indefinite, it leads astray.
    """
    gradient, average = without_rotations(e, theta, score.gradient, score.curvature)
    if score.observed is None:
        return gradient, average
    values, vectors = np.linalg.eigh(average)
    decrement = float(np.sum((vectors.T @ gradient) ** 2 / np.maximum(np.abs(values), 1e-300)))
    if decrement > max(NEAR, NEAR_BY_ROW * e.n):
        return gradient, average
    observed = without_rotations(e, theta, score.gradient, score.observed)[1]
    scale = np.sqrt(np.maximum(np.abs(np.diag(observed)), 1e-300))
    definite = np.linalg.eigvalsh(observed / np.outer(scale, scale))[0] > DEFINITE
    return gradient, observed if definite else average


def without_rotations(
    e: StructuredEquations, theta: np.ndarray, gradient: np.ndarray, curvature: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Gradient and curvature with the flat rotations of loadings taken out of the step.

    Not so other directions in which T stays as it is, of more parameters than it has elements: they turn as a
    specific deviation goes to zero, and steps beside them creep.
    """
    gradient, curvature = gradient.copy(), curvature.copy()
    for term, (own, _) in zip(e.terms, e.slices[0], strict=True):
        flat = term.structure.rotations(theta[own])
        if len(flat):
            U = np.linalg.qr(np.asarray(flat).T)[0]
            gradient[own] -= U @ (U.T @ gradient[own])
            size = max(float(np.abs(np.diag(curvature)[own]).max()), 1e-300)
            P = np.eye(U.shape[0]) - U @ U.T
            curvature[own, :] = P @ curvature[own, :]
            curvature[:, own] = curvature[:, own] @ P
            curvature[own, own] += size * U @ U.T
    return gradient, curvature
