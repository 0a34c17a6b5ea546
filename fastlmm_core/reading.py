"""Tables from files and plain objects, with the types a mixed model needs (factor or numeric)."""

from __future__ import annotations

import csv
import gzip
import io
import zlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from .errors import DataError, DependencyError, OptionError, check_option, name_list, nearest_names
from .parquet import requires_pyarrow

#: Cells of an undeclared CSV column that count as missing; in a declared factor only the empty cell does.
MISSING_CELLS = ("", "NA", "NaN", "nan", "N/A", "NULL", "null")


def read_table(
    source: str | Path | Mapping[str, Sequence[Any]] | pd.DataFrame,
    columns: Mapping[str, Mapping[str, Any]] | None = None,
) -> pd.DataFrame:
    """Read a table and give its columns the declared types.

    Parameters
    ----------
    source : path, mapping of column name to values, or DataFrame
        Files end in ``.csv``, ``.csv.gz`` or ``.parquet``.
    columns : mapping, optional
        ``{name: {"type": "factor", "levels": [...]} | {"type": "numeric"}}``. The order of the levels
        is the order of coding; without levels they are the sorted values, as numbers if all are.
        Columns not named here keep what the file says: in a CSV, text and columns of quoted numbers
        are factors.

    Returns
    -------
    DataFrame
        One row per record, factors with declared levels as ``category``.

    Raises
    ------
    DataError
        For an unreadable or ragged file, repeated column names, an undeclared level, text where
        numbers are declared.
    """
    columns = dict(columns or {})
    if isinstance(source, pd.DataFrame):
        frame = source.copy()
    elif isinstance(source, Mapping):
        frame = _from_columns(source)
    elif isinstance(source, (str, Path)):
        frame = _from_file(Path(source), columns)
    else:
        raise DataError(f"data must be a path or an object of columns, not {type(source).__name__}")
    for name, declared in columns.items():
        frame[name] = _typed(frame, name, declared)
    return frame


def _from_columns(source: Mapping[str, Sequence[Any]]) -> pd.DataFrame:
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
    return pd.DataFrame({str(name): list(values) for name, values in source.items()})


def _from_file(path: Path, columns: Mapping[str, Mapping[str, Any]]) -> pd.DataFrame:
    name = path.name.lower()
    if not name.endswith((".csv", ".csv.gz", ".parquet")):
        raise DataError(f"'{path}': the file must end in .csv, .csv.gz or .parquet")
    if not path.is_file():
        known = sorted(p.name for p in path.parent.glob("*") if p.is_file()) if path.parent.is_dir() else []
        raise DataError(f"file '{path}' does not exist" + (nearest_names(path.name, known) if known else ""))
    if name.endswith(".parquet"):
        return _from_parquet(path)
    return _from_csv(path, columns)


def _from_parquet(path: Path) -> pd.DataFrame:
    try:
        with requires_pyarrow():
            return pd.read_parquet(path)
    except DependencyError:
        raise
    except Exception as err:  # pyarrow raises its own tree of errors for damaged files
        raise DataError(f"'{path}' is not a readable Parquet file: {err}") from err


def _csv_text(path: Path) -> str:
    try:
        raw = path.read_bytes()
        if path.name.lower().endswith(".gz"):
            raw = gzip.decompress(raw)
        text = raw.decode("utf-8-sig")
    except (OSError, EOFError, zlib.error) as err:
        raise DataError(f"'{path}' cannot be read: {err}") from err
    except UnicodeDecodeError as err:
        raise DataError(f"'{path}' is not UTF-8 text (byte {err.start}); save it as CSV in UTF-8") from err
    if "\0" in text:
        raise DataError(f"'{path}' holds binary data, not CSV")
    if not text.strip():
        raise DataError(f"'{path}' is empty")
    return text


def _from_csv(path: Path, columns: Mapping[str, Mapping[str, Any]]) -> pd.DataFrame:
    text = _csv_text(path)
    header = _checked_header(path, text)
    factors = {str(name) for name, declared in columns.items() if _declared_type(name, declared) == "factor"}
    quoted = _quoted_columns(text, header)
    as_text = {name: str for name in header if name in factors or name in quoted}
    try:
        frame = pd.read_csv(
            io.StringIO(text),
            dtype=as_text,  # type: ignore[arg-type]
            keep_default_na=False,
            na_values={name: [""] if name in factors else list(MISSING_CELLS) for name in header},
            index_col=False,
        )
    except (pd.errors.ParserError, ValueError) as err:
        raise DataError(f"'{path}' is not a readable CSV file: {err}") from err
    for name in quoted - factors:
        frame[name] = _numeric_order(frame[name])
    return frame


