"""What the residuals of a fit tell of that of a new row: of a plot in the field, a visit of a subject.

With the rows of the equations y = A w + e as in ``observation_rows``, Var(e) = sigma2 R, and a new row
y_0 = k'w + e_0 of Cov(e, e_0) = sigma2 c, the prediction is k'w^ + a'e^ with a = R^-1 c, and its error

    sigma2 {(k - A'a)' C^-1 (k - A'a) + r_0 - c'a}

(universal kriging; Cressie 1993, Statistics for Spatial Data, section 3.4; Robinson 1991, Stat. Sci. 6:15).
A missing plot of a field is a row of the equations already, whose a is a unit vector.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse as sp

from fastlmm_core.design.new_residual_rows import NewResidualRows, new_residual_rows
from fastlmm_core.engine.solution import StructuredSolution
from fastlmm_core.errors import OptionError
from fastlmm_core.structures.residuals.field import FieldResiduals
from fastlmm_core.structures.residuals.within_subject import WithinSubjectResiduals

if TYPE_CHECKING:
    from fastlmm_core.results.fitted_model import FittedModel


@dataclass(frozen=True)
class ConditionalResiduals:
    """Residuals of m new rows given those of the fit.

    Attributes
    ----------
    weights : (m, n_rows) csr_array
        a by rows.
    variances : (m,) float64
        r_0 - c'a, relative to sigma2.
    values : (m,) float64
        a'e^, units of the response.
    """

    weights: sp.csr_array
    variances: np.ndarray
    values: np.ndarray


def conditional_residuals(fit: FittedModel, newdata: Any) -> ConditionalResiduals:
    """Of the rows of `newdata`, which have weight 1 where the fit has weights.

    Raises
    ------
    OptionError
        Where the residuals of the model are independent, or known by row.
    DataError
        As ``new_residual_rows``.
    """
    solved, spec = fit.solved, fit.design.residual
    residual = solved.equations.residual if isinstance(solved, StructuredSolution) else None
    if not isinstance(residual, FieldResiduals | WithinSubjectResiduals):
        why = "are known for its rows alone" if spec.kind == "known" else "are independent: they tell nothing"
        raise OptionError("residual=True is for residuals over a field or within subjects; those of this "
                          f"model (residual='{spec.text}') {why}")  # fmt: skip
    assert isinstance(solved, StructuredSolution)
    new = new_residual_rows(fit.design, newdata)
    theta = solved.theta[solved.equations.slices[1]]
    if isinstance(residual, FieldResiduals):
        weights, variances = _of_cells(residual, new), np.zeros(new.places.size)
    else:
        weights, variances = _of_visits(residual, theta, new)
    values = weights @ solved.point.residual * solved.response.scale
    return ConditionalResiduals(weights, variances, np.asarray(values))


def _of_cells(residual: FieldResiduals, new: NewResidualRows) -> sp.csr_array:
    m = new.places.size
    rows = [residual.rows_of_cells[e][cell] for e, cell in zip(new.groups, new.places, strict=True)]
    return sp.csr_array((np.ones(m), (np.arange(m), rows)), shape=(m, residual.n_rows))


def _of_visits(
    residual: WithinSubjectResiduals, theta: np.ndarray, new: NewResidualRows
) -> tuple[sp.csr_array, np.ndarray]:
    m, diagonal = new.places.size, residual.visit_variances(theta)
    covariances = [residual.visit_covariance(theta, arm) for arm in range(len(residual.structures))]
    variances, weights = np.zeros(m), sp.lil_array((m, residual.n_rows))
    for row, (arm, visit, rows) in enumerate(zip(new.groups, new.places, new.beside, strict=True)):
        seen = residual.rows.visits[rows]
        if (seen == visit).any():  # the row itself
            weights[row, rows[seen == visit][0]] = 1.0
            continue
        variances[row] = diagonal[arm, visit]
        if not rows.size:
            continue
        root = residual.root[rows]
        R = covariances[arm][np.ix_(seen, seen)]
        np.fill_diagonal(R, diagonal[arm, seen])
        a = np.linalg.solve(R, covariances[arm][seen, visit])  # of rows of weight 1
        variances[row] = max(variances[row] - covariances[arm][seen, visit] @ a, 0.0)
        weights[row, rows] = a * root
    return sp.csr_array(weights), variances
