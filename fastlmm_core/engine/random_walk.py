"""Autocorrelations on their way to one, and variances that grow without end beside them.

Along a trend the criterion of an AR(1) process has no optimum: rho tends to one while the variance of the
differences of neighbours, 2 sigma2 (1 - rho), stays, and the limit is a random walk. How far a search gets,
and whether its last steps look like those at an optimum, is a matter of rounding.
"""

from __future__ import annotations

import numpy as np

from fastlmm_core.engine.equations.structured_equations import StructuredEquations
from fastlmm_core.structures.coefficients.boundary import BOUND_CORRELATION

# An autocorrelation beyond this may have its optimum at one.
NEARLY_ONE = 0.99
# Variance, relative to the response's, above which an autocorrelation of one is the way to a random walk.
LARGEST_BESIDE_ONE = 10.0


def autocorrelations(e: StructuredEquations) -> list[slice]:
    """Places in theta of those of levels, by term, and of the rows of a field, by field."""
    of_levels = [
        level for term, (_, level) in zip(e.terms, e.slices[0], strict=True)
        if term.levels is not None and not term.levels.holds_variance
    ]  # fmt: skip
    first = e.slices[1].start
    return of_levels + [slice(first + own.start, first + own.stop) for own in e.residual.autocorrelations()]


def along_bounds(e: StructuredEquations, theta: np.ndarray, beyond: float = NEARLY_ONE) -> np.ndarray:
    """Which of theta (n_theta,) are autocorrelations above `beyond` in size."""
    out = np.zeros(theta.size, bool)
    for own in autocorrelations(e):
        out[own] = np.abs(np.tanh(theta[own])) > beyond
    return out


def walking_fields(e: StructuredEquations, theta: np.ndarray, free: np.ndarray) -> list[int]:
    """Fields of the residual on the way to a random walk at theta (n_theta,)."""
    at_one = (free & along_bounds(e, theta, 1.0 - BOUND_CORRELATION))[e.slices[1]]
    own = theta[e.slices[1]]
    fields = e.residual.autocorrelations()
    blocks = e.residual.blocks(own) if at_one.any() else []
    return [k for k, block in enumerate(blocks)
            if at_one[fields[k]].any() and float(block["T"][0, 0]) > LARGEST_BESIDE_ONE]  # fmt: skip


def random_walks(e: StructuredEquations, theta: np.ndarray, free: np.ndarray) -> list[int]:
    """Terms on the way to a random walk at theta (n_theta,): an autocorrelation that is `free` is at one."""
    at_one, out = free & along_bounds(e, theta, 1.0 - BOUND_CORRELATION), []
    for k, (term, (own, level)) in enumerate(zip(e.terms, e.slices[0], strict=True)):
        if term.structure.n_theta and at_one[level].any():
            T = term.structure.covariance(theta[own])
            if float(np.max(np.diag(T) * term.column_scale)) > LARGEST_BESIDE_ONE:
                out.append(k)
    return out