def _checked_header(path: Path, text: str) -> list[str]:
    """Names in the first line; raises for repeated names and for lines with another number of cells."""
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        header = next(row for row in reader if row)
        if len(header) == 1 and (";" in header[0] or "\t" in header[0]):
            raise DataError(f"'{path}' is not separated by commas; use commas and a decimal point")
        repeated = sorted({name for name in header if header.count(name) > 1})
        if repeated:
            raise DataError(f"'{path}' has repeated column names: {name_list(repeated)}")
        n_rows = 0
        for row in reader:
            n_rows += bool(row)
            if row and len(row) != len(header):
                raise DataError(
                    f"'{path}' line {reader.line_num} has {len(row)} cells, the header has {len(header)}"
                )
    except csv.Error as err:
        raise DataError(f"'{path}' is not a readable CSV file, line {reader.line_num}: {err}") from err
    if n_rows == 0:
        raise DataError(f"'{path}' has a header but no rows")
    return header


def _quoted_columns(text: str, header: list[str]) -> set[str]:
    """Columns whose cells the writer put in quotes while leaving others bare.

    R's ``write.csv`` and Python's ``QUOTE_NONNUMERIC`` quote what is not a number; so a quoted "36" is a
    level. A file that quotes every cell says nothing, and is then read by content.
    """
    lines = [line for line in text.splitlines()[:2] if line.strip()]
    if len(lines) < 2:
        return set()
    cells, start, inside = [], 0, False
    for i, char in enumerate(lines[1]):
        if char == '"':
            inside = not inside
        elif char == "," and not inside:
            cells.append(lines[1][start:i])
            start = i + 1
    cells.append(lines[1][start:])
    marks = [cell.strip().startswith('"') for cell in cells]
    if inside or all(marks) or len(marks) != len(header):
        return set()
    return {name for name, mark in zip(header, marks, strict=True) if mark}


def _numeric_order(values: pd.Series) -> pd.Series:
    """Labels that are all numbers become a category in the order of the numbers."""
    try:
        order = sorted(values.dropna().unique(), key=float)
    except ValueError:
        return values
    return pd.Series(pd.Categorical(values, categories=order), index=values.index, name=values.name)


def ordered_labels(labels: Iterable[str]) -> list[str]:
    """Labels in the order of their numbers when all are numbers, else sorted as text."""
    labels = list(labels)
    try:
        return sorted(labels, key=float)
    except ValueError:
        return sorted(labels)


def _declared_type(name: str, declared: Mapping[str, Any]) -> str:
    if not isinstance(declared, Mapping) or "type" not in declared:
        raise OptionError(f"columns['{name}'] must be an object with a 'type': 'factor' or 'numeric'")
    return check_option(f"columns['{name}'].type", declared["type"], ("factor", "numeric"))


def _typed(frame: pd.DataFrame, name: str, declared: Mapping[str, Any]) -> pd.Series:
    kind = _declared_type(name, declared)
    if name not in frame.columns:
        raise DataError(
            f"column '{name}' is declared in columns but not in the data{nearest_names(name, frame.columns)}"
        )
    if kind == "numeric":
        return _as_numeric(frame[name], name)
    return _as_factor(frame[name], name, declared.get("levels"))


def _as_numeric(values: pd.Series, name: str) -> pd.Series:
    if isinstance(values.dtype, pd.CategoricalDtype):
        values = values.astype(object)
    numbers = pd.to_numeric(values, errors="coerce").astype(float)
    bad = np.flatnonzero((numbers.isna() & values.notna()).to_numpy())
    if bad.size:
        raise DataError(
            f"column '{name}' is declared numeric, but row {bad[0] + 1} holds '{values.iloc[bad[0]]}'"
        )
    return numbers


def _as_factor(values: pd.Series, name: str, levels: Sequence[Any] | None) -> pd.Series:
    labels = values.map(level_label, na_action="ignore").astype(object)
    labels = labels.where(labels.notna(), None)
    if levels is None:
        if isinstance(values.dtype, pd.CategoricalDtype):
            known = [level_label(v) for v in values.cat.categories]
        else:
            known = ordered_labels({v for v in labels if v is not None})
        return pd.Series(pd.Categorical(labels, categories=known), index=values.index, name=name)
    if isinstance(levels, (str, bytes)) or not isinstance(levels, Sequence):
        raise OptionError(f"columns['{name}'].levels must be a list of labels")
    known = [level_label(v) for v in levels]
    if len(set(known)) < len(known):
        raise OptionError(f"columns['{name}'].levels repeats a label")
    unknown = sorted({v for v in labels if v is not None} - set(known))
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
