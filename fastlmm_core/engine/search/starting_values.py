"""Where the search for the parameters of any structures begins: moments of the least squares residuals."""

from __future__ import annotations

import numpy as np

from fastlmm_core.engine.equations.structured_equations import StructuredEquations
from fastlmm_core.engine.equations.terms import EngineTerm
from fastlmm_core.kernels.search.slopes_alone import FAR, reach_of_covariate
from fastlmm_core.kernels.thresholds import FEW_LEVELS
from fastlmm_core.structures.levels.base import turned_together
from fastlmm_core.structures.residuals.by_group import LEAST_SQUARE

# Shares of the residual variance within which a variance starts.
SMALLEST, LARGEST = 0.05, 1.0
# What a spline explains of the residual variance at the start.
SPLINE_SHARE = 0.2
# Standard deviations of a spline in a direction, in units of a typical one: straight, and rough.
STRAIGHT, ROUGH = 1e-3, 2.5
# Variances in a start close to none.
NEARLY_NOTHING = 1e-3
# Correlations of a moment estimate are shrunk towards zero, away from a singular start.
SHRINK = 0.8


def starting_values(
    e: StructuredEquations, residual: np.ndarray, rng: np.random.Generator | None = None
) -> np.ndarray:
    """theta (n_theta,) from least squares residuals (n,) of mean square about one.

    With `rng` the moments are disturbed: another start of a criterion with several optima.
    """
    theta = np.zeros(e.n_theta)
    for term, (own, level) in zip(e.terms, e.slices[0], strict=True):
        if term.structure.n_theta:
            theta[own] = term.structure.start(moment_covariance(term, residual, rng))
        if term.levels is not None and term.n_level_theta:
            theta[level] = _level_start(term, rng)
    theta[e.slices[1]] = e.residual.start(residual)
    return theta


def moment_covariance(
    term: EngineTerm, residual: np.ndarray, rng: np.random.Generator | None = None
) -> np.ndarray:
    """T (m, m) from the means of the residual by level and coefficient, less their noise.

    A pair of coefficients takes the levels that have both; the result is made positive definite.
    """
    estimate, weight = [], []
    for matrix in term.matrices:
        square = np.bincount(matrix.indices, matrix.data**2, minlength=matrix.shape[1])
        estimate.append(np.divide(matrix.T @ residual, square, out=np.zeros(square.size), where=square > 0))
        weight.append(square)
    u, w = np.array(estimate), np.array(weight)
    # directions of a relationship that hardly vary tell little, and count as they do
    share = np.sqrt(w) if term.root is not None else (w > 0).astype(float)
    together = share @ share.T
    together[together == 0.0] = 1.0
    T = (u * share) @ (u * share).T / together
    unit = term.column_scale
    told = np.diag(T) * unit > LEAST_SQUARE  # what the fixed part explains leaves zero or rounding
    T = np.where(np.outer(told, told), T, 0.0)
    noise = np.where(w > 0, 0.5 * share**2 / np.where(w > 0, w, 1.0), 0.0).sum(axis=1) / np.diag(together)
    noise = noise if term.response_square is None else noise * term.response_square
    variance = np.clip((np.diag(T) - noise) * unit, SMALLEST, LARGEST) / unit
    sd = np.sqrt(np.maximum(np.diag(T), 1e-300))
    correlation = SHRINK * np.clip(T / np.outer(sd, sd), -1.0, 1.0)
    if rng is not None:
        disturbance = rng.normal(scale=0.4, size=correlation.shape)
        correlation = correlation + 0.5 * (disturbance + disturbance.T)
        variance = variance * np.exp(rng.normal(scale=0.5, size=variance.size))
    np.fill_diagonal(correlation, 1.0)
    values, vectors = np.linalg.eigh(correlation)
    correlation = (vectors * np.maximum(values, 0.05)) @ vectors.T
    diagonal = np.sqrt(np.diag(correlation))
    spread = np.sqrt(variance) / diagonal
    return correlation * np.outer(spread, spread)


def _level_start(term: EngineTerm, rng: np.random.Generator | None) -> np.ndarray:
    levels = term.levels
    assert levels is not None
    start = levels.start()
    if not levels.holds_variance:
        return start if rng is None else start + rng.normal(scale=0.5, size=start.size)
    # a spline begins where its effect has variance one on average over the rows (`typical_variance`)
    return levels.rescaled(start, SPLINE_SHARE)


def starts_of_levels(e: StructuredEquations, first: np.ndarray, strong: bool) -> list[np.ndarray]:
    """Starts beside `first` (n_theta,) with other parameters of the levels, those of all terms at once.

    With `strong` ones too where they are correlations.
    """
    others = [
        (level, term.levels.other_starts() + (term.levels.strong_starts() if strong else []))
        for term, (_, level) in zip(e.terms, e.slices[0], strict=True)
        if term.levels is not None
    ]
    return turned_together(first, others)


def starts_of_curves(e: StructuredEquations, first: np.ndarray, theta: np.ndarray) -> list[np.ndarray]:
    """Starts beside `first` (n_theta,) with a rough curve in a direction in which it is straight at `theta`.

    Of a surface in two directions what is left to rows or columns by themselves may be a rough curve as well.
    The first such directions of all surfaces come at once, and then the second.
    """
    others = []
    for term, (_, level) in zip(e.terms, e.slices[0], strict=True):
        if term.levels is None or not term.levels.holds_variance or term.n_level_theta < 2:
            continue
        straight = np.flatnonzero(np.abs(theta[level]) < STRAIGHT)
        places = np.arange(term.n_level_theta)
        others.append((level, [np.where(places == d, ROUGH, first[level]) for d in straight]))
    return turned_together(first, others)


def starts_of_slopes(e: StructuredEquations, theta: np.ndarray) -> list[np.ndarray]:
    """Starts beside an optimum theta (n_theta,) of a model with a slope alone.

    See ``kernels.search.slopes_alone``.
    Terms of one coefficient have `reach`^2 times the variance of the residual there, or hardly any, lower
    than moments begin.
    """
    far, near, reach, plain = theta.copy(), theta.copy(), 0.0, []
    for term, (own, _) in zip(e.terms, e.slices[0], strict=True):
        if term.m > 1 or term.structure.n_theta != 1 or term.null is not None or term.root is not None:
            continue
        size = max(float(term.column_scale[0]), 1e-300)
        plain.append((term, own, size))
        near[own] = term.structure.theta_of(np.array([[NEARLY_NOTHING / size]]))
        values = term.matrices[0].data
        if np.unique(values[values != 0.0]).size > 1:
            its = reach_of_covariate(values)
            reach = max(reach, its if term.n_levels <= FEW_LEVELS or its > FAR else 0.0)
    for term, own, size in plain:
        far[own] = term.structure.theta_of(np.array([[reach**2 / size]]))
    return [far, near] if reach > 0.0 else []


def without_terms(e: StructuredEquations, first: np.ndarray) -> np.ndarray:
    """A start `first` (n_theta,) with hardly any variance in the random terms."""
    theta = first.copy()
    for term, (own, _) in zip(e.terms, e.slices[0], strict=True):
        if term.structure.n_theta:
            nothing = np.diag(NEARLY_NOTHING / np.maximum(term.column_scale, 1e-300))
            theta[own] = term.structure.start(nothing)
    return theta
