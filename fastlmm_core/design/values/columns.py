"""One column, whatever its values are: numbers to float64, everything else to integer codes with labels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from fastlmm_core.design.values.labels import (
    drop_unused,
    factorize_runs,
    first_odd,
    is_real,
    label_text,
    label_texts,
    objects_take_labels,
)
from fastlmm_core.errors import DataError, name_list, shown
from fastlmm_core.formula.expressions import number_text
from fastlmm_core.reading.columns import WHOLE_LIMIT
from fastlmm_core.reading.source import Labels, Places

NOWHERE = Places()


class MixedColumnError(DataError):
    """Numbers with words among them: no covariate, but a factor where one is asked for."""


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
    text : Labels or None
        Labels of a numeric column, where the numbers do not give them back: 007, or integers above 2**53.
    alphabetical : bool
        Levels of text of which nobody gave the order: it says nothing of their distance.
    """

    name: str
    values: np.ndarray
    levels: tuple[str, ...] | None
    ordered: bool = False
    days: tuple[float, ...] | None = None
    text: Labels | None = None
    alphabetical: bool = False

    @property
    def is_factor(self) -> bool:
        return self.levels is not None

    def missing(self) -> np.ndarray:
        """(n,) bool."""
        return self.values < 0 if self.is_factor else np.isnan(self.values)


def read_column(name: str, values: Any, places: Places = NOWHERE) -> Column:
    """Convert any column to numbers or coded labels; see `Table.column`.

    Parameters
    ----------
    name : str
    values : sequence (n,)
    places : Places
        Names of its rows, for messages.
    """
    if isinstance(values, pd.Categorical):
        values = pd.Series(values)
    if isinstance(values, np.ma.MaskedArray):
        return _from_masked(name, values, places)
    if isinstance(values, (pd.Series, pd.Index)) or isinstance(values, pd.api.extensions.ExtensionArray):
        return _from_pandas(name, values, places)
    return _from_array(name, values if isinstance(values, np.ndarray) else _from_sequence(values), places)


def _from_pandas(name: str, values: Any, places: Places) -> Column:
    dtype = values.dtype
    if isinstance(dtype, pd.CategoricalDtype):
        return _from_categorical(name, values.array if isinstance(values, pd.Series) else values)
    if isinstance(dtype, np.dtype):
        return _from_array(name, values.to_numpy(), places)
    if isinstance(dtype, pd.StringDtype):
        return column_of_labels(name, values if not isinstance(values, pd.Series) else values.array)
    if pd.api.types.is_integer_dtype(dtype):
        missing = np.asarray(values.isna())
        whole = values.fillna(0).to_numpy(dtype=np.uint64 if str(dtype).lower().startswith("u") else np.int64)
        return _numeric(name, np.where(missing, np.nan, whole), places, exact_labels(whole, missing))
    if pd.api.types.is_float_dtype(dtype):
        return _numeric(name, values.to_numpy(dtype=np.float64, na_value=np.nan), places)
    return _from_array(name, objects_of(values), places)


def objects_of(values: Any) -> np.ndarray:
    """(n,) objects of a column."""
    if isinstance(values, pd.api.extensions.ExtensionArray):
        values = pd.Series(values)
    if isinstance(values, (pd.Series, pd.Index)):
        return np.asarray(values.astype(object).to_numpy())
    return _from_sequence(values).astype(object)


def _from_masked(name: str, values: np.ma.MaskedArray, places: Places) -> Column:
    """Masked values are missing."""
    missing = np.ma.getmaskarray(values)
    if values.dtype.kind in "iuf" and values.ndim == 1:
        exact = exact_labels(values.data, missing) if values.dtype.kind != "f" else None
        return _numeric(name, np.where(missing, np.nan, values.data), places, exact)
    plain = values.data.astype(object)
    plain[missing] = None
    return _from_array(name, plain, places)


def _from_sequence(values: Any) -> np.ndarray:
    array = values.to_numpy() if hasattr(values, "to_numpy") else None
    if array is None:
        array = np.empty(len(values), dtype=object)
        array[:] = values
    return array


