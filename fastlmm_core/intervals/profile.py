"""Profile likelihood of variance parameters, sigma and fixed effects, and the intervals that follow.

For a parameter h the profile is the least -2 log-likelihood of all models with h held, as a function of h;
the interval of level 1 - alpha holds the values whose profile is within the chi-square quantile of the least
(Venzon & Moolgavkar 1988; Bates et al. 2015, section 5.1). The likelihood is the ordinary one, as lme4's, so
a REML fit is fitted again by ML.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from fastlmm_core.display.displayed import Displayed
from fastlmm_core.display.frames import titled
from fastlmm_core.display.rendering import Table
from fastlmm_core.engine.search.kinks import AWAY, GONE
from fastlmm_core.engine.solution import StructuredSolution
from fastlmm_core.errors import FastLMMWarning, InferenceError, NotConvergedWarning, NumericalError
from fastlmm_core.gate import public, warn_caller
from fastlmm_core.intervals.constrained import NEAR_PLATEAU, PLATEAU, HeldOptimum, minimize_held
from fastlmm_core.intervals.criteria import Criterion, criterion_of
from fastlmm_core.intervals.held_effects import PlainHeldEffect, StructuredHeldEffect
from fastlmm_core.intervals.parameters import (
    Held,
    Parameter,
    fixed_parameters,
    held_parameters,
    own_coordinates,
)
from fastlmm_core.intervals.tables import chosen, interval_table
from fastlmm_core.intervals.tracing import LARGEST_FALL, LowerDeviance, ProfilePoint, Trace
from fastlmm_core.options import LEVEL

if TYPE_CHECKING:
    from fastlmm_core.results.random_part import RandomPart

# Difference for the slope of the reported value.
STEP = 1e-6
# Away from a bound on which the estimate lies, in the coordinates of the criterion.
FIRST_STEP = 5.0
# A correlation so near to 1 or -1 is there but for rounding: a search ends beside the border.
AT_BOUND = 1e-7
# A curvature below this is that of a spline whose variance has no bound.
FLAT = 1e-6
# A root of a variance below this is zero, which a search left to its last digits.
ROUNDING = 1e-6
# First step of a correlation of which nothing is known.
UNTOLD_STEP = 0.25
# Better fits that profiles may lead to, one after the other.
MOST_REFITS = 5


@dataclass(frozen=True, eq=False, repr=False)
class Profile(Displayed):
    """Profiles of the parameters of one fit.

    Attributes
    ----------
    names : tuple of str
        Parameters, in the order of the tables.
    estimates : (k,) float64
        ML estimates.
    level : float
        Confidence level to which every profile was followed.
    fit : LMMFit
        The ML fit that is profiled.

    Examples
    --------
    >>> from fastlmm_core import datasets, lmm
    >>> fit = lmm("Yield ~ 1 + (1|Batch)", datasets.load("dyestuff"))
    >>> profile = fit.profile()
    >>> profile.names
    ('sd(Batch: (Intercept))', 'sigma', '(Intercept)')
    """

    names: tuple[str, ...]
    estimates: np.ndarray
    level: float
    traces: tuple[Trace, ...]
    fit: RandomPart

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the ML fit and the points; how the traces go on is made of the fit again."""
        return _restored, (self.fit, self.names, self.estimates, self.level, [t.state() for t in self.traces])

    def _shown(self) -> Table:
        frame = self.conf_int(self.level)[["parameter", "estimate", "lower", "upper"]]
        points = sum(len(trace.points) for trace in self.traces)
        note = f"{points} points; limits at level {self.level:g}, to which the profiles were followed"
        title, rest = "Profile likelihood (ML)", ".conf_int()"
        return Table(pd.DataFrame(frame), title, (note,), max_rows=60, all_rows=rest)

    @public(level=LEVEL)
    @titled("Profile intervals, level {level:g}")
    def conf_int(self, level: float = 0.95) -> pd.DataFrame:
        """parameter, kind, group, var1, var2, estimate, lower, upper, method.

        A limit at which the profile stays below the quantile up to the bound of the parameter is that bound:
        zero for a standard deviation, one for a correlation. A limit is NaN where the profile has no end,
        and, with a warning, where the search for one of several parameters failed.

        Examples
        --------
        >>> from fastlmm_core import datasets, lmm
        >>> fit = lmm("Yield ~ 1 + (1|Batch)", datasets.load("dyestuff"))
        >>> fit.profile("sigma").conf_int(0.9)[["lower", "upper"]].round(2).to_numpy()
        array([[39.73, 64.07]])
        """
        height = normal_height(level)
        limits = [[self._limit(trace, side, height) for side in (-1, 1)] for trace in self.traces]
        lower, upper = np.array(limits).reshape(-1, 2).T
        return interval_table([t.parameter for t in self.traces], self.estimates, lower, upper, "profile")

    def _limit(self, trace: Trace, side: int, height: float) -> float:
        """One limit; that of one parameter that is not found leaves those of the others."""
        try:
            return trace.limit(side, height)
        except NumericalError as error:
            if len(self.traces) == 1:
                raise
            which = "lower" if side < 0 else "upper"
            warn_caller(NotConvergedWarning(f"{error}: its {which} limit is missing"))
            return np.nan

    @property
    @titled("Points of the profiles")
    def points(self) -> pd.DataFrame:
        """What was computed: parameter, value, zeta, the signed root of the rise of the deviance."""
        rows = [(t.parameter.name, p.value, p.zeta) for t in self.traces for p in t.points]
        return pd.DataFrame(rows, columns=["parameter", "value", "zeta"])


