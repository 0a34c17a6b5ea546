"""The fit of the variance parameters: search, boundary decisions and certificate."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from fastlmm_core.errors import DataError
from fastlmm_core.kernels.equations.assembly import apply_factor_transposed
from fastlmm_core.kernels.equations.systems import Entries
from fastlmm_core.kernels.search.slopes_alone import equal_theta, reach_of_slopes
from fastlmm_core.kernels.search.starting_values import start_from_moments
from fastlmm_core.kernels.search.zeros_of_ml import reach_beside_zeros
from fastlmm_core.kernels.thresholds import LARGEST_DECREMENT, LARGEST_RISE
from fastlmm_core.linalg import CholeskyFactor, make_factor
from fastlmm_core.reml import optimizer
from fastlmm_core.reml.boundary import (
    boundary_scores,
    curvature_tolerance,
    leave_boundary,
    leave_saddle,
    score_tolerance,
    snap_boundary,
)
from fastlmm_core.reml.equations import MixedModelEquations
from fastlmm_core.reml.objective import (
    Point,
    Response,
    assemble_at,
    evaluate,
    factors_at,
    prepare_response,
)
from fastlmm_core.reml.solved import SolvedEquations

# Share of the sum of squares about the fixed part below which that about the whole model is rounding: the
# likelihood has no maximum then, and where the search ends is chance.
NOTHING_LEFT = 1e-14


@dataclass(frozen=True)
class Certificate:
    """Why the result is, or is not, an optimum.

    Attributes
    ----------
    optimal : bool
        Gradient, curvature and the scores of the variances at zero all agree.
    decrement : float
        Newton decrement g' H^-1 g in units of the deviance.
    gradient_norm : float
        Largest absolute component of the gradient in theta (standardized coefficients).
    smallest_curvature : float
        Smallest eigenvalue of the curvature used.
    smallest_boundary_score : float
        Smallest eigenvalue of the score of T_k on the null space of T_k; +inf when no T_k is singular.
    """

    optimal: bool
    decrement: float
    gradient_norm: float
    smallest_curvature: float
    smallest_boundary_score: float


def fit_equations(
    equations: MixedModelEquations,
    y: np.ndarray,
    *,
    reml: bool,
    factor: CholeskyFactor | None = None,
    start: np.ndarray | Callable[[Response, np.ndarray], np.ndarray] | None = None,
    progress: optimizer.Progress | None = None,
) -> tuple[SolvedEquations, optimizer.Optimum, Certificate]:
    """Fit the variance parameters and solve.

    Parameters
    ----------
    y : (n,) float64
        Response less offset.
    factor : CholeskyFactor, optional
        Symbolic analysis to reuse.
    start : (n_theta,) or callable, optional
        Starting values, or what makes them of the prepared response and its moments; default moments.
    """
    factor = factor or make_factor(equations)
    response = prepare_response(equations, y)
    if equations.n_theta == 0 or response.explained:
        return _solve_without_search(equations, factor, response, reml)
    if start is None or callable(start):
        theta = starting_values(equations, response, factor.flops, reml)
        theta = theta if start is None else start(response, theta)
    else:
        theta = start

    def search(theta: np.ndarray) -> tuple[optimizer.Optimum, np.ndarray, float]:
        return _from_start(equations, factor, response, reml, theta, progress)

    optimum, found, boundary_score = search(theta)
    reach = 0.0
    if start is None:
        entries, parameters = equations.entries, equations.parameters
        rows = Entries(entries.row_ptr, entries.row_node, entries.row_val, entries.values)
        slopes = reach_of_slopes(rows, equations.layout.term, parameters.sizes)
        reach = max(slopes, reach_beside_zeros(optimum.theta, parameters, reml))
    if reach > 0.0:
        optimum = replace(optimum, point=None)  # the factor goes on to other values
        other = search(equal_theta(equations.parameters, reach))
        if other[0].status in (0, 3) and other[0].deviance < optimum.deviance - LARGEST_RISE:
            optimum, found, boundary_score = other
    moved = not np.array_equal(found, optimum.theta)
    point = optimum.point
    if moved or point is None:
        point = evaluate(equations, factor, response, factors_at(equations, found), reml)
    solved = SolvedEquations(equations, factor, response, point, found, reml)
    check_representable(solved)
    if solved.r2 <= NOTHING_LEFT * response.yy:
        optimum = replace(optimum, status=4)
    factor.release()
    return solved, optimum, certify(optimum, boundary_score, point.deviance if moved else optimum.deviance)


def _from_start(
    equations: MixedModelEquations,
    factor: CholeskyFactor,
    response: Response,
    reml: bool,
    theta: np.ndarray,
    progress: optimizer.Progress | None,
) -> tuple[optimizer.Optimum, np.ndarray, float]:
    """The optimum that `theta` leads to, theta with its zero variances, and the smallest score at these."""
    optimum = optimizer.minimize(equations, factor, response, reml=reml, theta=theta, progress=progress)
    for _ in range(3):
        found = snap_boundary(equations, optimum)
        boundary_score, direction = boundary_scores(equations, found, optimum.S)
        if direction is not None and boundary_score < -score_tolerance(optimum.S):
            # a variance at zero whose score wants it to grow: leave the stationary point
            theta = leave_boundary(equations, found, direction)
        elif np.linalg.eigvalsh(optimum.hessian)[0] < -curvature_tolerance(optimum.hessian):
            theta = leave_saddle(optimum)
        else:
            break
        optimum = optimizer.minimize(equations, factor, response, reml=reml, theta=theta, progress=progress)
    return optimum, found, boundary_score


def starting_values(
    equations: MixedModelEquations, response: Response, operations: float, reml: bool
) -> np.ndarray:
    """Starting theta (n_theta,) from moments, for a factorization of so many `operations`."""
    e = equations
    return start_from_moments(e.G, e.pattern, e.parameters, response.rhs, response.yy, e.n, operations, reml)


def certify(optimum: optimizer.Optimum, boundary_score: float, deviance: float) -> Certificate:
    """The certificate of an optimum; `deviance` is that with variances at the boundary set to zero."""
    curvature = float(np.linalg.eigvalsh(optimum.hessian).min())
    optimal = (
        optimum.status in (0, 3)
        and optimum.decrement <= LARGEST_DECREMENT
        and curvature >= -curvature_tolerance(optimum.hessian)
        and boundary_score >= -score_tolerance(optimum.S)
        and deviance <= optimum.deviance + LARGEST_RISE
    )
    return Certificate(
        optimal=optimal,
        decrement=optimum.decrement,
        gradient_norm=float(np.abs(optimum.gradient).max()),
        smallest_curvature=curvature,
        smallest_boundary_score=boundary_score,
    )


def solve_equations(
    equations: MixedModelEquations, y: np.ndarray, theta: np.ndarray, *, reml: bool, factor: CholeskyFactor
) -> SolvedEquations:
    """The equations at known parameters theta (n_theta,), as `fit_equations` leaves them: no search."""
    response = prepare_response(equations, y)
    if equations.n_theta == 0 or response.explained:
        return _solve_without_search(equations, factor, response, reml)[0]
    point = evaluate(equations, factor, response, factors_at(equations, theta), reml)
    solved = SolvedEquations(equations, factor, response, point, theta, reml)
    factor.release()
    return solved


def check_representable(solved: SolvedEquations) -> None:
    """Refuse a response whose variances are no numbers of the machine in its own units.

    Raises
    ------
    DataError
    """
    if solved.unit == 1.0:
        return
    with np.errstate(over="ignore", under="ignore"):
        smallest, largest = np.array([solved.sigma2, solved.response.yy]) * solved.unit * solved.unit
    if np.isinf(largest) or 0.0 <= smallest < np.finfo(float).tiny:
        exponent = np.log10(solved.unit) + 0.5 * np.log10(max(solved.sigma2, np.finfo(float).tiny))
        size = "large" if solved.unit > 1.0 else "small"
        raise DataError(
            f"the response is too {size} for its variances to be numbers: their roots are about "
            f"1e{exponent:+.0f}; give it in other units"
        )


def _solve_without_search(
    equations: MixedModelEquations, factor: CholeskyFactor, response: Response, reml: bool
) -> tuple[SolvedEquations, optimizer.Optimum, Certificate]:
    """No variance parameters, or nothing left to explain: every relative variance is zero."""
    theta = np.zeros(equations.n_theta)
    factors = factors_at(equations, theta)
    if not factor.factorize(assemble_at(equations, factors)):
        raise np.linalg.LinAlgError("X'WX is not positive definite")
    start, term = equations.layout.start, equations.layout.term
    right = np.empty_like(response.rhs)
    apply_factor_transposed(start, term, factors, response.rhs, right)
    point = Point(0.0, 0.0, factors, factor.solve(right))
    solved = SolvedEquations(equations, factor, response, point, theta, reml)
    if response.explained:
        solved.leave_nothing()
    else:
        check_representable(solved)
    d = theta.size
    empty = np.zeros((len(equations.terms), equations.width, equations.width))
    optimum = optimizer.Optimum(
        theta,
        0,
        solved.criterion,
        solved.r2,
        0.0,
        0,
        1,
        np.zeros(d),
        np.zeros((d, d)),
        empty,
        np.empty((0, 3 + d)),
    )
    return solved, optimum, Certificate(True, 0.0, 0.0, 0.0, np.inf)
