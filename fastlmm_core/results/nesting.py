"""Whether one model is a special case of another, as far as their parts tell."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse as sp

from fastlmm_core.engine.equations.least_squares import least_squares
from fastlmm_core.engine.solution import StructuredSolution
from fastlmm_core.results.row_variances import term_covariance
from fastlmm_core.structures.coefficients.base import CoefficientStructure
from fastlmm_core.structures.residuals.within_subject import WithinSubjectResiduals

if TYPE_CHECKING:
    from fastlmm_core.results.figures import FitFigures


def fixed_part_within(inner: FitFigures, outer: FitFigures) -> bool:
    """The columns of one fit are functions of those of the other."""
    A, B = outer.design.X, inner.design.X
    if A.shape == B.shape and (A - B).count_nonzero() == 0:
        return True
    columns = standardized_columns(inner).toarray()
    _, gap = least_squares(standardized_columns(outer), np.ones(len(columns)), columns)
    return bool(np.abs(gap).max(initial=0.0) <= 1e-8 * np.abs(columns).max(initial=1.0))


def standardized_columns(fit: FitFigures) -> sp.csc_array:
    """Fixed columns (n, p) of the equations, centred and scaled, for the rows of the data."""
    e = fit.solved.equations
    rotated = getattr(e, "rotation", None) is not None
    return sp.csc_array(fit.design.X @ e.to_user) if rotated else e.X_inside


def is_nested(inner: FitFigures, outer: FitFigures) -> bool:
    """Whether `inner` may be a special case of `outer`: nothing that is judged speaks against it.

    Judged are the fixed parts and the covariances that were estimated for `inner`: whether `outer` could have
    them, for the residual within subjects and for terms that stand alone for their group in both fits, as
    several share what they explain.
    """
    if not fixed_part_within(inner, outer):
        return False
    ours, theirs = _covariances(inner), _covariances(outer)
    shared = [(ours[place][1], theirs[place][0]) for place in ours.keys() & theirs.keys()]
    # a structure without parameters leaves the variance to a relationship of its own
    return all(structure.takes(T) for T, structure in shared if structure.n_theta)


def _covariances(fit: FitFigures) -> dict[Any, tuple[CoefficientStructure, np.ndarray]]:
    """Structure and estimate (m, m) by group and coefficients, and of the residual by its arms."""
    solved, out = fit.solved, dict[Any, tuple[CoefficientStructure, np.ndarray]]()
    groups = [random.group for random in fit.design.random]
    for k, random in enumerate(fit.design.random):
        if not random.is_spline and groups.count(random.group) == 1:
            structure = solved.equations.terms[k].structure
            out[random.group, tuple(random.columns)] = structure, term_covariance(fit, k)
    if not isinstance(solved, StructuredSolution):
        return out
    residual, theta = solved.equations.residual, solved.theta[solved.equations.slices[1]]
    if isinstance(residual, WithinSubjectResiduals):
        for arm, structure in enumerate(residual.structures):
            own = theta[residual.first[arm] : residual.first[arm + 1]]
            out[fit.design.residual.group, arm] = structure, structure.covariance(own)
    return out