def normal_height(level: float) -> float:
    """Root of the chi-square quantile (1 df) of a level."""
    from scipy.special import ndtri

    return float(ndtri(0.5 + 0.5 * level))


def profile(fit: RandomPart, parameters: str | Sequence[str] | None, level: float) -> Profile:
    """Profiles of a fit; see ``LMMFit.profile``."""
    if fit.sigma == 0.0 and not isinstance(fit.solved, StructuredSolution):
        raise InferenceError(
            "the fixed part explains the response exactly: the likelihood has no maximum to profile"
        )
    ml = fit_by_ml(fit) if fit.reml else fit
    first, height = ml, normal_height(level)
    for left in reversed(range(MOST_REFITS)):
        traces = make_traces(ml, parameters)
        found = (_lower_fit(ml, below) for below in _followed(traces, height))
        better = next((fit for fit in found if fit is not None), None)
        if better is None or not left:
            break
        ml = better
    fall = first.deviance - ml.deviance
    if fall > 0.0 and not fit.reml:
        warn_caller(NotConvergedWarning(
            f"the profiles found a deviance {fall:.3g} below that of the fit, which is not the optimum: "
            "estimates and limits here are those of the better one; `.fit` of the profile is its fit"
        ))  # fmt: skip
    names = tuple(trace.parameter.name for trace in traces)
    estimates = [t.best.value if t.estimate is None else t.estimate for t in traces]
    return Profile(names, np.array(estimates), level, tuple(traces), ml)


def _followed(traces: list[Trace], height: float) -> Iterator[LowerDeviance]:
    """Follow all profiles to `height`, with the limits there, by way of what is below the fit."""
    for trace in traces:
        for side in (-1, 1):
            try:
                trace.limit(side, height)
            except LowerDeviance as below:
                yield below
            except NumericalError:
                continue  # a table says so, with its name


def _lower_fit(ml: RandomPart, below: LowerDeviance) -> RandomPart | None:
    """The fit that a search from a point of a profile leads to; None where it is no better."""
    solved, theta = ml.solved, np.array(ml.solved.theta)
    if isinstance(solved, StructuredSolution):
        # that of a fixed coefficient has all of theta
        theta[solved.free] = below.x if below.x.size < theta.size else below.x[solved.free]
        theta = np.where(solved.equations.lower_bounds == 0.0, np.abs(theta), theta)
    else:
        theta = below.x[: theta.size]
    found = _fitted_from(ml, theta)
    return found if found.deviance < ml.deviance - LARGEST_FALL else None


def make_traces(ml: RandomPart, parameters: str | Sequence[str] | None) -> list[Trace]:
    """Traces of the parameters that are asked for, not followed yet."""
    criterion, x = criterion_of(ml, reml=False)
    x = np.where(criterion.restless & (np.abs(x) < ROUNDING), 0.0, x)
    held = own_coordinates(ml, held_parameters(ml))
    fixed = fixed_parameters(ml)
    wanted = chosen(parameters, [*(h.parameter for h in held), *fixed])
    every = variance_traces(criterion, x, held)
    traces = [trace for trace in every if trace.parameter.name in wanted]
    at = [j for j, parameter in enumerate(fixed) if parameter.name in wanted]
    return traces + effect_traces(ml, at, fixed)


def _restored(
    ml: RandomPart, names: tuple[str, ...], estimates: np.ndarray, level: float, states: list[Any]
) -> Profile:
    """A profile from its pickle."""
    traces = make_traces(ml, list(names))
    for trace, state in zip(traces, states, strict=True):
        trace.resume(state)
    return Profile(names, estimates, level, tuple(traces), ml)


def fit_by_ml(fit: RandomPart) -> RandomPart:
    """The same model by maximum likelihood; a linear model stays as it is."""
    return _fitted_from(fit, fit.solved.theta)


def _fitted_from(fit: RandomPart, theta: np.ndarray) -> RandomPart:
    """The model of a fit by maximum likelihood, searched from theta on."""
    prepared = fit.prepared.again(False, fit.design)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FastLMMWarning)
        return prepared.fit(y=fit.response, theta=theta)


