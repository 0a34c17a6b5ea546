"""Columns of the user's table, whatever holds it: pandas, polars, pyarrow, or a dict of columns.

Columns are converted one by one when a formula asks for them: numbers to float64, everything else to integer
codes with labels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from fastlmm_core.design.expressions import number_text
from fastlmm_core.errors import DataError, name_list, nearest_names


@dataclass(frozen=True)
class Column:
    """One column of n rows.

    Attributes
    ----------
    name : str
    values : (n,) ndarray
        float64 with NaN for missing when numeric; int32 codes into `levels` with -1 for missing when a
        factor.
    levels : tuple of str or None
        None for a numeric column.
    ordered : bool
        Whether the order of the levels means something, as that of an ordered categorical.
    days : tuple of float or None
        Days since 1970-01-01 of each level of a column of dates.
    """

    name: str
    values: np.ndarray
    levels: tuple[str, ...] | None
    ordered: bool = False
    days: tuple[float, ...] | None = None

    @property
    def is_factor(self) -> bool:
        return self.levels is not None

    def missing(self) -> np.ndarray:
        """(n,) bool."""
        return self.values < 0 if self.is_factor else np.isnan(self.values)


class Table:
    """A table of named columns with n rows, read lazily."""

    def __init__(self, data: Any):
        self._columns: dict[str, Column] = {}
        self._data, self.names, self.n = _open(data)
        self.index = data.index if isinstance(data, pd.DataFrame) else None

    @classmethod
    def of(cls, columns: Mapping[str, Column], n: int) -> Table:
        """A table of n rows from columns that are converted already."""
        table = cls.__new__(cls)
        table._columns, table._data = dict(columns), {}
        table.names, table.n, table.index = dict.fromkeys(columns), n, None
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
            column = self._columns[name] = read_column(name, self._data[name])
            if column.values.shape != (self.n,):
                raise DataError(
                    f"column '{name}' has {column.values.shape[0]} values, but the table {self.n} rows"
                )
        return column


class _PolarsColumns:
    """Column access of a polars frame as pandas series."""

    def __init__(self, frame: Any):
        self.frame = frame

    def __getitem__(self, name: str) -> Any:
        series = self.frame.get_column(name)
        return (
            series.to_numpy() if series.dtype.is_numeric() and not series.null_count() else series.to_pandas()
        )


class _ArrowColumns:
    """Column access of a pyarrow table as pandas series."""

    def __init__(self, table: Any):
        self.table = table

    def __getitem__(self, name: str) -> Any:
        return self.table.column(name).to_pandas()


def _open(data: Any) -> tuple[Any, dict[str, None], int]:
    """(column access, names as an ordered set, number of rows) of a supported table."""
    columns: Any
    module = type(data).__module__.partition(".")[0]
    if isinstance(data, pd.DataFrame):
        names, n, columns = list(data.columns), len(data), data
    elif module == "polars" and hasattr(data, "collect"):
        return _open(data.collect())
    elif module == "polars" and hasattr(data, "get_column"):
        names, n, columns = list(data.columns), data.height, _PolarsColumns(data)
    elif module == "pyarrow" and hasattr(data, "column_names"):
        names, n, columns = list(data.column_names), data.num_rows, _ArrowColumns(data)
    elif isinstance(data, Mapping):
        names, n, columns = list(data), _common_length(data), data
    elif isinstance(data, np.ndarray) and data.dtype.names:
        names, n, columns = list(data.dtype.names), data.shape[0], data
    else:
        raise DataError(
            f"data of type {type(data).__name__} is not supported; pass a pandas, polars or pyarrow table, "
            "or a dict of columns"
        )
    known = dict.fromkeys(names)
    if len(known) < len(names):
        repeated = sorted({str(name) for name in names if names.count(name) > 1})
        raise DataError(
            f"the table has several columns named {name_list(repeated)}; column names must be unique"
        )
    return columns, known, n


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


def read_column(name: str, values: Any) -> Column:
    """Convert any column to numbers or coded labels; see `Table.column`."""
    if isinstance(values, pd.Categorical):
        values = pd.Series(values)
    if isinstance(values, (pd.Series, pd.Index)):
        dtype = values.dtype
        if isinstance(dtype, pd.CategoricalDtype):
            categorical = values.array if isinstance(values, pd.Series) else values
            return _from_categorical(name, categorical)
        if isinstance(dtype, np.dtype):
            values = values.to_numpy()
        elif isinstance(dtype, pd.StringDtype):
            return _from_labels(name, values.array)
        elif pd.api.types.is_bool_dtype(dtype):
            values = np.asarray(values.astype(object).to_numpy())
        elif pd.api.types.is_numeric_dtype(dtype):
            values = values.to_numpy(dtype=np.float64, na_value=np.nan)
        else:
            values = np.asarray(values.astype(object).to_numpy())
    elif not isinstance(values, np.ndarray):
        values = _from_sequence(values)
    return _from_array(name, values)


def _from_sequence(values: Any) -> np.ndarray:
    array = values.to_numpy() if hasattr(values, "to_numpy") else None
    if array is None:
        array = np.empty(len(values), dtype=object)
        array[:] = values
    return array


def _from_array(name: str, values: np.ndarray) -> Column:
    if values.ndim != 1:
        raise DataError(f"column '{name}' must be one-dimensional, but has shape {values.shape}")
    kind = values.dtype.kind
    if kind in "iuf":
        return _numeric(name, values)
    if kind == "b":
        return _compact(name, values.astype(np.int32), ("False", "True"))
    if kind == "c":
        raise DataError(f"column '{name}' is complex; use its real part, its imaginary part or its modulus")
    if kind in "mM":
        return _from_dates(name, values)
    if kind in "US" or kind == "T":
        return _from_labels(name, values.astype(object))
    return _from_objects(name, values)


def _numeric(name: str, values: np.ndarray) -> Column:
    column = Column(name, np.ascontiguousarray(values, dtype=np.float64), None)
    if np.isinf(column.values).any():
        raise DataError(infinite_words(name, column.values))
    return column


def infinite_words(name: str, values: np.ndarray) -> str:
    """What is wrong with a column of (n,) numbers of which some are infinite."""
    return (f"column '{name}' has infinite values, {first_row(np.isinf(values), values)}; "
            "correct them or mark them as missing")  # fmt: skip


def first_row(bad: np.ndarray, values: np.ndarray) -> str:
    """Where the first of the (n,) rows marked is and what stands there, for a message."""
    row = int(np.argmax(bad))
    return f"the first in row {row} (counted from 0) is {number_text(float(values[row]))}"


def _from_objects(name: str, values: np.ndarray) -> Column:
    found = pd.api.types.infer_dtype(values, skipna=True)
    if found in ("string", "bytes"):
        return _from_labels(name, values)
    if found in ("integer", "floating", "mixed-integer-float", "decimal"):
        missing = pd.isna(values)
        return _numeric(name, np.where(missing, np.nan, values))
    if found == "boolean":
        missing = pd.isna(values)
        codes = np.where(missing, -1, np.where(missing, False, values).astype(np.int32)).astype(np.int32)
        return _compact(name, codes, ("False", "True"))
    if found in ("datetime", "datetime64", "date", "timedelta", "timedelta64"):
        return _from_dates(name, _without_zone(pd.Series(values)))
    if found == "empty":
        return Column(name, np.full(values.shape[0], np.nan), None)
    kinds = sorted({type(v).__name__ for v in values if not (v is None or v is pd.NA)})
    if "complex" in kinds:
        raise DataError(f"column '{name}' is complex; use its real part, its imaginary part or its modulus")
    raise DataError(
        f"column '{name}' mixes values of types {name_list(kinds)}; use one type for the whole column"
    )


def _without_zone(values: pd.Series) -> np.ndarray:
    """Dates or durations (n,) as NumPy's own type; times of a zone as they read there."""
    kind = pd.api.types.infer_dtype(values, skipna=True)
    if kind.startswith("timedelta"):
        return pd.to_timedelta(values).to_numpy()
    return np.asarray(pd.to_datetime(values).dt.tz_localize(None).to_numpy())


