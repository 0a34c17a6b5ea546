"""Bounds at which the chart of a structure hides a slope: correlations of one, standard deviations of zero.

A correlation c(x), of coefficients, visits or along levels, comes near 1 or -1 as x becomes infinite, and the
derivative of the deviance in x is zero there whether it falls or rises with c.  A standard deviation of zero
is a kink, a minimum for one sign of the correlation and none for the other, which may have changed since it
was put there.  So deviances a little inside of such a bound say whether an end of a search is one of theirs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from fastlmm_core.engine.equations.structured_equations import StructuredEquations
from fastlmm_core.structures.coefficients.boundary import BOUND_CORRELATION
from fastlmm_core.structures.coefficients.partial_correlations import tanh_chart_at
from fastlmm_core.structures.residuals.base import Charted

# How far from its bound a correlation is tried, and a standard deviation from zero (of the response's size).
DISTANCES = (0.1, 0.01, 1e-3, 1e-4)
GROWN = (0.3, 0.1, 0.01)


def inner_points(e: StructuredEquations, theta: np.ndarray, free: np.ndarray) -> Iterator[np.ndarray]:
    """theta (n_theta,) with a correlation, or standard deviations of zero, moved inside; none without these.

    Parameters
    ----------
    theta : (n_theta,)
    free : (n_theta,) bool
        What may move.
    """
    moves = []
    for term, (own, level) in zip(e.terms, e.slices[0], strict=True):
        if term.levels is not None and not term.levels.holds_variance:
            moves += _ends(theta, np.arange(level.start, level.stop), free, tanh_chart_at)
        moves += _of_structure(e, theta, free, own.start, term.structure)
    for first, structure in e.residual.charted():
        moves += _of_structure(e, theta, free, e.slices[1].start + first, structure)
    for places, values in moves:
        moved = theta.copy()
        moved[places] = values
        yield moved


def _of_structure(
    e: StructuredEquations, theta: np.ndarray, free: np.ndarray, first: int, structure: Charted
) -> list[tuple[np.ndarray, np.ndarray | float]]:
    """Places and values of the correlations at a bound, and of the zeros beside correlations."""
    charts = first + np.flatnonzero(structure.correlation_charts())
    if not charts.size:
        return []
    zeros = first + np.flatnonzero(structure.lower_bounds() == 0.0)
    zeros = zeros[free[zeros] & (theta[zeros] == 0.0)]
    together = [zeros[[k]] for k in range(zeros.size)] + ([zeros] if zeros.size > 1 else [])
    grown = [(own, step * e.bounded_sizes[own]) for own in together for step in GROWN]
    return _ends(theta, charts, free, structure.chart_at) + grown


def _ends(
    theta: np.ndarray, charts: np.ndarray, free: np.ndarray, chart_at: Callable[[float], float]
) -> list[tuple[np.ndarray, np.ndarray | float]]:
    """Places and values of the correlations at a bound, at each of the distances from it."""
    bound = chart_at(BOUND_CORRELATION)
    return [
        (charts[[k]], np.sign(theta[charts[[k]]]) * chart_at(far))
        for k, place in enumerate(charts) if free[place] and abs(theta[place]) >= bound for far in DISTANCES
    ]  # fmt: skip
