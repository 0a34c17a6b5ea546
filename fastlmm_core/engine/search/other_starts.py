"""From where else to search, where the criterion may have several optima."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp

from fastlmm_core.engine.equations.structured_equations import StructuredEquations
from fastlmm_core.engine.search.optimum import Criterion, StructuredOptimum
from fastlmm_core.engine.search.starting_values import (
    starting_values,
    starts_of_curves,
    starts_of_levels,
    starts_of_slopes,
    without_terms,
)
from fastlmm_core.structures.levels.base import turned_together

# A factorization of so many is large: its search has one start.
LARGE_FLOPS = 1e9
# Disturbed starts of a factor-analytic or reduced-rank model beside the moments, and of any model after a
# search that ended at no optimum; which they are, others each time.
MORE_STARTS = 2
SEED_OF_STARTS, SEED_OF_RESTARTS = 1, 2
# The same of a small one, where a search takes milliseconds and few levels tell the factors apart. There
# autocorrelations in two directions have strong starts too.
STARTS_IF_SMALL = 8
SMALL_FLOPS = 1e5
# Above these, levels are so many that moments lead to the best optimum, and no others are looked for.
MODERATE_FLOPS = 1e7
# Rows for each parameter up to which correlations of coefficients, and those of visits beside random terms,
# have strong and negative starts too.
FEW_ROWS = 20
# Rows up to which variances of visits and coefficients have other ratios too. A fixed part that leaves
# something of their means makes optima far below those near the moments, however many rows there are, but
# each start is another search.
ROWS_OF_SPREADS = 5000
# The same of surfaces that are straight in a direction, and of autocorrelations, of which some hundred plots
# tell the sign. Where it is clear in fewer, each explains so much of the deviance.
FIELD_FLOPS = 1e6
CLEAR = 10.0


def other_starts(
    e: StructuredEquations, criterion: Criterion, y: np.ndarray, first: np.ndarray, found: StructuredOptimum
) -> list[np.ndarray]:
    """Starts beside the moments (`first`), from which an optimum was `found`: where better ones may be.

    Parameters
    ----------
    criterion : Criterion
        Of `e` or of what rows tell of it.
    y : (n,)
        Least squares residuals of mean square one.
    first : (n_theta,)

    Returns
    -------
    list of (n_theta,)
    """
    starts: list[np.ndarray] = []
    flops = criterion.factor.flops
    if any(term.structure.several_optima for term in e.terms) and not _is_settled(e, found, flops):
        rng = np.random.default_rng(SEED_OF_STARTS)
        more = STARTS_IF_SMALL if flops <= SMALL_FLOPS else MORE_STARTS
        starts += [starting_values(e, y, rng) for _ in range(more)]
    starts += starts_of_slopes(e, found.theta)
    if flops <= FIELD_FLOPS:
        starts += starts_of_curves(e, first, found.theta)
    few = flops <= FIELD_FLOPS and has_few_rows(e)
    if few:
        coefficients = [
            (own, term.structure.other_starts(first[own]))
            for term, (own, _) in zip(e.terms, e.slices[0], strict=True)
        ]
        if e.terms:
            coefficients.append((e.slices[1], e.residual.other_correlations(first[e.slices[1]])))
        starts += turned_together(first, coefficients)
    if flops <= FIELD_FLOPS or (flops <= MODERATE_FLOPS and not found.certified):
        turned = _of_autocorrelations(e, first, flops <= SMALL_FLOPS)
        clear = turned and _are_clear(criterion, first, turned, found)
        starts += [] if clear else turned
    if flops <= LARGE_FLOPS:
        residuals = e.residual.other_starts(y, bool(e.terms))
        starts += turned_together(first, [(e.slices[1], residuals)])
        spread = e.n <= ROWS_OF_SPREADS and flops <= MODERATE_FLOPS
        starts += _of_spreads(e, criterion, first) if spread else []
        if few and residuals and e.terms:
            starts.append(without_terms(e, first))  # what the terms have may be the residual's as well
    return starts


def has_few_rows(e: StructuredEquations) -> bool:
    """Whether rows are too few to tell which of several optima of correlations is the best."""
    return e.n <= FEW_ROWS * e.n_theta


def _of_autocorrelations(e: StructuredEquations, first: np.ndarray, strong: bool) -> list[np.ndarray]:
    """Those of levels of other signs, and those of a field where something else may take its place: a nugget
    or another process; `strong` ones too."""
    starts = starts_of_levels(e, first, strong)
    if starts or any(term.n_levels >= e.n for term in e.terms):
        residuals = e.residual.other_signs(first[e.slices[1]], strong)
        starts += turned_together(first, [(e.slices[1], residuals)])
    return starts


def _of_spreads(e: StructuredEquations, criterion: Criterion, first: np.ndarray) -> list[np.ndarray]:
    """Variances of visits and coefficients in other ratios, where something of their means is left."""
    place = e.slices[1]
    parts = []
    if spreads := e.residual.other_spreads(first[place]):
        parts.append((place, spreads, [group.rows for group in e.residual.visit_groups()]))
    plain = e.rotation is None  # rows of an eigenbasis belong to no coefficient
    for term, (own, _) in zip(e.terms, e.slices[0], strict=True) if plain else ():
        if spreads := term.structure.spread_starts(first[own]):
            parts.append((own, spreads, [_rows_of(matrix, e.n) for matrix in term.matrices]))
    if not parts:
        return []
    X = e.X_inside.toarray()
    left = [(own, spreads) for own, spreads, rows in parts if not _regressed_apart(X, rows)]
    return [_scaled(e, criterion, theta) for theta in turned_together(first, left)]


def _scaled(e: StructuredEquations, criterion: Criterion, theta: np.ndarray) -> np.ndarray:
    """theta of that multiple of V that the response asks for."""
    point = criterion.at(theta)
    if not np.isfinite(point.deviance):  # nothing was solved for
        return theta
    multiple = float(criterion.y @ (point.precision @ point.residual)) / e.n
    if not multiple > 0.0:
        return theta
    out = theta.copy()
    for term, (own, level) in zip(e.terms, e.slices[0], strict=True):
        if term.structure.n_theta:
            out[own] = term.structure.rescaled(theta[own], multiple)
        elif term.levels is not None and term.levels.holds_variance:
            out[level] = term.levels.rescaled(theta[level], multiple)
    out[e.slices[1]] = e.residual.rescaled(theta[e.slices[1]], multiple)
    return out


def _rows_of(matrix: sp.csc_array, n: int) -> np.ndarray:
    rows = np.unique(matrix.indices)
    return rows[rows < n]


def _regressed_apart(X: np.ndarray, parts: list[np.ndarray]) -> bool:
    """Whether each of several sets of rows has fixed coefficients of its own, so that no mean is left."""
    return sum(np.linalg.matrix_rank(X[rows]) for rows in parts) == X.shape[1]


def _are_clear(
    criterion: Criterion, first: np.ndarray, turned: list[np.ndarray], found: StructuredOptimum
) -> bool:
    """Whether the deviance is far above that of the optimum found where its autocorrelations are zero."""
    moved = np.any(np.not_equal(turned, first), axis=0)
    without = criterion.at(np.where(moved, 0.0, found.theta))
    return found.certified and without.deviance > found.point.deviance + CLEAR * int(moved.sum())


def _is_settled(e: StructuredEquations, found: StructuredOptimum, flops: float) -> bool:
    """Whether the optimum near the moments stands alone: of a large model, certified and at no boundary."""
    if flops <= MODERATE_FLOPS or not found.certified:
        return False
    for term, (own, _) in zip(e.terms, e.slices[0], strict=True):
        names = [str(a) for a in range(term.m)]
        if term.structure.several_optima and term.structure.boundary(found.theta[own], names):
            return False
    return True
