"""The fit of any structures to a scaled response: starts, search, boundaries and certificate."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace

import numpy as np

from fastlmm_core.engine.equations.structured_equations import StructuredEquations
from fastlmm_core.engine.objective import (
    Score,
    StructuredPoint,
    evaluate,
    gradient_at,
    score_at,
    without_cancellation,
)
from fastlmm_core.engine.random_walk import along_bounds, autocorrelations, random_walks, walking_fields
from fastlmm_core.engine.search.curvature import search_model, without_rotations
from fastlmm_core.engine.search.driver import TOLERANCE, Progress, SearchEnd, search, tolerance_of
from fastlmm_core.engine.search.exact_steps import EXACT_ITERATIONS, exact_curvature, is_cheap, polished
from fastlmm_core.engine.search.kinks import grown, held_there, kinks, starts_on_kinks, stopped, turned_starts
from fastlmm_core.engine.search.leaving_bounds import inner_points
from fastlmm_core.engine.search.optimum import Criterion, StructuredOptimum
from fastlmm_core.engine.search.other_starts import (
    FIELD_FLOPS,
    LARGE_FLOPS,
    MODERATE_FLOPS,
    MORE_STARTS,
    SEED_OF_RESTARTS,
    has_few_rows,
    other_starts,
)
from fastlmm_core.engine.search.settling import set_boundary, settled_residual
from fastlmm_core.engine.search.starting_values import starting_values
from fastlmm_core.engine.search.zero_deviations import one_alone_varies, starts_of_signs
from fastlmm_core.kernels.thresholds import LARGEST_DECREMENT, LARGEST_RISE
from fastlmm_core.linalg.base import CholeskyFactor
from fastlmm_core.linalg.threads import blas_threads

MAX_ITERATIONS = 200
# A standard deviation this close to its bound of zero, where the search could not go on, is tried at zero.
NEAR_BOUND = 1e-2
# Standard deviation, of the response's size, at which one of the residuals is left instead: at zero R has
# no inverse.
SMALLEST_RESIDUAL = 1e-5
# Where a search stops instead of zero, as near as that but with a score left.
LEAST = 1e-7
# Least residual variances, of those in use, at which the deviance is looked at where it may have no minimum,
# and how far it may be below; precision of rows from which on that is so.
LESS = 0.1
LARGEST_FALL = 0.5
SINGULAR_PRECISION = 1e6
# The theta that stand for an autocorrelation of one, and for several in one grid (see `LARGEST_ENTRY`).
AT_CORRELATION_BOUND, AT_SEVERAL_BOUNDS = 12.0, 6.2
# What an optimum there may be above the end of a search along the bound, beside what rounding costs both.
RISE_TO_BOUND = 1e-4
# Times that a search leaves bounds which its end does not belong to.
MOST_LEAVES = 3
# What the deviance may rise where a standard deviation is set to zero that may be zero in another optimum.
LIKELY = 4.0
# Deviances nearer than this are those of one optimum, and what an end farther from any must be below another.
SAME_OPTIMUM, NOTABLE_FALL = 1e-5, 0.1


def fit_structures(
    e: StructuredEquations, factor: CholeskyFactor, y: np.ndarray, *, held: np.ndarray | None = None,
    start: np.ndarray | None = None, progress: Progress | None = None,
) -> StructuredOptimum:  # fmt: skip
    """Minimise the deviance of y (n,), the least squares residual of unit mean square.

    Parameters
    ----------
    held : (n_theta,), optional
        Values at which parameters are held, NaN where they are free.
    start : (n_theta,), optional
    """
    own = Criterion(e, factor, np.concatenate([y, np.zeros(e.residual.n_missing)]))
    free = np.ones(e.n_theta, bool) if held is None else np.isnan(held)
    fixed = np.zeros(e.n_theta) if held is None else np.where(free, 0.0, held)

    if not free.any():
        point = without_cancellation(e, factor, own.at(fixed))
        empty = np.zeros(0)
        end = SearchEnd(empty, 0, point, True, 0.0, 0, 1, empty, np.zeros((0, 0)), None, np.empty((0, 3)))
        return StructuredOptimum(end, fixed, free, None, point, np.inf)
    criterion = own
    if e.observed is not None:
        criterion = Criterion(e.observed, e.observed_factor(factor), own.y)
    first = starting_values(e, y) if start is None else start
    best = _optimum_from(criterion, np.where(free, first, fixed), free, progress)
    for other in other_starts(e, criterion, y, first, best) if start is None else []:
        if np.array_equal(other[free], first[free]):
            continue  # what differs is held
        best = _lower(e, best, _optimum_from(criterion, np.where(free, other, fixed), free, progress))
    small = criterion.factor.flops <= LARGE_FLOPS
    if np.isfinite(best.point.deviance) and small:
        best = _beside_kinks(criterion, best, free, progress)
        best = _other_signs(criterion, best, free, progress)
        best = _left_bounds(criterion, best, free, progress)
    flops = criterion.factor.flops
    if best.end.status == 1 and flops <= MODERATE_FLOPS and is_cheap(criterion.equations, free, flops):
        best = _lower(e, best, _from_start(criterion, best.theta, free, progress, exactly=True))
    if start is None and not best.certified and best.end.status != 2 and small:
        best = _restarted(criterion, best, free, progress)
    point = criterion.at(best.theta)
    rounding = 0.0 if best.score is None else best.score.rounding
    reached = max(TOLERANCE, min(rounding, LARGEST_DECREMENT))  # below its rounding no step can be judged
    if best.end.decrement > reached and best.end.status != 2 and small:
        best = polished(criterion, replace(best, point=point))
        point = criterion.at(best.theta)
    unbounded = bool(free[e.slices[1]].any()) and _falls_without_end(criterion, point)
    unbounded = unbounded or _walks(e, best.theta, free)
    if criterion is not own:
        point = own.at(best.theta)
    return replace(best, point=without_cancellation(e, factor, point), unbounded=unbounded)


def _falls_without_end(criterion: Criterion, point: StructuredPoint) -> bool:
    """Whether the deviance follows the least variances of a residual that has become singular.

    Where random terms take what the residual leaves, V is regular and the deviance has a limit; where nothing
    does, it falls by log(1 / LESS) for every row or subject.
    """
    e = criterion.equations
    less = e.with_residual(e.residual.with_least(LESS))
    if less.residual is e.residual or not np.isfinite(point.deviance):
        return False
    coefficients, _ = e.residual.coefficients(point.theta[e.slices[1]])
    if float(np.abs(coefficients).max()) < SINGULAR_PRECISION:
        return False
    below = evaluate(less, criterion.factor.copy(), criterion.y, point.theta)
    return not below.deviance >= point.deviance - LARGEST_FALL


def optimum_at(
    e: StructuredEquations, factor: CholeskyFactor, y: np.ndarray, theta: np.ndarray, free: np.ndarray
) -> StructuredOptimum:
    """An optimum that is known, theta (n_theta,) with those that were `free`: nothing is searched."""
    full = np.concatenate([y, np.zeros(e.residual.n_missing)])
    point = without_cancellation(e, factor, evaluate(e, factor, full, theta))
    own = theta[free]
    nothing, flat = np.zeros(own.size), np.zeros((own.size, own.size))
    end = SearchEnd(own, 0, point, True, 0.0, 0, 1, nothing, flat, None, np.empty((0, 3 + own.size)))
    return StructuredOptimum(end, theta, free, None, point, np.inf)


def _is_optimum(e: StructuredEquations, end: StructuredOptimum) -> bool:
    """Whether an end is certified and not the limit of a trend."""
    return end.certified and not _walks(e, end.theta, end.free)


def _walks(e: StructuredEquations, theta: np.ndarray, free: np.ndarray) -> bool:
    """Whether the criterion's limit there is a random walk of levels or of a field."""
    return bool(random_walks(e, theta, free) or walking_fields(e, theta, free))


