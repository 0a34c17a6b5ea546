"""V itself among the directions: V = sum_t c_t V_t, and what it saves.

U = V^-1 X Phi K' gives V U = X Phi K' and P V U = 0, so that P V_s U of one direction is known from the
others: where the residual has one parameter, quadratic forms in P need no products with its rows.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fastlmm_core.engine.factorized import FactorizedModel
from fastlmm_core.engine.information.directions import Direction

# What is left of a covariance, relative to it, beside the directions that are to make it.
EXACT = 1e-12
# Variance of log c_s, by the weights, up to which the others carry the digits of its direction.
KNOWN = 1.0


def scale_shares(model: FactorizedModel, directions: Sequence[Direction]) -> tuple[int, np.ndarray] | None:
    """(s, c): the only direction of the residual and c (t,) with V = sum_t c_t V_t, or None without such.

    Held parameters, several of the residual and structures that do not scale with their parameters have none.
    """
    own = [t for t, direction in enumerate(directions) if direction.term < 0]
    e, theta = model.equations, model.theta
    if len(own) != 1 or model.residual_nearly_singular:
        return None
    c = np.zeros(len(directions))
    for k, term in enumerate(e.terms):
        mine = [t for t, direction in enumerate(directions) if direction.term == k]
        by_T = [t for t in mine if directions[t].dT is not None]
        level = e.slices[0][k][1]
        if by_T:
            slopes = [directions[t].dT.ravel() for t in by_T]  # type: ignore[union-attr]
            wanted, mine = term.structure.covariance(theta[e.slices[0][k][0]]).ravel(), by_T
        elif mine and term.levels is not None:
            slopes = [directions[t].pieces for t in mine]  # type: ignore[misc]
            wanted = -term.levels.coefficients(theta[level])[0]
        else:
            return None
        shares = _combined(slopes, wanted)
        if shares is None:
            return None
        c[mine] = shares
    residual = _combined([directions[own[0]].pieces], -e.residual.piece_coefficients(theta[e.slices[1]]))  # type: ignore[list-item]
    if residual is None or residual[0] == 0.0:
        return None
    c[own] = residual
    return own[0], c


def _combined(slopes: list[np.ndarray], wanted: np.ndarray) -> np.ndarray | None:
    """(k,) coefficients by which the slopes make `wanted`, or None where they do not."""
    A = np.array(slopes).T
    found = np.linalg.lstsq(A, wanted, rcond=None)[0]
    left = np.abs(wanted - A @ found).max(initial=0.0)
    return found if left <= EXACT * np.abs(wanted).max(initial=0.0) else None


def without_scale(weights: np.ndarray, shares: tuple[int, np.ndarray] | None) -> np.ndarray:
    """Weights (t, t) of forms U' V_t P V_u U that give the same sum with zeros for direction s.

    As they are without such shares, and where the direction is too uncertain to be told from the others.
    """
    if shares is None:
        return weights
    s, c = shares
    if not weights[s, s] <= KNOWN * c[s] ** 2:
        return weights
    move = np.eye(c.size)
    move[s] = -c / c[s]  # V_s = -sum_t (c_t / c_s) V_t beside P
    move[s, s] = 0.0
    out = move.T @ weights @ move
    out[s], out[:, s] = 0.0, 0.0
    return np.asarray(out)
