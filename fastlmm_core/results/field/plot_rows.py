"""Every plot of a trial with its place, response, fitted value and residual: the table `plots` of a batch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from fastlmm_core.design.values.columns import read_column
from fastlmm_core.errors import FastLMMError
from fastlmm_core.results.field.layout import model_positions, own_trials
from fastlmm_core.results.field.plot_places import labels_or_numbers, place_columns, plain
from fastlmm_core.results.field.trend import has_trend, trend_table
from fastlmm_core.results.genotypes.heritability_levels import find_term

if TYPE_CHECKING:
    from fastlmm_core.results.fixed_part import FixedPart


def plot_rows(
    fit: FixedPart, frame: pd.DataFrame | None, studentized: np.ndarray,
    plots: tuple[str, ...] | bool = True, genotypes: str | None = None,
) -> pd.DataFrame:  # fmt: skip
    """A row for every plot of a trial, also for those without a value.

    Parameters
    ----------
    fit : LMMFit
    frame : DataFrame or None
        The table that was fitted; None for the columns of the model on the rows that were used.
    plots : tuple of str or bool
        Columns that name the plots.
    genotypes : str, optional
        Grouping factor of the genotypes.
    studentized : (n,)
        Residuals over their own standard deviations.

    Returns
    -------
    DataFrame
        The column that tells fields apart, where the model has one; row, column, plot (texts or numbers as
        they are in the table; NaN where they are not known), genotype,
        response, fitted, trend (NaN without one), residual, studentized.
    """
    rows = fit.design.rows if frame is not None else np.arange(fit.nobs)
    frame = fit.design.frame if frame is None else frame
    position, number = place_columns(plots)
    if not position:
        try:
            position = model_positions(fit)
        except FastLMMError:
            position = ()
    trials = own_trials(fit, any_residual=True) if position else None
    out: dict[str, Any] = {}
    if trials is not None and trials.labels.size > 1:
        out[trials.name] = place_column(frame, trials.name)
    for name, column in zip(
        ("row", "column", "plot"), (*(position or ("", "")), *(number or ("",))), strict=True
    ):
        out[name] = place_column(frame, column)
    n = len(frame)
    out["genotype"] = genotype_labels(fit, genotypes, n, rows)
    trend = trend_at_plots(fit, position, out, rows)
    figures = {"response": fit.response, "fitted": fit.fitted, "trend": trend, "residual": fit.residuals,
               "studentized": studentized}  # fmt: skip
    for name, values in figures.items():
        own = np.full(n, np.nan)
        own[rows] = values
        out[name] = own
    return pd.DataFrame(out)


def place_column(frame: pd.DataFrame, name: str) -> Any:
    """A column as numbers where it holds such, else as texts; NaN where there is none of that name."""
    if name not in frame.columns:
        return np.full(len(frame), np.nan)
    values = labels_or_numbers(read_column(name, frame[name]))
    return values if values.dtype != object else pd.Series(values).array


def genotype_labels(fit: FixedPart, genotypes: str | None, n: int, rows: np.ndarray) -> Any:
    """Labels of the levels of `genotypes`, None where the row was not used."""
    labels = np.full(n, None, object)
    if genotypes:
        term = fit.design.random[find_term(fit, genotypes)]
        own = np.array([*term.levels, None], object)
        labels[rows] = own[term.codes]
    return pd.Series(labels, dtype=object).array


def trend_at_plots(
    fit: FixedPart, position: tuple[str, ...], out: dict[str, Any], rows: np.ndarray
) -> np.ndarray:
    """The trend (n,) at the plots that were used; NaN where the model has none over these positions."""
    unknown = np.full(fit.nobs, np.nan)
    if len(position) != 2 or not has_trend(fit):
        return unknown
    try:
        table = trend_table(fit, se=False)
    except FastLMMError:
        return unknown
    fields = list(table.columns[:-3])  # of at(env)
    if list(table.columns[-3:]) != [*position, "trend"] or not set(fields) <= set(fit.design.frame):
        return unknown
    at = {tuple(map(plain, place)): trend for *place, trend in table.itertuples(index=False)}
    keys = [np.asarray(fit.design.frame[name], object) for name in fields]
    keys += [np.asarray(out[side], object)[rows] for side in ("row", "column")]
    return np.array([at.get(tuple(map(plain, place)), np.nan) for place in zip(*keys, strict=True)])