def variance_traces(criterion: Criterion, x: np.ndarray, held: list[Held]) -> list[Trace]:
    """Traces of variance parameters, not followed yet."""
    if not held:
        return []
    point = criterion.evaluate(x)
    deviance = float(point.deviance)
    information = criterion.score(point)[1]
    inverse, curvature = np.linalg.pinv(information, hermitian=True), np.diag(information)

    def solver(h: Held) -> Callable[..., HeldOptimum]:
        return lambda value, *starts: minimize_held(criterion, h, h.inner(value), *starts)

    out = []
    for h in held:
        value = h.outer(h.value(x))
        near = [end for end in h.parameter.bounds if abs(value - end) < AT_BOUND and np.isfinite(end)]
        value = near[0] if near and h.parameter.kind in ("cor", "correlation") else value
        if value > 0.0 and h.parameter.kind in ("sigma", "variance") and not h.gradient(x).any():
            value = 0.0  # the logarithm of a residual variance ends at that of rounding
        flat = (curvature <= FLAT) | (np.abs(x) < GONE)
        away = np.where(np.isnan(criterion.interior) | ~flat, away_from(criterion, x), criterion.interior)
        unseen = ~np.isnan(criterion.interior) & flat & (h.gradient(away) != 0.0)
        step = None
        if np.isfinite(value) and value not in h.parameter.bounds and not unseen.any():
            step = tangent_step(h, x, value, inverse)
        estimate = value = 0.0 if unseen.any() else value
        if step is None:  # at a bound, or beside a variance of zero
            away = np.where(unseen, criterion.interior, away_from(criterion, x))
            value, step = outward_step(criterion, h, x, away, value)
        best = ProfilePoint(0.0, value, x)
        kinked = bool(criterion.kinks.any())
        se, direction = step
        out.append(
            Trace(h.parameter, solver(h), best, deviance, se, direction, estimate=estimate, kinked=kinked)
        )
    for trace in out:
        trace.deviations = tuple(own for own in out if is_deviation_of(own.parameter, trace.parameter))
    return out


def tangent_step(
    h: Held, x: np.ndarray, value: float, inverse: np.ndarray
) -> tuple[float, np.ndarray] | None:
    """Standard error and dx / dvalue (d,) by the inverse curvature (d, d); None where x tells none."""
    a = h.gradient(x)
    if not np.isfinite(a).all():
        return None
    variance, up = float(a @ inverse @ a), h.outer(h.value(x) + STEP)
    slope = abs(up - h.outer(h.value(x) - STEP)) / (2.0 * STEP)
    if not variance > 0.0 or not slope > 0.0:
        return None
    return np.sqrt(2.0 * variance) * slope, np.sign(up - value) * (inverse @ a) / variance / slope


def outward_step(
    criterion: Criterion, h: Held, x: np.ndarray, away: np.ndarray, value: float
) -> tuple[float, tuple[float, np.ndarray]]:
    """Value to begin at, and first step with dx / dvalue (d,) towards `away` (d,) from coordinates at zero.

    A covariance leaves zero with the correlations beside it.
    """
    beside = h.outer(h.value(away))
    if np.isnan(value):  # a correlation that x does not tell: any
        value = beside
    if beside == value or h.parameter.kind == "covariance":
        away = away + criterion.correlations
        beside = h.outer(h.value(away))
    if beside == value:
        return value, (UNTOLD_STEP, np.zeros(x.size))
    return value, (abs(beside - value), (away - x) / (beside - value))


def is_deviation_of(own: Parameter, correlation: Parameter) -> bool:
    """Whether a parameter is one of the standard deviations that a correlation belongs to."""
    of_both = own.kind == "sd" and correlation.kind == "cor" and own.group == correlation.group
    return of_both and own.var1 in (correlation.var1, correlation.var2)


def away_from(criterion: Criterion, x: np.ndarray) -> np.ndarray:
    """Coordinates x with those at zero, and correlations at their bounds, moved off them."""
    x = np.where(criterion.restless & (np.abs(x) < AWAY), FIRST_STEP * AWAY, x)
    return np.where(criterion.correlations & (np.abs(x) > PLATEAU), np.sign(x) * NEAR_PLATEAU, x)


def effect_traces(fit: RandomPart, at: list[int], fixed: list[Parameter]) -> list[Trace]:
    """Traces of the kept fixed coefficients `at`, not followed yet."""
    out = []
    kept = fit.design.kept
    kind = StructuredHeldEffect if fit.structured else PlainHeldEffect
    for j in at:
        value, se = float(fit.beta[kept[j]]), float(fit.se[kept[j]])
        theta = np.asarray(fit.solved.theta)
        effect = kind(fit, j)
        deviance = effect.solve(value, theta).deviance
        best = ProfilePoint(0.0, value, theta)
        out.append(Trace(fixed[j], effect.solve, best, deviance, se, np.zeros(theta.size)))
    return out
