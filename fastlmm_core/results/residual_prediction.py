"""What the residuals of a fit tell of that of a new row: of a plot in the field, a visit of a subject.

With the rows of the equations y = A w + e as in ``observation_rows``, Var(e) = sigma2 R, and a new row
y_0 = k'w + e_0 of Cov(e, e_0) = sigma2 c, the prediction is k'w^ + a'e^ with a = R^-1 c, and its error

    sigma2 {(k - A'a)' C^-1 (k - A'a) + r_0 - c'a}

(universal kriging; Cressie 1993, Statistics for Spatial Data, section 3.4; Robinson 1991, Stat. Sci. 6:15).
A missing plot of a field is a row of the equations already, whose a is a unit vector. Of a plot beyond the
field, k and l steps from its nearest cell, a is the unit vector of that cell times rho_1^k rho_2^l: given the
cell, an autoregression along rows and columns knows of no others.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import scipy.sparse as sp

from fastlmm_core.design.new_residual_rows import NewResidualRows, new_residual_rows
from fastlmm_core.design.values.table import Table
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


def conditional_residuals(fit: FittedModel, table: Table, new_subjects: bool) -> ConditionalResiduals:
    """Of the rows of a table, which have weight 1 where the fit has weights.

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
    new = new_residual_rows(fit.design, table, new_subjects)
    theta = solved.theta[solved.equations.slices[1]]
    if isinstance(residual, FieldResiduals):
        weights, variances = _of_cells(residual, theta, new)
    else:
        weights, variances = _of_visits(residual, theta, new)
    values = weights @ solved.point.residual * solved.response.scale
    return ConditionalResiduals(weights, variances, np.asarray(values))


def _of_cells(
    residual: FieldResiduals, theta: np.ndarray, new: NewResidualRows
) -> tuple[sp.csr_array, np.ndarray]:
    m = new.places.size
    rows, weights, variances = np.empty(m, np.int64), np.ones(m), np.zeros(m)
    for e in np.unique(new.groups):
        own = np.flatnonzero(new.groups == e)
        rows[own] = residual.rows_of_cells[e][new.places[own]]
        beyond = own[new.beyond[own].any(axis=1)]
        variance, decay = residual.beyond(theta, int(e), new.beyond[beyond])
        weights[beyond] = decay * residual.root[rows[beyond]]  # of rows of weight 1
        variances[beyond] = variance * (1.0 - decay) * (1.0 + decay)
    return sp.csr_array((weights, (np.arange(m), rows)), shape=(m, residual.n_rows)), variances


def _of_visits(
    residual: WithinSubjectResiduals, theta: np.ndarray, new: NewResidualRows
) -> tuple[sp.csr_array, np.ndarray]:
    m, diagonal = new.places.size, residual.visit_variances(theta)
    variances = diagonal[new.groups, np.clip(new.places, 0, diagonal.shape[1] - 1)]  # beyond all days alike
    entries = [(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0))]  # new row, row of the fit, weight
    by_subject, of_fit = _in_runs(new.subjects), dict(_in_runs(residual.rows.subjects))
    for subject, own in by_subject:
        rows = of_fit.get(subject)
        if rows is None:  # a new one
            continue
        seen, visits = residual.rows.visits[rows], new.places[own]
        order = np.argsort(seen)
        at = order[np.minimum(np.searchsorted(seen[order], visits), seen.size - 1)]
        same = seen[at] == visits  # rows of the fit themselves
        variances[own[same]] = 0.0
        entries.append((own[same], rows[at[same]], np.ones(int(same.sum()))))
        left, arm = own[~same], int(new.groups[own[0]])
        Sigma = residual.covariances(theta, arm)
        for places, among in residual.telling(seen, new.places[left]):
            R = Sigma(seen[among], seen[among])
            np.fill_diagonal(R, diagonal[arm, seen[among]])
            beside = Sigma(seen[among], new.places[left[places]])
            a = np.linalg.solve(R, beside)  # of rows of weight 1
            told = np.sum(beside * a, axis=0)
            variances[left[places]] = np.maximum(variances[left[places]] - told, 0.0)
            weight = a * residual.root[rows[among], None]
            entries.append((np.tile(left[places], among.size), np.repeat(rows[among], places.size),
                            weight.ravel()))  # fmt: skip
    row, column, value = (np.concatenate(parts) for parts in zip(*entries, strict=True))
    return sp.csr_array((value, (row, column)), shape=(m, residual.n_rows)), variances


def _in_runs(codes: np.ndarray) -> list[tuple[int, np.ndarray]]:
    """Every code that occurs, with its places, increasing."""
    order = np.argsort(codes, kind="stable")
    cuts = np.flatnonzero(np.diff(codes[order])) + 1
    return [(int(codes[places[0]]), places) for places in np.split(order, cuts) if places.size]
