"""Predictions on new rows with standard errors, and the weights of the observations in an estimate."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import scipy.sparse as sp

from fastlmm_core.design.group_columns import table_for
from fastlmm_core.design.grouping import is_units
from fastlmm_core.design.values.columns import first_row
from fastlmm_core.design.values.table import Table
from fastlmm_core.engine.solution import StructuredSolution
from fastlmm_core.errors import DataError, OptionError, name_list, nearest_names, shown
from fastlmm_core.formula.expressions import deparse, label_of
from fastlmm_core.formula.functions import names_read
from fastlmm_core.inference.linear_functions import dense_rows
from fastlmm_core.kernels.equations.assembly import apply_factor
from fastlmm_core.results.blups import user_effects
from fastlmm_core.results.residual_prediction import conditional_residuals
from fastlmm_core.results.row_variances import predicted_variance

if TYPE_CHECKING:
    from fastlmm_core.design.random_terms import RandomTerm
    from fastlmm_core.results.fit_figures import FitFigures


def observation_weights(fit: FitFigures, K: np.ndarray | sp.sparray) -> np.ndarray:
    """K (X'V^-1 X)^-1 X'V^-1, (r, n), from one solve: W [Z X] F C^-1 [0; K']."""
    K = dense_rows(K)
    if K.shape[1] != len(fit.coef_names):
        raise OptionError(f"K has {K.shape[1]} columns; the model has {len(fit.coef_names)} coefficients")
    if not fit.design.estimable(K).all():
        raise OptionError("a row of K is not estimable: no weights of the observations give it")
    if isinstance(fit.solved, StructuredSolution):
        fixed, _ = fit.solved.solve_fixed((fit.solved.equations.to_user.T @ K[:, fit.design.kept].T).T)
        return fit.solved.row_weights(fixed).T
    solved, e = fit.solved, fit.solved.equations
    rhs = np.zeros((e.q + e.p, K.shape[0]))
    rhs[e.layout.fixed_rows] = e.to_user.T @ K[:, fit.design.kept].T
    solution = solved.factor.solve(rhs)
    coefficients = np.empty_like(solution)
    apply_factor(e.layout.start, e.layout.term, solved.factors, solution, coefficients)
    rows = [e.linear_predictor(np.ascontiguousarray(column)) * e.weights for column in coefficients.T]
    return np.array(rows).reshape(K.shape[0], e.n)


def predict(
    fit: FitFigures, newdata: Any, random: bool | Sequence[str], allow_new_levels: bool, offset: Any,
    se: bool, residual: bool = False,
) -> np.ndarray | pd.DataFrame:  # fmt: skip
    """See ``LMMFit.predict``."""
    used = _terms_used(fit, random)
    if newdata is None:
        if residual:
            raise OptionError("residual=True belongs to newdata; the rows of the fit have their response")
        if offset is not None:
            raise OptionError("offset= belongs to newdata; the rows of the fit have theirs")
        table, X = None, fit.design.fixed_matrix(fit.design.frame)
        shift = np.zeros(fit.nobs) if fit.offset is None else fit.offset
    else:
        table = Table(newdata)
        X = fit.design.fixed_matrix(table)
        shift = _new_offset(fit, offset, table)
    estimable = fit.design.estimable(X)
    value = X @ fixed_coefficients_beside(fit, used) + shift
    evaluated: list[tuple[int, np.ndarray | None, Any]] = []
    for k in used:
        term = fit.design.random[k]
        u = user_effects(fit, k)
        if term.is_spline:
            basis: Any = term.basis if table is None else term.evaluate(table)
            value = value + basis @ u[:, 0]
            evaluated.append((k, None, basis))
            continue
        if table is not None:
            _check_groups(term, table)
            if residual and term.is_of_units(table):  # the value of a row has its own effect
                evaluated.append((k, *term.new_units(table)))
                continue
        layers = fitted_layers(term) if table is None else term.evaluate_layers(table)
        for layer, (codes, z) in enumerate(layers):
            unknown = codes < 0
            if unknown.any() and not allow_new_levels:
                raise DataError(_unknown_levels(term, layer, table, np.flatnonzero(unknown)))
            value = value + np.where(unknown, 0.0, np.einsum("ij,ij->i", z, u[codes]))
            evaluated.append((k, codes, z))
    beside = None if table is None or not residual else conditional_residuals(fit, table, allow_new_levels)
    value = np.where(estimable, value if beside is None else value + beside.values, np.nan)
    if not se:
        return value
    variance = predicted_variance(fit, X, evaluated, beside)
    status = np.where(estimable, "ok", "not estimable")
    index = None if table is None else table.index
    error = np.where(estimable, np.sqrt(np.maximum(variance, 0.0)), np.nan)
    return pd.DataFrame({"prediction": value, "se": error, "status": status}, index=index)


def incomplete_rows(fit: FitFigures, newdata: Any, random: bool | Sequence[str]) -> np.ndarray:
    """(m,) bool: new rows that lack a value which `predict` needs, of the fixed part or a term of `random`.

    A level that the fit has not seen is a value.
    """
    design = fit.design
    table, coding = table_for(design.formula, design.random, newdata, 0.0), design.coding
    missing = np.zeros(table.n, dtype=bool)
    for text, own in coding.read(table).items():
        missing |= own < 0 if coding.atoms[text].is_factor else np.isnan(own).reshape(table.n, -1).any(axis=1)
    for k in _terms_used(fit, random):
        term = fit.design.random[k]
        if not term.is_spline:  # whose variable is in the fixed part
            for (_, z), lost in zip(term.evaluate_layers(table), term.missing_levels(table), strict=True):
                missing |= np.isnan(z).any(axis=1) | (lost & (z != 0.0).any(axis=1))
    return missing


def fixed_coefficients_beside(fit: FitFigures, used: list[int]) -> np.ndarray:
    """beta (p_full,), zero where dropped, less the polynomials in B w of the splines that are added."""
    beta = np.where(np.isnan(fit.beta), 0.0, fit.beta)
    if isinstance(fit.solved, StructuredSolution):
        beta[fit.design.kept] = fit.solved.equations.to_user @ fit.solved.beta_beside(used)
    return beta


def fitted_layers(term: RandomTerm) -> list[tuple[np.ndarray, np.ndarray]]:
    """Codes and values on the rows of the fit as `evaluate_layers` gives them: zero outside of ``at()``."""
    return [
        (np.where(codes < 0, 0, codes), np.where((codes < 0)[:, None], 0.0, z)) for codes, z in term.layers
    ]


def _check_groups(term: RandomTerm, table: Table) -> None:
    """Refuse new data that lack a grouping factor, which predictions of a new unit do not have."""
    known = table.names
    for layer in range(len(term.layers)):
        own = [node for node in term.columns_of_layer(layer) if not is_units(node, known)]
        for name in names_read(own):
            if name not in known:
                raise DataError(
                    f"new data: the column '{name}' of the random effects of '{term.group}' is not there"
                    f"{nearest_names(name, known)}; random=False predicts without random effects"
                )


def _unknown_levels(term: RandomTerm, layer: int, table: Table | None, rows: np.ndarray) -> str:
    """Message for rows whose level of the grouping factor is missing or not among those of the fit."""
    labels = term.row_labels(table, layer)[rows]
    unknown = list(dict.fromkeys(label for label in labels if label is not None))
    parts = [f"the levels {name_list(unknown)}, which did not occur in the fit"] if unknown else []
    missing = sum(label is None for label in labels)
    parts += [f"no value in {missing} row{'s' if missing > 1 else ''}"] if missing else []
    column = ", ".join(deparse(node) for node in term.columns_of_layer(layer))
    where = f"'{term.group}'" + (f" has in '{column}'" if len(term.layers) > 1 else " has")
    return (
        f"new data: {where} {', and '.join(parts)}; allow_new_levels=True predicts such rows "
        "with a random effect of zero"
    )


def _terms_used(fit: FitFigures, random: bool | Sequence[str]) -> list[int]:
    terms = fit.design.random
    if isinstance(random, bool):
        return list(range(len(terms))) if random else []
    if random is None:
        raise OptionError("random=None is not known; allowed: True, False, or names of grouping factors")
    if not isinstance(random, str | Sequence):
        raise OptionError(
            f"random={shown(random)} is not known; allowed: True, False, or names of grouping factors"
        )
    wanted = [label_of(str(name)) for name in ([random] if isinstance(random, str) else random)]
    groups = [term.group for term in terms]
    for name in wanted:
        if name not in groups:
            others = nearest_names(name, groups) if groups else ", which has no random terms"
            raise OptionError(f"random={name!r} is not a grouping factor of this model{others}")
    return [k for k, term in enumerate(terms) if term.group in wanted]


def _new_offset(fit: FitFigures, offset: Any, table: Table) -> np.ndarray:
    """(n,) the whole offset of the new rows: the one given, or the formula's."""
    if offset is None:
        if fit.offset is None:
            return np.zeros(table.n)
        return fit.design.new_offset(table)
    try:
        values = np.asarray(offset, float)
    except (TypeError, ValueError, OverflowError):
        raise DataError("offset= of a prediction takes numbers, one for each row of the new data") from None
    if values.shape not in ((), (table.n,)):
        raise DataError(f"offset has shape {values.shape}; the new data have {table.n} rows")
    if not np.isfinite(values).all():
        bad = np.atleast_1d(~np.isfinite(values))
        raise DataError(f"offset has missing or infinite values, {first_row(bad, np.atleast_1d(values))}")
    return np.broadcast_to(values, (table.n,))
