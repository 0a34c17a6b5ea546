"""Expected information tr(P V_t P V_u) of structures linear in their parameters, without dense matrices.

It is twice the average information less the observed one, which knows theta alone. A variance of zero is the
square of a deviation, of which slopes and curvatures say nothing of the variance: the rows of its term are
traces over the scalars of the term.
"""

from __future__ import annotations

import numpy as np

from fastlmm_core.engine.factorized import FixedRows
from fastlmm_core.engine.information.direction_products import (
    COLUMNS,
    average_matrix,
    covariance_gradients,
    move_natural,
)
from fastlmm_core.engine.information.directions import Direction, NaturalDirections
from fastlmm_core.engine.information.expected_information import DENSE_ROWS
from fastlmm_core.engine.solution import StructuredSolution
from fastlmm_core.errors import InferenceError
from fastlmm_core.kernels.equations.assembly import multiply_symmetric

# Derivative of a variance in its deviation, in units of the response, below which the observed information
# has few digits of its curvature left.
LOST = 1e-4


def expected_by_differences(solution: StructuredSolution, natural: NaturalDirections) -> np.ndarray:
    """tr(P V_t P V_u) (t, t) over the natural directions; for ML V^-1 takes the place of P.

    Raises
    ------
    InferenceError
        For a residual variance of zero, and for ML beside any variance of zero.
    """
    directions, J = natural.directions, natural.jacobian
    lost = lost_directions(solution, natural)
    if -1 in lost or (lost and not solution.reml):
        raise InferenceError(
            f"the expected information beside a variance of zero is not available beyond {DENSE_ROWS} "
            "effects and rows for variances of the residual and by maximum likelihood; use "
            "information='observed'"
        )
    E, kept = np.zeros((len(directions),) * 2), np.ones(len(directions), bool)
    for rows in lost.values():
        kept[rows] = False
        E[rows] = expected_of_term(solution, directions, rows)
        E[:, rows] = E[rows].T
    left = np.flatnonzero(kept)
    free = np.flatnonzero(J[left].any(axis=0))
    back = np.linalg.inv(J[np.ix_(left, free)])
    observed = back.T @ solution.hessian[np.ix_(free, free)] @ back
    E[np.ix_(left, left)] = 2.0 * average_matrix(solution, [directions[t] for t in left]) - observed
    return E


def lost_directions(solution: StructuredSolution, natural: NaturalDirections) -> dict[int, np.ndarray]:
    """Natural directions by random term, -1 the residual, that theta moves in no more, or nearly so."""
    e, J, out = solution.equations, natural.jacobian, {}
    for k in {own.term for own in natural.directions}:
        mine = [t for t, own in enumerate(natural.directions) if own.term == k]
        rows = np.array([t for t in mine if k < 0 or natural.directions[t].dT is not None], dtype=np.int64)
        block = J[rows][:, J[rows].any(axis=0)]
        unit = float(np.sqrt(np.max(e.terms[k].column_scale))) if k >= 0 else 1.0
        # a deviation of exactly zero has left no column
        if rows.size and (block.shape[1] < rows.size or np.linalg.svd(block)[1][-1] * unit < LOST):
            out[k] = rows
    return out


def expected_of_term(
    solution: StructuredSolution, directions: list[Direction], own: np.ndarray
) -> np.ndarray:
    """Rows `own` (r, t) of tr(P V_t P V_u), directions of one term, a few of its scalars at once.

    With U_t = P Z D_t e and U = P Z e for every scalar e of the term it is the sum of U_t' V_u U. What it
    costs is a solve for each of them, however many others there are.
    """
    e = solution.equations
    scalars, out = e.natural.rows[directions[own[0]].term].ravel(), np.zeros((own.size, len(directions)))
    at_once = max(1, COLUMNS // (1 + own.size))
    for first in range(0, scalars.size, at_once):
        at = scalars[first : first + at_once]
        unit = np.zeros((e.natural.size, at.size))
        unit[at, np.arange(at.size)] = 1.0
        sides = np.hstack([unit, *(move_natural(solution, directions[t], unit) for t in own)])
        products = covariance_gradients(solution, directions, projected_effects(solution, sides))
        for i, row in enumerate(out, 1):
            block = slice(i * at.size, (i + 1) * at.size)
            row += np.trace(products[:, : at.size, block], axis1=1, axis2=2)
    return out


def projected_effects(solution: StructuredSolution, S: np.ndarray) -> FixedRows:
    """U = P Z S of random scalars S (q, r), in the form of rows of the fixed part."""
    e = solution.equations
    G_S = np.empty_like(S)
    multiply_symmetric(solution.point.G, e.natural.indptr, e.natural.indices, S, G_S)
    found = solution.solve_functions(G_S)[0]
    return FixedRows(e.matrix, found.spherical, S - found.natural, -found.projected)
