"""Second derivatives of the deviance by differences of its exact gradient; the inverse of an information."""

from __future__ import annotations

import numpy as np

from fastlmm_core.engine.equations.structured_equations import StructuredEquations
from fastlmm_core.engine.objective import average_information, evaluate, gradient_at
from fastlmm_core.engine.random_walk import along_bounds
from fastlmm_core.errors import NumericalError
from fastlmm_core.kernels.thresholds import BOUNDARY
from fastlmm_core.linalg.base import CholeskyFactor
from fastlmm_core.structures.coefficients.boundary import BOUND_CORRELATION, ZERO_EIGENVALUE
from fastlmm_core.structures.coefficients.factor_analytic import FactorAnalytic
from fastlmm_core.structures.coefficients.unstructured import Unstructured
from fastlmm_core.structures.differences import differentiate

# Operations of a factorization times parameters above which two gradients for each parameter have to do.
MANY_FLOPS = 1e10
# Steps beside a nearly singular residual, relative to others: rounding of the gradients, divided by a step,
# is then a tenth, and the error of the differences of fourth order still small beside it.
LONGER = 10.0
# Eigenvalues of a scaled information below this carry no information.
SINGULAR = 1e-10
# Relative change of T for a step of one in a parameter below which it moves nothing.
NO_MOVE = 1e-8
# Variances of T, of the largest in units of the response, below which they are taken as this for a relative
# change.
LEAST_VARIANCE = 1e-6
# Smoothing deviation, relative to the response's, of a spline without curves: its inverse square is in C, and
# how near to zero a search comes before its steps are rounding differs between machines.
STRAIGHT = 1e-3


def difference_hessian(
    e: StructuredEquations, factor: CholeskyFactor, y: np.ndarray, theta: np.ndarray, at: np.ndarray,
    nearly_singular: bool = False,
) -> np.ndarray:  # fmt: skip
    """Second derivatives in the parameters `at`, (t, t); zeros for standard deviations at their bound.

    Parameters
    ----------
    factor : CholeskyFactor
        Overwritten.
    y : (n_rows,)
        Zeros at missing plots.
    at : (t,) int
    nearly_singular : bool
        Of the residual: gradients have lost digits, and steps are longer.

    Raises
    ------
    NumericalError
        Where the deviance has no value beside theta.
    """

    def gradient(moved: np.ndarray) -> np.ndarray:
        point = evaluate(e, factor, y, moved)
        if not np.isfinite(point.deviance):
            raise NumericalError("the likelihood has no value beside the estimates, and so no curvature")
        return gradient_at(e, factor, point)[0][moving]

    inner = ~at_bound(e, theta, at)
    moving = at[inner]
    curvature = np.diag(average_information(e, factor, evaluate(e, factor, y, theta)))[moving]
    # a standard deviation of a hundredth is no place for steps of a thousandth
    size, error = np.abs(theta[moving]), np.sqrt(2.0 / np.maximum(curvature, 2.0))
    unit = np.minimum(np.maximum(size, error), np.maximum(size, 1.0))
    H = np.zeros((at.size, at.size))
    exact = factor.flops * moving.size <= MANY_FLOPS
    if exact and nearly_singular:
        unit *= LONGER
    H[np.ix_(inner, inner)] = differentiate(gradient, theta, moving, unit, fourth_order=exact)
    return H


