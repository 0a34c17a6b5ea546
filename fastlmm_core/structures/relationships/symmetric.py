"""Symmetric matrices with named rows, as users hold them: squares, sparse matrices, triplets, files."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp

from fastlmm_core.errors import DataError
from fastlmm_core.limits import DEFAULT
from fastlmm_core.reading import level_label, read_table
from fastlmm_core.reading.files import decode, unpack
from fastlmm_core.structures.relationships.base import checked_levels, listed_names
from fastlmm_core.structures.relationships.rounding import last_units

TRIPLET_COLUMNS = ("row", "col", "value")
# Endings of ASReml's files of entries, row, column and value without names, and what they hold.
INVERSE = "the inverse"
NUMBERED = {".giv": INVERSE, ".grm": "the covariance matrix"}
# Two halves of a matrix that differ by more than this, relative to the diagonal, are an error of the user;
# what is less comes from rounding in a file.
ASYMMETRY = 1e-8
# Last digits of numbers that were rounded from either side of a half, as of an inverse, differ by so much.
ONE_UNIT = 1.001


def read_symmetric(
    source: Any, levels: Sequence[Any] | None, what: str
) -> tuple[np.ndarray | sp.csc_array, list[str]]:
    """A symmetric matrix, both triangles, and the names of its rows.

    Parameters
    ----------
    source : (L, L) array, scipy sparse matrix, DataFrame, mapping or path
        A DataFrame, file or mapping of columns is square with the names in front of rows and above columns,
        or has the columns row, col and value for the entries of the lower triangle (or of both). A file .giv
        or .grm of ASReml has these entries without a header.
    levels : sequence, optional
        Names of the rows; their order where the matrix brings names of its own. Entries by numbers, 1 the
        first of them, need them: those of .giv and .grm, and of others where no number is among the names.
    what : str
        For the messages.

    Raises
    ------
    DataError
        For a matrix that is not square, not symmetric or not finite, and for missing or repeated names.
    """
    numbered = isinstance(source, (str, Path)) and Path(source).suffix.lower() in NUMBERED
    if isinstance(source, (str, Path)):
        source = _read_entries(Path(source), what) if numbered else _read_file(source)
    elif isinstance(source, Mapping):
        source = read_table(source)
        if levels is None and source.shape[1] == source.shape[0] + 1:  # as in a file: names in front of rows
            source = source.set_index(source.columns[0])
    if isinstance(source, pd.DataFrame):
        if levels is None and has_names_in_front(source):
            source = source.set_index(source.columns[0])
        if is_triplets(source):
            if is_inverse(source) and what != INVERSE:
                raise DataError(
                    f"{what}: the values are headed '{source.columns[2]}'; an inverse is given as "
                    "SparseInverse, type 'inverse'"
                )
            return _from_triplets(source, levels, what, numbered)
        source, levels = _from_square(source, levels, what)
    if levels is None:
        raise DataError(f"{what} needs the names of its rows: (matrix, levels) or a DataFrame with names")
    if sp.issparse(source):
        if source.dtype.kind == "c":
            raise DataError(f"{what} must be a matrix of real numbers")
        matrix = sp.csc_array(source, dtype=float)
        matrix.sum_duplicates()
        values = matrix.data
    else:
        matrix = values = _as_numbers(source, what)
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
        raise DataError(f"{what} must be a square matrix, not {' x '.join(map(str, matrix.shape))}")
    labels = checked_levels(levels, matrix.shape[0], what)
    if not np.isfinite(values).all():
        rows, cols = (sp.coo_array(matrix) if sp.issparse(matrix) else matrix).nonzero()
        bad = next((i, j) for i, j in zip(rows, cols, strict=True) if not np.isfinite(matrix[i, j]))
        raise DataError(f"{what} has no number for '{labels[bad[0]]}' and '{labels[bad[1]]}'")
    return _symmetrized(matrix, labels, what), labels


def is_triplets(frame: pd.DataFrame) -> bool:
    """Whether a table holds the entries of a matrix, one a row: row, col (or column) and value.

    ASReml-R heads the values Ainverse, or by another name of an inverse.
    """
    names = [str(name).strip().casefold() for name in frame.columns]
    return (
        len(names) == 3 and names[0] == "row" and names[1] in ("col", "column")
        and (names[2] == "value" or "inv" in names[2])
    )  # fmt: skip


def is_inverse(frame: pd.DataFrame) -> bool:
    """Whether a table holds the entries of an inverse, as the heading of its values says."""
    return is_triplets(frame) and "inv" in str(frame.columns[2]).casefold()


def has_names_in_front(frame: pd.DataFrame) -> bool:
    """Whether the first column holds the names of all others, as where a square was read from a file."""
    if frame.shape[1] != frame.shape[0] + 1 or frame.shape[0] == 0:
        return False
    return set(map(level_label, frame.iloc[:, 0])) == set(map(level_label, frame.columns[1:]))


def _as_numbers(source: Any, what: str) -> np.ndarray:
    try:
        values = np.array(source)
        numbers = values if values.dtype.kind == "c" else values.astype(float)
    except (TypeError, ValueError) as error:
        raise DataError(f"{what} must be a matrix of numbers") from error
    if numbers.dtype.kind == "c":
        raise DataError(f"{what} must be a matrix of real numbers")
    return numbers


def _read_file(path: str | Path) -> pd.DataFrame:
    """Triplets, or a square with its names as index; names stay text."""
    header = read_table(path)
    twice = header.columns[header.columns.duplicated()]
    if twice.size:
        raise DataError(
            f"several columns are headed '{twice[0]}'; names above a square differ, and entries one a row "
            "need the header row,col,value"
        )
    as_text = list(header.columns[:2]) if is_triplets(header) else list(header.columns[:1])
    frame = read_table(path, {name: {"type": "factor"} for name in as_text})
    return frame if is_triplets(frame) else frame.set_index(frame.columns[0])


def _read_entries(path: Path, what: str) -> pd.DataFrame:
    """Entries of a file .giv or .grm: three columns, with blanks, tabs or commas between them.

    Raises
    ------
    DataError
        For a file that holds the other of the two, or anything else.
    """
    held = NUMBERED[path.suffix.lower()]
    if held != what:
        raise DataError(
            f"'{path.name}' holds {held} by its ending, and is given as {what}; give it as the other, or "
            "under another name"
        )
    text, _ = decode(path, unpack(path, DEFAULT), None)
    lines = text.replace(",", " ").strip().splitlines()
    if lines and not _is_number(lines[0].split()[-1]):
        del lines[0]  # headings
    widths = {len(line.split()) for line in lines if line.strip()}
    if widths != {3}:
        raise DataError(f"'{path.name}' must have three columns, row, column and value, in every line")
    frame = pd.read_csv(
        io.StringIO("\n".join(lines)), sep=r"\s+", header=None, names=TRIPLET_COLUMNS, quoting=csv.QUOTE_NONE,
        dtype={"row": str, "col": str}, keep_default_na=False,
    )  # fmt: skip
    return frame


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _from_square(
    frame: pd.DataFrame, levels: Sequence[Any] | None, what: str
) -> tuple[np.ndarray, Sequence[Any]]:
    """Numbers of a square table in the order of its index, and the names."""
    if frame.shape[0] != frame.shape[1]:
        raise DataError(
            f"{what} is a table of {frame.shape[0]} rows and {frame.shape[1]} columns; it must be square "
            "with names as index and columns, or have the columns row, col, value"
        )
    index, columns = ([level_label(name) for name in names] for names in (frame.index, frame.columns))
    numbered = isinstance(frame.index, pd.RangeIndex)
    if levels is not None:
        if numbered and not isinstance(frame.columns, pd.RangeIndex):
            index, numbered = columns, False
        named = not numbered and set(index) == set(columns)
        if not (named and _names_again(index, levels, what)):
            return _as_numbers(frame, what), levels
    if numbered:
        raise DataError(
            f"{what}: its index is row numbers, not names of levels; set the index to the names, or give "
            "(matrix, levels)"
        )
    absent = sorted(set(index) ^ set(columns))
    if absent or (index != columns and len(set(index)) < len(index)):
        raise DataError(
            f"{what}: index and columns must hold the same names"
            + (f"; '{absent[0]}' stands in one of them only" if absent else "")
        )
    wanted = index if levels is None else listed_names(levels)
    if index == columns == wanted:
        return _as_numbers(frame, what), index
    rows, places = ({name: i for i, name in enumerate(names)} for names in (index, columns))
    values = _as_numbers(frame, what)
    return values[np.ix_([rows[name] for name in wanted], [places[name] for name in wanted])], wanted


def _names_again(index: list[str], levels: Sequence[Any], what: str) -> bool:
    """Whether `levels` are the names that a table has already, in any order; by place they would be swapped.

    Raises
    ------
    DataError
        For other names than those of the table where some are the same.
    """
    wanted = listed_names(levels)
    common = set(index) & set(wanted)
    if not common or len(set(wanted)) < len(wanted):
        return False
    other = sorted(set(index) ^ set(wanted))
    if other:
        raise DataError(
            f"{what}: levels= must have the names of its index and columns; '{other[0]}' stands in one of "
            "them only (the matrix without its own names, .to_numpy(), takes them by place)"
        )
    return True


def _from_triplets(
    frame: pd.DataFrame, levels: Sequence[Any] | None, what: str, numbered: bool = False
) -> tuple[sp.csc_array, list[str]]:
    rows, cols = (list(map(level_label, frame.iloc[:, k])) for k in (0, 1))
    values = pd.to_numeric(frame.iloc[:, 2], errors="coerce").to_numpy(float)
    bad = np.flatnonzero(~np.isfinite(values) | frame.iloc[:, :2].isna().any(axis=1).to_numpy())
    if bad.size:
        raise DataError(f"{what}: row {bad[0] + 1} of the triplets is not two names and a number")
    names = list(dict.fromkeys([*rows, *cols]))
    numbered = numbered and all(name.isdecimal() for name in names)
    if levels is None and numbered:
        raise DataError(
            f"{what} has rows by number, 1 to {max(map(int, names))}; give their names in this order, as in "
            "SparseInverse(file, levels=names) or Covariance(file, levels=names)"
        )
    labels = names if levels is None else checked_levels(levels, len(listed_names(levels)), what)
    if levels is not None and (numbered or _are_places(names, labels)):
        i, j = (np.array(side, dtype=np.int64) - 1 for side in (rows, cols))
        outside = np.flatnonzero((np.minimum(i, j) < 0) | (np.maximum(i, j) >= len(labels)))
        if outside.size:
            at = int(outside[0])
            raise DataError(
                f"{what}: entry {at + 1} is in row {rows[at]} and column {cols[at]}, and levels= has "
                f"{len(labels)} names"
            )
    else:
        index = pd.Index(labels, dtype=object)
        i, j = (index.get_indexer(pd.Index(side, dtype=object)) for side in (rows, cols))
    unknown = np.flatnonzero((i < 0) | (j < 0))
    if unknown.size:
        at = unknown[0]
        raise DataError(f"{what}: '{rows[at] if i[at] < 0 else cols[at]}' is not among the levels given")
    return _mirror(np.maximum(i, j), np.minimum(i, j), values, labels, what), labels


def _are_places(names: list[str], labels: list[str]) -> bool:
    """Whether the names of entries can only be the places of `labels`, from 1: none is one of these."""
    if not set(names).isdisjoint(labels) or not all(name.isdecimal() for name in names):
        return False
    return {int(name) for name in names} == set(range(1, len(labels) + 1))


def _mirror(
    row: np.ndarray, col: np.ndarray, values: np.ndarray, labels: list[str], what: str
) -> sp.csc_array:
    """Both triangles from entries of one of them or of both, checked for contradictions."""
    size = len(labels)
    key = row.astype(np.int64) * size + col
    by_key = np.argsort(key, kind="stable")
    key, values = key[by_key], values[by_key]
    first = np.r_[True, key[1:] != key[:-1]]
    start = np.flatnonzero(first)
    spread = np.maximum.reduceat(values, start) - np.minimum.reduceat(values, start)
    row, col, once = key[start] // size, key[start] % size, values[start]
    diagonal = np.full(size, np.nan)
    diagonal[row[row == col]] = once[row == col]
    if np.isnan(diagonal).any():
        name = labels[int(np.flatnonzero(np.isnan(diagonal))[0])]
        raise DataError(f"{what} has no entry on the diagonal for '{name}'")
    scale = np.sqrt(np.abs(diagonal[row] * diagonal[col]))
    bad = np.flatnonzero(spread > ASYMMETRY * np.maximum(scale, np.abs(once)))
    bad = bad[~_within_rounding(spread[bad], once[bad], values)]
    if bad.size:
        a, b = labels[row[bad[0]]], labels[col[bad[0]]]
        raise DataError(f"{what} has two different values for '{a}' and '{b}'")
    below = row != col
    return sp.csc_array(
        (
            np.concatenate([once, once[below]]),
            (np.concatenate([row, col[below]]), np.concatenate([col, row[below]])),
        ),
        shape=(size, size),
    )


def _within_rounding(difference: np.ndarray, of: np.ndarray, values: np.ndarray) -> np.ndarray:
    """(r,) bool: differences of halves of a unit in the last digit that numbers `of` are written with."""
    within = np.zeros(difference.size, dtype=bool)
    for units, _ in last_units(values, of) if difference.size else ():
        within |= difference <= ONE_UNIT * units
    return within


def _symmetrized(
    matrix: np.ndarray | sp.csc_array, labels: list[str], what: str
) -> np.ndarray | sp.csc_array:
    """The mean of both halves.

    Raises
    ------
    DataError
        Where they differ by more than rounding.
    """
    difference = matrix - matrix.T
    entries = sp.coo_array(difference)
    diagonal = np.abs(matrix.diagonal())
    size = np.sqrt(diagonal[entries.row] * diagonal[entries.col]) if entries.nnz else np.zeros(0)
    # against the largest variance where a level has none
    size = np.maximum(size, ASYMMETRY * diagonal.max(initial=0.0))
    bad = np.flatnonzero(np.abs(entries.data) > ASYMMETRY * size)
    if bad.size:
        at = matrix[entries.row[bad], entries.col[bad]]
        values = np.asarray(matrix.data if sp.issparse(matrix) else matrix)
        bad = bad[~_within_rounding(np.abs(entries.data[bad]), np.asarray(at).ravel(), values)]
    if bad.size:
        i, j = int(entries.row[bad[0]]), int(entries.col[bad[0]])
        one_half = sp.tril(matrix, -1).nnz == 0 or sp.triu(matrix, 1).nnz == 0
        raise DataError(
            f"{what} is not symmetric at '{labels[i]}' and '{labels[j]}'"
            + ("; only one triangle is filled, both are needed" if one_half else "")
        )
    out = 0.5 * (matrix + matrix.T)
    return sp.csc_array(out) if sp.issparse(out) else out
