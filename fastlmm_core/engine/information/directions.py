"""Directions of the variance parameters: dV of every one, in the optimizer's chart or in natural parameters.

V = sum_k Z_k (T_k (x) Q_k^-1) Z_k' + R.  A direction of a random term is dT or dQ, one of the residual is the
change of the coefficients of R^-1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from fastlmm_core.engine.factorized import FactorizedModel
from fastlmm_core.errors import InferenceError


@dataclass(frozen=True)
class Direction:
    """dV of one parameter.

    Attributes
    ----------
    term : int
        Random term; -1 for the residual.
    dT : (m, m) or None
        Change of T, inside basis.
    pieces : (b,) or None
        Change of the coefficients of Q, or of R^-1.
    """

    term: int
    dT: np.ndarray | None = None
    pieces: np.ndarray | None = None


def chart_directions(model: FactorizedModel) -> list[Direction]:
    """Directions of the free parameters in theta."""
    e, theta = model.equations, model.theta
    out: list[Direction] = []
    for k, (term, (own, level)) in enumerate(zip(e.terms, e.slices[0], strict=True)):
        if term.structure.n_theta:
            out += [Direction(k, dT=dT) for dT in term.structure.covariance_jacobian(theta[own])]
        if term.levels is not None and term.n_level_theta:
            out += [Direction(k, pieces=row) for row in term.levels.coefficients(theta[level])[1]]
    out += [Direction(-1, pieces=row) for row in e.residual.coefficients(theta[e.slices[1]])[1]]
    return [direction for direction, free in zip(out, model.free, strict=True) if free]


@dataclass(frozen=True)
class NaturalDirections:
    """Directions of the natural parameters, and how they depend on theta.

    Attributes
    ----------
    directions : list of Direction
    jacobian : (s, t)
        d natural / d theta over the free parameters.
    second : list of (first, dT2)
        For every coefficient structure that is not linear: index of its first parameter, and its second
        derivatives (s_k, s_k, m, m) with the term.
    residual : slice
        Parameters of the residual.
    """

    directions: list[Direction]
    jacobian: np.ndarray
    second: list[tuple[int, int, np.ndarray]]
    residual: slice


def natural_directions(model: FactorizedModel) -> NaturalDirections:
    """Natural parameters: variances and covariances or correlations, as the structures define them.

    Raises
    ------
    InferenceError
        For a structure without natural parameters (rr, fa, splines), or at a variance of zero whose
        covariances go with its root.
    """
    e, theta = model.equations, model.theta
    directions: list[Direction] = []
    blocks: list[tuple[np.ndarray, slice]] = []
    second: list[tuple[int, int, np.ndarray]] = []
    for k, (term, (own, level)) in enumerate(zip(e.terms, e.slices[0], strict=True)):
        structure = term.structure
        if structure.n_theta and model.free[own].any():
            if not structure.natural_defined:
                raise InferenceError(
                    f"structure '{structure.name}' has no natural parameters: its second derivatives are not "
                    "defined; use second_derivatives=False"
                )
            back = np.linalg.inv(term.basis)
            first = len(directions)
            by_natural = structure.covariance_by_natural(theta[own])
            if not np.isfinite(by_natural).all():
                raise InferenceError(
                    f"structure '{structure.name}' has a variance of zero, by which its covariances have no "
                    "derivative: second derivatives are not defined; use second_derivatives=False"
                )
            for dT in by_natural:
                directions.append(Direction(k, dT=back @ dT @ back.T if structure.any_basis else dT))
            if not structure.linear:
                second.append((first, k, structure.covariance_second_by_natural(theta[own])))
            if structure.any_basis:
                blocks.append((_user_jacobian(structure, theta[own], term.basis), own))
            else:
                blocks.append((structure.natural_jacobian(theta[own]), own))
        if term.levels is not None and term.n_level_theta and model.free[level].any():
            jacobian = term.levels.natural_jacobian(theta[level])
            rows = np.linalg.inv(jacobian).T @ term.levels.coefficients(theta[level])[1]
            directions += [Direction(k, pieces=row) for row in rows]
            blocks.append((jacobian, level))
    own = e.slices[1]
    start = len(directions)
    if model.free[own].any():
        rows, jacobian = e.residual.natural_pieces(theta[own]), e.residual.natural_jacobian(theta[own])
        keep = model.free[own]
        directions += [Direction(-1, pieces=row) for row, free in zip(rows, keep, strict=True) if free]
        blocks.append((jacobian[np.ix_(keep, np.ones(keep.size, bool))], own))
    J = np.zeros((len(directions), e.n_theta))
    at = 0
    for block, columns in blocks:
        J[at : at + block.shape[0], columns] = block
        at += block.shape[0]
    return NaturalDirections(directions, J[:, model.free], second, slice(start, len(directions)))


def _user_jacobian(structure: Any, theta: np.ndarray, basis: np.ndarray) -> np.ndarray:
    """d(lower triangle of T_user) / d theta for an unstructured T taken in another basis."""
    slopes = basis @ structure.covariance_jacobian(theta) @ basis.T
    place = structure.covariance_by_natural(theta)
    index = [tuple(np.argwhere(direction)[0]) for direction in place]
    return np.array([[slope[i, j] for slope in slopes] for i, j in index])
