"""From one row a plant or animal, a column for every trait, to one row for every trait of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from fastlmm_core.design.values.columns import read_column
from fastlmm_core.design.values.table import frame_from_polars
from fastlmm_core.errors import DataError, OptionError, name_list, nearest_names, shown
from fastlmm_core.gate import public
from fastlmm_core.options import NAME, list_of, one_of, optional
from fastlmm_core.reading.parquet import frame_from_arrow
from fastlmm_core.reading.tables import frame_of_columns

UNIT = "unit"


@public(traits=list_of(NAME), id=optional(NAME), trait=NAME, value=NAME, missing=one_of(("drop", "keep")))
def long_table(
    table: Any, traits: Sequence[str], *, id: str | None = None, trait: str = "trait",
    value: str = "value", missing: str = "drop",
) -> pd.DataFrame:  # fmt: skip
    """The long table that models of several traits take.

    Parameters
    ----------
    table : pandas, polars or pyarrow table, or dict of columns
        n rows, one for every plot, plant or animal.
    traits : sequence of str
        Numeric columns with the traits, in the order that the levels of `trait` get.
    id : str, optional
        Column that names the rows, such as an animal: the subject of ``residual="us(trait | id)"``. Its
        values have to differ. By default a column ``unit`` of the row numbers "1" to "n" is made.
    trait, value : str
        Names of the new columns: a categorical with the names of the traits, and the numbers.
    missing : {"drop", "keep"}
        Whether rows without a value are left out. Kept, they get fitted values and predictions.

    Returns
    -------
    DataFrame
        ``n * len(traits)`` rows less those left out: the rows of the table in their order, the traits of each
        one below the other. All columns that are no traits are kept as they are, labels as labels.

    Raises
    ------
    DataError
        For a column that is not there or not numeric, and an id that is missing or repeated.
    OptionError
        For names that are taken or stand twice.

    Examples
    --------
    >>> wide = {"plot": ["p1", "p2"], "yield": [5.1, 4.8], "height": [96.0, None]}
    >>> from fastlmm_core import long_table
    >>> long_table(wide, ["yield", "height"], id="plot")
      plot   trait  value
    0   p1   yield    5.1
    1   p1  height   96.0
    2   p2   yield    4.8
    """
    frame = _frame(table)
    traits = list(traits)
    _check_names(frame, traits, id, trait, value)
    columns = [_numbers(frame[name], name) for name in traits]
    if id is None:
        frame = frame.assign(**{UNIT: [str(row + 1) for row in range(len(frame))]})
    else:
        _check_id(frame[id], id)
    rest = frame.drop(columns=traits)
    long = rest.iloc[np.repeat(np.arange(len(rest)), len(traits))].reset_index(drop=True)
    codes = np.tile(np.arange(len(traits)), len(rest))
    long[trait] = pd.Categorical.from_codes(codes, categories=pd.Index(traits))
    long[value] = np.column_stack(columns).ravel()
    if missing == "drop":
        long = long[long[value].notna()].reset_index(drop=True)
    return long


def _frame(table: Any) -> pd.DataFrame:
    """The table as a DataFrame; columns keep their types."""
    module = type(table).__module__.partition(".")[0]
    if isinstance(table, pd.DataFrame):
        return table
    if module == "polars" and hasattr(table, "collect"):
        return frame_from_polars(table.collect())
    if module == "polars" and hasattr(table, "get_column"):
        return frame_from_polars(table)
    if module == "pyarrow" and hasattr(table, "column_names"):
        return frame_from_arrow(table)
    if isinstance(table, Mapping):
        return frame_of_columns(table)
    raise DataError(
        f"a table of type {type(table).__name__} is not supported; pass a pandas, polars or pyarrow table, "
        "or a dict of columns"
    )


def _check_names(frame: pd.DataFrame, traits: list[str], id: str | None, trait: str, value: str) -> None:
    """Columns are there, once; names of new columns are free."""
    if not traits:
        raise OptionError("traits are missing: name the columns with the traits, such as ['yield', 'height']")
    if len(set(traits)) < len(traits):
        raise OptionError(f"traits={shown(traits)} name a column twice")
    names = [str(name) for name in frame.columns]
    for name in [*traits, *([] if id is None else [id])]:
        if name not in names:
            raise DataError(f"column '{name}' is not in the table{nearest_names(name, names)}")
        if names.count(name) > 1:
            raise DataError(f"column '{name}' stands in the table {names.count(name)} times")
    if id in traits:
        raise OptionError(f"column '{id}' is both a trait and the id")
    kept = set(names) - set(traits)
    new = {"trait": trait, "value": value}
    for option, name in new.items():
        if name in kept:
            raise OptionError(f"the table has a column '{name}' already; give {option}= another name")
    if id is None and UNIT in kept | set(new.values()):
        raise OptionError(f"the table has a column '{UNIT}' already; say which column names the rows (id=)")
    if trait == value:
        raise OptionError(f"trait= and value= are both '{value}'")


def _numbers(values: pd.Series, name: str) -> np.ndarray:
    """A trait (n,) float64, NaN where it is missing."""
    column = read_column(name, values)
    if column.levels is not None:
        raise DataError(f"trait '{name}' is not numeric: it has values such as {shown(column.levels[0])}")
    return column.values


def _check_id(values: pd.Series, id: str) -> None:
    """One row for every name."""
    if values.isna().any():
        row = int(np.flatnonzero(values.isna())[0]) + 1
        raise DataError(f"column '{id}' has no name in row {row}")
    repeated = values[values.duplicated()].unique()
    if len(repeated):
        raise DataError(
            f"column '{id}' names several rows {name_list(repeated)}; a row has one of each trait: leave id= "
            f"out, and the rows are numbered in a column '{UNIT}'"
        )
