"""The fitted trend over a field, or along a line: what a spline or an autoregression has found."""

from __future__ import annotations

from collections.abc import Sequence
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

# Share of a value and of the mean within which these are the same.
ROUNDING = 1e-12


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
    return [first] if terms[first].at is None else _of_all_levels(terms, trends, first)


def _of_all_levels(terms: Sequence[Any], trends: list[int], first: int) -> list[int]:
    """The trends written as the first one, and curves where ``at(env, E3):ps(col)`` has one in its place."""
    chosen = {terms[k].at: k for k in trends if terms[k].label == terms[first].label}
    columns = _at_columns(terms[first])
    for k in trends:
        own = terms[k]
        if own.is_spline and _at_columns(own) == columns and set(own.names) < set(terms[first].names):
            chosen.setdefault(own.at, k)
    order = [":".join(each) for each in product(*(levels for _, levels in terms[first].at_factors))]
    return [chosen[at] for at in order if at in chosen]


def _directions(terms: Sequence[Any], term: SplineTerm) -> tuple[str, ...]:
    """Variables of a spline, or of the surface of other levels of ``at()`` that it stands for."""
    others = [own for own in terms if own.is_spline and own.at is not None and own.at != term.at
              and _at_columns(own) == _at_columns(term)] if term.at is not None else []  # fmt: skip
    wider = [own.names for own in others if set(own.names) > set(term.names)]
    return wider[0] if wider else term.names


def _at_columns(term: Any) -> list[str]:
    return [deparse(node) for node, _ in term.at_factors]


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
    """Unpenalized polynomials and B w of a spline less their mean over its plots, at all positions.

    A curve that stands for the surface of a field too narrow for one is given over both directions.
    """
    term: SplineTerm = fit.design.random[k]
    if not all(isinstance(node, Name) for node in term.nodes):
        raise OptionError(f"the trend '{term.group}' is one of expressions; write columns into the table")
    inside = np.arange(fit.nobs) if term.inside is None else term.inside
    names = _directions(fit.design.random, term)
    columns = [column_of(fit, name, None) for name in names]
    at = [positions_of(replace(column, values=column.values[inside])) for column in columns]
    grid = np.meshgrid(*(own.labels for own in at), indexing="ij")
    positions = {name: values.ravel() for name, values in zip(names, grid, strict=True)}
    bases = [
        axis.basis(np.asarray(positions[name], float))
        for axis, name in zip(term.axes_of, term.names, strict=True)
    ]
    basis = sp.csr_array(reduce(lambda first, second: rowwise_product(second, first), bases)[:, term.kept])
    centred = basis.toarray() - term.basis[inside].mean(axis=0)
    K = polynomial_rows(fit, term, positions, inside)
    value = K @ fixed_coefficients_beside(fit, [k]) + centred @ user_effects(fit, k)[:, 0]
    estimable = fit.design.estimable(K)
    out = pd.DataFrame({**positions, "trend": np.where(estimable, value, np.nan)})
    if se:
        variance = predicted_variance(fit, K, [(k, None, centred)])
        out["se"] = np.where(estimable, np.sqrt(np.maximum(variance, 0.0)), np.nan)
    return out


def polynomial_rows(
    fit: FitFigures, term: SplineTerm, positions: dict[str, np.ndarray], inside: np.ndarray
) -> sp.csr_array:
    """Rows (g, p_full) of the fixed terms in the spline's variables alone, less their mean over its plots.

    Beside ``at(env)`` those in env and the variables too. What does not vary over the plots of the spline is
    a number there: in a field of one row ``row*col`` is a line along the columns.
    """
    design = fit.design
    count = next(iter(positions.values())).size
    frame = design.frame
    first = frame.iloc[np.full(count, inside[0])].reset_index(drop=True)
    known = {name for own in design.terms for name in own.variables}
    alone = {name for name in known if frame[name].iloc[inside].nunique(dropna=False) == 1}
    mine = [own.columns for own in design.terms
            if set(own.variables) <= {*term.group_variables, *positions, *alone}]  # fmt: skip
    keep = np.zeros(len(design.column_names))
    if mine:
        keep[np.concatenate(mine)] = 1.0
    X = design.fixed_matrix(first.assign(**positions)).toarray()
    mean = np.asarray(design.fixed_matrix(frame.iloc[inside]).mean(axis=0)).ravel()
    K = (X - mean) * keep
    # in the middle of the field nothing but rounding is left, whose direction is none of the data's
    return sp.csr_array(np.where(np.abs(K) <= ROUNDING * np.maximum(np.abs(X), np.abs(mean)), 0.0, K))
