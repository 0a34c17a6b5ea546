"""What tells the data of a batch from others: a hash of what every column is read as."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import pandas as pd

from fastlmm_core.batch.keys import key_column
from fastlmm_core.design.values.columns import read_column
from fastlmm_core.design.values.labels import drop_unused
from fastlmm_core.errors import DataError
from fastlmm_core.reading.source import Places


def digest(values: np.ndarray) -> str:
    """Short hash of an array."""
    return hashlib.sha256(np.ascontiguousarray(values).tobytes()).hexdigest()[:16]


def table_fingerprint(frame: pd.DataFrame, given_order: bool) -> str:
    """Hash of a table as it is read: tables that give the same figures and labels have the same.

    Parameters
    ----------
    frame : DataFrame (N rows)
    given_order : bool
        Whether text, whose order nobody gave, is something else than categories in alphabetical order: it is
        where a model may ask for the distance of levels.
    """
    places, whole = Places.of(frame), hashlib.sha256()
    for name in frame.columns:
        kept = places.labels(name)
        text = "" if kept is None else f" {digest(kept.codes)} {kept.levels}"
        whole.update(f"{name}\0{column_fingerprint(name, frame[name], given_order)}{text}\0".encode())
    return whole.hexdigest()[:16]


def column_fingerprint(name: str, values: pd.Series, given_order: bool) -> str:
    """Kind and hashes of a column: numbers, or codes with their levels in order."""
    integers = values.dtype != object or pd.api.types.infer_dtype(values, skipna=True) == "integer"
    numbers = key_column(values) if integers else values  # whole beside missing ones too
    if pd.api.types.is_any_real_numeric_dtype(numbers.dtype):
        return number_fingerprint(numbers)
    try:
        column = read_column(name, values)
    except DataError:  # the trials that hold such cells say so
        cells = np.array([f"{type(cell).__name__} {cell}" for cell in values.array], dtype=object)
        return f"cells {digest(pd.util.hash_array(cells))}"
    if column.levels is None:
        return number_fingerprint(pd.Series(column.values))
    codes, levels = drop_unused(column.values, column.levels)
    kind = "text" if column.alphabetical and given_order else "ordered" if column.ordered else "levels"
    return f"{kind} {digest(codes)} {levels} {column.days}"


def number_fingerprint(values: pd.Series) -> str:
    """The same for int64 and Int64; that of keys says whether 2017 is a whole number."""
    missing = values.isna().to_numpy()
    kind: Any = {"f": np.float64, "u": np.uint64}.get(values.dtype.kind, np.int64)
    return f"{'number' if kind is np.float64 else 'whole'} {digest(missing)} " + digest(
        values.where(~missing, 0).to_numpy(dtype=kind)
    )
