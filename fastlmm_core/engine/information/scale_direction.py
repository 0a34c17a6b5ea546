"""V itself among the directions: V = sum_t c_t V_t, and what it saves.

U = V^-1 X Phi K' gives V U = X Phi K' and P V U = 0, so that P V_s U of one direction is known from the
others: quadratic forms in P need one direction less. Where the residual has one parameter, they need no
products with its rows.
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


def scale_shares(
    model: FactorizedModel, directions: Sequence[Direction]
) -> tuple[np.ndarray, np.ndarray] | None:
    """The directions of the residual, int64, and c (t,) with V = sum_t c_t V_t, or None without such.

    Held parameters and structures that do not scale with their parameters have none.
    """
    own = np.array([t for t, direction in enumerate(directions) if direction.term < 0], dtype=np.int64)
    e, theta = model.equations, model.theta
    if not own.size or model.residual_nearly_singular:
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
    slopes = [directions[t].pieces for t in own]  # type: ignore[misc]
    residual = _combined(slopes, -e.residual.piece_coefficients(theta[e.slices[1]]))
    if residual is None or not residual.any():
        return None
    c[own] = residual
    return own, c


def _combined(slopes: list[np.ndarray], wanted: np.ndarray) -> np.ndarray | None:
    """(k,) coefficients by which the slopes make `wanted`, or None where they do not."""
    A = np.array(slopes).T
    found = np.linalg.lstsq(A, wanted, rcond=None)[0]
    left = np.abs(wanted - A @ found).max(initial=0.0)
    return found if left <= EXACT * np.abs(wanted).max(initial=0.0) else None


def without_scale(weights: np.ndarray, shares: tuple[np.ndarray, np.ndarray] | None) -> np.ndarray:
    """Weights (t, t) of forms U' V_t P V_u U that give the same sum with zeros for direction s.

    It is the one of the residual that is known best beside its share. Weights are as they are without such
    shares, and where all of these directions are too uncertain to be told from the others.
    """
    if shares is None:
        return weights
    own, c = shares
    told = own[weights[own, own] <= KNOWN * c[own] ** 2]
    told = told[c[told] != 0.0]
    if not told.size:
        return weights
    s = told[np.argmin(weights[told, told] / c[told] ** 2)]
    move = np.eye(c.size)
    move[s] = -c / c[s]  # V_s = -sum_t (c_t / c_s) V_t beside P
    move[s, s] = 0.0
    out = move.T @ weights @ move
    out[s], out[:, s] = 0.0, 0.0
    return np.asarray(out)
