"""Values as the labels of levels: their text, their codes, and which of a column of objects they are."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
from pandas.api.extensions import ExtensionArray

from fastlmm_core.formula.expressions import number_text
from fastlmm_core.reading.columns import is_number_text, label_key, takes_labels

_DIGITS = re.compile(r"(\d+)", re.ASCII)


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


def label_texts(values: np.ndarray) -> np.ndarray:
    """(n,) objects as the text of their labels, None where missing."""
    missing = pd.isna(values)
    out = np.array([None] * values.size, dtype=object)
    out[~missing] = [label_text(value) for value in values[~missing]]
    return out


def factorize_runs(values: Any) -> tuple[np.ndarray, Any]:
    """``pandas.factorize`` of a Series or array (n,); of text in runs by the first value of each."""
    n = len(values)
    if not isinstance(values.dtype, pd.StringDtype) or n < 1000:
        return values.factorize() if isinstance(values, ExtensionArray) else pd.factorize(values)
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


def is_real(value: Any) -> bool:
    """Whether an object is a number other than a boolean."""
    return isinstance(value, (int, float, Decimal, np.integer, np.floating)) and not isinstance(value, bool)


def objects_take_labels(numbers: np.ndarray, words: np.ndarray) -> bool:
    """`takes_labels` of a column of objects; beside a number kept as text only integers are codes."""
    whole = all(isinstance(v, (int, np.integer)) for v in numbers)
    if not all(is_number_text(word.strip()) for word in words):
        whole = whole or all(v == v // 1 for v in numbers)
    elif not whole:
        return False
    return takes_labels(whole, False, numbers.size, len(set(numbers)), words.size)


def first_odd(values: np.ndarray) -> int | None:
    """Row of the first object that no column can hold."""
    return next((row for row, value in enumerate(values) if is_odd(value)), None)


def is_odd(value: Any) -> bool:
    """Whether an object is neither a number nor a label: a list, a mapping, a signalling NaN."""
    return isinstance(value, (list, tuple, dict, set, np.ndarray)) or (
        isinstance(value, Decimal) and value.is_snan()
    )


def order_by_numbers(levels: Sequence[str]) -> list[int]:
    """Places of labels in the order of the numbers in them: R2 before R10, and 2 before 10.

    Examples
    --------
    >>> order_by_numbers(("R1", "R10", "R2"))
    [0, 2, 1]
    """
    key = label_key if all(map(is_number_text, levels)) else _parts
    return sorted(range(len(levels)), key=lambda i: key(levels[i]))


def _parts(label: str) -> tuple[tuple[int, int | str], ...]:
    """Text and whole numbers of a label by turns, as they are compared."""
    parts = _DIGITS.split(label)
    return tuple((int(i % 2), _whole(part) if i % 2 else part) for i, part in enumerate(parts))


def _whole(digits: str) -> int | str:
    return int(digits) if len(digits) < 4000 else digits


def coefficient_labels(variables: Mapping[str, Any], columns: Sequence[str]) -> tuple[str, ...]:
    """Coefficients of a factor by its levels, "E1" for "envE1"; other coefficients as they are named.

    Parameters
    ----------
    variables : mapping
        Of a design, by name.
    columns : sequence of str
        Coefficients of one random term.
    """
    for name, variable in variables.items():
        labels = {f"{name}{level}": str(level) for level in getattr(variable, "levels", None) or ()}
        if labels and all(column in labels for column in columns):
            return tuple(labels[column] for column in columns)
    return tuple(columns)
