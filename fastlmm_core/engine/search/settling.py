"""Variances that a search left near zero: at zero, where the deviance allows it, or where they grow from."""

from __future__ import annotations

import numpy as np

from fastlmm_core.engine.objective import without_cancellation
from fastlmm_core.engine.search.driver import SearchEnd
from fastlmm_core.engine.search.growth import growth_score, growth_starts
from fastlmm_core.engine.search.optimum import Criterion
from fastlmm_core.kernels.thresholds import BOUNDARY, GROWTH, LARGEST_DECREMENT, LARGEST_RISE


def set_boundary(
    criterion: Criterion, theta: np.ndarray, free: np.ndarray, end: SearchEnd
) -> tuple[np.ndarray, float, np.ndarray | None]:
    """theta with variances at zero set there, the smallest score at a zero, and a start that leaves it."""
    e = criterion.equations
    out, smallest, restart = theta.copy(), np.inf, None
    for k, (term, (own, _)) in enumerate(zip(e.terms, e.slices[0], strict=True)):
        if not term.structure.n_theta or not free[own].all():
            continue
        T = term.structure.covariance(theta[own])
        tiny = np.diag(T) < BOUNDARY**2 / np.maximum(term.column_scale, 1e-300)
        if not tiny.any():
            continue
        S = end.extra.scores[k]
        if S is not None:
            starts = growth_starts(term, T, S, tiny)
            scores = [growth_score(term, T, S, start) for start in starts]
            smallest = min(smallest, *scores)
            if min(scores) < -GROWTH * (1.0 + float(np.abs(S).max())):
                restart = theta.copy() if restart is None else restart
                restart[own] = starts[int(np.argmin(scores))]
                continue
        zeroed = T.copy()
        zeroed[tiny, :] = 0.0
        zeroed[:, tiny] = 0.0
        moved = out.copy()
        moved[own] = term.structure.theta_of(zeroed)
        if criterion.at(moved).deviance <= end.point.deviance + LARGEST_RISE:
            out = moved
    return out, smallest, restart


def settled_residual(criterion: Criterion, theta: np.ndarray, free: np.ndarray) -> np.ndarray | None:
    """theta (n_theta,) with residual standard deviations near zero at zero, where the deviance allows it.

    Both deviances are without cancellation: near a singular R it is larger than what is compared.
    """
    e, out = criterion.equations, theta.copy()
    own = e.slices[1]
    out[own] = np.where(free[own], e.residual.settled(theta[own]), theta[own])
    if np.array_equal(out, theta):
        return None
    here, moved = (without_cancellation(e, criterion.factor, criterion.at(own)) for own in (theta, out))
    return out if moved.deviance <= here.deviance + LARGEST_DECREMENT else None
