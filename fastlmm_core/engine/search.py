"""Minimisation of a deviance by a safeguarded Newton iteration: one loop for every objective in Python."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastlmm_core.kernels.small_fit import ROUNDING
from fastlmm_core.kernels.trust_region import (
    SECANT_BELOW,
    SECANT_SLOW,
    correct_curvature,
    judge_step,
    propose_step,
)

# Parameters up to which the eigenvalues of the curvature are left to the kernel.
ROTATED_BY_KERNEL = 8

Progress = Callable[[int, float, float, np.ndarray, float], None]


@dataclass(frozen=True)
class SearchEnd:
    """Where a search ended.

    Attributes
    ----------
    theta : (d,)
    status : int
        Key of ``reml.optimizer.STATUS``.
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


def search(
    evaluate: Callable[[np.ndarray], Any],
    score: Callable[[Any], tuple[np.ndarray, np.ndarray, Any]],
    theta: np.ndarray,
    *,
    dof: float,
    tolerance: float,
    max_iterations: int,
    progress: Progress | None = None,
) -> SearchEnd:
    """Minimise from `theta`.

    Parameters
    ----------
    evaluate : callable
        Point at a theta, with an attribute `deviance`, inf where there is none.
    score : callable
        Gradient, curvature and anything else at the point evaluated last.
    dof : float
        Observations less fixed effects, for the rounding of the deviance.
    """
    began = time.perf_counter()
    theta = np.array(theta, dtype=float)
    d = theta.size
    point = evaluate(theta)
    evaluations, iteration, held = 1, 0, True
    trace: list[np.ndarray] = []
    if not np.isfinite(point.deviance):
        return SearchEnd(
            theta, 2, point, True, np.inf, 0, 1, np.zeros(d), np.zeros((d, d)), None, np.empty((0, 3 + d))
        )
    radius = max(1.0, 0.5 * float(np.linalg.norm(theta)))
    previous = np.inf
    correction, corrected = np.zeros((d, d)), False
    step = before = np.zeros(d)
    status = 1
    while True:
        gradient, hessian, extra = score(point)
        proposal = propose(gradient, hessian, radius)
        if corrected or (previous < SECANT_BELOW and proposal[2] > SECANT_SLOW * previous):
            if iteration > 0 and previous < SECANT_BELOW:
                correct_curvature(correction, hessian, step, gradient - before)
                corrected = True
            hessian = hessian + correction
            proposal = propose(gradient, hessian, radius)
        step, predicted, decrement = proposal
        trace.append(np.concatenate(([point.deviance, decrement, radius], theta)))
        if progress is not None:
            progress(iteration, point.deviance, decrement, theta, time.perf_counter() - began)
        noise = 1e-14 * (abs(point.deviance) + dof)
        if decrement <= tolerance:
            status = 0
            break
        if decrement <= 100.0 * noise and decrement >= previous:
            status = 0 if decrement <= 1e-8 else 3
            break
        if iteration == max_iterations:
            break
        previous = decrement
        accepted = False
        while not accepted:
            moved = theta + step
            trial = evaluate(moved)
            evaluations += 1
            if predicted <= 100.0 * noise:
                accepted = bool(np.isfinite(trial.deviance))
                break
            accepted, radius = judge_step(
                point.deviance - trial.deviance, predicted, float(np.linalg.norm(step)), radius
            )
            if not accepted:
                if decrement <= ROUNDING:
                    break
                step, predicted, decrement = propose(gradient, hessian, radius)
                if not radius >= 1e-14:  # also ends on NaN
                    break
        if not accepted:
            status, held = 3, False
            break
        theta, point, before, held = moved, trial, gradient, True
        iteration += 1
    return SearchEnd(
        theta, status, point, held, decrement, iteration, evaluations, gradient, hessian, extra,
        np.array(trace),
    )  # fmt: skip


def propose(gradient: np.ndarray, hessian: np.ndarray, radius: float) -> tuple[np.ndarray, float, float]:
    """``kernels.trust_region.propose_step``; LAPACK turns the curvature diagonal first where it is large.

    The rotations of the kernel serve a handful of parameters; 55 take 27 ms a step, LAPACK less than one.
    """
    if gradient.size <= ROTATED_BY_KERNEL or not np.isfinite(hessian).all():
        return propose_step(gradient, hessian, radius)
    values, vectors = np.linalg.eigh(hessian)
    step, predicted, decrement = propose_step(vectors.T @ gradient, np.diag(values), radius)
    return vectors @ step, predicted, decrement
