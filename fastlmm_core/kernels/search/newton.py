"""The safeguarded Newton search, which says what to evaluate next and is told the outcome.

One search for every criterion: compiled loops call these kernels directly, and ``engine.search.driver``
drives them from Python where an evaluation is a large factorization.

    state = start_search(theta, ...)
    action = EVALUATE
    while action != END:
        if action == EVALUATE:  action = take_deviance(state, deviance at state.moved)
        else:                   action = take_score(state, gradient and curvature at state.theta)

After ``take_deviance`` has answered SCORE, `state.theta` is the point evaluated last.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from fastlmm_core.kernels.compile import kernel
from fastlmm_core.kernels.search.trust_region import (
    SECANT_BELOW,
    SECANT_SLOW,
    correct_curvature,
    judge_step,
    measure_length,
    propose_step,
)

# What the caller does next.
EVALUATE, SCORE, END = 0, 1, 2
# Places in `SearchState.numbers`.
DEVIANCE, PREDICTED, DECREMENT, PREVIOUS, RADIUS, DOF, TOLERANCE, NOISE = 0, 1, 2, 3, 4, 5, 6, 7
# Places in `SearchState.counts`.
ITERATION, EVALUATIONS, STATUS, HELD, CORRECTED, LARGEST_ITERATION = 0, 1, 2, 3, 4, 5
# A step that fails below this decrement fails by rounding of the deviance: a smaller one would not do better.
ROUNDING = 1e-7
# A decrement that has stopped to fall is an optimum as far as rounding lets see, up to this.
SETTLED = 1e-8
LEAST_RADIUS = 1e-14
# Beside an optimum a predicted decrease of less than so much of the noise by cancellation cannot be judged,
# and the step is taken.
JUDGED = 10.0
# Rejected steps shrink the radius or end the search long before so many evaluations for an iteration allowed.
EVALUATIONS_EACH = 10


class SearchState(NamedTuple):
    """A search under way.

    Attributes
    ----------
    theta : (d,)
        Best point so far.
    moved : (d,)
        Point to evaluate.
    step : (d,)
        The step that led, or leads, to `moved`.
    gradient, before : (d,)
        At `theta`, and at the point before it.
    hessian : (d, d)
        Curvature at `theta`, secant correction included.
    curvature : (d, d)
        As it was given, without the correction.
    correction : (d, d)
    numbers : (8,) float64
        Deviance, predicted decrease, decrement g' |H|^-1 g, decrement before, radius, observations less fixed
        effects (for the rounding of the deviance), decrement at which to stop, and what cancellation may cost
        the deviance beyond its own digits.
    counts : (6,) int64
        Iterations, evaluations, status (a key of ``reml.optimizer.STATUS``), whether the last evaluation was
        that of `theta`, whether the correction is in use, iterations allowed.
    trace : (iterations allowed + 1, 3 + d)
        Deviance, decrement, radius and theta of every iteration.
    """

    theta: np.ndarray
    moved: np.ndarray
    step: np.ndarray
    gradient: np.ndarray
    before: np.ndarray
    hessian: np.ndarray
    curvature: np.ndarray
    correction: np.ndarray
    numbers: np.ndarray
    counts: np.ndarray
    trace: np.ndarray


@kernel
def start_search(theta, dof, tolerance, max_iterations):
    """A search from `theta` (d,), to evaluate first."""
    d = theta.size
    numbers = np.array([np.inf, 0.0, np.inf, np.inf, 0.0, dof, tolerance, 0.0])
    numbers[RADIUS] = max(1.0, 0.5 * measure_length(theta))
    counts = np.zeros(6, np.int64)
    counts[LARGEST_ITERATION] = max_iterations
    trace = np.empty((max_iterations + 1, 3 + d))
    return SearchState(
        theta.copy(), theta.copy(), np.zeros(d), np.zeros(d), np.zeros(d), np.zeros((d, d)), np.zeros((d, d)),
        np.zeros((d, d)), numbers, counts, trace,
    )  # fmt: skip


@kernel
def end_search(state, status):
    state.counts[STATUS] = status
    return END


@kernel
def rounding_of(state):
    """Differences of the deviance below this are rounding."""
    own = 1e-14 * (abs(state.numbers[DEVIANCE]) + state.numbers[DOF])
    return max(own, 0.01 * state.numbers[NOISE])


@kernel
def accept_point(state, deviance):
    for t in range(state.theta.size):
        state.theta[t] = state.moved[t]
        state.before[t] = state.gradient[t]
    state.numbers[DEVIANCE] = deviance
    state.counts[HELD] = 1
    return SCORE


@kernel
def take_deviance(state, deviance):
    """Judge the point `state.moved`, of this deviance (inf where there is none)."""
    numbers, counts = state.numbers, state.counts
    counts[EVALUATIONS] += 1
    if counts[EVALUATIONS] == 1:
        counts[HELD] = 1
        return accept_point(state, deviance) if np.isfinite(deviance) else end_search(state, 2)
    counts[HELD] = 0
    if counts[EVALUATIONS] > EVALUATIONS_EACH * counts[LARGEST_ITERATION]:
        return end_search(state, 1)
    stuck = False
    last = numbers[DECREMENT] <= ROUNDING and numbers[PREDICTED] <= JUDGED * numbers[NOISE]
    if last or numbers[PREDICTED] <= 100.0 * rounding_of(state):
        accepted = np.isfinite(deviance)
        stuck = not accepted
    else:
        length = measure_length(state.step)
        decrease = numbers[DEVIANCE] - deviance
        accepted, radius = judge_step(decrease, numbers[PREDICTED], length, numbers[RADIUS])
        if accepted or not counts[CORRECTED]:
            numbers[RADIUS] = radius
        stuck = not accepted and numbers[DECREMENT] <= ROUNDING
    if accepted:
        counts[ITERATION] += 1
        return accept_point(state, deviance)
    if counts[CORRECTED]:
        forget_correction(state)
        return EVALUATE
    if stuck:
        return end_search(state, 3)
    propose(state)
    if not numbers[RADIUS] >= LEAST_RADIUS:  # also ends on NaN
        return end_search(state, 3)
    return EVALUATE


@kernel
def forget_correction(state):
    """Leave the secant correction out: a step that fails with it may have followed a guess."""
    for s in range(state.theta.size):
        for t in range(state.theta.size):
            state.hessian[s, t] = state.curvature[s, t]
            state.correction[s, t] = 0.0
    state.counts[CORRECTED] = 0
    propose(state)


@kernel
def propose(state):
    """Step, its predicted decrease and the decrement at the curvature of the state; the point it leads to."""
    step, predicted, decrement = propose_step(state.gradient, state.hessian, state.numbers[RADIUS])
    state.numbers[PREDICTED], state.numbers[DECREMENT] = predicted, decrement
    for t in range(step.size):
        state.step[t] = step[t]
        state.moved[t] = state.theta[t] + step[t]


@kernel
def is_plateau(state):
    """Whether a step of order one is worth nothing that the deviance can show.

    Towards an autocorrelation of one the gradient falls with the distance to it and the curvature with its
    square: the decrement stays what it was however far the search goes.
    """
    numbers = state.numbers
    rounding = rounding_of(state)
    cut = numbers[PREDICTED] <= rounding and numbers[DECREMENT] > 100.0 * rounding
    return cut and numbers[RADIUS] >= 1.0


@kernel
def take_score(state, gradient, curvature):
    """Plan the step from `state.theta` with its gradient (d,) and curvature (d, d), or end."""
    numbers, counts = state.numbers, state.counts
    d = gradient.size
    last = state.step.copy()
    for s in range(d):
        state.gradient[s] = gradient[s]
        for t in range(d):
            state.hessian[s, t] = state.curvature[s, t] = curvature[s, t]
    propose(state)
    near = numbers[PREVIOUS] < SECANT_BELOW
    if counts[CORRECTED] or (near and numbers[DECREMENT] > SECANT_SLOW * numbers[PREVIOUS]):
        if counts[ITERATION] > 0 and near:
            correct_curvature(state.correction, curvature, last, gradient - state.before)
            counts[CORRECTED] = 1
        for s in range(d):
            for t in range(d):
                state.hessian[s, t] += state.correction[s, t]
        propose(state)
    row = state.trace[counts[ITERATION]]
    row[0], row[1], row[2] = numbers[DEVIANCE], numbers[DECREMENT], numbers[RADIUS]
    for t in range(d):
        row[3 + t] = state.theta[t]
    decrement = numbers[DECREMENT]
    if decrement <= numbers[TOLERANCE]:
        return end_search(state, 0)
    if decrement <= 100.0 * rounding_of(state) and decrement >= numbers[PREVIOUS]:
        return end_search(state, 0 if decrement <= SETTLED else 3)
    if is_plateau(state):
        return end_search(state, 3)
    if counts[ITERATION] == counts[LARGEST_ITERATION]:
        return end_search(state, 1)
    numbers[PREVIOUS] = decrement
    return EVALUATE
