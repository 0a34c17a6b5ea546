"""From a table of individuals and their parents to numbers, with every complaint about it."""

from __future__ import annotations

import re
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from fastlmm_core.errors import DataError, OptionError, PedigreeWarning, name_list, nearest_names, shown
from fastlmm_core.gate import warn_caller
from fastlmm_core.reading import level_label, read_table
from fastlmm_core.reading.options import MISSING
from fastlmm_core.reading.source import Source, source_of
from fastlmm_core.structures.relationships.pedigree_checks import (
    check_sexes,
    refuse_loops,
    refuse_row_numbers,
    tell_unlisted,
)
from fastlmm_core.structures.relationships.pedigree_codes import ParentCodes
from fastlmm_core.structures.relationships.pedigree_groups import groups_first, read_groups
from fastlmm_core.structures.relationships.pedigree_kernels import find_generations

#: What stands for an unknown parent, beside NaN: what is missing in any column, and what pedigrees write.
MISSING_PARENT = (*sorted(MISSING), "na", "n/a", "null", "none", "0", ".", "*", "-", "?")
# A whole number as it is written where a column of numbers has gaps.
WITH_DECIMALS = re.compile(r"-?\d+\.0+")
WITHOUT_HEADER = "the header is missing; write one, for example id,sire,dam"
# Usual headings of the three columns; the first of each is ours.
HEADINGS = (
    ("id", "animal", "ident", "individual", "ind", "calf", "progeny", "genotype", "gen", "line"),
    ("sire", "father", "male", "pat", "parent1", "p1"),
    ("dam", "mother", "female", "mat", "parent2", "p2"),
)
# A column that is meant as `selfing`, which has to be named.
SELFING_HEADINGS = ("selfing", "selfings")


def read_pedigree(
    table: Any,
    columns: Sequence[str] | None,
    missing: Sequence[Any],
    selfing: str | None,
    check_sex: bool | str,
    groups: Sequence[Any] | None = None,
    group_variance: float | None = None,
) -> ParentCodes:
    """Read and check a pedigree; see `Pedigree` for the arguments.

    Raises
    ------
    DataError
        One message with all that is wrong: rows without identifier, duplicates, own parents, loops.
    """
    unknown = {level_label(code).strip() for code in missing} | {""}
    known_groups = read_groups(groups, group_variance, unknown)
    frame, names = _read_columns(table, columns, selfing)
    row, ids = _code_labels(frame[names[0]], unknown)
    index = pd.Index(ids, dtype=object)
    named = index.append(pd.Index(known_groups, dtype=object))
    parents = [_without_decimals(*_code_labels(frame[name], unknown), named, unknown) for name in names[1:]]
    listed = [index.get_indexer(pd.Index(labels, dtype=object)) for _, labels in parents]
    by_row = [_take(places, codes) for places, (codes, _) in zip(listed, parents, strict=True)]
    if columns is None:
        _refuse_first_row_as_header(table, names, [ids, *(labels for _, labels in parents)], unknown)
    _refuse_bad_rows(row, ids, parents, by_row, source_of(frame))
    refuse_row_numbers(names, ids, parents, listed, known_groups)
    unlisted = list(
        dict.fromkeys(
            label
            for places, (_, labels) in zip(listed, parents, strict=True)
            for label in labels[places < 0].tolist()
        )
    )
    place_of = {label: place for place, label in enumerate(unlisted)}
    sire, dam = (
        _number_parents(codes, labels, places, place_of)
        for places, (codes, labels) in zip(listed, parents, strict=True)
    )
    everyone = (*unlisted, *ids.tolist())
    generation = find_generations(sire, dam)
    refuse_loops(everyone, sire, dam, generation)
    tell_unlisted([name for name in unlisted if name not in known_groups], [*ids.tolist(), *known_groups])
    check_sexes(everyone, sire, dam, check_sex, known_groups)
    selfings = np.zeros(len(everyone))
    if selfing is not None:
        selfings[len(unlisted) :] = _read_selfings(frame[selfing], selfing)
    else:
        _tell_unused_selfings(frame, names)
    codes = ParentCodes(everyone, sire, dam, selfings, generation)
    return groups_first(codes, known_groups, group_variance) if known_groups else codes


def _read_columns(
    table: Any, columns: Sequence[str] | None, selfing: str | None
) -> tuple[pd.DataFrame, tuple[str, str, str]]:
    """The table with its three columns as text, and their names."""
    is_file = isinstance(table, (str, Path))
    if not is_file or columns is None:
        frame = read_table(_with_index(table))
        frame.columns = frame.columns.map(str)
        names = _named_columns(columns) if columns is not None else _find_columns(list(frame.columns))
        _refuse_repeated(frame, names)
    else:
        names = _named_columns(columns)
    if is_file:
        frame = read_table(table, {name: {"type": "factor"} for name in names})
    for name in (*names, *([selfing] if selfing is not None else [])):
        if name not in frame.columns:
            raise DataError(f"pedigree: there is no column '{name}'{nearest_names(name, frame.columns)}")
    _refuse_repeated(frame, (*names, *([selfing] if selfing is not None else [])))
    if not len(frame):
        raise DataError("pedigree: the table has no rows")
    return frame, names


