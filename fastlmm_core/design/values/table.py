"""The user's table, whatever holds it: pandas, polars, pyarrow, or a dict of columns.

Columns are converted one by one when a formula asks for them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from os import PathLike
from typing import Any

import numpy as np
import pandas as pd

from fastlmm_core.design.values.columns import (
    NOWHERE,
    Column,
    MixedColumnError,
    as_factor,
    column_of_labels,
    objects_of,
    read_column,
)
from fastlmm_core.design.values.labels import drop_unused, label_texts
from fastlmm_core.errors import DataError, nearest_names
from fastlmm_core.reading.parquet import exact_integers
from fastlmm_core.reading.source import Places


class Table:
    """A table of named columns with n rows, read lazily."""

    def __init__(self, data: Any):
        self._columns: dict[str, Column] = {}
        self._data, self.names, self.n, self.repeated = _open(data)
        self.index = data.index if isinstance(data, pd.DataFrame) else None
        self.places = Places.of(data)

    @classmethod
    def of(cls, columns: Mapping[str, Column], n: int) -> Table:
        """A table of n rows from columns that are converted already."""
        table = cls.__new__(cls)
        table._columns, table._data = dict(columns), {}
        table.names, table.n, table.index = dict.fromkeys(columns), n, None
        table.repeated, table.places = frozenset(), NOWHERE
        return table

    def column(self, name: str) -> Column:
        """The converted column.

        Raises
        ------
        DataError
            When the table has no such column, or its values are infinite, complex, dates, or of mixed types.
        """
        column = self._columns.get(name)
        if column is None:
            if name not in self.names:
                raise DataError(f"column '{name}' is not in the data{nearest_names(name, self.names)}")
            if name in self.repeated:
                raise DataError(f"the table has several columns named '{name}'; names of columns in use must "
                                "be unique")  # fmt: skip
            column = read_column(name, self._data[name], self.places)
            if column.values.shape != (self.n,):
                raise DataError(
                    f"column '{name}' has {column.values.shape[0]} values, but the table {self.n} rows"
                )
            if not column.is_factor and (text := self.places.labels(name)) is not None:
                column = replace(column, text=text)
            self._columns[name] = column
        return column

    def factor(self, name: str) -> Column:
        """The column as labels, as they stand in the table, whatever they look like.

        Raises
        ------
        DataError
            As `column`, but for a column of numbers and words, which is read as text.
        """
        try:
            return as_factor(self.column(name))
        except MixedColumnError:
            text = self.places.labels(name)
            if text is None:
                column = column_of_labels(name, label_texts(objects_of(self._data[name])))
            else:
                column = Column(name, *drop_unused(text.codes, text.levels))
            self._columns[name] = column
            return column


class _PolarsColumns:
    """Column access of a polars frame as pandas series."""

    def __init__(self, frame: Any):
        self.frame = frame

    def __getitem__(self, name: str) -> Any:
        return polars_column(self.frame.get_column(name))


def polars_column(series: Any) -> Any:
    """A polars column as pandas has it; whole numbers stay whole beside missing ones."""
    if series.dtype.is_integer() and series.null_count():
        numbers, missing = series.fill_null(0).to_numpy(), series.is_null().to_numpy()
        return pd.Series(pd.arrays.IntegerArray(numbers.copy(), missing.copy()))
    if series.dtype.is_integer() or series.dtype.is_float():
        return series.to_numpy()
    return series.to_pandas()


def frame_from_polars(frame: Any) -> pd.DataFrame:
    """A polars table as a DataFrame."""
    return pd.DataFrame({name: polars_column(frame.get_column(name)) for name in frame.columns}, copy=False)


class _ArrowColumns:
    """Column access of a pyarrow table as pandas series."""

    def __init__(self, table: Any):
        self.table = table

    def __getitem__(self, name: str) -> Any:
        column = self.table.column(name)
        return exact_integers(column, column.to_pandas())


def _open(data: Any) -> tuple[Any, dict[str, None], int, frozenset[str]]:
    """(column access, names as an ordered set, number of rows, repeated names) of a supported table."""
    columns: Any
    module = type(data).__module__.partition(".")[0]
    if isinstance(data, pd.DataFrame):
        if not all(isinstance(name, str) for name in data.columns):  # numbers, of pivoted tables
            data = data.set_axis([str(name) for name in data.columns], axis=1)
        names, n, columns = list(data.columns), len(data), data
    elif module == "polars" and hasattr(data, "collect"):
        return _open(data.collect())
    elif module == "polars" and hasattr(data, "get_column"):
        names, n, columns = list(data.columns), data.height, _PolarsColumns(data)
    elif module == "pyarrow" and hasattr(data, "column_names"):
        names, n, columns = list(data.column_names), data.num_rows, _ArrowColumns(data)
    elif isinstance(data, Mapping):
        data = {str(name): values for name, values in data.items()}
        names, n, columns = list(data), _common_length(data), data
    elif isinstance(data, np.ndarray) and data.dtype.names:
        names, n, columns = list(data.dtype.names), data.shape[0], data
    else:
        path = isinstance(data, str | PathLike)
        file = "; a file is read by pandas.read_csv, fit_batch or fastlmm fit" if path else ""
        raise DataError(
            f"data of type {type(data).__name__} is not supported; pass a pandas, polars or pyarrow table, "
            f"or a dict of columns{file}"
        )
    known = dict.fromkeys(names)
    repeated = {name for name in names if names.count(name) > 1} if len(known) < len(names) else ()
    return columns, known, n, frozenset(repeated)


def _common_length(data: Mapping[str, Any]) -> int:
    lengths = {}
    for name, values in data.items():
        if isinstance(values, str) or not hasattr(values, "__len__"):
            raise DataError(f"column '{name}' must be a sequence of values, not {type(values).__name__}")
        lengths[name] = len(values)
    if len(set(lengths.values())) > 1:
        described = ", ".join(f"'{name}' has {length}" for name, length in lengths.items())
        raise DataError(f"the columns differ in length: {described}")
    return next(iter(lengths.values()), 0)
