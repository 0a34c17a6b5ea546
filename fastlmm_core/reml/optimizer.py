"""Minimisation of the REML/ML deviance: one method, compiled for small systems, by supernodes for large."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fastlmm_core.engine.search.driver import Progress, search, tolerance_of
from fastlmm_core.kernels.caching import compiled_before
from fastlmm_core.kernels.equations.systems import Problem, System
from fastlmm_core.kernels.search.small_fit import fit_small
from fastlmm_core.linalg.base import CholeskyFactor
from fastlmm_core.linalg.simplicial import SimplicialFactor
from fastlmm_core.reml.equations import MixedModelEquations
from fastlmm_core.reml.objective import (
    Point,
    Response,
    degrees_of_freedom,
    evaluate,
    evaluate_score,
    factors_at,
    n_leading,
)

MAX_ITERATIONS = 100
# Fits of a process before it compiles the search of small systems.
INTERPRETED_SEARCHES = 3
_searches = 0
WITHOUT_RESIDUAL = 4
STATUS = {
    0: "converged",
    1: "iteration limit reached",
    2: "the equations are not positive definite at the start",
    3: "no further decrease at rounding level",
    WITHOUT_RESIDUAL: "the random part explains the response, and no residual variance is left to estimate",
}


@dataclass(frozen=True)
class Optimum:
    """End of the iteration.

    Attributes
    ----------
    theta : (n_theta,) float64
        In the inside basis, signs not yet canonical.
    status : int
        Key of ``STATUS``.
    deviance, r2, decrement : float
    iterations, evaluations : int
    gradient : (n_theta,), hessian : (n_theta, n_theta), S : (K, m, m)
    trace : (iterations + 1, 3 + n_theta) float64
        Deviance, decrement, radius, theta.
    point : Point or None
        The factorized point, when the factor still holds it.
    """

    theta: np.ndarray
    status: int
    deviance: float
    r2: float
    decrement: float
    iterations: int
    evaluations: int
    gradient: np.ndarray
    hessian: np.ndarray
    S: np.ndarray
    trace: np.ndarray
    point: Point | None = None


def minimize(
    equations: MixedModelEquations,
    factor: CholeskyFactor,
    response: Response,
    *,
    reml: bool,
    theta: np.ndarray,
    tolerance: float | None = None,
    max_iterations: int = MAX_ITERATIONS,
    progress: Progress | None = None,
) -> Optimum:
    """Minimise the deviance from `theta`.

    Parameters
    ----------
    tolerance : float, optional
        Decrement at which to stop; default ``engine.search.driver.tolerance_of`` the factor.
    progress : callable, optional
        Called with (iteration, deviance, decrement, theta, seconds) at every iteration; forces the
        interpreted loop.
    """
    if tolerance is None:
        tolerance = tolerance_of(factor.flops)
    if isinstance(factor, SimplicialFactor) and progress is None and _compiling_pays():
        return _minimize_compiled(equations, factor, response, reml, theta, tolerance, max_iterations)
    return _minimize_stepwise(equations, factor, response, reml, theta, tolerance, max_iterations, progress)


def _compiling_pays() -> bool:
    """Whether the whole search in one kernel is at hand, or will be used often enough to compile it.

    Its compilation takes as long as that of all the kernels it calls.  The first fits of a process that finds
    no compiled search run the same steps one kernel at a time, in milliseconds instead of microseconds.
    """
    global _searches
    if _searches > INTERPRETED_SEARCHES:
        return True
    at_hand = getattr(fit_small, "signatures", True) or compiled_before(fit_small)
    _searches = INTERPRETED_SEARCHES + 1 if at_hand else _searches + 1
    return _searches > INTERPRETED_SEARCHES


def _minimize_compiled(
    equations: MixedModelEquations,
    factor: SimplicialFactor,
    response: Response,
    reml: bool,
    theta: np.ndarray,
    tolerance: float,
    max_iterations: int,
) -> Optimum:
    theta = np.array(theta, dtype=float)
    e = equations
    system = System(e.G, e.penalty, e.pattern, factor.position, factor.indptr, factor.indices)
    problem = Problem(response.rhs, response.yy, float(degrees_of_freedom(e, reml)), n_leading(e))
    status, numbers, gradient, hessian, S, trace = fit_small(
        system, problem, e.parameters, theta, max_iterations, tolerance
    )
    deviance, r2, decrement, iterations, evaluations = numbers
    return Optimum(
        theta, status, deviance, r2, decrement, int(iterations), int(evaluations), gradient, hessian, S, trace
    )


def _minimize_stepwise(
    equations: MixedModelEquations,
    factor: CholeskyFactor,
    response: Response,
    reml: bool,
    theta: np.ndarray,
    tolerance: float,
    max_iterations: int,
    progress: Progress | None,
) -> Optimum:
    end = search(
        lambda at: evaluate(equations, factor, response, factors_at(equations, at), reml),
        lambda point: evaluate_score(equations, factor, response, point, reml),
        theta, dof=degrees_of_freedom(equations, reml), tolerance=tolerance, max_iterations=max_iterations,
        progress=progress,
    )  # fmt: skip
    S = end.extra
    if S is None:
        S = np.zeros((len(equations.terms), equations.width, equations.width))
    return Optimum(
        end.theta, end.status, end.point.deviance, end.point.r2, end.decrement, end.iterations,
        end.evaluations, end.gradient, end.hessian, S, end.trace,
        end.point if end.held and end.status != 2 else None,
    )  # fmt: skip