def _with_index(table: Any) -> Any:
    """A DataFrame of parents whose index is called as individuals are has these as a column."""
    if not isinstance(table, pd.DataFrame):
        return table
    headings = [{str(name).strip().casefold() for name in own} for own in ([table.index.name], table.columns)]
    kinds = [[bool(own & set(usual)) for usual in HEADINGS] for own in headings]
    return table.reset_index() if kinds == [[True, False, False], [False, True, True]] else table


def _refuse_repeated(frame: pd.DataFrame, names: Sequence[str]) -> None:
    for name in names:
        if list(frame.columns).count(name) > 1:
            hint = "" if name.strip() not in MISSING_PARENT else f": {WITHOUT_HEADER}"
            raise DataError(f"pedigree: there are several columns '{name}'{hint}")


def _named_columns(columns: Sequence[str]) -> tuple[str, str, str]:
    if not isinstance(columns, (tuple, list)) or len(columns) != 3 or len(set(map(str, columns))) != 3:
        raise OptionError(
            f"columns={columns!r} must name three columns: individual, sire and dam, "
            "for example ('id', 'sire', 'dam')"
        )
    return (str(columns[0]), str(columns[1]), str(columns[2]))


def _find_columns(present: list[str]) -> tuple[str, str, str]:
    by_heading = {name.strip().casefold(): name for name in present}
    found = [by_heading[h] for headings in HEADINGS for h in headings if h in by_heading]
    kinds = [sum(name.strip().casefold() in headings for name in found) for headings in HEADINGS]
    if kinds == [1, 1, 1]:
        return (found[0], found[1], found[2])
    if len(present) == 3:
        return (present[0], present[1], present[2])
    raise DataError(
        f"pedigree: which columns hold individual, sire and dam? the table has {name_list(present)}; "
        "say columns=(...) with their names in this order"
    )


def _refuse_first_row_as_header(
    table: Any, names: tuple[str, str, str], labels: Sequence[np.ndarray], unknown: set[str]
) -> None:
    """Headings that occur as individuals: the table has no header, and its first row went into it.

    One heading that is an individual, a line called Mother, is no sign of it; a code is, or two.
    """
    if isinstance(table, pd.DataFrame) and all(str(name).isdecimal() for name in table.columns):
        return  # numbered columns, as of a table that was read without a header
    codes = [name for name in names if name.strip() in unknown]
    taken = [name for name in names if name in codes or any(np.any(own == name.strip()) for own in labels)]
    if codes or len(taken) > 1:
        place = f"the first line ({', '.join(names)})" if isinstance(table, (str, Path)) else "the header"
        raise DataError(
            f"pedigree: {place} has {name_list(taken)}, {'' if len(taken) == 1 else 'all '}also among the "
            f"individuals or codes for unknown parents: {WITHOUT_HEADER}, or say columns=(...) where these "
            "are headings"
        )


def _code_labels(values: pd.Series, unknown: set[str]) -> tuple[np.ndarray, np.ndarray]:
    """Number of every row's label in order of appearance, -1 where it is unknown, and the labels (k,)."""
    try:
        codes, distinct = pd.factorize(values)
    except TypeError:
        cell = next(value for value in values if not isinstance(value, Hashable))
        raise DataError(
            f"pedigree: column '{values.name}' holds {shown(cell)}; identifiers are texts or numbers"
        ) from None
    texts = [level_label(value) for value in distinct]
    known = np.array([None if text.strip() in unknown else text for text in texts], dtype=object)
    again, labels = pd.factorize(known)
    return _take(again, codes), np.asarray(labels, dtype=object)


def _without_decimals(
    codes: np.ndarray, labels: np.ndarray, ids: pd.Index, unknown: set[str]
) -> tuple[np.ndarray, np.ndarray]:
    """The labels of parents with 21 for 21.0 where only the former is an individual, or unknown."""
    texts = [str(label).strip() for label in labels.tolist()]
    whole = [text.partition(".")[0] if WITH_DECIMALS.fullmatch(text) else None for text in texts]
    if not any(whole):
        return codes, labels
    known = [
        label if own is None or label in ids else None if own in unknown else own if own in ids else label
        for label, own in zip(labels.tolist(), whole, strict=True)
    ]
    again, found = pd.factorize(np.array(known, dtype=object))
    return _take(again, codes), np.asarray(found, dtype=object)


