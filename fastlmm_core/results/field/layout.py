"""Where the plots of a fit stand in their field: positions along two directions, and trials in one table."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from fastlmm_core.design.values.columns import Column, read_column
from fastlmm_core.errors import DataError, OptionError, nearest_names
from fastlmm_core.formula.expressions import Name
from fastlmm_core.structures.levels.relation import LevelFactor

if TYPE_CHECKING:
    from fastlmm_core.results.fit_figures import FitFigures

LARGEST_GRID = 4_000_000  # cells; beyond, positions are no positions of plots


@dataclass(frozen=True)
class Direction:
    """Positions along one direction of a field.

    Attributes
    ----------
    name : str
    labels : (m,) array
        All positions between the first and the last, also those without a plot.
    codes : (n,) int64
        Position of every row used.
    """

    name: str
    labels: np.ndarray
    codes: np.ndarray


@dataclass(frozen=True)
class FieldLayout:
    """Positions of the rows used.

    Attributes
    ----------
    row, column : Direction
    by : Direction or None
        Trials (environments) in the table, each a field of its own.
    """

    row: Direction
    column: Direction
    by: Direction | None = None

    @property
    def fields(self) -> list[tuple[Any, np.ndarray]]:
        """(label, rows (k,)) of every field; the label of a single one is None."""
        if self.by is None:
            return [(None, np.arange(self.row.codes.size))]
        return [(label, np.flatnonzero(self.by.codes == i)) for i, label in enumerate(self.by.labels)]

    def of_field(self, rows: np.ndarray) -> FieldLayout:
        """Positions from the first to the last plot of one field, rows (k,); those of others do not count.

        Fields differ in size, and one may have its rows from 101.
        """
        own = []
        for side in (self.row, self.column):
            first, last = int(side.codes[rows].min()), int(side.codes[rows].max())
            own.append(replace(side, labels=side.labels[first : last + 1], codes=side.codes - first))
        return replace(self, row=own[0], column=own[1])

    def grid(self, values: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """The (n,) values of one field as (rows, columns), NaN where there is no plot.

        Raises
        ------
        DataError
            When two plots stand at one place.
        """
        i, j = self.row.codes[rows], self.column.codes[rows]
        cell, first, count = np.unique(i * self.column.labels.size + j, return_index=True, return_counts=True)
        if cell.size < rows.size:
            worst = int(first[np.argmax(count > 1)])
            place = f"{self.row.name} {self.row.labels[i[worst]]}, "
            place += f"{self.column.name} {self.column.labels[j[worst]]}"
            number = int(count[count > 1][0])
            raise DataError(f"{number} plots stand at {place}; correct the positions, or, of a table with "
                            "several fields, name the column that tells them apart with by=")  # fmt: skip
        out = np.full((self.row.labels.size, self.column.labels.size), np.nan)
        out[i, j] = values[rows]
        return out


def field_layout(
    fit: FitFigures, row: str | None = None, column: str | None = None, by: str | None = None,
    data: pd.DataFrame | None = None,
) -> FieldLayout:  # fmt: skip
    """Positions of the plots of a fit.

    Parameters
    ----------
    fit : FitFigures
    row, column : str, optional
        Columns of the positions; by default those of the model's residual over a field, surface, or term
        ``ar1(row):ar1(col)``.
    by : str, optional
        Column that tells trials apart; by default that of the residual's ``| env``, or of ``at(env)`` of the
        trend.
    data : DataFrame, optional
        The table of the fit, for columns that the model does not use.

    Raises
    ------
    OptionError
        When the model names no positions, and they are not given.
    DataError
        For a column that is not there, or positions that span no field.
    """
    if (row is None) != (column is None):
        raise OptionError("the layout of a field needs both row= and column=")
    if row is None or column is None:
        row, column = model_positions(fit)
    trials = None
    if by is not None:
        trials = labels_of(column_of(fit, by, data))
    else:
        trials = own_trials(fit)
    rows, columns = (positions_of(column_of(fit, name, data)) for name in (row, column))
    if rows.labels.size * columns.labels.size > LARGEST_GRID:
        size = f"{rows.labels.size} x {columns.labels.size}"
        raise DataError(
            f"'{row}' and '{column}' span {size} positions; number the plots of each field from 1"
        )
    return FieldLayout(rows, columns, trials)


def own_field(fit: FitFigures) -> FieldLayout | None:
    """The layout that the model itself knows, where every place has one plot; else None."""
    try:
        layout = field_layout(fit)
        for _, rows in layout.fields:
            layout.grid(fit.residuals, rows)
    except (OptionError, DataError):
        return None
    return layout


def model_positions(fit: FitFigures) -> tuple[str, str]:
    """Names of the two directions that the model knows.

    Raises
    ------
    OptionError
        When it knows none.
    """
    found = [tuple(factor.name for factor in fit.design.residual.field_factors[0])] if (
        fit.design.residual.kind == "field"
    ) else []  # fmt: skip
    found += [term.names for term in fit.design.random if term.is_spline]
    found += [
        tuple(f.name for f in autoregressions(term)) for term in fit.design.random if not term.is_spline
    ]
    for names in found:
        if len(names) == 2:
            return str(names[0]), str(names[1])
    raise OptionError("the model has no positions of plots, such as ps(row, col) or ar1(row):ar1(col); give "
                      "row= and column=")  # fmt: skip


def own_trials(fit: FitFigures, any_residual: bool = False) -> Direction | None:
    """Trials that the model tells apart: by the residual over a field, or ``at(env)`` of a trend over it.

    With `any_residual` by ``units | env`` too.
    """
    spec = fit.design.residual
    if spec.by is not None and (any_residual or spec.kind == "field"):
        return Direction(str(spec.by[0]), np.array(spec.by[1], object), spec.by[2].astype(np.int64))
    for term in fit.design.random:
        directions = term.names if term.is_spline else autoregressions(term)
        if term.at is not None and len(directions) == 2 and len(term.at_factors) == 1:
            node = term.at_factors[0][0]
            if isinstance(node, Name):
                return labels_of(column_of(fit, node.name, None))
    return None


def autoregressions(term: Any) -> list[LevelFactor]:
    """Factors of a random term whose levels are positions in a line."""
    return [] if term.relation is None else [f for f in term.relation.factors if f.kind == "ar1"]


def column_of(fit: FitFigures, name: str, data: pd.DataFrame | None) -> Column:
    """A column on the rows used, in the order of the residuals, none of them missing.

    Raises
    ------
    DataError
        When neither the model nor `data` has it, or it has missing values.
    """
    column = known_column(fit, name, data)
    missing = np.isnan(column.values) if column.levels is None else column.values < 0
    if missing.any():
        raise DataError(f"column '{name}' is missing in {int(missing.sum())} of the rows used")
    return column


def known_column(fit: FitFigures, name: str, data: pd.DataFrame | None, option: str = "") -> Column:
    """A column on the rows used, missing values allowed; `option` is what asks for it, for the message.

    Raises
    ------
    DataError
        When neither the model nor `data` has it.
    """
    column = fit.design.read_column(name)
    if column is not None:
        return column
    if data is None or name not in data.columns:
        known = [*fit.design.frame.columns, *([] if data is None else data.columns)]
        hint = "" if data is not None else " (pass data= for a column the model does not use)"
        where = f"{option}: " if option else ""
        raise DataError(f"{where}there is no column '{name}'{nearest_names(name, known)}{hint}")
    check_table(fit, data)
    return read_column(name, data[name].iloc[fit.design.rows])


def check_table(fit: FitFigures, data: pd.DataFrame) -> None:
    """Refuse a table that is not that of the fit, row by row: its columns would stand beside other plots.

    Raises
    ------
    DataError
        For another number of rows, or where the response is there and differs.
    """
    own = fit.design
    if len(data) != own.n + own.n_dropped:
        raise DataError(f"data= has {len(data)} rows, the table of the fit had {own.n + own.n_dropped}; give "
                        "the table that was fitted")  # fmt: skip
    if own.y is None or own.response not in data.columns:
        return
    response = read_column(own.response, data[own.response].iloc[own.rows]).values
    other = np.flatnonzero(response != own.y)
    if other.size:
        row = own.rows[other[0]]
        raise DataError(f"data= is not the table of the fit, or its rows stand in another order: "
                        f"'{own.response}' in row {row} (counted from 0) is not what was fitted")  # fmt: skip


def labels_of(column: Column) -> Direction:
    """The values that occur, in the order of the levels or of the numbers."""
    codes, labels = column.values, np.asarray(column.levels, object)
    used, codes = np.unique(codes, return_inverse=True)
    if column.levels is not None:
        used = labels[used]
    elif np.all(used == np.round(used)):
        used = used.astype(np.int64)  # as labels show them
    return Direction(column.name, used, codes.ravel().astype(np.int64))


def positions_of(column: Column) -> Direction:
    """Values of a column as positions in a line, from the first to the last that occurs.

    Whole numbers a constant step apart are positions also where no plot stands, and so are the levels of a
    factor; other numbers are positions where they occur.
    """
    if column.levels is not None:
        first, last = int(column.values.min()), int(column.values.max())
        labels = np.asarray(column.levels, object)[first : last + 1]
        return Direction(column.name, labels, column.values.astype(np.int64) - first)
    found = labels_of(column)
    labels = found.labels
    if labels.size < 2 or not np.all(labels == np.round(labels)):
        return found
    whole = labels.astype(np.int64)
    step = math.gcd(*np.diff(whole).tolist())
    count = int(whole[-1] - whole[0]) // step + 1
    if count > LARGEST_GRID:
        raise DataError(f"'{column.name}' goes from {whole[0]} to {whole[-1]} in steps of {step}: these are "
                        "no positions of plots")  # fmt: skip
    return Direction(column.name, whole[0] + step * np.arange(count), (whole[found.codes] - whole[0]) // step)
