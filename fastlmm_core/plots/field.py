"""A trial as a field: maps of response, trend and residuals, rows and columns, and the sample variogram."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from fastlmm_core.design.at_levels import at_text
from fastlmm_core.errors import DataError, OptionError, nearest_names
from fastlmm_core.gate import public
from fastlmm_core.options import NAME, SCALAR, having, optional
from fastlmm_core.plots.canvas import COLOURS, GREY, draw_map, label_positions, plain_frame, pyplot
from fastlmm_core.results.field.layout import Direction, FieldLayout, field_layout
from fastlmm_core.results.field.variogram import Variogram, sample_variogram

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from fastlmm_core.results.fit import LMMFit

FIT = having("a fit of lmm()", "sigma", "design")
PLACES: dict[str, Any] = {"row": optional(NAME), "column": optional(NAME), "by": optional(NAME),
                          "trial": optional(SCALAR)}  # fmt: skip
FEWEST_PAIRS = 30  # fewer say little about a displacement (Journel & Huijbregts 1978, Mining Geostatistics)


@public(fit=FIT, term=optional(NAME), **PLACES)
def plot_field(
    fit: LMMFit, *, term: str | None = None, row: str | None = None, column: str | None = None,
    by: str | None = None, trial: Any = None, data: pd.DataFrame | None = None,
) -> Figure:  # fmt: skip
    """Six views of one field: response, trend, residuals; rows, columns, variogram.

    Plots that are missing stay white, but the trend goes on over them. Rows and columns show their BLUPs with
    95 % intervals where they are random terms, else mean residuals, which tell whether they should be.

    Parameters
    ----------
    fit : LMMFit
    term : str, optional
        The trend to show, as of ``fit.trend``; a model without one shows the fitted values in its place.
    row, column : str, optional
        Columns of the positions; by default those that the model knows.
    by : str, optional
        Column that tells trials apart; by default that of the residual's ``| env``, or of ``at(env)`` of the
        trend.
    trial : str or number, optional
        Which of them; the first by default.
    data : DataFrame, optional
        The table of the fit, for columns that the model does not use.

    Returns
    -------
    Figure

    Raises
    ------
    OptionError, DataError
        When the model has no positions, or a column or trial is not there.

    Examples
    --------
    >>> from fastlmm_core import datasets, lmm, plots
    >>> field = datasets.load("durban_rowcol")
    >>> fit = lmm("yield ~ gen + (1|rep)", field)
    >>> figure = plots.plot_field(fit, row="row", column="bed", data=field)
    """
    layout = field_layout(fit, row, column, by, data)
    label, rows = chosen_field(layout, trial)
    layout = layout.of_field(rows)
    residuals = layout.grid(fit.residuals, rows)
    figure, axes = pyplot().subplots(2, 3, figsize=(13, 7.4), layout="constrained")
    sides = (layout.row.labels, layout.column.labels)
    draw_map(axes[0, 0], layout.grid(fit.response, rows), *sides, fit.design.response, around_zero=False)
    draw_trend(axes[0, 1], fit, layout, label, rows, term)
    draw_map(axes[0, 2], residuals, *sides, "residual")
    for ax in axes[0]:
        ax.set(xlabel=layout.column.name, ylabel=layout.row.name)
    by = None if layout.by is None else at_text([layout.by.name], str(label))
    draw_direction(axes[1, 0], fit, layout.row, residuals, by)
    draw_direction(axes[1, 1], fit, layout.column, residuals.T, by)
    draw_faces(axes[1, 2], layout, sample_variogram(residuals))
    if label is not None:
        figure.suptitle(f"{layout.by.name if layout.by else ''} {label}", fontsize="medium")
    return figure


@public(fit=FIT, **PLACES)
def plot_variogram(
    fit: LMMFit, *, row: str | None = None, column: str | None = None, by: str | None = None,
    trial: Any = None, data: pd.DataFrame | None = None,
) -> Figure:  # fmt: skip
    """Sample variogram of the residuals of a field: all displacements as a map, and along rows and columns.

    Displacements with fewer than 30 pairs of plots stay white (few pairs scatter widely).

    Parameters
    ----------
    fit, row, column, by, trial, data
        As of `plot_field`.

    Returns
    -------
    Figure

    References
    ----------
    Gilmour, Cullis & Verbyla (1997), J. Agric. Biol. Environ. Stat. 2, 269-293.

    Examples
    --------
    >>> from fastlmm_core import datasets, lmm, plots
    >>> field = datasets.load("durban_rowcol")
    >>> fit = lmm("yield ~ gen + (1|rep)", field)
    >>> figure = plots.plot_variogram(fit, row="row", column="bed", data=field)
    """
    layout = field_layout(fit, row, column, by, data)
    label, rows = chosen_field(layout, trial)
    layout = layout.of_field(rows)
    found = sample_variogram(layout.grid(fit.residuals, rows))
    if np.max(found.pairs) < FEWEST_PAIRS:
        raise DataError(f"a variogram needs {FEWEST_PAIRS} pairs of plots at some displacement")
    figure, (left, right) = pyplot().subplots(1, 2, figsize=(10, 4.2), layout="constrained")
    shown = np.where(found.pairs >= FEWEST_PAIRS, found.semivariance, np.nan)
    used = np.isfinite(shown)
    last = [int(np.max(np.flatnonzero(used.any(axis=side)))) + 1 for side in (1, 0)]
    shown = shown[: last[0], : last[1]]
    draw_map(left, shown, np.arange(last[0]), np.arange(last[1]), "semivariance", around_zero=False)
    left.invert_yaxis()
    left.set(xlabel=f"{layout.column.name} displacement", ylabel=f"{layout.row.name} displacement")
    draw_faces(right, layout, found)
    if label is not None:
        figure.suptitle(f"{layout.by.name if layout.by else ''} {label}", fontsize="medium")
    return figure


def chosen_field(layout: FieldLayout, trial: Any) -> tuple[Any, np.ndarray]:
    """Label and rows of the trial asked for, or of the first one."""
    fields = layout.fields
    if trial is None:
        return fields[0]
    if layout.by is None:
        raise OptionError("trial= belongs to a table with several; name its column with by=")
    for label, rows in fields:
        if str(label) == str(trial):
            return label, rows
    known = [str(label) for label, _ in fields]
    raise DataError(f"'{layout.by.name}' has no level '{trial}'{nearest_names(str(trial), known)}")


def draw_trend(
    ax: Axes, fit: LMMFit, layout: FieldLayout, label: Any, rows: np.ndarray, term: str | None
) -> None:
    """The trend over all positions of one field, or the fitted values of a model without one over both."""
    sides = (layout.row.labels, layout.column.labels)
    try:
        table = fit.trend(term, se=False)
    except OptionError:
        if term is not None:
            raise
        table = pd.DataFrame()
    if layout.by is not None and layout.by.name in table:
        table = table[table[layout.by.name].astype(str) == str(label)].drop(columns=layout.by.name)
    if list(table.columns) != [layout.row.name, layout.column.name, "trend"]:
        draw_map(ax, layout.grid(fit.fitted, rows), *sides, "fitted", around_zero=False)
        return
    wide = table.pivot(index=layout.row.name, columns=layout.column.name, values="trend")
    draw_map(ax, wide.reindex(index=sides[0], columns=sides[1]).to_numpy(), *sides, "trend")


def draw_direction(ax: Axes, fit: LMMFit, side: Direction, residuals: np.ndarray, by: str | None) -> None:
    """BLUPs along one direction, or the mean residual (m, k) at each position where it is no random term.

    `by` is the field as ``at()`` has it, ``"at(env, E1)"``.
    """
    ax.axhline(0, color=GREY, linewidth=0.8)
    place = {str(label): i for i, label in enumerate(side.labels)}
    groups = (side.name, f"{by}:{side.name}")
    plain = [t for t in fit.design.random if not t.is_spline and t.group in groups and t.relation is None]
    if plain and plain[0].columns == ("(Intercept)",):
        own = fit.blups(plain[0].group)
        own = own[own["level"].astype(str).isin(place)]  # one term may have the rows of all fields
        at = np.array([place[str(level)] for level in own["level"]])
        ax.vlines(at, own["lower"], own["upper"], color=COLOURS[0], linewidth=1.2)
        ax.plot(at, own["estimate"], "o", color=COLOURS[0], markersize=4)
        ax.set_ylabel(f"BLUP of {side.name}")
    else:
        seen = np.isfinite(residuals)
        count = seen.sum(axis=1)
        at = np.flatnonzero(count)
        mean = np.where(seen, residuals, 0.0).sum(axis=1)[at] / count[at]
        ax.plot(at, mean, "o-", color=COLOURS[0], markersize=4, linewidth=0.8)
        ax.set_ylabel("mean residual")
    label_positions(ax.xaxis, side.labels)
    ax.set_xlabel(side.name)
    plain_frame(ax)


def draw_faces(ax: Axes, layout: FieldLayout, found: Variogram) -> None:
    """Semivariance along rows and along columns, where enough pairs are."""
    directions = ((layout.column.name, found.semivariance[0], found.pairs[0]),
                  (layout.row.name, found.semivariance[:, 0], found.pairs[:, 0]))  # fmt: skip
    for colour, (name, values, pairs) in zip(COLOURS, directions, strict=False):
        at = np.flatnonzero(pairs >= FEWEST_PAIRS)
        ax.plot(at, values[at], "o-", color=colour, markersize=4, linewidth=1.0, label=f"along {name}")
    ax.set(xlabel="displacement", ylabel="semivariance", ylim=(0.0, None))
    ax.legend(frameon=False)
    plain_frame(ax)