def _lower(
    e: StructuredEquations, best: StructuredOptimum, other: StructuredOptimum
) -> StructuredOptimum:
    """The other where it is below; an end that is none, or the limit of a trend, takes no optimum's place.

    Nor does it take that of another such end which is nearer to an optimum, unless it is far below: what lies
    between them may be rounding.
    """
    fall = best.point.deviance - other.point.deviance
    if _is_optimum(e, other):
        return other if fall > (SAME_OPTIMUM if best.certified else LARGEST_RISE) else best
    nearer = other.end.decrement <= best.end.decrement
    return other if not best.certified and fall > (LARGEST_RISE if nearer else NOTABLE_FALL) else best


def _restarted(
    criterion: Criterion, best: StructuredOptimum, free: np.ndarray, progress: Progress | None
) -> StructuredOptimum:
    """The best optimum of other searches where the one from the moments ended at none."""
    e, rng = criterion.equations, np.random.default_rng(SEED_OF_RESTARTS)
    y, before = criterion.y[: e.n], [np.where(free, starting_values(e, criterion.y[: e.n]), best.theta)]
    for _ in range(MORE_STARTS):
        theta = np.where(free, starting_values(e, y, rng), best.theta)
        if any(np.array_equal(theta, known) for known in before):
            continue  # not all structures have other moments
        before.append(theta)
        best = _lower(e, best, _from_start(criterion, theta, free, progress))
    return best


