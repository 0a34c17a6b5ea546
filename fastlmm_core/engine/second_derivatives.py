"""Second derivatives of the deviance by differences of its exact gradient; the inverse of an information."""

from __future__ import annotations

import numpy as np

from fastlmm_core.engine.equations import StructuredEquations
from fastlmm_core.engine.objective import evaluate, gradient_at
from fastlmm_core.linalg.base import CholeskyFactor
from fastlmm_core.structures.differences import differentiate

# Eigenvalues of a scaled information below this carry no information.
SINGULAR = 1e-10


def difference_hessian(
    e: StructuredEquations, factor: CholeskyFactor, y: np.ndarray, theta: np.ndarray, at: np.ndarray
) -> np.ndarray:
    """Second derivatives in the parameters `at`, (t, t).

    Parameters
    ----------
    factor : CholeskyFactor
        Overwritten.
    y : (n_rows,)
        Zeros at missing plots.
    at : (t,) int
    """

    def gradient(moved: np.ndarray) -> np.ndarray:
        return gradient_at(e, factor, evaluate(e, factor, y, moved))[0][at]

    return differentiate(gradient, theta, at, np.maximum(1.0, np.abs(theta[at])))


def flat_rotations(e: StructuredEquations, theta: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Directions among the parameters `at` in which loadings turn without a change of T, (j, t)."""
    rows = []
    for term, (own, _) in zip(e.terms, e.slices[0], strict=True):
        for flat in term.structure.null_directions(theta[own]):
            row = np.zeros(e.n_theta)
            row[own] = flat
            rows.append(row[at])
    return np.array(rows).reshape(len(rows), at.size)


def invert_on_range(matrix: np.ndarray, flat: np.ndarray) -> np.ndarray:
    """Inverse of a symmetric matrix after scaling to unit diagonal, on the directions with curvature."""
    t = matrix.shape[0]
    if t == 0:
        return matrix
    basis = np.eye(t)
    if len(flat):
        basis = np.linalg.svd(flat)[2][len(flat) :].T
    inner = basis.T @ matrix @ basis
    # at the limit of a variance the criterion does not move at all: nothing beside the zero is a figure
    moving = np.diag(inner) != 0.0
    basis, inner = basis[:, moving], inner[np.ix_(moving, moving)]
    scale = np.sqrt(np.maximum(np.abs(np.diag(inner)), 1e-300))
    values, vectors = np.linalg.eigh(inner / np.outer(scale, scale))
    keep = values > SINGULAR
    half = basis @ ((vectors[:, keep] / np.sqrt(values[keep])) / scale[:, None])
    return half @ half.T
