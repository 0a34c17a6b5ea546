"""Diagnostics of a fit: residuals with their own errors, leverage, and what deleting rows would change."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy.linalg import solve_triangular

from fastlmm_core.engine.solution import StructuredSolution
from fastlmm_core.errors import InferenceError, OptionError, nearest_names
from fastlmm_core.inference.deletion import (
    NOTHING,
    Deletion,
    deletion,
    moved_estimates,
    single_deletions,
)
from fastlmm_core.linalg.memory import check_memory
from fastlmm_core.results.diagnostics.component_influence import ComponentInfluence
from fastlmm_core.results.diagnostics.observation_rows import BLOCK, ObservationRows, observation_rows
from fastlmm_core.results.field.layout import column_of

if TYPE_CHECKING:
    from fastlmm_core.results.fixed_part import FixedPart

DECIDES = "a fixed effect is not estimable without it"
NO_VARIANCE = "the fixed part explains the response: residuals have no variance to be judged by"
NO_RESIDUAL = (
    "the covariance of the residuals is singular: there are residuals without a variance to be judged by; "
    "leave out a random term, or take a simpler residual"
)
# Variance of a residual, relative to that of its error, below which it is rounding.
ROUNDING = 1e-10
# Operations that forming the equations anew takes, at least.
REFORM = 1e6


@dataclass(frozen=True)
class StandardizedResiduals:
    """Residuals over their own standard deviations, (n,) each; NaN where a row is fitted whatever it says.

    Attributes
    ----------
    conditional, conditional_sd
        y less fixed and random effects; its variance is that of the error less what fitting takes.
    marginal, marginal_sd
        y less the fixed effects.
    """

    conditional: np.ndarray
    conditional_sd: np.ndarray
    marginal: np.ndarray
    marginal_sd: np.ndarray

    @property
    def conditional_ratio(self) -> np.ndarray:
        return _ratio(self.conditional, self.conditional_sd)

    @property
    def marginal_ratio(self) -> np.ndarray:
        return _ratio(self.marginal, self.marginal_sd)


def standardized_residuals(rows: ObservationRows) -> StandardizedResiduals:
    """Var(e) = sigma2 (R - A C^-1 A') of conditional, V - X Phi X' of marginal residuals."""
    conditional = rows.residual[: rows.n]
    left = _beyond_rounding(rows.variances - rows.prediction_errors, rows.variances)
    X = rows.matrix[: rows.n][:, rows.fixed]
    total = rows.variances + rows.random_variances
    taken = np.asarray(X.multiply(X @ rows.fixed_covariance).sum(axis=1)).ravel()
    outer = _beyond_rounding(total - taken, total)
    return StandardizedResiduals(
        conditional, np.sqrt(rows.scale * left),
        conditional + rows.random_part, np.sqrt(rows.scale * outer),
    )  # fmt: skip


def suspicious_residuals(fit: FixedPart) -> np.ndarray:
    """Conditional residuals (n,) over their own standard deviations; zeros where there is no variance."""
    rows = observation_rows(fit)
    if not rows.scale > 0.0:
        return np.zeros(fit.nobs)
    return np.nan_to_num(standardized_residuals(rows).conditional_ratio)


def diagnostic_table(fit: FixedPart, components: bool) -> pd.DataFrame:
    """See ``LMMFit.diagnostics``."""
    rows = _rows_of(fit)
    residuals = standardized_residuals(rows)
    m, b, fixed_leverage = single_products(rows)
    size = rows.precision.diagonal()[: rows.n]
    found = single_deletions(m, rows.projected, b, size, rows.p, rows.scale)
    frame = pd.DataFrame(
        {
            "row": np.asarray(fit.design.index), "fitted": fit.fitted,
            "residual": residuals.conditional, "studentized": residuals.conditional_ratio,
            "marginal": residuals.marginal, "marginal_studentized": residuals.marginal_ratio,
            "leverage": rows.leverages, "leverage_fixed": fixed_leverage,
            "shift": found.shift, "cooks_d": found.cooks_d, "mdffits": found.mdffits,
            "covtrace": found.covtrace, "covratio": found.covratio,
        }
    )  # fmt: skip
    frame["status"] = np.where(np.isnan(found.shift), DECIDES, "ok")
    if components:
        own = ComponentInfluence(fit, rows)
        frame = pd.concat([frame, own.frame(own.of_rows())], axis=1)
    return frame


def influence_table(
    fit: FixedPart, group: str, coefficients: bool, components: bool, data: pd.DataFrame | None
) -> pd.DataFrame:
    """See ``LMMFit.influence``."""
    rows = _rows_of(fit)
    labels, codes = grouping(fit, group, data)
    half = fixed_half(rows)
    out, moved = [], []
    for level in range(len(labels)):
        gone = np.flatnonzero(codes == level)
        found, change = delete_rows(rows, gone, half)
        moved.append(change)
        status = "ok" if found is not NOTHING else DECIDES
        measures = (found.cooks_d, found.mdffits, found.covtrace, found.covratio)
        out.append((group, labels[level], gone.size, *measures, status))
    frame = pd.DataFrame(
        out, columns=["group", "level", "n", "cooks_d", "mdffits", "covtrace", "covratio", "status"]
    )
    if coefficients:
        changes = np.full((len(labels), len(fit.coef_names)), np.nan)
        changes[:, fit.design.kept] = np.array(moved) @ fit.solved.equations.to_user.T.toarray()
        for j, name in enumerate(fit.coef_names):
            frame[f"change_{name}"] = changes[:, j]
    if components:
        own = ComponentInfluence(fit, rows)
        figures = [own.without(np.flatnonzero(codes == level)) for level in range(len(labels))]
        frame = pd.concat([frame, own.frame(np.array(figures))], axis=1)
    return frame


def delete_rows(rows: ObservationRows, own: np.ndarray, half: np.ndarray) -> tuple[Deletion, np.ndarray]:
    """Measures of the deletion of a set of rows (k,), and b(D) - b of the inside coefficients (p,)."""
    if rows.pattern is not None and rows.independent:
        # k solves and their k x k matrix, or the equations without the rows, whichever is less work
        size = float(own.size)
        solves = 4.0 * size * rows.factor.nnz + size * size * rows.matrix.shape[1] + 10.0 * size**3
        if solves > 2.0 * rows.factor.flops + 4.0 * (rows.p + 1.0) * rows.factor.nnz + REFORM:
            return _refactorize(rows, own, half)
    right, solution = rows.solve_rows(own)
    inside = rows.precision[own][:, own].toarray()
    S = rows.functions @ solution
    found = deletion(
        _symmetric(inside - right.T @ solution), rows.projected[own], _square(half, S), np.diag(inside),
        rows.p, rows.scale,
    )  # fmt: skip
    if found is NOTHING:
        return found, np.full(rows.p, np.nan)
    return found, -S @ found.shift


def _refactorize(rows: ObservationRows, own: np.ndarray, half: np.ndarray) -> tuple[Deletion, np.ndarray]:
    """The same from the equations of all other rows, by a factorization of their own.

    The effects move by -C(D)^-1 A' R^-1 e of the rows that are gone.
    """
    unknown = np.full(rows.p, np.nan)
    if not rows.factorize_without(own):
        return NOTHING, unknown
    right = np.zeros((rows.matrix.shape[1], rows.p + 1))
    right[:, :-1] = rows.functions.T.toarray()
    right[:, -1] = -(rows.matrix[own].T @ rows.projected[own])
    solution = rows.functions @ rows.spare.solve(right)
    return moved_estimates(solution[:, -1], _symmetric(solution[:, :-1]), half, rows.scale), solution[:, -1]


def single_products(rows: ObservationRows) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For every row alone D'PD and S' Phi^-1 S, and the leverage x' S of the fixed part, (n,) each."""
    half, own = fixed_half(rows), rows.precision.diagonal()[: rows.n]
    m, b, leverage = np.empty(rows.n), np.empty(rows.n), np.empty(rows.n)
    X = rows.matrix[: rows.n][:, rows.fixed]
    for part, S, taken in _blocks(rows):
        m[part] = own[part] - taken
        b[part] = np.sum(solve_triangular(half, S, lower=True) ** 2, axis=0)
        leverage[part] = np.asarray(X[part].multiply(S.T).sum(axis=1)).ravel()
    return m, b, leverage


def _blocks(rows: ObservationRows) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Rows (k,), their S (p, k) and diagonal of R^-1 A C^-1 A' R^-1 (k,), block by block.

    Independent residuals need the solutions of the fixed columns only, others one of every row.
    """
    own = rows.precision.diagonal()[: rows.n]
    if rows.independent:
        check_memory(16 * rows.matrix.shape[1] * rows.p, None, f"the influence on {rows.p} fixed effects")
    for begin in range(0, rows.n, BLOCK):
        part = np.arange(begin, min(begin + BLOCK, rows.n))
        if rows.independent:
            S = own[part] * (rows.matrix[part] @ rows.fixed_columns).T
            yield part, S, own[part] * rows.leverages[part]
        else:
            right, solution = rows.solve_rows(part)
            yield part, rows.functions @ solution, np.einsum("ij,ij->j", right, solution)


def fixed_half(rows: ObservationRows) -> np.ndarray:
    """Lower triangular L (p, p) with L L' = Phi / sigma2."""
    return np.linalg.cholesky(rows.fixed_covariance)


def _square(half: np.ndarray, S: np.ndarray) -> np.ndarray:
    """S' Phi^-1 S (k, k)."""
    inner = solve_triangular(half, S, lower=True)
    return inner.T @ inner


def grouping(fit: FixedPart, group: str, data: pd.DataFrame | None) -> tuple[list[str], np.ndarray]:
    """Labels that occur and codes (n,) of a grouping factor of the model, or of any column.

    Raises
    ------
    DataError, OptionError
    """
    terms = [term for term in fit.design.random if not term.is_spline and len(term.layers) == 1]
    for term in terms:
        if term.group == group or term.group_variables == (group,):
            used, codes = np.unique(term.codes, return_inverse=True)
            labels = ["none" if code < 0 else str(term.levels[code]) for code in used]
            return labels, codes.ravel()
    known = dict.fromkeys([*(term.group for term in terms), *fit.design.frame.columns])
    if data is None and fit.design.read_column(group) is None:
        raise OptionError(
            f"group='{group}' is no grouping factor or column of the model{nearest_names(group, known)}; a "
            "column of the table that the model does not use takes data="
        )
    column = column_of(fit, group, data)
    used, codes = np.unique(column.values, return_inverse=True)
    if column.levels is None:
        return [f"{value:g}" for value in used], codes.ravel()
    return [str(column.levels[int(code)]) for code in used], codes.ravel()


def _rows_of(fit: FixedPart) -> ObservationRows:
    rows = observation_rows(fit)
    if not rows.scale > 0.0:
        raise InferenceError(NO_VARIANCE)
    if isinstance(fit.solved, StructuredSolution) and fit.solved.residual_singular:
        raise InferenceError(NO_RESIDUAL)
    if not rows.p:
        raise InferenceError("the model has no fixed effects that a row could have an influence on")
    return rows


def _beyond_rounding(values: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.where(values > ROUNDING * whole, values, np.nan)


def _ratio(values: np.ndarray, sd: np.ndarray) -> np.ndarray:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(values / sd)


def _symmetric(A: np.ndarray) -> np.ndarray:
    return np.asarray(0.5 * (A + A.T))
