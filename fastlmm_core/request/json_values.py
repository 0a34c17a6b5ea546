"""Values of an answer in JSON's own types."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from fastlmm_core.request.answer_tables import Columns, Rows, Spread


def plain(value: Any) -> Any:
    """`value` in JSON's own types: arrays as lists, NaN as None, infinity as "Inf"."""
    if value is None or isinstance(value, (str, bool)):
        return value
    if isinstance(value, float):
        return _number(float(value))
    if isinstance(value, Mapping):
        return _object(value)
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    if isinstance(value, np.ndarray):
        return _array(value)
    if isinstance(value, Rows):
        return _records(value)
    if isinstance(value, Columns):
        return {str(name): _column(column.array) for name, column in value.frame.items()}
    if isinstance(value, np.bool_):
        return bool(value)
    if isinstance(value, (int, np.integer)):
        return int(value)
    if isinstance(value, np.floating):
        return _number(float(value))
    if pd.isna(value):
        return None
    return str(value)


def _number(value: float) -> float | str | None:
    if math.isfinite(value):
        return value
    return None if math.isnan(value) else ("Inf" if value > 0 else "-Inf")


def _object(value: Mapping[Any, Any]) -> dict[str, Any]:
    out = {}
    for key, own in value.items():
        if isinstance(own, Spread):
            out.update(_object(own.inline))
        else:
            out[str(key)] = plain(own)
    return out


def _array(values: np.ndarray) -> list[Any]:
    """Values of an array; numbers, of which a covariance has thousands, are not looked at one by one."""
    if values.dtype.kind in "iub" or (values.dtype.kind == "f" and np.isfinite(values).all()):
        found: list[Any] = values.tolist()
        return found
    return [plain(own) for own in values.tolist()]


def _column(column: Any) -> list[Any]:
    """Values of a column, an array of NumPy or pandas."""
    known = isinstance(column.dtype, np.dtype) and column.dtype.kind in "fiubO"
    return _array(np.asarray(column)) if known else [plain(own) for own in column.tolist()]


def _records(table: Rows) -> list[dict[str, Any]]:
    """A row of a table as an object by column; whole columns are converted, not cells."""
    columns = [_column(column) for column in table.columns.values()]
    rows = [dict(zip(table.columns, row, strict=True)) for row in zip(*columns, strict=True)]
    for mark in table.marks:
        for row in rows:
            if not row[mark]:
                del row[mark]
    return rows
