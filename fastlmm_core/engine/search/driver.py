"""The search of ``kernels.search.newton`` driven from Python, for objectives that are evaluated there."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastlmm_core.kernels.search.newton import (
    DECREMENT,
    DEVIANCE,
    END,
    EVALUATE,
    EVALUATIONS,
    HELD,
    ITERATION,
    NOISE,
    STATUS,
    start_search,
    take_deviance,
    take_score,
)

# A search ends where the Newton decrement g' H^-1 g, the deviance still to be gained times two, falls below.
TOLERANCE = 1e-11
# The square root of the decrement is the distance to the optimum in standard errors of theta.  Where a step
# costs ten milliseconds or more, 3e-5 of a standard error (5e-10 in the deviance) is the end.
TOLERANCE_LARGE, LARGE = 1e-9, 3e7
# Status of a search that was left: its deviance, less so many decrements and a little, was above a known one.
ABOVE = 4
FAR, LITTLE = 20.0, 1e-2

Progress = Callable[[int, float, float, np.ndarray, float], None]


@dataclass(frozen=True)
class SearchEnd:
    """Where a search ended.

    Attributes
    ----------
    theta : (d,)
    status : int
        Key of ``reml.optimizer.STATUS``, or `ABOVE`.
    point : Any
        What `evaluate` returned there.
    held : bool
        Whether the last evaluation was that of `point`.
    decrement : float
    iterations, evaluations : int
    gradient : (d,), hessian : (d, d)
    extra : Any
        Third value of `score` at the end.
    trace : (iterations + 1, 3 + d)
        Deviance, decrement, radius, theta.
    """

    theta: np.ndarray
    status: int
    point: Any
    held: bool
    decrement: float
    iterations: int
    evaluations: int
    gradient: np.ndarray
    hessian: np.ndarray
    extra: Any
    trace: np.ndarray


def tolerance_of(flops: float) -> float:
    """Decrement at which a search ends whose factorizations take so many multiply-adds."""
    return TOLERANCE_LARGE if flops > LARGE else TOLERANCE


def search(
    evaluate: Callable[[np.ndarray], Any],
    score: Callable[[Any], tuple[np.ndarray, np.ndarray, Any]],
    theta: np.ndarray,
    *,
    dof: float,
    tolerance: float,
    max_iterations: int,
    known: float = np.inf,
    progress: Progress | None = None,
) -> SearchEnd:
    """Minimise from `theta`.

    Parameters
    ----------
    evaluate : callable
        Point at a theta, with an attribute `deviance`, inf where there is none.
    score : callable
        Gradient, curvature and anything else at the point evaluated last; an attribute `rounding` of the
        latter is what cancellation may cost the deviance there.
    dof : float
        Observations less fixed effects, for the rounding of the deviance.
    tolerance : float
        Decrement at which to stop.
    known : float
        Deviance of another optimum: where the search is bound to end above it, it is left.
    progress : callable, optional
        Called with (iteration, deviance, decrement, theta, seconds) at every iteration.
    """
    began = time.perf_counter()
    state = start_search(np.array(theta, dtype=float), float(dof), tolerance, max_iterations)
    numbers, counts = state.numbers, state.counts
    point = trial = None
    extra, action = None, EVALUATE
    while action != END:
        if action == EVALUATE:
            trial = evaluate(state.moved.copy())
            action = take_deviance(state, trial.deviance)
            if counts[HELD]:
                point = trial
            continue
        gradient, curvature, extra = score(point)
        numbers[NOISE] = getattr(extra, "rounding", 0.0)
        action = take_score(state, gradient, curvature)
        if numbers[DEVIANCE] - FAR * numbers[DECREMENT] > known + LITTLE:
            counts[STATUS], action = ABOVE, END
        if progress is not None:
            seconds = time.perf_counter() - began
            progress(
                int(counts[ITERATION]), numbers[DEVIANCE], numbers[DECREMENT], state.theta.copy(), seconds
            )
    rows = 0 if counts[STATUS] == 2 else counts[ITERATION] + 1
    return SearchEnd(
        state.theta, int(counts[STATUS]), point, bool(counts[HELD]), float(numbers[DECREMENT]),
        int(counts[ITERATION]), int(counts[EVALUATIONS]), state.gradient, state.hessian, extra,
        state.trace[:rows],
    )  # fmt: skip
