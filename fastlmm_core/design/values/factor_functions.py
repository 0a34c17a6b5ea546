"""Functions that make factors: ``factor``, ``ordered``, ``relevel``, ``cut``, ``interaction``, ``dummy``.

Levels, their order and their labels follow R's functions of the same names.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from fastlmm_core.design.values.bases import State
from fastlmm_core.design.values.columns import Column
from fastlmm_core.design.values.labels import drop_unused
from fastlmm_core.errors import DataError, name_list, nearest_names
from fastlmm_core.formula.expressions import number_text


def factor(columns: Sequence[Column], settings: dict[str, Any], text: str, state: State) -> Column:
    """``factor(x, levels, labels, exclude, ordered)``; values outside of `levels` are missing.

    Without `levels` the labels belong to those of the data of the fit.
    """
    (column,) = columns
    codes, levels = drop_unused(column.values, column.levels or ())
    if settings.get("exclude") is not None:
        wanted = [level for level in levels if level not in texts_of(settings["exclude"], text)]
        codes, levels = _chosen(codes, levels, wanted), tuple(wanted)
    if settings.get("levels") is not None:
        wanted = texts_of(settings["levels"], text)
    elif settings.get("labels") is not None:
        wanted = state.setdefault(text, {}).setdefault("levels", list(levels))
    else:
        wanted = list(levels)
    repeated = [level for level in dict.fromkeys(wanted) if wanted.count(level) > 1]
    if repeated:
        raise DataError(f"'{text}' has the level {name_list(repeated)} more than once")
    codes = _chosen(codes, levels, wanted)
    given = settings.get("ordered")
    ordered = column.ordered if given is None else given is True
    labels = _labels_for(settings.get("labels"), wanted, text)
    distinct = list(dict.fromkeys(labels))  # equal labels join their levels
    place = np.array([*(distinct.index(label) for label in labels), -1], dtype=np.int32)
    alphabetical = column.alphabetical and settings.get("levels") is None and settings.get("labels") is None
    return Column("", place[codes], tuple(distinct), ordered, alphabetical=alphabetical)


def ordered(columns: Sequence[Column], settings: dict[str, Any], text: str, state: State) -> Column:
    """``ordered(x, levels, labels)``."""
    return factor(columns, {**settings, "ordered": True}, text, state)


def contrast_call(columns: Sequence[Column], settings: dict[str, Any], text: str, state: State) -> Column:
    """The factor in ``C(x, ...)``, with patsy's `levels` where given; the coding is `contrast_of_call`'s."""
    chosen = {"levels": settings["levels"]} if "levels" in settings else {}
    return factor(columns, chosen, text, state)


def relevel(columns: Sequence[Column], settings: dict[str, Any], text: str, state: State) -> Column:
    """``relevel(x, ref)``: one level, by its label or its place from 1, comes first."""
    (column,) = columns
    codes, levels = drop_unused(column.values, column.levels or ())
    ref = settings.get("ref")
    known = state.setdefault(text, {}).setdefault("levels", levels)
    if isinstance(ref, float) and number_text(ref) not in known and 1 <= ref <= len(known):
        first = known[int(ref) - 1]
    else:
        first = ref if isinstance(ref, str) else number_text(ref) if isinstance(ref, (int, float)) else ""
    if first not in known:
        raise DataError(f"'{text}': ref must be one of the levels{nearest_names(first, known)}")
    wanted = [first, *(level for level in levels if level != first)]
    return Column("", _chosen(codes, levels, wanted), tuple(wanted))


def interaction(columns: Sequence[Column], settings: dict[str, Any], text: str, state: State) -> Column:
    """``interaction(a, b, sep, lex.order)``: all combinations, the first factor varying fastest."""
    sep = settings.get("sep", ".")
    if not isinstance(sep, str):
        raise DataError(f"'{text}': sep must be a text")
    slow_first = list(columns) if settings.get("lex.order") is True else list(reversed(columns))
    total = 1
    cell = np.zeros(columns[0].values.size, dtype=np.int64)
    missing = np.zeros(cell.size, dtype=bool)
    for column in slow_first:
        total *= len(column.levels or ())
        if total > 2**31:
            raise DataError(f"'{text}' has more than 2,147,483,648 combinations of levels")
        cell = cell * len(column.levels or ()) + column.values
        missing |= column.missing()
    cell = np.where(missing, -1, cell)
    cells = np.unique(cell[~missing])
    names = []
    for number in cells.tolist():
        parts = {}
        for column in reversed(slow_first):
            number, at = divmod(number, len(column.levels or ()))
            parts[id(column)] = (column.levels or ())[at]
        names.append(sep.join(parts[id(column)] for column in columns))
    codes = np.where(missing, -1, np.searchsorted(cells, cell)).astype(np.int32)
    return Column("", codes, tuple(names))


def cut(x: np.ndarray, settings: dict[str, Any], text: str, state: State) -> Column | np.ndarray:
    """``cut(x, breaks, labels, include.lowest, right, dig.lab)``; values outside are missing.

    A number of breaks divides the range of the data of the fit; ``labels = FALSE`` gives numbers, as in R.
    """
    given = settings.get("breaks")
    if isinstance(given, (int, float)) and not isinstance(given, bool):
        given = state.setdefault(text, {}).setdefault("breaks", _equal_breaks(x, given, text))
    if not isinstance(given, list) or len(given) < 2 or not all(isinstance(b, (int, float)) for b in given):
        raise DataError(f"'{text}' needs breaks: at least two numbers, or how many parts to make")
    breaks = np.sort(np.array(given, dtype=np.float64))
    if np.isnan(breaks).any() or (np.diff(breaks) == 0).any():
        raise DataError(f"'{text}': the breaks must be different numbers")
    right, lowest = settings.get("right", True) is not False, settings.get("include.lowest", False) is True
    codes = np.searchsorted(breaks, x, side="left" if right else "right") - 1
    if lowest:
        end, last = (breaks[0], 0) if right else (breaks[-1], breaks.size - 2)
        codes = np.where(x == end, last, codes)
    codes = np.where((codes < 0) | (codes > breaks.size - 2) | np.isnan(x), -1, codes).astype(np.int32)
    if settings.get("labels") is False:
        return np.where(codes < 0, np.nan, codes + 1.0)
    return Column("", codes, _interval_labels(breaks, settings, right, lowest, text),
                  settings.get("ordered_result") is True)  # fmt: skip


def _equal_breaks(x: np.ndarray, count: float, text: str) -> list[float]:
    """R's breaks of the range: one thousandth of it added at both ends."""
    known = x[~np.isnan(x)]
    if not float(count).is_integer() or not 2 <= count <= 10_000 or known.size == 0:
        raise DataError(f"'{text}': the number of parts must be a whole number from 2 to 10,000")
    low, high = float(known.min()), float(known.max())
    if low == high:
        spread = abs(low) / 1000.0 or 1.0 / 1000.0
        return np.linspace(low - spread, high + spread, int(count) + 1).tolist()
    breaks = np.linspace(low, high, int(count) + 1)
    breaks[[0, -1]] += np.array([-1.0, 1.0]) * (high - low) / 1000.0
    return breaks.tolist()


