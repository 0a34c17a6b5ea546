"""The table `plots` of a batch: every plot of a trial with its place, response, fitted value and residual."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from fastlmm_core.batch.plan import BatchPlan
from fastlmm_core.design.table import read_column
from fastlmm_core.errors import FastLMMError
from fastlmm_core.results.field_layout import model_positions
from fastlmm_core.results.fit import LMMFit
from fastlmm_core.results.heritability import find_term
from fastlmm_core.results.plot_places import place_columns, plain
from fastlmm_core.results.trend import has_trend


def plot_rows(fit: LMMFit, plan: BatchPlan, frame: pd.DataFrame, studentized: np.ndarray) -> pd.DataFrame:
    """A row for every plot of a trial, also for those without a value.

    Parameters
    ----------
    fit : LMMFit
    frame : DataFrame
        The trial's own rows.
    studentized : (n,)
        Residuals over their own standard deviations.

    Returns
    -------
    DataFrame
        row, column, plot (texts or numbers as they are in the table; NaN where they are not known), genotype,
        response, fitted, trend (NaN without one), residual, studentized.
    """
    position, number = place_columns(plan.plots)
    if not position:
        try:
            position = model_positions(fit)
        except FastLMMError:
            position = ()
    out: dict[str, Any] = {}
    for name, column in zip(
        ("row", "column", "plot"), (*(position or ("", "")), *(number or ("",))), strict=True
    ):
        out[name] = place_column(frame, column)
    out["genotype"] = genotype_labels(fit, plan, frame)
    n, rows = len(frame), fit.design.rows
    figures = {"response": fit.response, "fitted": fit.fitted, "trend": trend_at_plots(fit, position, out),
               "residual": fit.residuals, "studentized": studentized}  # fmt: skip
    for name, values in figures.items():
        own = np.full(n, np.nan)
        own[rows] = values
        out[name] = own
    return pd.DataFrame(out)


def place_column(frame: pd.DataFrame, name: str) -> Any:
    """A column as numbers where it holds such, else as texts; NaN where there is none of that name."""
    if name not in frame.columns:
        return np.full(len(frame), np.nan)
    column = read_column(name, frame[name])
    if column.levels is None:
        return np.asarray(column.values, float)
    labels = np.array([*column.levels, None], object)
    return pd.Series(labels[column.values]).array


def genotype_labels(fit: LMMFit, plan: BatchPlan, frame: pd.DataFrame) -> Any:
    """Labels of the levels of `genotypes`, None where the row was not used."""
    labels = np.full(len(frame), None, object)
    if plan.genotypes:
        term = fit.design.random[find_term(fit, plan.genotypes)]
        own = np.array([*term.levels, None], object)
        labels[fit.design.rows] = own[term.codes]
    return pd.Series(labels, dtype=object).array


def trend_at_plots(fit: LMMFit, position: tuple[str, ...], out: dict[str, Any]) -> np.ndarray:
    """The trend (n,) at the plots that were used; NaN where the model has none over these positions."""
    unknown = np.full(fit.nobs, np.nan)
    if len(position) != 2 or not has_trend(fit):
        return unknown
    try:
        table = fit.trend(se=False)
    except FastLMMError:
        return unknown
    if list(table.columns) != [*position, "trend"]:
        return unknown
    at = {(plain(r), plain(c)): t for r, c, t in table.itertuples(index=False)}
    rows = fit.design.rows
    places = zip(np.asarray(out["row"], object)[rows], np.asarray(out["column"], object)[rows], strict=True)
    return np.array([at.get((plain(r), plain(c)), np.nan) for r, c in places])