def _from_dates(name: str, values: np.ndarray) -> Column:
    """Dates or durations as levels in their order, with what they are in days."""
    codes, found = pd.factorize(values, sort=True)
    origin = np.timedelta64(0) if values.dtype.kind == "m" else np.datetime64(0, "D")
    days = (found - origin) / np.timedelta64(1, "D")
    whole = bool((days == np.floor(days)).all())
    moments: Any = pd.Series(found)
    if values.dtype.kind == "m":
        labels = [str(moment) for moment in moments]
    else:
        labels = [moment.strftime("%Y-%m-%d") if whole else moment.isoformat(sep=" ") for moment in moments]
    return Column(name, codes.astype(np.int32), tuple(labels), days=tuple(days.tolist()))


def label_text(value: Any) -> str:
    """The label of one level: strings as they are, numbers as R prints them."""
    if isinstance(value, str):
        return value
    if isinstance(value, (bool, np.bool_)):
        return str(bool(value))
    if isinstance(value, (int, np.integer)):
        return str(int(value))
    if isinstance(value, (float, np.floating)):
        return number_text(float(value))
    return value.decode() if isinstance(value, bytes) else str(value)


def _from_categorical(name: str, values: Any) -> Column:
    levels = tuple(label_text(level) for level in values.categories)
    if len(set(levels)) < len(levels):
        raise DataError(f"levels of '{name}' have the same text; make the categories distinct as strings")
    return Column(name, np.asarray(values.codes, dtype=np.int32), levels, bool(values.ordered))


