"""Newton steps with exact second derivatives, for searches that the average information leads to no end.

That of structures that bend strongly, such as a covariance of many visits that few subjects tell, is far from
the second derivatives: a search by it goes to and fro in a narrow valley, or the deviance stops to change
when the parameters still move.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from fastlmm_core.engine.equations.structured_equations import StructuredEquations
from fastlmm_core.engine.factorized import FactorizedModel
from fastlmm_core.engine.information.observed_information import dense_pays, second_derivatives
from fastlmm_core.engine.information.second_derivatives import flat_rotations, invert_on_range
from fastlmm_core.engine.objective import StructuredPoint, gradient_at
from fastlmm_core.engine.search.driver import TOLERANCE, SearchEnd
from fastlmm_core.engine.search.optimum import Criterion, StructuredOptimum
from fastlmm_core.errors import NumericalError

# Iterations with exact second derivatives after a search that reached its limit.
EXACT_ITERATIONS = 40
# Newton steps with exact second derivatives after a search that stalled, and the longest of them.
POLISHING_STEPS = 6
LONGEST_POLISHING_STEP = 0.3
# Decrement that is small enough where second derivatives are differences, four gradients for every parameter,
# of more than so many parameters.
ENOUGH = 1e-6
FEW_PARAMETERS = 15


def is_cheap(e: StructuredEquations, free: np.ndarray, flops: float) -> bool:
    """Whether second derivatives of the `free` parameters take a few gradients, or a few ms."""
    t = int(np.count_nonzero(free))
    return t <= FEW_PARAMETERS or dense_pays(e, t, flops)


def exact_curvature(
    criterion: Criterion, point: StructuredPoint, free: np.ndarray, average: np.ndarray
) -> np.ndarray:
    """Second derivatives (n_theta, n_theta) at the factorized point, `average` where there are none.

    Rows of parameters that are not `free` are zero.
    """
    e = criterion.equations
    out = np.zeros((e.n_theta, e.n_theta))
    model = FactorizedModel(e, criterion.factor, point, free, not e.fixed_last)
    try:
        out[np.ix_(free, free)] = second_derivatives(model, criterion.y)
    except NumericalError:
        return average
    return out


def polished(criterion: Criterion, found: StructuredOptimum) -> StructuredOptimum:
    """Newton steps with exact second derivatives from where a search stalled."""
    e, factor = criterion.equations, criterion.factor
    theta, point = found.theta, found.point
    at = np.flatnonzero(found.free & ~((e.lower_bounds == 0.0) & (theta == 0.0)))
    moving = np.isin(np.arange(theta.size), at)
    if not at.size or (found.end.decrement <= ENOUGH and not is_cheap(e, moving, factor.flops)):
        return found
    gradient = gradient_at(e, factor, point)[0][at]
    try:
        H = second_derivatives(FactorizedModel(e, factor, point, moving, not e.fixed_last), criterion.y)
    except NumericalError:
        return found
    inverse = invert_on_range(H, flat_rotations(e, theta, at))
    decrement = 0.5 * float(gradient @ inverse @ gradient)
    for _ in range(POLISHING_STEPS):
        step = -inverse @ gradient
        if decrement <= TOLERANCE or np.linalg.norm(step) > LONGEST_POLISHING_STEP:
            break
        moved = theta.copy()
        moved[at] += step
        trial = criterion.at(moved)
        if not trial.deviance <= point.deviance + 1e-14 * (abs(point.deviance) + e.n) * 100.0:
            break
        next_gradient = gradient_at(e, factor, trial)[0][at]
        following = 0.5 * float(next_gradient @ inverse @ next_gradient)
        if following >= decrement:
            break
        theta, point, gradient, decrement = moved, trial, next_gradient, following
    if theta is found.theta:
        return found
    return replace(found, theta=theta, point=point, end=_polished_end(found, point, at, gradient, decrement))


def _polished_end(
    found: StructuredOptimum, point: StructuredPoint, at: np.ndarray, gradient: np.ndarray, decrement: float
) -> SearchEnd:
    """The record of the search, moved to where polishing ended."""
    whole = np.zeros(found.free.size)
    whole[at] = gradient
    return replace(
        found.end, theta=point.theta[found.free], point=point, gradient=whole[found.free],
        decrement=decrement, status=0, held=False,
    )  # fmt: skip
