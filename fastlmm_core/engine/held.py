"""Variance parameters at values that the user gives: held there, or a start of the search."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fastlmm_core.design.parameter_names import (
    LARGEST_START,
    SMALLEST_START,
    NamedCovariance,
    named_covariances,
    within_reach,
)
from fastlmm_core.engine.equations.structured_equations import StructuredEquations
from fastlmm_core.errors import OptionError
from fastlmm_core.structures.levels.penalty import PenaltyLevels
from fastlmm_core.structures.residuals.by_group import IndependentResiduals
from fastlmm_core.structures.residuals.field import FieldResiduals
from fastlmm_core.structures.residuals.known import KnownResiduals
from fastlmm_core.structures.residuals.within_subject import WithinSubjectResiduals

HELD, STARTED = "held", "started"


def held_parameters(
    design: Any, equations: StructuredEquations, given: Mapping[str, Any], scale: float
) -> np.ndarray:
    """theta (n_theta,) of the held parameters, NaN where they are free.

    Parameters
    ----------
    given : mapping
        As `named_covariances` reads it.
    scale : float
        Units of the response in which the engine works.

    Raises
    ------
    OptionError
        For a name that is no term, or a value that its structure cannot have.
    """
    return _placed(equations, named_covariances(design, given, "fixed_parameters"), scale**2, HELD)


def starting_parameters(
    design: Any, equations: StructuredEquations, given: Mapping[str, Any], scale: float,
    held: np.ndarray | None = None,
) -> np.ndarray:  # fmt: skip
    """theta (n_theta,) of the parameters that a start names, NaN for the others; see `held_parameters`.

    A singular covariance is moved inside, where its parameters have derivatives, and one that is out of all
    proportion to the response within reach of it.

    Parameters
    ----------
    held : (n_theta,), optional
        Values at which parameters are held, NaN where they are free: those have no start.
    """
    named = named_covariances(design, given, "start")
    if held is not None:
        for one in named:
            own = _placed(equations, [one], scale**2, STARTED)
            if np.any(~np.isnan(own) & ~np.isnan(held)):
                where = "" if one.at is None else f" of {one.at}"
                raise OptionError(
                    f"start names '{one.key}'{where}, which fixed_parameters holds: what is held is not "
                    "searched for; leave it out of one of the two"
                )
    return _placed(equations, named, scale**2, STARTED)


def _placed(e: StructuredEquations, named: Sequence[NamedCovariance], s2: float, verb: str) -> np.ndarray:
    """theta of the values, by the method `verb` of the coefficient structures."""
    theta = np.full(e.n_theta, np.nan)
    for one in named:
        if one.term < 0:
            _place_residual(e, one, s2, verb, theta)
            continue
        term, (own, level) = e.terms[one.term], e.slices[0][one.term]
        if not term.structure.n_theta:
            assert isinstance(term.levels, PenaltyLevels)
            variances = _positive_variances(one, level.stop - level.start) / s2
            if verb == STARTED:
                typical = term.levels.typical
                variances = np.clip(variances / typical, SMALLEST_START, LARGEST_START) * typical
            theta[level] = term.levels.theta_of(variances)
            continue
        T = _reached(verb, one.inside(term.basis) / s2, term.column_scale)
        theta[own] = one.theta(getattr(term.structure, verb), T)
    return theta


def _reached(verb: str, T: np.ndarray, unit: np.ndarray | float = 1.0) -> np.ndarray:
    """T (m, m) as it is held, and of a start within reach of the response."""
    return within_reach(T, unit) if verb == STARTED else T


def _positive_variances(one: NamedCovariance, count: int) -> np.ndarray:
    """Variances (count,) of a spline, one a smoothing parameter."""
    variances = one.T.ravel()
    if variances.size != count or not (variances > 0.0).all():
        raise OptionError(f"'{one.key}' takes {count} positive variances, one for each smoothing parameter")
    return variances


def _place_residual(
    e: StructuredEquations, one: NamedCovariance, s2: float, verb: str, theta: np.ndarray
) -> None:
    residual, own = e.residual, e.slices[1]
    if isinstance(residual, WithinSubjectResiduals):
        for k, structure in enumerate(residual.structures):
            if one.at is None or str(residual.arm_levels[k]) == one.at:
                place = slice(own.start + residual.first[k], own.start + residual.first[k + 1])
                theta[place] = one.theta(getattr(structure, verb), _reached(verb, one.T / s2))
                if verb == HELD and not residual.has_inverse(theta[place], k):
                    raise _singular(one)
        return
    levels = getattr(residual, "levels", (None,))
    if not isinstance(residual, IndependentResiduals | KnownResiduals | FieldResiduals) or one.T.size != 1:
        first = next((level for level in levels if level is not None), None)
        by_level = "" if first is None else f", or by level as {{'{one.key}': {{'{first}': ..., ...}}}}"
        raise OptionError(
            f"the residual can be {verb} as one variance{by_level}, or within subjects as a covariance "
            f"matrix; '{one.key}' is given a matrix of {' x '.join(map(str, one.T.shape))}"
        )
    variance = float(one.T.ravel()[0])
    if not variance > 0:
        raise OptionError(f"the residual variance {verb} must be positive, not {variance:g}")
    for k, level in enumerate(levels):
        if one.at is None or str(level) == one.at:
            least = residual.least[k] * s2 if isinstance(residual, IndependentResiduals) else 0.0
            if verb == HELD and variance < least:
                raise OptionError(
                    f"fixed_parameters['{one.key}']: a residual variance of {variance:.3g} is too small "
                    f"beside the response to have an inverse; it can be held at {least:.3g} or more"
                )
            inside = float(_reached(verb, one.T / s2).ravel()[0])
            theta[own.start + residual.place_of_variance(k)] = residual.held(inside, k)


def _singular(one: NamedCovariance) -> OptionError:
    """R would be that of a covariance with a least variance added, and its figures not those asked for."""
    return OptionError(
        f"fixed_parameters['{one.key}']: this covariance of residuals, which need its inverse, is nearly "
        f"singular beside the response (its smallest eigenvalue is {np.linalg.eigvalsh(one.T)[0]:.3g}); "
        "hold what is singular as a random term, us(0 + visit | subject), beside residuals with variances "
        "of their own"
    )