def at_bound(e: StructuredEquations, theta: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Which of the parameters `at` (t,) are standard deviations at their bound of zero, and so are known.

    The criterion has a kink there: its curvature is no information.
    """
    return np.asarray((e.lower_bounds[at] == 0.0) & (np.abs(theta[at]) < BOUNDARY * e.bounded_sizes[at]))


def zero_parameters(e: StructuredEquations, theta: np.ndarray) -> np.ndarray:
    """Parameters (t,) of variances that are zero, also specific ones, those of splines and residual ones.

    As small as tables call zero: a search may end beside a zero, and the information says nothing there.
    """
    out = np.zeros(e.n_theta, bool)
    for term, (own, level) in zip(e.terms, e.slices[0], strict=True):
        if term.structure.n_theta and not np.any(term.structure.covariance(theta[own])):
            out[own] = True
        elif isinstance(term.structure, FactorAnalytic):
            least = 1.0 / term.column_scale  # as `describe_singular` judges variances
            out[own.stop - term.structure.m : own.stop] = term.structure.heywood(theta[own], least)
        if term.levels is not None and term.levels.holds_variance:
            out[level] = np.abs(theta[level]) < STRAIGHT
    rest = e.slices[1]
    out[rest] = e.residual.zero_variances(theta[rest])
    return out


def zero_pivots(e: StructuredEquations, theta: np.ndarray) -> np.ndarray:
    """Parameters (t,) of unstructured terms that are zero where their rank is lower.

    They are pivots of a Cholesky factor, as small as `describe_boundary` has it, and the search ends where
    rounding leaves them: what the information says of one, scaled to its size, is rounding too.
    """
    out = np.zeros(e.n_theta, bool)
    for term, (own, _) in zip(e.terms, e.slices[0], strict=True):
        if isinstance(term.structure, Unstructured):
            pivots = own.start + term.structure.diagonal
            variances = np.diag(term.structure.covariance(theta[own]))
            out[pivots] = theta[pivots] ** 2 <= ZERO_EIGENVALUE * variances
    return out


def flat_rotations(e: StructuredEquations, theta: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Directions among the parameters `at` in which loadings turn without a change of T, (j, t)."""
    rows = []
    for term, (own, _) in zip(e.terms, e.slices[0], strict=True):
        for flat in term.structure.null_directions(theta[own]):
            row = np.zeros(e.n_theta)
            row[own] = flat
            rows.append(row[at])
    return np.array(rows).reshape(len(rows), at.size)


def unmoved_parameters(e: StructuredEquations, theta: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Unit rows (j, t) of those of the parameters `at` that move no covariance, of a term or of the residual.

    A correlation that has reached its bound, of coefficients, levels or the residual, or stands beside a
    variance of zero: what is left of its curvature is rounding, and its inverse would drown all others.
    """
    still = np.zeros(e.n_theta, bool)
    for term, (own, _) in zip(e.terms, e.slices[0], strict=True):
        if not term.structure.n_theta:
            continue
        # of coefficients in other units, as those of several traits, each is compared in its own
        variances = np.diag(term.structure.covariance(theta[own])) * term.column_scale
        sd = np.sqrt(np.maximum(variances, LEAST_VARIANCE * variances.max()))
        if sd.max() > 0.0:
            sd = sd / np.sqrt(term.column_scale)
            moves = np.abs(term.structure.covariance_jacobian(theta[own])) / np.outer(sd, sd)
            still[own] = moves.max(axis=(1, 2)) < NO_MOVE
    still |= correlation_bounds(e, theta)
    return np.eye(at.size)[still[at]]


def correlation_bounds(e: StructuredEquations, theta: np.ndarray) -> np.ndarray:
    """Which of theta (t,) are correlations of the residual or of levels at their bound, and so are known."""
    return residual_bounds(e, theta) | level_bounds(e, theta)


def residual_bounds(e: StructuredEquations, theta: np.ndarray) -> np.ndarray:
    """Which of theta (t,) are correlations of the residual that have reached their bound."""
    out, own = np.zeros(e.n_theta, bool), e.slices[1]
    charts = np.flatnonzero(e.residual.correlation_charts())
    if charts.size:
        moves = np.abs(e.residual.natural_jacobian(theta[own])[:, charts])
        out[own.start + charts] = moves.max(axis=0) < NO_MOVE
    return out


def level_bounds(e: StructuredEquations, theta: np.ndarray) -> np.ndarray:
    """Which of theta (t,) are autocorrelations of levels at their bound, as `describe_singular` says of them.

    Their derivatives come from Q, whose entries are 1 / (1 - rho^2): its square is lost in rounding there.
    """
    return along_bounds(e, theta, 1.0 - BOUND_CORRELATION)


def invert_on_range(matrix: np.ndarray, flat: np.ndarray) -> np.ndarray:
    """Inverse of a symmetric matrix after scaling to unit diagonal, on the directions with curvature."""
    t = matrix.shape[0]
    if t == 0:
        return matrix
    basis = np.eye(t)
    if len(flat):
        _, sizes, rows = np.linalg.svd(flat)
        basis = rows[np.count_nonzero(sizes > SINGULAR * sizes[0]) :].T
    inner = basis.T @ matrix @ basis
    # at the limit of a variance the criterion does not move at all: nothing beside the zero is a figure
    moving = np.diag(inner) != 0.0
    basis, inner = basis[:, moving], inner[np.ix_(moving, moving)]
    scale = np.sqrt(np.maximum(np.abs(np.diag(inner)), 1e-300))
    values, vectors = np.linalg.eigh(inner / np.outer(scale, scale))
    keep = values > SINGULAR
    half = basis @ ((vectors[:, keep] / np.sqrt(values[keep])) / scale[:, None])
    return half @ half.T
