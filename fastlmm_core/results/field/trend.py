"""The fitted trend over a field, or along a line: what a spline or an autoregression has found."""

from __future__ import annotations

from dataclasses import replace
from functools import reduce
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import scipy.sparse as sp

from fastlmm_core.design.coding.sparse_columns import rowwise_product
from fastlmm_core.errors import OptionError, nearest_names
from fastlmm_core.formula.expressions import Name, deparse, label_of
from fastlmm_core.results.blups import blup_table, user_effects
from fastlmm_core.results.field.layout import autoregressions, column_of, positions_of
from fastlmm_core.results.prediction import fixed_coefficients_beside
from fastlmm_core.results.row_variances import predicted_variance

if TYPE_CHECKING:
    from fastlmm_core.design.splines.penalized_splines import SplineTerm
    from fastlmm_core.results.fit_figures import FitFigures


def trend_table(fit: FitFigures, term: str | None = None, se: bool = True) -> pd.DataFrame:
    """See ``LMMFit.trend``."""
    tables = []
    for k in trend_terms(fit, term):
        own = fit.design.random[k]
        table = spline_trend(fit, k, se) if own.is_spline else process_trend(fit, k, se)
        for place, (name, level) in enumerate(at_values(fit, own)):
            table.insert(place, name, level)
        tables.append(table)
    return pd.concat(tables, ignore_index=True) if len(tables) > 1 else tables[0]


def has_trend(fit: FitFigures) -> bool:
    """Whether the model has a spline or an autoregressive term."""
    return any(term.is_spline or autoregressions(term) for term in fit.design.random)


def at_values(fit: FitFigures, term: Any) -> list[tuple[str, Any]]:
    """(column, level) of the factors of ``at()`` a term belongs to, numbers where the column has numbers."""
    if term.at is None:
        return []
    factors = term.at_factors
    own = next(each for each in product(*(levels for _, levels in factors)) if ":".join(each) == term.at)
    rows = term.inside if term.is_spline else np.flatnonzero(term.codes >= 0)
    out = []
    for (node, _), level in zip(factors, own, strict=True):
        name = label_of(deparse(node))
        value: Any = level
        if isinstance(node, Name):
            value = fit.design.frame[node.name].iloc[rows[0]]
            value = int(value) if isinstance(value, float) and value == round(value) else value
        out.append((name, value))
    return out


def trend_terms(fit: FitFigures, name: str | None) -> list[int]:
    """Places of the random terms that are the trend: a surface before a process before a curve.

    One, or those of all levels of ``at()`` where `name` is none of one level.

    Raises
    ------
    OptionError
        When there is none, or not one of that name.
    """
    terms = fit.design.random
    trends = [k for k, term in enumerate(terms) if term.is_spline or autoregressions(term)]
    if not trends:
        beside = (
            "; its residual over the field is fit.residuals" if fit.design.residual.kind == "field" else ""
        )
        raise OptionError("the model has no trend such as ps(row, col) or (1 | ar1(row):ar1(col))" + beside)

    if name is not None:
        known = {terms[k].group: [k] for k in trends}
        for k in trends:
            if terms[k].at is not None:
                known.setdefault(terms[k].label, [j for j in trends if terms[j].label == terms[k].label])
        written = [own for own in (name, label_of(name)) if own in known][:1]
        written = written or [own for own in known if _spelt(own) == _spelt(name)]
        if len(written) != 1:
            raise OptionError(f"term='{name}' is not a spline or autoregressive term of the model"
                              f"{nearest_names(name, known)}")  # fmt: skip
        return known[written[0]]

    def rank(k: int) -> int:
        return (2 if len(terms[k].names) == 1 else 0) if terms[k].is_spline else 1

    first = min(trends, key=rank)
    if terms[first].at is None:
        return [first]
    return [k for k in trends if terms[k].label == terms[first].label]


def _spelt(name: str) -> str:
    """A term without what does not tell it from others: blanks, and quotes of any kind around names."""
    return name.translate(str.maketrans("", "", " `\"'"))


def process_trend(fit: FitFigures, k: int, se: bool) -> pd.DataFrame:
    """BLUPs of ``(1 | ar1(row):ar1(col))`` at all positions, a column for each of its factors."""
    term = fit.design.random[k]
    own = blup_table(fit, term.group, 0.95)
    own = own[own["term"] == own["term"].iloc[0]].reset_index(drop=True)
    places = np.unravel_index(np.arange(term.relation.size), [f.size for f in term.relation.factors])
    columns: dict[str, Any] = {
        factor.name: np.array(factor.levels, object)[at]
        for factor, at in zip(term.relation.factors, places, strict=True)
    }
    for name, values in columns.items():  # numbers again where the positions were numbers
        column = fit.design.read_column(name)
        if column is not None and column.levels is None:
            columns[name] = pd.to_numeric(values)
    columns |= {"trend": own["estimate"].to_numpy()} | ({"se": own["se"].to_numpy()} if se else {})
    return pd.DataFrame(columns)


def spline_trend(fit: FitFigures, k: int, se: bool) -> pd.DataFrame:
    """Unpenalized polynomials and B w of a spline less their mean over its plots, at all positions."""
    term: SplineTerm = fit.design.random[k]
    if not all(isinstance(node, Name) for node in term.nodes):
        raise OptionError(f"the trend '{term.group}' is one of expressions; write columns into the table")
    inside = np.arange(fit.nobs) if term.inside is None else term.inside
    columns = [column_of(fit, name, None) for name in term.names]
    at = [positions_of(replace(column, values=column.values[inside])) for column in columns]
    grid = np.meshgrid(*(own.labels for own in at), indexing="ij")
    positions = {name: values.ravel() for name, values in zip(term.names, grid, strict=True)}
    bases = [
        axis.basis(np.asarray(x, float)) for axis, x in zip(term.axes_of, positions.values(), strict=True)
    ]
    basis = sp.csr_array(reduce(lambda first, second: rowwise_product(second, first), bases)[:, term.kept])
    centred = basis.toarray() - term.basis[inside].mean(axis=0)
    K = polynomial_rows(fit, term, positions, inside)
    value = K @ fixed_coefficients_beside(fit, [k]) + centred @ user_effects(fit, k)[:, 0]
    out = pd.DataFrame({**positions, "trend": value})
    if se:
        variance = predicted_variance(fit, K, [(k, None, centred)])
        out["se"] = np.where(fit.design.estimable(K), np.sqrt(np.maximum(variance, 0.0)), np.nan)
    return out


def polynomial_rows(
    fit: FitFigures, term: SplineTerm, positions: dict[str, np.ndarray], inside: np.ndarray
) -> sp.csr_array:
    """Rows (g, p_full) of the fixed terms in the spline's variables alone, less their mean over its plots.

    Beside ``at(env)`` those in env and the variables too.
    """
    design = fit.design
    count = next(iter(positions.values())).size
    frame = design.frame
    first = frame.iloc[np.full(count, inside[0])].reset_index(drop=True)
    mine = [own.columns for own in design.terms if set(own.variables) <= set(term.group_variables)]
    keep = np.zeros(len(design.column_names))
    if mine:
        keep[np.concatenate(mine)] = 1.0
    X = design.fixed_matrix(first.assign(**positions))
    mean = np.asarray(design.fixed_matrix(frame.iloc[inside]).mean(axis=0)).ravel()
    return sp.csr_array((X.toarray() - mean) * keep)
