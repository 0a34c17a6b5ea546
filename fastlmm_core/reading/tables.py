"""`read_table`, the one reader of every door: files, folders of files, objects of columns, DataFrames."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from fastlmm_core.errors import DataError, OptionError, name_list, nearest_names
from fastlmm_core.reading.columns import TypedColumn, typed_column
from fastlmm_core.reading.decimal_signs import settle_signs, with_one_sign
from fastlmm_core.reading.declared import as_factor, declared_column, declared_type
from fastlmm_core.reading.files import RawTable, join_tables, read_text
from fastlmm_core.reading.options import ReadOptions
from fastlmm_core.reading.parquet import read_arrow, read_parquet
from fastlmm_core.reading.source import KEY, Labels, Source
from fastlmm_core.reading.spreadsheet import read_sheet

TEXT_ENDINGS = tuple(f"{end}{packed}" for end in (".csv", ".tsv", ".txt") for packed in ("", ".gz", ".zst"))
TYPED_ENDINGS = (".parquet", ".arrow", ".feather")
ENDINGS = (*TEXT_ENDINGS, *TYPED_ENDINGS, ".xlsx")
TEXT_OPTIONS, SHEET_OPTIONS = ("sep", "encoding"), ("sheet",)


def read_table(
    source: Any, columns: Mapping[str, Mapping[str, Any]] | None = None, *,
    options: ReadOptions | None = None, factors: Iterable[str] = (),
) -> pd.DataFrame:  # fmt: skip
    """Read a table and give its columns types.

    Parameters
    ----------
    source : path, mapping of column name to values, or DataFrame
        Files end in ``.csv``, ``.tsv`` or ``.txt``, also with ``.gz`` or ``.zst`` behind it, in ``.parquet``,
        ``.arrow``, ``.feather`` or in ``.xlsx``; of a folder all files of delimited text are read as one
        table (docs/reading.md).
    columns : mapping, optional
        ``{name: {"type": "factor", "levels": [...]} | {"type": "numeric"}}``. The order of the levels
        is the order of coding; without levels they are the sorted values, as numbers if all are.
        Columns not named here are what their cells say. In a declared factor only the empty cell is missing.
    options : ReadOptions, optional
        Separator, decimal sign and so on; what is not given is found by looking at the file.
    factors : iterable of str
        Columns that are labels, whatever their cells look like.

    Returns
    -------
    DataFrame
        One row per record, factors with declared levels as ``category``.  ``attrs["source"]`` of a table
        read from text is its `Source`.

    Raises
    ------
    DataError
        For an unreadable or ragged file, an undeclared level, text where numbers are declared, a column of
        `factors` or of ``na_values=`` that is not there.
    OptionError
        For options that do not belong to such a source, or contradict each other.
    """
    columns, options, factors = dict(columns or {}), options or ReadOptions(), tuple(factors)
    kinds = {str(name): declared_type(name, declared) for name, declared in columns.items()}
    for name in factors:
        if kinds.get(name) == "numeric":
            raise OptionError(f"column '{name}' is declared numeric in columns and named in factors")
    if isinstance(source, (str, Path)) and not has_types(Path(source)):
        as_labels = [name for name, kind in kinds.items() if kind == "factor"]
        missing = options.missing.with_empty_only(set(as_labels) - set(factors))
        raw = read_cells(Path(source), options)
        check_named(raw.names, options.missing.own, "na_values=, --na")
        frame = typed_frame(raw, replace(options, missing=missing), {*as_labels, *factors})
        check_named(frame.columns, factors, "factors=, --factor")
    else:
        frame = read_plain(source, options)
        check_named(frame.columns, factors, "factors=, --factor")
        for name in factors:
            frame[name] = as_factor(frame[name], name)
    for name, declared in columns.items():
        frame[name] = declared_column(frame, name, declared)
    return frame


def check_named(columns: Iterable[str], names: Iterable[str], option: str) -> None:
    """Raise DataError for a name that is not a column."""
    known = list(columns)
    for name in names:
        if name not in known:
            raise DataError(f"{option}: column '{name}' is not in the data{nearest_names(name, known)}")


def read_plain(source: Any, options: ReadOptions) -> pd.DataFrame:
    """A table whose columns have types: a DataFrame, an object of columns, a Parquet file."""
    if options.given:
        what = "Parquet and Arrow files" if isinstance(source, (str, Path)) else "tables in memory"
        raise OptionError(f"{options.given[0]}= is for text files and spreadsheets, not for {what}")
    if isinstance(source, pd.DataFrame):
        return source.copy()
    if isinstance(source, Mapping):
        return frame_of_columns(source)
    if isinstance(source, (str, Path)):
        check_file(Path(source))
        read = read_parquet if is_parquet(Path(source)) else read_arrow
        return read(Path(source), options.limits)
    raise DataError(f"data must be a path or an object of columns, not {type(source).__name__}")


def frame_of_columns(source: Mapping[str, Sequence[Any]]) -> pd.DataFrame:
    """A table of lists of values, in which whole numbers stay whole beside missing ones."""
    if not source:
        raise DataError("data has no columns")
    lengths = {}
    for name, values in source.items():
        if isinstance(values, (str, bytes)) or not hasattr(values, "__len__"):
            raise DataError(f"column '{name}' of data must be a list of values, not {type(values).__name__}")
        lengths[name] = len(values)
    if len(set(lengths.values())) > 1:
        listed = ", ".join(f"{name} {n}" for name, n in lengths.items())
        raise DataError(f"columns of data differ in length: {listed}")
    return pd.DataFrame({str(name): exact_column(values) for name, values in source.items()})


def exact_column(values: Any) -> Any:
    """Values as pandas takes them, but integers with None among them as objects, not as rounded floats."""
    if isinstance(values, np.ma.MaskedArray):
        if values.dtype.kind == "f":
            return np.ma.filled(values, np.nan)
        return exact_column(values.tolist())  # None where masked
    if hasattr(values, "dtype"):
        return values
    values = list(values)
    kinds = set(map(type, values))  # of which there are few, whatever the length
    whole = any(issubclass(kind, int) and kind is not bool for kind in kinds)
    if (whole and type(None) in kinds) or any(issubclass(kind, (list, dict, tuple)) for kind in kinds):
        column = np.empty(len(values), dtype=object)
        column[:] = values
        return column
    return (
        pd.Series(values).array if values else values
    )  # columns with an index are aligned, which takes longer


def is_parquet(path: Path) -> bool:
    """Whether a path is that of a Parquet file, by its name."""
    return path.name.lower().endswith(".parquet") and not path.is_dir()


def has_types(path: Path) -> bool:
    """Whether a path is that of a file whose columns have types, by its name."""
    return path.name.lower().endswith(TYPED_ENDINGS) and not path.is_dir()


def check_file(path: Path) -> None:
    """Raise DataError for a file that is not there or that nothing here reads."""
    if not path.name.lower().endswith(ENDINGS):
        raise DataError(
            f"'{path}': the file must end in .csv, .tsv, .txt (also with .gz or .zst), .parquet, .arrow, "
            ".feather or .xlsx"
        )
    if not path.is_file():
        known = sorted(p.name for p in path.parent.glob("*") if p.is_file()) if path.parent.is_dir() else []
        raise DataError(f"file '{path}' does not exist" + (nearest_names(path.name, known) if known else ""))


def is_text_folder(path: Any) -> bool:
    """Whether a path is a folder with delimited text in it and no Parquet files."""
    if not isinstance(path, (str, Path)) or not Path(path).is_dir():
        return False
    folder = Path(path)
    return bool(text_files(folder)) and all(lies_hidden(own, folder) for own in folder.rglob("*.parquet"))


def text_files(folder: Path) -> list[Path]:
    """Files of delimited text in a folder, sorted by name."""
    return sorted(
        path for path in folder.iterdir()
        if path.is_file() and not is_hidden(path) and path.name.lower().endswith(TEXT_ENDINGS)
    )  # fmt: skip


def is_hidden(path: Path) -> bool:
    """Whether a name begins as those of hidden files and marks do."""
    return path.name.startswith((".", "_"))


def lies_hidden(path: Path, folder: Path) -> bool:
    """Whether a path in a folder, or what it lies in there, has such a name."""
    return any(is_hidden(Path(part)) for part in path.relative_to(folder).parts)


def read_cells(path: Path, options: ReadOptions) -> RawTable:
    """The cells of a text file, a spreadsheet, or all text files of a folder."""
    if path.is_dir():
        files = text_files(path)
        if not files:
            raise DataError(f"folder '{path}' holds no files that end in {', '.join(TEXT_ENDINGS)}")
        others = sorted(p.name for p in path.iterdir() if p not in files and not is_hidden(p))
        table = join_tables([read_cells(file, options) for file in files])
        if not others:
            return table
        return replace(table, notes=(*table.notes, f"not read in '{path}': {name_list(others)}"))
    check_file(path)
    sheet = path.name.lower().endswith(".xlsx")
    for name in TEXT_OPTIONS if sheet else SHEET_OPTIONS:
        if name in options.given:
            kind = "a spreadsheet" if sheet else "a text file"
            raise OptionError(f"{name}= is given, but '{path.name}' is {kind}")
    return read_sheet(path, options) if sheet else read_text(path, options)


def typed_frame(raw: RawTable, options: ReadOptions, as_labels: set[str]) -> pd.DataFrame:
    """The table with a type for each column, `as_labels` as categories."""
    gone = [options.missing.of(name) for name in raw.names]
    if options.decimal is None:
        raw = with_one_sign(raw, gone, as_labels)
    tell = quotes_tell(raw, gone)

    def typed(j: int, thousands: str = "") -> TypedColumn:
        return typed_column(
            raw.names[j], raw.cells[j], raw.quoted[j], gone[j], decimal=options.decimal,
            comma_separated=raw.sep == ",", quotes_tell=tell, as_labels=raw.names[j] in as_labels,
            thousands=thousands,
        )  # fmt: skip

    found, of_signs = settle_signs(raw, [typed(j) for j in range(len(raw.names))], typed)
    frame = pd.DataFrame({j: column.values for j, column in enumerate(found)}, copy=False)
    frame.columns = pd.Index(raw.names, dtype=object)
    labels: dict[str, Labels] = {
        name: column.labels
        for name, column in zip(raw.names, found, strict=True) if column.labels is not None
    }  # fmt: skip
    notes = (*raw.notes, *(note for column in found for note in column.notes), *of_signs)
    frame.attrs[KEY] = Source(raw.files, raw.lines, labels, notes)
    return frame


def quotes_tell(raw: RawTable, missing: list[frozenset[str]]) -> bool:
    """Whether the writer of a file put in quotes what is not a number, as R and Python's csv do.

    A file that quotes every cell says nothing by it, whatever bare codes of missing values it holds.
    """
    if all(mask is None for mask in raw.quoted):
        return False
    for cells, mask, gone in zip(raw.cells, raw.quoted, missing, strict=True):
        bare = cells if mask is None else cells[~mask]
        if any(text.strip() not in gone and not needs_quotes(text, raw.sep) for text in bare):
            return True
    return False


def needs_quotes(text: str, sep: str) -> bool:
    """Whether a cell can only be written in quotes, so that it stands in `RawTable.quoted` never."""
    return bool(sep) and (sep in text or '"' in text or "\n" in text)
