"""How the plots of a trial are called, and which of them are there twice."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from fastlmm_core.design.values.columns import Column
from fastlmm_core.errors import OptionError
from fastlmm_core.results.field.layout import known_column, model_positions, own_trials

if TYPE_CHECKING:
    from fastlmm_core.results.fit_figures import FitFigures

MOST_NAMED = 5


@dataclass(frozen=True)
class PlotPlaces:
    """Labels of the n rows used, each in columns of its own.

    Attributes
    ----------
    position : DataFrame (n rows)
        Row and column of the field, under their own names; no columns where they are not known.
    number : DataFrame (n rows)
        The number of the plot, likewise.
    labels : (n,)
        Of the rows in the table, for plots that have neither.
    """

    position: pd.DataFrame
    number: pd.DataFrame
    labels: np.ndarray

    @property
    def known(self) -> pd.DataFrame:
        return pd.concat([self.number, self.position], axis=1)

    def name(self, i: int) -> str:
        """Row i of the fit in words: ``plot 1007 (row 3 col 5)``."""
        place = " ".join(f"{name} {plain(self.position[name].iloc[i])}" for name in self.position)
        number = ", ".join(f"{name} {plain(self.number[name].iloc[i])}" for name in self.number)
        if number and place:
            return f"{number} ({place})"
        return number or place or f"row {self.labels[i]} of the table"

    def names(self, rows: np.ndarray) -> str:
        """Several of them, the first few by name."""
        shown = ", ".join(self.name(int(i)) for i in rows[:MOST_NAMED])
        return shown + (f" and {len(rows) - MOST_NAMED} more" if len(rows) > MOST_NAMED else "")

    def duplicates(self) -> np.ndarray:
        """Rows (d,) whose place or whose number an earlier row has already."""
        twice = np.zeros(len(self.labels), bool)
        for own in (self.position, self.number):
            if own.shape[1]:
                twice |= own.duplicated().to_numpy() & own.notna().all(axis=1).to_numpy()
        return np.flatnonzero(twice)


def plot_places(
    fit: FitFigures, plots: Sequence[str] | str | bool | None = None, data: pd.DataFrame | None = None
) -> PlotPlaces:
    """Places of the rows of a fit.

    Parameters
    ----------
    plots : sequence of str, optional
        Columns: of the plot's number, of row and column, or row, column and number. By default the row and
        column that the model knows.
    data : DataFrame, optional
        The table of the fit, for columns that the model does not use.

    Raises
    ------
    OptionError, DataError
        For more than three columns, or one that is not there.
    """
    position, number = place_columns(plots)
    if not position and not number:
        try:
            position = model_positions(fit)
        except OptionError:
            position = ()
    by = own_trials(fit, any_residual=True) if position else None
    trials = {} if by is None else {by.name: by.labels[by.codes]}
    where, numbers = (
        {name: labels_or_numbers(known_column(fit, name, data, "plots")) for name in names}
        for names in (position, number)
    )
    return PlotPlaces(
        pd.DataFrame({**(trials if where else {}), **where}, index=range(fit.nobs)),
        pd.DataFrame(numbers, index=range(fit.nobs)),
        np.asarray(fit.design.index),
    )  # fmt: skip


def place_columns(plots: Sequence[str] | str | bool | None) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Columns of row and column, and of the plot's number; either may be empty.

    Raises
    ------
    OptionError
        For more than three.
    """
    if plots is None or isinstance(plots, bool):
        return (), ()
    names = (plots,) if isinstance(plots, str) else tuple(plots)
    if not 1 <= len(names) <= 3 or len(set(names)) < len(names):
        raise OptionError("plots= takes the column of the plot's number, or those of row and column, or of "
                          f"row, column and number, not {len(names)}")  # fmt: skip
    return (names[:2], names[2:]) if len(names) > 1 else ((), names)


def labels_or_numbers(column: Column) -> np.ndarray:
    """(n,) numbers, or the texts of labels with None where they are missing."""
    if column.levels is None:
        return np.asarray(column.values)
    return np.asarray(np.array([*column.levels, None], object)[column.values])


def plain(value: Any) -> str:
    """A label, or a number without a fraction that it does not have."""
    return f"{value:g}" if isinstance(value, float | np.floating) else str(value)