def _interval_labels(
    breaks: np.ndarray, settings: dict[str, Any], right: bool, lowest: bool, text: str
) -> tuple[str, ...]:
    parts = breaks.size - 1
    labels = settings.get("labels")
    if labels is not None and labels is not True:
        names = texts_of(labels, text)
        if len(names) != parts or len(set(names)) != parts:
            raise DataError(f"'{text}' makes {parts} intervals and needs as many different labels")
        return tuple(names)
    digits = int(settings.get("dig.lab", 3))
    for precision in range(digits, max(12, digits) + 1):
        shown = [_general(value, precision) for value in breaks.tolist()]
        if len(set(shown)) == len(shown):
            break
    first, last = ("(", "]") if right else ("[", ")")
    names = [f"{first}{a},{b}{last}" for a, b in pairwise(shown)]
    if lowest:
        names[0 if right else -1] = f"[{names[0][1:]}" if right else f"{names[-1][:-1]}]"
    return tuple(names)


def _general(value: float, digits: int) -> str:
    """A number with so many significant digits, as C's %g writes it."""
    if np.isinf(value):
        return " Inf" if value > 0 else "-Inf"  # as R writes it
    return f"{value:.{digits}g}"


def indicator(column: Column, settings: dict[str, Any], text: str, state: State) -> np.ndarray:
    """(n, k) ``dummy(f, "level")``: 1 in the rows of a level and 0 elsewhere, NaN where f is missing.

    Without `levels`, all but the first of the table that was fitted, whatever levels new rows have.
    """
    codes, levels = drop_unused(column.values, column.levels or ())
    known = state.setdefault(text, {})
    if "levels" not in known:
        wanted = list(levels[1:]) if settings.get("levels") is None else texts_of(settings["levels"], text)
        for level in wanted:
            if level not in (column.levels or ()):
                hint = nearest_names(level, column.levels or ())
                raise DataError(f"'{text}': '{level}' is not a level of the column{hint}")
        if not wanted:
            example = levels[0] if levels else "a"
            raise DataError(f"'{text}' needs a level, for example dummy(f, \"{example}\")")
        known["levels"] = wanted
        known["first"] = levels[0] if settings.get("levels") is None else None
    new = [level for level in levels if level not in known["levels"] and level != known["first"]]
    if new and known["first"] is not None:
        raise DataError(f"'{text}': {name_list(new, 4)} did not occur in the fit")
    places = [levels.index(level) if level in levels else -2 for level in known["levels"]]
    values = np.column_stack([codes == place for place in places]).astype(np.float64)
    values[codes < 0] = np.nan
    return values


def texts_of(value: Any, text: str) -> list[str]:
    """A constant or a list of constants as labels."""
    items = value if isinstance(value, list) else [value]
    found = []
    for item in items:
        if isinstance(item, bool):
            found.append("TRUE" if item else "FALSE")
        elif isinstance(item, str):
            found.append(item)
        elif isinstance(item, (int, float)):
            found.append(number_text(float(item)))
        else:
            raise DataError(f"'{text}': levels and labels are texts or numbers")
    return found


def _chosen(codes: np.ndarray, levels: Sequence[str], wanted: Sequence[str]) -> np.ndarray:
    """Codes into `wanted` instead of `levels`, -1 for what is not among them."""
    place = {level: i for i, level in enumerate(wanted)}
    return np.array([*(place.get(level, -1) for level in levels), -1], dtype=np.int32)[codes]


def _labels_for(given: Any, levels: Sequence[str], text: str) -> list[str]:
    if given is None:
        return list(levels)
    names = texts_of(given, text)
    if len(names) == 1 and len(levels) > 1:
        return [f"{names[0]}{i + 1}" for i in range(len(levels))]
    if len(names) != len(levels):
        raise DataError(f"'{text}' has {len(names)} labels for {len(levels)} levels ({name_list(levels)})")
    return names


FACTOR_FUNCTIONS: dict[str, Callable[[Sequence[Column], dict[str, Any], str, State], Column]] = {
    "factor": factor, "as.factor": factor, "C": contrast_call, "ordered": ordered, "relevel": relevel,
    "interaction": interaction,
}  # fmt: skip
