"""Variance parameters held at values that the user gives: known variances, second stages."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from fastlmm_core.engine.equations import StructuredEquations
from fastlmm_core.errors import OptionError, nearest_names
from fastlmm_core.structures.residuals.by_group import IndependentResiduals, KnownResiduals
from fastlmm_core.structures.residuals.within_subject import WithinSubjectResiduals

RESIDUAL = "Residual"


def held_parameters(
    design: Any, equations: StructuredEquations, given: Mapping[str, Any], scale: float
) -> np.ndarray:
    """theta (n_theta,) of the held parameters, NaN where they are free.

    Parameters
    ----------
    given : mapping
        By term, ``{"vm(calf, A)": [[20.0]], "Residual": 40.0}``; by level of ``at()`` and of the residual's
        ``|``, ``{"S1": {"Residual": 1.2, "rep": 0.1}}``. A key "note" is a remark.
    scale : float
        Units of the response in which the engine works.

    Raises
    ------
    OptionError
        For a name that is no term, or a value that its structure cannot have.
    """
    theta = np.full(equations.n_theta, np.nan)
    for key, value in given.items():
        if key == "note" and isinstance(value, str):
            continue
        _hold(design, equations, str(key), value, None, scale**2, theta)
    return theta


def _hold(
    design: Any, e: StructuredEquations, key: str, value: Any, at: str | None, s2: float, theta: np.ndarray
) -> None:
    if isinstance(value, Mapping) and not _is_term(design, key):
        inner_at = key if key in _levels(design) else at
        for name, inner in value.items():
            _hold(design, e, str(name), inner, inner_at, s2, theta)
        return
    if key == RESIDUAL or key == design.residual.group:
        _hold_residual(e, value, at, s2, theta)
        return
    found = [k for k, term in enumerate(design.random) if key in _names(term) and at in (None, term.at)]
    if not found:
        known = [name for term in design.random for name in _names(term)[:1]] + [RESIDUAL]
        raise OptionError(
            f"fixed_parameters name '{key}', which is no term of the model{nearest_names(key, known)}"
        )
    for k in found:
        term, (own, level) = e.terms[k], e.slices[0][k]
        if not term.structure.n_theta:
            theta[level] = -np.log(np.atleast_1d(np.asarray(value, float)) / s2)
            continue
        T = np.atleast_2d(_numbers(key, value))
        back = np.linalg.inv(term.basis)
        theta[own] = term.structure.held(back @ T @ back.T / s2)


def _names(term: Any) -> tuple[str, ...]:
    """What a term may be called: its group, its label, and its group without the level of at()."""
    at, _, rest = term.group.partition("):")
    return (term.group, term.label, *([rest] if at.startswith("at(") and rest else []))


def _is_term(design: Any, key: str) -> bool:
    return key in (RESIDUAL, design.residual.group) or any(key in _names(term) for term in design.random)


def _levels(design: Any) -> set[str]:
    levels = {str(term.at) for term in design.random if term.at is not None}
    if design.residual.by is not None:
        levels |= {str(level) for level in design.residual.by[1]}
    return levels


def _numbers(key: str, value: Any) -> np.ndarray:
    try:
        out = np.asarray(value, dtype=float)
    except (TypeError, ValueError):
        raise OptionError(
            f"fixed_parameters['{key}'] must be numbers, a variance or a covariance matrix"
        ) from None
    if not np.isfinite(out).all():
        raise OptionError(f"fixed_parameters['{key}'] holds a number that is not finite")
    return out


def _hold_residual(e: StructuredEquations, value: Any, at: str | None, s2: float, theta: np.ndarray) -> None:
    residual, own = e.residual, e.slices[1]
    if isinstance(value, Mapping):
        for level, inner in value.items():
            _hold_residual(e, inner, str(level), s2, theta)
        return
    numbers = _numbers(RESIDUAL, value)
    if isinstance(residual, WithinSubjectResiduals):
        for k, structure in enumerate(residual.structures):
            if at is None or str(residual.arm_levels[k]) == at:
                place = slice(own.start + residual.first[k], own.start + residual.first[k + 1])
                theta[place] = structure.held(np.atleast_2d(numbers) / s2)
        return
    if not isinstance(residual, IndependentResiduals | KnownResiduals) or numbers.size != 1:
        raise OptionError(
            "the residual can be held as one variance, or within subjects as a covariance matrix"
        )
    if not numbers > 0:
        raise OptionError(f"the residual variance held must be positive, not {float(numbers.ravel()[0]):g}")
    levels = getattr(residual, "levels", (None,))
    for k, level in enumerate(levels):
        if at is None or str(level) == at:
            theta[own.start + k] = residual.held(float(numbers.ravel()[0]) / s2)