def _take(values: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """values[codes], -1 where the code is -1."""
    out = np.full(codes.size, -1, dtype=np.int64)
    out[codes >= 0] = values[codes[codes >= 0]]
    return out


def _refuse_bad_rows(
    row: np.ndarray, ids: np.ndarray, parents: list[tuple[np.ndarray, np.ndarray]], by_row: list[np.ndarray],
    source: Source | None,
) -> None:  # fmt: skip
    """Rows without identifier, duplicates and own parents, in one message; of a file by its lines."""
    word, numbers = ("row", np.arange(1, row.size + 1)) if source is None else ("line", source.lines)
    complaints = []
    nameless = np.flatnonzero(row < 0)
    if nameless.size:
        # by its row too: a person looks for the line, the table that was read knows the row
        counted = "" if source is None else f" ({_counted('row', nameless + 1)})"
        verb = "has" if nameless.size == 1 else "have"
        complaints.append(f"{_counted(word, numbers[nameless])}{counted} {verb} no identifier")
    if nameless.size + ids.size < row.size:
        complaints += _duplicates(row, ids, parents, word, numbers)
    own = np.zeros(row.size, bool)
    for places in by_row:
        own |= (places == row) & (row >= 0)
    if own.any():
        names = ids[np.unique(row[own])]
        complaints.append(
            f"{name_list(names)} {'is its' if names.size == 1 else 'are their'} own parent"
            + "s" * (names.size > 1)
        )
    if complaints:
        raise DataError("pedigree: " + "; ".join(complaints))


def _counted(word: str, numbers: np.ndarray) -> str:
    """row 2, or rows 2, 5, 7: of many the first eight."""
    shown = ", ".join(map(str, numbers[:8].tolist())) + (", ..." if numbers.size > 8 else "")
    return f"{word}{'s' * (numbers.size > 1)} {shown}"


def _duplicates(
    row: np.ndarray, ids: np.ndarray, parents: list[tuple[np.ndarray, np.ndarray]], word: str,
    numbers: np.ndarray,
) -> list[str]:  # fmt: skip
    times = np.bincount(row[row >= 0], minlength=ids.size)
    alike: list[tuple[str, list[int]]] = []
    differing: list[tuple[str, list[int]]] = []
    # all rows of the repeated names at once: a table read twice repeats every name
    rows = np.flatnonzero((row >= 0) & (times[row] > 1))
    lines: dict[int, list[tuple[int, int, int]]] = {}
    for i in rows.tolist():
        of_parents = (int(parents[0][0][i]), int(parents[1][0][i]))
        lines.setdefault(int(row[i]), []).append((int(numbers[i]), *of_parents))
    for code, members in lines.items():
        same = len({(sire, dam) for _, sire, dam in members}) == 1
        (alike if same else differing).append((ids[code], [line for line, _, _ in members]))
    out = []
    for found, how in ((differing, "with different parents"), (alike, "with the same parents")):
        if len(found) == 1:
            name, places = found[0]
            count = "twice" if len(places) == 2 else f"{len(places)} times"
            shown = ", ".join(map(str, places[:8]))
            out.append(f"duplicate: '{name}' is listed {count} {how} ({word}s {shown})")
        elif found:
            out.append(f"duplicates: {name_list(name for name, _ in found)} are listed more than once {how}")
    return out


def _number_parents(
    codes: np.ndarray, labels: np.ndarray, places: np.ndarray, place_of: Mapping[str, int]
) -> np.ndarray:
    """Positions of one column of parents among all individuals, (n,) int32, -1 for unknown."""
    final = np.array(
        [
            place_of[label] if place < 0 else place + len(place_of)
            for label, place in zip(labels.tolist(), places.tolist(), strict=True)
        ],
        dtype=np.int64,
    )
    founders = np.full(len(place_of), -1, np.int32)
    return np.concatenate([founders, _take(final, codes).astype(np.int32)])


def _tell_unused_selfings(frame: pd.DataFrame, names: Sequence[str]) -> None:
    """A warning where a column is called for what it would mean: lines taken as F1 halve A unseen."""
    for name in frame.columns:
        if name.strip().casefold() in SELFING_HEADINGS and name not in names and frame[name].notna().any():
            said = f"the column '{name}' is not used; selfing='{name}' takes it as generations of selfing"
            warn_caller(PedigreeWarning(f"pedigree: {said}"))


def _read_selfings(values: pd.Series, name: str) -> np.ndarray:
    """Generations of selfing, (n,) float64; empty cells are none."""
    plain = values.astype(object) if isinstance(values.dtype, pd.CategoricalDtype) else values
    numbers = pd.to_numeric(plain, errors="coerce").to_numpy(float)
    bad = np.flatnonzero((np.isnan(numbers) & plain.notna().to_numpy()) | (numbers < 0))
    if bad.size:
        raise DataError(
            f"pedigree: column '{name}' row {bad[0] + 1} holds '{values.iloc[bad[0]]}'; generations of "
            "selfing are numbers from 0 (a cross) to inf (doubled haploids)"
        )
    return np.nan_to_num(numbers, nan=0.0, posinf=np.inf)