def factorize_runs(values: Any) -> tuple[np.ndarray, Any]:
    """``pandas.factorize`` of a Series or array (n,); of text in runs by the first value of each."""
    n = len(values)
    if not isinstance(values.dtype, pd.StringDtype) or n < 1000:
        return pd.factorize(values)
    values = values.array if isinstance(values, pd.Series) else values
    if changes(values[:200]).size > 50:
        return pd.factorize(values)
    starts = np.concatenate([[0], changes(values) + 1])
    if 4 * starts.size > n:
        return pd.factorize(values)
    codes, found = pd.factorize(values.take(starts))
    return np.repeat(codes, np.diff(starts, append=n)), found


def changes(values: Any) -> np.ndarray:
    """Positions in an array before which, and after which, other values stand, or missing ones."""
    differ = values[1:] != values[:-1]
    return np.flatnonzero(
        differ if isinstance(differ, np.ndarray) else differ.to_numpy(dtype=bool, na_value=True)
    )


def _from_labels(name: str, values: Any) -> Column:
    codes, found = factorize_runs(values)
    labels = [label_text(level) for level in found]
    order = sorted(range(len(labels)), key=labels.__getitem__)
    place = np.empty(len(order) + 1, dtype=np.int32)
    place[order] = np.arange(len(order), dtype=np.int32)
    place[-1] = -1
    return Column(name, place[codes], tuple(labels[i] for i in order))


def _compact(name: str, codes: np.ndarray, levels: tuple[str, ...]) -> Column:
    compacted, kept = drop_unused(codes, levels)
    return Column(name, compacted, kept)


def drop_unused(codes: np.ndarray, levels: tuple[str, ...]) -> tuple[np.ndarray, tuple[str, ...]]:
    """Renumber (n,) int32 codes so that only levels that occur are left; -1 stays."""
    seen = (
        np.bincount(codes[codes >= 0] if codes.size and codes.min() < 0 else codes, minlength=len(levels)) > 0
    )
    if seen.all():
        return codes, levels
    place = np.full(len(levels) + 1, -1, dtype=np.int32)
    place[:-1][seen] = np.arange(int(seen.sum()), dtype=np.int32)
    return place[codes], tuple(level for level, used in zip(levels, seen, strict=True) if used)


def as_factor(column: Column) -> Column:
    """The column as a factor; numbers become levels in numeric order."""
    if column.is_factor:
        return column
    missing = np.isnan(column.values)
    if missing.any():
        found, inverse = np.unique(column.values[~missing], return_inverse=True)
        codes = np.full(column.values.shape[0], -1, dtype=np.int32)
        codes[~missing] = inverse
    else:
        found, inverse = np.unique(column.values, return_inverse=True)
        codes = inverse.astype(np.int32)
    return Column(column.name, codes, tuple(number_text(value) for value in found))
