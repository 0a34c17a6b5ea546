"""Keys of trials: the values that name them, as they stood in the table, and the order of rows by them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from fastlmm_core.design.values.labels import factorize_runs, is_odd, label_texts
from fastlmm_core.errors import shown
from fastlmm_core.reading.columns import WHOLE_LIMIT
from fastlmm_core.reading.source import Labels, Places

INT64 = np.iinfo(np.int64)


def sort_by_trial(
    frame: pd.DataFrame, by: tuple[str, ...]
) -> tuple[np.ndarray | None, pd.DataFrame, np.ndarray]:
    """(order of the rows or None when they are sorted, keys (T rows), ptr (T + 1,)).

    A missing key is a key of its own, so that no row is lost.
    """
    n = len(frame)
    if not by:
        return None, pd.DataFrame(index=range(1)), np.array([0, n], dtype=np.int64)
    code = np.zeros(n, dtype=np.int64)
    places = Places.of(frame)
    columns: dict[str, Any] = {}
    for name in by:
        labels = places.labels(name)
        columns[name] = key_column(frame[name], labels)
        own, size = ordered_codes(columns[name]) if labels is None else label_codes(labels)
        code = code * size + own
        if code.size and code.max() > 2**40:
            code = np.unique(code, return_inverse=True)[1].astype(np.int64)
    steps = np.diff(code)
    order = None
    if (steps < 0).any():
        order = np.argsort(code, kind="stable")
        steps = np.diff(code[order])
    first = np.concatenate(([0], np.flatnonzero(steps) + 1)).astype(np.int64) if n else np.empty(0, np.int64)
    place = first if order is None else order[first]
    keys = pd.DataFrame({name: column.take(place).array for name, column in columns.items()}, copy=False)
    return order, keys, np.append(first, n)


def key_column(values: pd.Series, labels: Labels | None = None) -> pd.Series:
    """Keys as they stood in the table.

    Text where numbers would not give it back (007, 20 digits, 1 and '3b' in one column); whole numbers that
    float64 was made of, because one is missing, as nullable integers: 2017 and not 2017.0.
    """
    if labels is not None:
        levels = np.array([*labels.levels, None], dtype=object)
        return pd.Series(levels[labels.codes], index=values.index, dtype="str")
    if values.dtype == object:
        return object_keys(values)
    if isinstance(values.dtype, np.dtype) and values.dtype.kind == "f":
        numbers = values.to_numpy()
        missing = np.isnan(numbers)
        known = numbers[~missing]
        if missing.any() and known.size and (known == np.floor(known)).all() and (
            np.abs(known).max() <= WHOLE_LIMIT
        ):  # fmt: skip
            return values.astype("Int64")
    return values


def object_keys(values: pd.Series) -> pd.Series:
    """Keys that are Python objects: of one kind as they are, else as text."""
    cells = values.to_numpy(dtype=object, copy=True)
    for row in odd_keys(values):
        cells[row] = shown(cells[row])
    missing = pd.isna(cells)
    kinds = {type(cell) for cell in cells[~missing]}
    whole = all(issubclass(kind, (int, np.integer)) and kind is not bool for kind in kinds)
    if kinds and whole and all(INT64.min <= cell <= INT64.max for cell in cells[~missing]):
        return pd.Series(cells, index=values.index).astype("Int64" if missing.any() else "int64")
    if whole or len(kinds) > 1:
        return pd.Series(label_texts(cells), index=values.index, dtype="str")
    return pd.Series(cells, index=values.index, dtype=object)


def odd_keys(values: pd.Series) -> list[int]:
    """Rows whose key cannot name a trial: a list, a mapping, a signalling NaN."""
    if values.dtype != object:
        return []
    return [row for row, cell in enumerate(values.array) if is_odd(cell)]


def label_codes(labels: Labels) -> tuple[np.ndarray, int]:
    """As `ordered_codes`."""
    size = len(labels.levels)
    return np.where(labels.codes < 0, size, labels.codes).astype(np.int64), size + 1


def ordered_codes(values: pd.Series) -> tuple[np.ndarray, int]:
    """(codes in the order of the values, number of codes); missing values come last."""
    codes, found = factorize_runs(values)
    try:
        order = np.argsort(np.asarray(found), kind="stable")
    except TypeError:  # numbers and text in one column
        order = np.argsort(np.array([str(value) for value in found]), kind="stable")
    place = np.empty(len(found) + 1, dtype=np.int64)
    place[order] = np.arange(len(found))
    place[-1] = len(found)
    return place[codes], len(found) + 1