def _from_array(name: str, values: np.ndarray, places: Places) -> Column:
    if values.ndim != 1:
        raise DataError(f"column '{name}' must be one-dimensional, but has shape {values.shape}")
    kind = values.dtype.kind
    if kind in "iu":
        return _numeric(name, values, places, exact_labels(values, np.zeros(values.shape, dtype=bool)))
    if kind == "f":
        return _numeric(name, values, places)
    if kind == "b":
        return _compact(name, values.astype(np.int32), ("False", "True"))
    if kind == "c":
        raise DataError(f"column '{name}' is complex; use its real part, its imaginary part or its modulus")
    if kind in "mM":
        return _from_dates(name, values)
    if kind in "US" or kind == "T":
        return column_of_labels(name, values.astype(object))
    return _from_objects(name, values, places)


def _numeric(name: str, values: np.ndarray, places: Places, text: Labels | None = None) -> Column:
    column = Column(name, np.ascontiguousarray(values, dtype=np.float64), None, text=text)
    if np.isinf(column.values).any():
        raise DataError(infinite_words(name, column.values, places))
    return column


def exact_labels(values: np.ndarray, missing: np.ndarray) -> Labels | None:
    """Labels of (n,) integers, where some are so large that float64 would make one of two.

    Parameters
    ----------
    values : (n,) integers, or objects that are
    missing : (n,) bool
    """
    present = values[~missing]
    if not present.size or max(int(present.max()), -int(present.min())) <= WHOLE_LIMIT:
        return None
    found, inverse = np.unique(present, return_inverse=True)
    codes = np.full(values.size, -1, dtype=np.int32)
    codes[~missing] = inverse
    return Labels(codes, tuple(str(int(value)) for value in found))


def infinite_words(name: str, values: np.ndarray, places: Places = NOWHERE) -> str:
    """What is wrong with a column of (n,) numbers of which some are infinite."""
    return (f"column '{name}' has infinite values, {first_row(np.isinf(values), values, places)}; "
            "correct them or mark them as missing")  # fmt: skip


def first_row(bad: np.ndarray, values: np.ndarray, places: Places = NOWHERE) -> str:
    """Where the first of the (n,) rows marked is and what stands there, for a message."""
    row = int(np.argmax(bad))
    return f"the first in {places(row)} is {number_text(float(values[row]))}"


def plain_values(given: Any) -> np.ndarray:
    """Numbers that a caller gave as an array, float64; masked ones are NaN.

    Raises
    ------
    TypeError, ValueError
        For what is not numeric.
    """
    if isinstance(given, np.ma.MaskedArray):
        given = np.ma.filled(given.astype(np.float64), np.nan)
    return np.ascontiguousarray(given, dtype=np.float64)


def _from_objects(name: str, values: np.ndarray, places: Places) -> Column:
    odd = first_odd(values)
    if odd is not None:
        raise DataError(f"column '{name}' holds {shown(values[odd])} in {places(odd)}, which is neither a "
                        "number nor a label; correct it or mark it as missing")  # fmt: skip
    missing = pd.isna(values)
    found = pd.api.types.infer_dtype(values, skipna=True)
    if found in ("string", "bytes"):
        return column_of_labels(name, values)
    if found in ("integer", "floating", "mixed-integer-float", "decimal"):
        return _numbers_of_objects(name, values, missing, places)
    if found == "boolean":
        codes = np.where(missing, -1, np.where(missing, False, values).astype(np.int32)).astype(np.int32)
        return _compact(name, codes, ("False", "True"))
    if found in ("datetime", "datetime64", "date", "timedelta", "timedelta64"):
        return _from_dates(name, _without_zone(pd.Series(values)))
    if found == "empty":
        return Column(name, np.full(values.shape[0], np.nan), None)
    kinds = sorted({type(v).__name__ for v, gone in zip(values, missing, strict=True) if not gone})
    if "complex" in kinds:
        raise DataError(f"column '{name}' is complex; use its real part, its imaginary part or its modulus")
    word = np.array([isinstance(v, str) for v in values], dtype=bool)
    number = np.array([is_real(v) for v in values], dtype=bool) & ~missing
    if len(kinds) == 1 and not (word.any() or number.any()):
        raise DataError(f"column '{name}' holds values of type '{kinds[0]}', which are neither numbers nor "
                        f"labels; make labels of them, in pandas with .astype(str)")  # fmt: skip
    if not (word | number | missing).all() or not (word.any() and number.any()):
        raise DataError(
            f"column '{name}' mixes values of types {name_list(kinds)}; use one type for the whole column"
        )
    if places.source is None and objects_take_labels(values[number], values[word]):  # a reader has decided
        return column_of_labels(name, label_texts(values))
    raise MixedColumnError(mixed_words(name, values, word, places))


