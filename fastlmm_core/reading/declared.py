"""Columns whose type, and levels, the user declares."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from fastlmm_core.errors import DataError, OptionError, check_option, name_list, nearest_names
from fastlmm_core.reading.columns import ordered_labels
from fastlmm_core.reading.source import source_of


def declared_type(name: str, declared: Any) -> str:
    """ "factor" or "numeric".

    Raises
    ------
    OptionError
        For anything else.
    """
    if not isinstance(declared, Mapping) or "type" not in declared:
        raise OptionError(f"columns['{name}'] must be an object with a 'type': 'factor' or 'numeric'")
    return check_option(f"columns['{name}'].type", declared["type"], ("factor", "numeric"))


def declared_column(frame: pd.DataFrame, name: str, declared: Mapping[str, Any]) -> pd.Series:
    """A column of the table as it is declared.

    Raises
    ------
    DataError
        For a column that is not there, text among numbers, or a level that is not declared.
    """
    kind = declared_type(name, declared)
    if name not in frame.columns:
        raise DataError(
            f"column '{name}' is declared in columns but not in the data{nearest_names(name, frame.columns)}"
        )
    if list(frame.columns).count(name) > 1:
        raise DataError(f"column '{name}' is declared in columns, but several columns have this name")
    if kind == "numeric":
        return as_numeric(frame, name)
    column = as_factor(frame[name], name, declared.get("levels"))
    return column.cat.as_ordered() if declared.get("ordered") else column


def as_numeric(frame: pd.DataFrame, name: str) -> pd.Series:
    """A column as float64."""
    values = frame[name]
    if isinstance(values.dtype, pd.CategoricalDtype):
        values = values.astype(object)
    numbers = pd.to_numeric(values, errors="coerce").astype(float)
    bad = np.flatnonzero((numbers.isna() & values.notna()).to_numpy())
    if bad.size:
        source = source_of(frame)
        place = f"row {bad[0] + 1}" if source is None else source.place(int(bad[0]))
        raise DataError(f"column '{name}' is declared numeric, but {place} holds '{values.iloc[bad[0]]}'")
    return numbers


def as_factor(values: pd.Series, name: str, levels: Sequence[Any] | None = None) -> pd.Series:
    """A column as categories, in the order of `levels` or, without these, of the labels."""
    categories = values.cat.categories if isinstance(values.dtype, pd.CategoricalDtype) else None
    values = values.astype(object)
    missing = values.isna()
    labels = pd.Series([None if gone else level_label(v) for v, gone in zip(values, missing, strict=True)],
                       index=values.index, dtype=object)  # fmt: skip
    present = {v for v in labels if v is not None}
    if levels is None:
        known = ordered_labels(present) if categories is None else [level_label(v) for v in categories]
        return pd.Series(pd.Categorical(labels, categories=known), index=values.index, name=name)
    if isinstance(levels, (str, bytes)) or not isinstance(levels, Sequence):
        raise OptionError(f"columns['{name}'].levels must be a list of labels")
    known = [level_label(v) for v in levels]
    if len(set(known)) < len(known):
        raise OptionError(f"columns['{name}'].levels repeats a label")
    unknown = sorted(present - set(known))
    if unknown:
        raise DataError(
            f"column '{name}' holds {name_list(unknown)}, not among its declared levels"
            f"{nearest_names(unknown[0], known)}"
        )
    return pd.Series(pd.Categorical(labels, categories=known), index=values.index, name=name)


def level_label(value: object) -> str:
    """Label of a factor level: 36 and 36.0 both read "36", text stays as it is."""
    if isinstance(value, (float, np.floating)) and float(value).is_integer():
        return str(int(value))
    return str(value)