def _optimum_from(
    criterion: Criterion, start: np.ndarray, free: np.ndarray, progress: Progress | None
) -> StructuredOptimum:
    """The end of a search, autocorrelations that are nearly one at one where that is an optimum."""
    e, found = criterion.equations, _from_start(criterion, start, free, progress)
    along = free & along_bounds(e, found.theta)
    if found.certified or found.end.status == 2 or criterion.factor.flops > LARGE_FLOPS or not along.any():
        return found
    theta = found.theta.copy()
    for own in autocorrelations(e):
        bound = AT_CORRELATION_BOUND if along[own].sum() == 1 else AT_SEVERAL_BOUNDS
        theta[own] = np.where(along[own], np.sign(theta[own]) * bound, theta[own])
    held = _held_at(criterion, theta, free, along, progress)
    rounding = sum(own.score.rounding for own in (found, held) if own.score is not None)
    near = held.point.deviance <= found.point.deviance + RISE_TO_BOUND + rounding
    return held if near and _is_optimum(e, held) else found


def _from_start(
    criterion: Criterion, start: np.ndarray, free: np.ndarray, progress: Progress | None,
    exactly: bool = False,
) -> StructuredOptimum:  # fmt: skip
    """Search, set variances at the boundary to zero, leave zeros whose score wants them to grow.

    What is not `free` stays where `start` (n_theta,) has it. With `exactly` steps are by second derivatives.
    """
    e, factor = criterion.equations, criterion.factor

    theta = start
    bounded, kinked = e.lower_bounds == 0.0, kinks(e)
    kinked[e.slices[1]] = False  # where a residual is zero R has no inverse: `_at_bounds`
    folds, least = (bounded & ~kinked)[free], LEAST * e.bounded_sizes[free]
    folded, ended = np.ones(free.sum()), np.zeros(free.sum(), bool)

    def place(values: np.ndarray) -> np.ndarray:
        out = start.copy()
        out[free] = values
        return out

    def within(values: np.ndarray) -> np.ndarray:
        """Values (d,) continued evenly across the bound of a standard deviation, or stopped at its kink."""
        folded[:] = np.where(folds & (values < 0.0), -1.0, 1.0)
        inside, ended[:] = stopped(values * folded, kinked[free], least)
        return place(inside)

    def evaluate_within(values: np.ndarray) -> StructuredPoint:
        return criterion.at(within(values))

    def score(point: StructuredPoint) -> tuple[np.ndarray, np.ndarray, Score]:
        full = score_at(e, factor, point, residual=bool(free[e.slices[1]].any()))
        if exactly:
            H = exact_curvature(criterion, point, free, full.curvature)
            gradient, curvature = without_rotations(e, point.theta, full.gradient, H)
        else:
            gradient, curvature = search_model(e, point.theta, full)
        gradient, curvature = gradient[free] * folded, curvature[np.ix_(free, free)]
        return *held_there(gradient, curvature * np.outer(folded, folded), ended), full

    before: tuple[SearchEnd, np.ndarray] | None = None
    for _ in range(3):
        with blas_threads.single() if factor.flops <= LARGE_FLOPS else nullcontext():
            end = search(
                evaluate_within, score, theta[free], dof=float(e.n), tolerance=tolerance_of(factor.flops),
                max_iterations=EXACT_ITERATIONS if exactly else MAX_ITERATIONS, progress=progress,
            )  # fmt: skip
        if end.status == 2:
            return StructuredOptimum(end, place(end.theta), free, None, end.point, -np.inf)
        reached = within(end.theta)
        stays = np.zeros(theta.size, bool)
        stays[free] = ended
        at_bound = bounded & free & (np.abs(reached) < NEAR_BOUND * e.bounded_sizes)
        if end.decrement > LARGEST_DECREMENT and at_bound.any():
            return _at_bounds(criterion, reached, free, at_bound, progress)
        snapped, boundary, restart = set_boundary(criterion, reached, free, end)
        if before is not None and not end.point.deviance < before[0].point.deviance:
            (end, snapped), boundary = before, np.inf  # what left a kink came back, or ended higher
            break
        before = (end, _set_to_zero(criterion, snapped, stays, end)) if stays.any() else None
        if restart is None:
            restart = grown(reached, stays, end.extra.gradient, e.bounded_sizes)
        if restart is None:
            break
        theta = restart
    settled = settled_residual(criterion, snapped, free)
    if settled is not None:
        return _held_at(criterion, settled, free, settled != snapped, progress)
    along = free & along_bounds(e, snapped)
    if end.status == 1 and end.decrement <= LARGEST_DECREMENT and not along.any():
        end = replace(end, status=3)  # what is left is below the rounding that kept the search going
    return StructuredOptimum(end, snapped, free, end.extra, criterion.at(snapped), boundary)


