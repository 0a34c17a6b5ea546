"""Standard deviations beside correlations: the criterion has a kink where one is zero.

Covariances with others are linear in them, so that the criterion, continued evenly across zero, has slopes of
two signs there, and steps of a search across it find no end.  A search stops at zero instead, where a step
that leads below holds what it had led there, and goes on from there if the slope asks for it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from fastlmm_core.engine.equations.structured_equations import StructuredEquations

# A standard deviation of zero leaves it where the criterion has a slope below this.
LEAST_SLOPE = 1e-3
# Where a coordinate at zero is looked at instead, for what depends on it, in units of a typical one.
AWAY = 0.02
# A standard deviation below this, in units of a typical one, is zero as far as a search resolves it, and what
# it is instead if all of a structure are.
GONE, GROWN = 1e-3, 0.1


def correlation_charts(e: StructuredEquations) -> np.ndarray:
    """Which of theta (n_theta,) bool are correlations in a chart without an end."""
    out = np.zeros(e.n_theta, bool)
    for term, (own, level) in zip(e.terms, e.slices[0], strict=True):
        out[own] = term.structure.correlation_charts()
        out[level] = term.levels is not None and not term.levels.holds_variance
    out[e.slices[1]] = e.residual.correlation_charts()
    return out


def kinks(e: StructuredEquations) -> np.ndarray:
    """Which of theta (n_theta,) bool are standard deviations with a kink at zero."""
    related = np.zeros(e.n_theta, bool)
    for term, (own, _) in zip(e.terms, e.slices[0], strict=True):
        related[own] = term.structure.correlation_charts().any()
    related[e.slices[1]] = e.residual.correlation_charts().any()
    return related & (e.lower_bounds == 0.0)


def stopped(
    x: np.ndarray, kinks: np.ndarray, least: np.ndarray | float = 0.0
) -> tuple[np.ndarray, np.ndarray]:
    """x (d,) with those of the `kinks` (d,) that are not above `least` there, and which these are."""
    ended = kinks & (x <= least)
    return np.where(ended, least, x), ended


def held_there(
    gradient: np.ndarray, curvature: np.ndarray, ended: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Gradient (d,) and curvature (d, d) of what moves beside the `ended` (d,).

    The criterion of a step farther below zero is that of zero, without a slope in it.
    """
    gradient, curvature = gradient.copy(), curvature.copy()
    gradient[ended] = curvature[ended] = curvature[:, ended] = 0.0
    curvature[ended, ended] = 1.0
    return gradient, curvature


def grown(
    x: np.ndarray, ended: np.ndarray, slope: np.ndarray, sizes: np.ndarray | float = 1.0
) -> np.ndarray | None:
    """x (d,) with those of the `ended` (d,) off zero whose `slope` (d,) asks for it; None if none does.

    Parameters
    ----------
    sizes : (d,)
        Of a typical one.
    """
    growing = ended & (slope * sizes < -LEAST_SLOPE)
    return np.where(growing, AWAY * sizes, x) if growing.any() else None


def turned_starts(e: StructuredEquations, theta: np.ndarray) -> list[np.ndarray]:
    """theta (n_theta,) with standard deviations off zero and correlations none, strong and negative beside.

    There any correlation gives the same model; which of them lets a variance grow is not known.
    """
    correlated: list[tuple[int, Any]] = [
        (place.start, term.structure) for term, (place, _) in zip(e.terms, e.slices[0], strict=True)
    ]
    visits = [part for part in e.residual.charted() if part[1] is not e.residual]  # no field
    correlated += [(e.slices[1].start + first, structure) for first, structure in visits]
    out = []
    for first, structure in correlated:
        charts = structure.correlation_charts()
        own = slice(first, first + charts.size)
        if not charts.any() or not (~charts & (np.abs(theta[own]) < GONE)).any():
            continue
        uncorrelated = _off_zero(theta[own], charts)
        for start in [uncorrelated, *structure.strong_starts(uncorrelated)]:
            moved = theta.copy()
            moved[own] = np.where(charts, start, uncorrelated)
            out.append(moved)
    return out


def starts_on_kinks(
    e: StructuredEquations, theta: np.ndarray, k: int, free: np.ndarray
) -> Iterator[np.ndarray]:
    """Starts (n_theta,) with the standard deviation k of a term at zero, and correlations as they are, strong
    and negative."""
    for term, (own, _) in zip(e.terms, e.slices[0], strict=True):
        if not own.start <= k < own.stop:
            continue
        charts = term.structure.correlation_charts()
        uncorrelated = _off_zero(theta[own], charts)
        strong = term.structure.strong_starts(uncorrelated)
        for correlated in [np.where(charts, theta[own], uncorrelated), *strong]:
            moved = theta.copy()
            moved[own], moved[k] = correlated, 0.0
            yield np.where(free, moved, theta)


def _off_zero(own: np.ndarray, charts: np.ndarray) -> np.ndarray:
    """theta (t,) of a structure with zeros as large as half the largest, and no correlations."""
    sd = np.abs(own)
    # of no size at all where all are zero
    size = max(0.5 * float(sd[~charts].max()), GROWN)
    return np.where(charts, 0.0, np.where(sd < GONE, size, sd))
