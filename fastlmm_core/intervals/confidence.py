"""Intervals of the parameters of a fit by one of three methods, in one table."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from fastlmm_core.engine.equations.confounding import coefficients_of
from fastlmm_core.engine.information.parameter_covariance import StructureInference
from fastlmm_core.engine.solution import StructuredSolution
from fastlmm_core.errors import OptionError, shown
from fastlmm_core.inference.component_figures import UNTOLD
from fastlmm_core.intervals.bootstrap import TYPES
from fastlmm_core.intervals.criteria import criterion_of
from fastlmm_core.intervals.parameters import Parameter, fixed_parameters, held_parameters, own_coordinates
from fastlmm_core.intervals.tables import chosen, interval_table
from fastlmm_core.other_names import option_words
from fastlmm_core.structures.coefficients.boundary import BOUND_CORRELATION

if TYPE_CHECKING:
    from fastlmm_core.intervals.bootstrap import Bootstrap
    from fastlmm_core.intervals.profile import Profile
    from fastlmm_core.results.random_part import RandomPart

METHODS = ("profile", "wald", "bootstrap")
# A correlation of an unrestricted matrix so near to 1 or -1 is there but for rounding.
AT_ONE = 1e-8


def conf_int(
    fit: RandomPart, doors: tuple[Callable[..., Profile], Callable[..., Bootstrap]], method: str,
    parameters: str | Sequence[str] | None, level: float, options: dict[str, Any],
) -> pd.DataFrame:  # fmt: skip
    """Intervals of a fit; see ``LMMFit.conf_int``.  `doors` are its `profile` and its `bootstrap`."""
    profile, bootstrap = doors
    for name in options:
        if words := option_words("conf_int", name):
            raise OptionError(f"conf_int() has no option '{name}'; here: {words}")
    if options and method != "bootstrap":
        raise OptionError(
            f"method='{method}' has no option '{next(iter(options))}'; it is one of the bootstrap"
        )
    if method == "profile":
        return profile(parameters, level=level).conf_int(level)
    if method == "wald":
        return wald_intervals(fit, parameters, level)
    type = options.pop("type", "percentile")
    if type not in TYPES:  # before hours of refits
        raise OptionError(f"type={shown(type)} is not known; allowed: {', '.join(map(repr, TYPES))}")
    if options.get("statistic") is None:
        held = own_coordinates(fit, held_parameters(fit))
        known = [*(h.parameter for h in held), *fixed_parameters(fit)]
        wanted = chosen(parameters, known)
        table = bootstrap(**options).conf_int(level, type)
    else:
        draws = bootstrap(**options)
        wanted = chosen(parameters, draws.parameters)
        table = draws.conf_int(level, type)
    return table[table["parameter"].isin(wanted)].reset_index(drop=True)


def untold_by(fit: RandomPart) -> Callable[[Parameter, np.ndarray], bool]:
    """Whether a parameter, with its gradient, depends on effects within the fixed part."""
    solved = fit.solved
    if isinstance(solved, StructuredSolution):
        flat = solved.untold_parameters[:, solved.free]
        return lambda _, a: bool(np.abs(flat @ a).max(initial=0.0) > UNTOLD * np.abs(a).max(initial=0.0))
    names = {
        (fit.design.random[k].group, fit.design.random[k].columns[a])
        for k, N in fit._confounded.parts.items()
        for a in coefficients_of(N, solved.equations.terms[k].basis)[0]
    }
    return lambda own, _: bool({(own.group, own.var1), (own.group, own.var2)} & names)


def wald_intervals(fit: RandomPart, parameters: str | Sequence[str] | None, level: float) -> pd.DataFrame:
    """Fixed effects with their t quantiles, variance parameters by their average information.

    The latter are symmetric on the scale of log sd and of the angle of a correlation; NaN at a bound.
    """
    from scipy.special import ndtri

    held = own_coordinates(fit, held_parameters(fit))
    fixed = fixed_parameters(fit)
    known = [*(h.parameter for h in held), *fixed]
    wanted = chosen(parameters, known)
    criterion, x = criterion_of(fit)
    if isinstance(fit._inference, StructureInference):
        # not the curvature of the search, which bends the average information, beyond zero at times
        free = fit._inference.solution.free
        covariance = fit._inference.theta_covariance("average")[np.ix_(free, free)]
    else:
        covariance = 2.0 * np.linalg.pinv(criterion.score(criterion.evaluate(x))[1], hermitian=True)
    untold = untold_by(fit)
    rows = []
    for h in held:
        at, value = h.value(x), h.outer(h.value(x))
        limits = [np.nan, np.nan]
        with np.errstate(divide="ignore", invalid="ignore"):  # at a bound
            a = h.gradient(x)
        if h.parameter.kind in ("sigma", "variance") and not np.any(a):
            value = 0.0  # what is left of a residual variance of zero, where R has to have an inverse
        correlated = h.parameter.kind in ("cor", "correlation")
        near = BOUND_CORRELATION if h.parameter.kind == "correlation" else AT_ONE
        least = h.parameter.bounds[0]
        bound = value in h.parameter.bounds or (correlated and min(1.0 - value, value - least) <= near)
        if np.isfinite(value) and not bound:
            reach = float(ndtri(0.5 + 0.5 * level)) * float(np.sqrt(max(a @ covariance @ a, 0.0)))
            ends = [at + side * reach for side in (-1.0, 1.0)]
            if correlated:  # angles
                ends = [min(max(end, 0.0), h.inner(least)) for end in ends]
            if not untold(h.parameter, a):
                limits = sorted(map(h.outer, ends))
        rows.append((value, *limits))
    table = fit.fixed_effects(level=level).iloc[fit.design.kept]
    rows += [tuple(row) for row in table[["estimate", "lower", "upper"]].to_numpy(float)]
    estimate, lower, upper = np.array(rows).reshape(-1, 3).T
    frame = interval_table(known, estimate, lower, upper, "wald")
    return frame[frame["parameter"].isin(wanted)].reset_index(drop=True)