def _set_to_zero(
    criterion: Criterion, theta: np.ndarray, ended: np.ndarray, end: SearchEnd
) -> np.ndarray:
    """theta (n_theta,) with what `ended` beside a kink at zero, where the deviance allows it."""
    zeroed = np.where(ended, 0.0, theta)
    return zeroed if criterion.at(zeroed).deviance <= end.point.deviance + LARGEST_RISE else theta


def _at_bounds(
    criterion: Criterion, theta: np.ndarray, free: np.ndarray, at_bound: np.ndarray, progress: Progress | None
) -> StructuredOptimum:
    """The optimum with standard deviations at their bound of zero, where the criterion has a kink."""
    least, own = np.zeros(theta.size), criterion.equations.slices[1]
    least[own] = SMALLEST_RESIDUAL * criterion.equations.bounded_sizes[own]
    return _held_at(criterion, np.where(at_bound, least, theta), free, at_bound, progress)


def _held_at(
    criterion: Criterion, start: np.ndarray, free: np.ndarray, at_bound: np.ndarray, progress: Progress | None
) -> StructuredOptimum:
    """The optimum of the others with the parameters `at_bound` where `start` has them."""
    return replace(_from_start(criterion, start, free & ~at_bound, progress), free=free)


def _beside_kinks(
    criterion: Criterion, best: StructuredOptimum, free: np.ndarray, progress: Progress | None
) -> StructuredOptimum:
    """The best optimum with other standard deviations at zero than `best` has, and other correlations."""
    e, flops = criterion.equations, criterion.factor.flops
    if flops <= MODERATE_FLOPS and (free & kinks(e) & (best.theta == 0.0)).any():
        for start in turned_starts(e, best.theta):
            theta = np.where(free, start, best.theta)
            best = _lower(e, best, _from_start(criterion, theta, free, progress))
    if flops <= FIELD_FLOPS and has_few_rows(e):
        best = _on_kinks(criterion, best, free, progress)
    return best


def _on_kinks(
    criterion: Criterion, best: StructuredOptimum, free: np.ndarray, progress: Progress | None
) -> StructuredOptimum:
    """The best optimum by way of those with one standard deviation at zero, where zero is likely.

    There is one for each of them, and searches from inside may find any.
    """
    e, theta = criterion.equations, best.theta
    kinked = free & kinks(e)
    kinked[e.slices[1]] = False
    for k in np.flatnonzero(kinked):
        place = np.arange(theta.size) == k
        if criterion.at(np.where(place, 0.0, theta)).deviance > best.point.deviance + LIKELY:
            continue
        for start in starts_on_kinks(e, theta, int(k), free):
            held = _held_at(criterion, start, free, place, progress)
            if held.score is None:
                continue
            further = grown(held.theta, place, held.score.gradient, e.bounded_sizes)
            if further is not None or held.point.deviance < best.point.deviance - SAME_OPTIMUM:
                onward = held.theta if further is None else further
                best = _lower(e, best, _from_start(criterion, onward, free, progress))
    return best


def _other_signs(
    criterion: Criterion, best: StructuredOptimum, free: np.ndarray, progress: Progress | None
) -> StructuredOptimum:
    """The optimum with a correlation of the other sign, where standard deviations of zero hide it."""
    e = criterion.equations
    for k, (term, (own, _)) in enumerate(zip(e.terms, e.slices[0], strict=True)):
        if not free[own].all() or not one_alone_varies(term, best.theta[own]):
            continue
        point = criterion.at(best.theta)
        product = gradient_at(e, criterion.factor, point, residual=False)[1][k]
        for turned in starts_of_signs(term, best.theta[own], product):
            theta = best.theta.copy()
            theta[own] = turned
            if criterion.at(theta).deviance < point.deviance - LARGEST_RISE:
                best = _lower(e, best, _from_start(criterion, theta, free, progress))
                break
    return best


def _left_bounds(
    criterion: Criterion, best: StructuredOptimum, free: np.ndarray, progress: Progress | None
) -> StructuredOptimum:
    """The optimum inside of bounds that only their charts, where slopes are zero, took for one."""
    for _ in range(MOST_LEAVES):
        here = criterion.at(best.theta).deviance
        inside = inner_points(criterion.equations, best.theta, free)
        tried = [(criterion.at(theta).deviance, theta) for theta in inside]
        lowest, start = min(tried, key=lambda point: point[0], default=(np.inf, best.theta))
        if not lowest < here - LARGEST_RISE:
            break
        found = _from_start(criterion, start, free, progress)
        if not found.point.deviance < here - LARGEST_RISE:
            break
        best = found
    return best
