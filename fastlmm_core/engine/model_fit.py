"""One fit of the structured equations to a response: the scale of y, the search, the solution."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import scipy.sparse as sp

from fastlmm_core.engine.equations.structured_equations import StructuredEquations
from fastlmm_core.engine.held import held_parameters, starting_parameters
from fastlmm_core.engine.search.driver import Progress
from fastlmm_core.engine.search.fitting import fit_structures, optimum_at
from fastlmm_core.engine.search.optimum import StructuredOptimum
from fastlmm_core.engine.search.starting_values import starting_values
from fastlmm_core.engine.solution import StructuredResponse, StructuredSolution
from fastlmm_core.errors import DesignError, NumericalError
from fastlmm_core.linalg.base import CholeskyFactor
from fastlmm_core.reml.fitting import Certificate
from fastlmm_core.reml.optimizer import Optimum
from fastlmm_core.structures.residuals.by_group import LEAST_SQUARE
from fastlmm_core.structures.residuals.within_subject import WithinSubjectResiduals

TOO_LITTLE = (
    "{} too little about the covariances; take a structure with fewer parameters, or hold some "
    "(fixed_parameters=)"
)
# Rows without an error of least squares, up to which random effects may hold their variance above zero.
MOST_ROWS = 500


def fit_model(
    design: Any, equations: StructuredEquations, factor: CholeskyFactor, y: np.ndarray, *, reml: bool,
    held: Mapping[str, Any] | None = None, start: Mapping[str, Any] | np.ndarray | None = None,
    progress: Progress | None = None,
) -> tuple[StructuredSolution, Optimum, Certificate]:  # fmt: skip
    """Fit to y (n,), the response less offset.

    Parameters
    ----------
    held : mapping, optional
        Variance parameters that are held, by the names of their terms.
    start : mapping or (n_theta,), optional
        Starting values by the names of their terms, moments for the others; or theta inside.

    Raises
    ------
    DesignError
        When the fixed part explains the response exactly, so that no covariance is left to estimate.
    NumericalError
        When the likelihood has no maximum, or no value where the search starts.
    """
    if not held:
        _refuse_unbounded(equations)
    response = prepare_response(design, equations, y)
    unit = response.residual / response.scale
    equations = equations.for_response(unit)
    values = None if not held else held_parameters(design, equations, held, response.scale)
    _refuse_explained(equations, unit, values)
    theta = (
        start
        if start is None or isinstance(start, np.ndarray)
        else _named_start(design, equations, start, response, values)
    )
    optimum = fit_structures(equations, factor, unit, held=values, start=theta, progress=progress)
    if not np.isfinite(optimum.point.deviance):
        raise NumericalError(
            f"the likelihood has no value where the search starts: {TOO_LITTLE.format('the data tell')}"
        )
    solution = StructuredSolution(equations, factor, response, optimum, reml)
    return solution, *_records(optimum)


def solve_model(
    design: Any, equations: StructuredEquations, factor: CholeskyFactor, y: np.ndarray, theta: np.ndarray,
    free: np.ndarray, *, reml: bool,
) -> StructuredSolution:  # fmt: skip
    """The solution at parameters that an earlier fit to y (n,) found; see `fit_model`.

    Parameters
    ----------
    theta, free : (n_theta,)
        Of the earlier solution.
    """
    response = prepare_response(design, equations, y)
    unit = response.residual / response.scale
    equations = equations.for_response(unit)
    optimum = optimum_at(equations, factor, unit, theta, free)
    return StructuredSolution(equations, factor, response, optimum, reml)


def _named_start(
    design: Any, e: StructuredEquations, start: Mapping[str, Any], response: StructuredResponse,
    held: np.ndarray | None,
) -> np.ndarray:  # fmt: skip
    """theta (n_theta,): what the start names, moments elsewhere."""
    named = starting_parameters(design, e, start, response.scale, held)
    return np.where(np.isnan(named), starting_values(e, response.residual / response.scale), named)


def _refuse_unbounded(equations: StructuredEquations) -> None:
    """An unstructured covariance of more visits than subjects: singular ones have any likelihood."""
    residual = equations.residual
    if not isinstance(residual, WithinSubjectResiduals):
        return
    for arm, (structure, level) in enumerate(zip(residual.structures, residual.arm_levels, strict=True)):
        subjects, visits = residual.subjects_and_visits(arm)
        if structure.any_basis and subjects < visits:
            where = "" if level is None else f" of {level}"
            told = f"{subjects} subjects{where} with {visits} visits tell"
            raise NumericalError(f"the likelihood has no maximum: {TOO_LITTLE.format(told)}")


def _refuse_explained(equations: StructuredEquations, e: np.ndarray, held: np.ndarray | None) -> None:
    """A level of the residual without an error, e (n,) being that of least squares, has a variance of zero.

    Not one whose rows the fixed part explains whatever they are: of that one nothing is known.
    """
    free = np.ones(equations.n_theta, bool) if held is None else np.isnan(held)
    least = LEAST_SQUARE * float(np.mean(e**2))
    for group in equations.residual.groups():
        estimated = free[equations.slices[1]][group.own].any()
        if estimated and float(np.mean(e[group.rows] ** 2)) <= least:
            whole = [own.own for own in equations.groups_within_fixed if own.structure is None]
            if group.own not in whole and not _spanned(equations, group.rows):
                raise DesignError(
                    f"the response of '{group.label}' is explained without an error, as one that is constant "
                    "is: a residual variance of its own would be zero; leave it out, or give all the same "
                    "residual variance"
                )


def _spanned(equations: StructuredEquations, rows: np.ndarray) -> bool:
    """Whether random effects give every contrast of the rows (k,) a variance without the residual."""
    parts = [sp.csr_array(M)[rows] for term in equations.terms for M in term.matrices]
    beside = sp.csc_array(sp.hstack([equations.X_inside[rows], *parts]))
    beside = beside[:, np.diff(beside.indptr) > 0]
    if beside.shape[1] < rows.size or rows.size > MOST_ROWS:
        return False
    return int(np.linalg.matrix_rank(beside.toarray())) == rows.size


def _records(found: StructuredOptimum) -> tuple[Optimum, Certificate]:
    """The search and its certificate, as every fit keeps them."""
    end = found.end
    curvature = float(np.linalg.eigvalsh(end.hessian).min()) if end.hessian.size else 0.0
    optimum = Optimum(
        end.theta, end.status, float(found.point.deviance), np.nan, end.decrement, end.iterations,
        end.evaluations, end.gradient, end.hessian, np.zeros((0, 0, 0)), end.trace,
    )  # fmt: skip
    largest = float(np.abs(end.gradient).max(initial=0.0))
    certificate = Certificate(
        found.certified, end.decrement, largest, curvature, found.smallest_boundary_score
    )
    return optimum, certificate


def prepare_response(design: Any, e: StructuredEquations, y: np.ndarray) -> StructuredResponse:
    """Weighted least squares of the fixed part taken out of y, and the scale of what is left."""
    w = np.ones(e.n) if design.weights is None else np.asarray(design.weights, float)
    if e.rotation is not None:  # weights are in the rows of X already
        y, w = e.rotation.forward(y), np.ones(e.n)
    beta, residual = e.regression(w).fit(y)
    square = float(residual @ (w * residual))
    if square <= 1e-28 * float(y @ (w * y)):
        raise DesignError(
            "the fixed part explains the response exactly: no covariance structure can be estimated; fit "
            "without residual=, relationships= and structures"
        )
    return StructuredResponse(y, beta, residual, float(np.sqrt(square / e.n)))