def _numbers_of_objects(name: str, values: np.ndarray, missing: np.ndarray, places: Places) -> Column:
    numbers = np.full(values.shape[0], np.nan)
    for row in np.flatnonzero(~missing).tolist():
        try:
            numbers[row] = values[row]
        except (OverflowError, ValueError, TypeError):
            cell = f"{shown(values[row])} in {places(row)}"
            raise DataError(f"column '{name}' holds {cell}, which is no number that can be computed with; "
                            "correct it or mark it as missing") from None  # fmt: skip
    text = None
    if np.abs(numbers[~missing]).max(initial=0.0) > WHOLE_LIMIT and all(
        value == int(value) for value in values[~missing] if np.isfinite(float(value))
    ):
        whole = values.copy()
        whole[~missing] = [int(v) if np.isfinite(float(v)) else 0 for v in values[~missing]]
        text = exact_labels(whole, missing)
    return _numeric(name, numbers, places, text)


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


def mixed_words(name: str, values: np.ndarray, word: np.ndarray, places: Places) -> str:
    """What is wrong with a column of numbers that holds words."""
    rows = np.flatnonzero(word)
    cells = ", ".join(f"{shown(values[row])} in {places(row)}" for row in rows[:4])
    more = f" and {rows.size - 4} more" if rows.size > 4 else ""
    return (f"column '{name}' is numeric but for {cells}{more}: correct such cells or mark them as missing; "
            f"factor({name}) takes all as labels")  # fmt: skip


def _from_categorical(name: str, values: Any) -> Column:
    levels = tuple(label_text(level) for level in values.categories)
    if len(set(levels)) < len(levels):
        raise DataError(f"levels of '{name}' have the same text; make the categories distinct as strings")
    return Column(name, np.asarray(values.codes, dtype=np.int32), levels, bool(values.ordered))


def column_of_labels(name: str, values: Any) -> Column:
    codes, found = factorize_runs(values)
    # as objects at once: an array of text gives its values one by one ten times as slowly
    labels = [label_text(level) for level in np.asarray(found, dtype=object).tolist()]
    order = sorted(range(len(labels)), key=labels.__getitem__)
    place = np.empty(len(order) + 1, dtype=np.int32)
    place[order] = np.arange(len(order), dtype=np.int32)
    place[-1] = -1
    return Column(name, place[codes], tuple(labels[i] for i in order), alphabetical=True)


def _compact(name: str, codes: np.ndarray, levels: tuple[str, ...]) -> Column:
    compacted, kept = drop_unused(codes, levels)
    return Column(name, compacted, kept)


def as_factor(column: Column) -> Column:
    """The column as a factor; numbers become levels in numeric order."""
    if column.is_factor:
        return column
    if column.text is not None:
        return Column(column.name, *drop_unused(column.text.codes, column.text.levels))
    missing = np.isnan(column.values)
    if missing.any():
        found, inverse = np.unique(column.values[~missing], return_inverse=True)
        codes = np.full(column.values.shape[0], -1, dtype=np.int32)
        codes[~missing] = inverse
    else:
        found, inverse = np.unique(column.values, return_inverse=True)
        codes = inverse.astype(np.int32)
    return Column(column.name, codes, tuple(map(number_text, found.tolist())))
