"""Delimited text files as cells of text: compression, encoding, separator and header, found by looking."""

from __future__ import annotations

import io
import re
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from fastlmm_core.errors import DataError, name_list
from fastlmm_core.limits import Limits, read_bounded
from fastlmm_core.reading.layout import Layout, scan
from fastlmm_core.reading.options import SEPARATORS, ReadOptions

SAMPLE = 1 << 18  # bytes looked at for the separator
TITLE_LINES = 50  # searched for a header
SEPARATOR_LINE = re.compile(rb'"?sep=([,;|\t])"?[,;|\t ]*\n', re.IGNORECASE)  # as spreadsheets begin a file


@dataclass(frozen=True)
class RawTable:
    """A table as text, before any column has a type.

    Attributes
    ----------
    files : tuple of (str, int)
        Names of the files and the first row of each.
    names : list of str
        Of the columns; they may repeat.
    cells : list of (n,) object arrays of str
    quoted : list of (n,) bool arrays or None
        Cells of a column in quotes that they did not need; None where none are.
    lines : (n,) int64
        Line of its file on which each row begins.
    sep : str
        "" for spreadsheets.
    notes : tuple of str
    """

    files: tuple[tuple[str, int], ...]
    names: list[str]
    cells: list[np.ndarray]
    quoted: list[np.ndarray | None]
    lines: np.ndarray
    sep: str
    notes: tuple[str, ...]

    @property
    def n(self) -> int:
        return self.lines.size


def read_text(path: Path, options: ReadOptions) -> RawTable:
    """The cells of a delimited text file.

    Raises
    ------
    DataError
        When it cannot be read, is ragged, or has no header or rows.
    """
    text, encoding = decode(path, unpack(path, options.limits), options.encoding)
    if "\0" in text:
        raise DataError(f"'{path}' holds binary data, not CSV")
    if not text.strip():
        raise DataError(f"'{path}' is empty")
    data = text.encode("utf-8", errors="surrogatepass")
    if b"\r" in data:
        data = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    if not data.endswith(b"\n"):
        data += b"\n"
    said = SEPARATOR_LINE.match(data)
    if said is not None:
        data = data[said.end() - 1 :]  # its line break stays, for the numbers of lines
    sep = options.sep or (said[1].decode() if said else find_separator(path, data, options.skip))
    notes = [f"'{path.name}' is read as {encoding}"] if encoding != "utf-8" else []
    if sep != "," and options.sep is None:
        notes.append(f"'{path.name}' is separated by {SEPARATORS[sep]}s")
    return parse(path, data, sep, options.skip, tuple(notes))


def unpack(path: Path, limits: Limits) -> bytes:
    """The bytes of a file, decompressed.

    Raises
    ------
    DataError
        When it cannot be read.
    LimitError
        When it is larger than the limits allow.
    DependencyError
        For .zst without pyarrow.
    """
    try:
        return read_bounded(path, limits)
    except (OSError, EOFError, zlib.error) as err:
        raise DataError(f"'{path}' cannot be read: {err}") from err


def decode(path: Path, raw: bytes, encoding: str | None) -> tuple[str, str]:
    """(text, encoding): UTF-8, UTF-16 by its mark or its zeros, else Latin-1 as Windows writes it."""
    if encoding is not None:
        candidates = [encoding if not encoding.startswith("utf-8") else "utf-8-sig"]
    elif raw.startswith((b"\xff\xfe", b"\xfe\xff")):
        candidates = ["utf-16"]
    elif looks_like_utf16(raw):
        candidates = ["utf-16-le" if raw[1:2] == b"\0" else "utf-16-be"]
    else:
        candidates = ["utf-8-sig", "cp1252", "latin-1"]
    for candidate in candidates:
        try:
            text = raw.decode(candidate)
        except (UnicodeDecodeError, LookupError):
            continue
        if candidate == "utf-8-sig":
            return text, "utf-8"
        return text.removeprefix("\ufeff"), "latin-1" if candidate == "cp1252" else candidate
    tried = encoding or candidates[0]
    raise DataError(f"'{path}' is not text in {tried}; give its encoding (--encoding, encoding=)")


def looks_like_utf16(raw: bytes) -> bool:
    """Whether every second byte of the beginning is zero, as in UTF-16 without a mark."""
    head = np.frombuffer(raw[:1000], np.uint8)
    head = head[: head.size // 2 * 2].reshape(-1, 2) == 0
    zeros = head.mean(axis=0) if len(head) > 1 else np.zeros(2)
    return bool(np.max(zeros) > 0.7 and np.min(zeros) < 0.1)


def find_separator(path: Path, data: bytes, skip: int) -> str:
    """The separator with which most records, and the first of them, have the same number of cells."""
    if len(data) > SAMPLE:
        data = data[: data.rfind(b"\n", 0, SAMPLE) + 1] or data
    best, choice = (False, 0.0, 1), ","
    for sep in SEPARATORS:
        try:
            layout = scan(path.name, data, sep)
        except DataError:  # a quote that the sample has cut, or one that this separator leaves in the middle
            continue
        cells = layout.cells[layout.lines > skip]
        if not cells.size:
            continue
        usual = usual_cells(cells)
        score = (bool(cells[0] >= usual), float(np.mean(cells == usual)), usual)
        if usual > 1 and score > best:
            best, choice = score, sep
    return choice


def usual_cells(cells: np.ndarray) -> int:
    """The most frequent number of cells of a record."""
    counts = np.bincount(cells[1:] if cells.size > 1 else cells)
    return int(np.argmax(counts))


def parse(path: Path, data: bytes, sep: str, skip: int, notes: tuple[str, ...]) -> RawTable:
    """The cells of a text whose separator is known."""
    layout = scan(str(path), data, sep)
    first = int(np.searchsorted(layout.lines, skip, side="right"))
    if first >= layout.lines.size:
        raise DataError(f"'{path}' has no lines after the {skip} that are skipped")
    width = int(layout.cells[first:].max())
    try:
        frame = pd.read_csv(
            io.BytesIO(data[int(layout.starts[first]) :]), sep=sep, header=None, names=range(width),
            dtype=object, na_filter=False, index_col=False, skipinitialspace=layout.padded,
            encoding="utf-8", encoding_errors="surrogatepass",
        )  # fmt: skip
    except (pd.errors.ParserError, ValueError) as err:
        raise DataError(f"'{path}' is not a readable CSV file: {err}") from err
    if len(frame) != layout.lines.size - first:
        raise DataError(f"'{path}' is not a readable CSV file: its quotes and line breaks are ambiguous")
    cells = [frame[j].to_numpy(dtype=object) for j in range(width)]
    names = [str(column[0]).strip() for column in cells]
    check_header(path, names[: int(layout.cells[first])], layout, first, cells)
    named = max((j + 1 for j, name in enumerate(names) if name), default=0)
    check_cells(path, named, int(layout.cells[first]), layout, first, cells)
    if layout.cells.size - first < 2:
        raise DataError(f"'{path}' has a header but no rows")
    quoted = quoted_columns(layout, first + 1, width)
    table = RawTable(
        ((path.name, 0),), names, [column[1:] for column in cells], quoted, layout.lines[first + 1 :], sep,
        notes,
    )  # fmt: skip
    return without_empty(table)


def check_header(path: Path, names: list[str], layout: Layout, first: int, cells: list[np.ndarray]) -> None:
    """Raise DataError where a later line looks like the header and the first one like a title."""
    following = layout.cells[first + 1 :]
    usual = usual_cells(layout.cells[first:])
    named = sum(map(bool, names))
    if following.size == 0 or (named >= usual - 1 and named > 0 and len(names) >= usual):
        return
    for row in range(1, min(TITLE_LINES, len(cells[0]))):
        if layout.cells[first + row] < max(usual, 2):
            continue
        texts = [str(column[row]).strip() for column in cells]
        filled = [text for text in texts if text]
        if len(filled) > named and len(filled) >= usual - 1 and looks_like_names(filled):
            line = int(layout.lines[first + row])
            raise DataError(
                f"'{path}': line {line} looks like the header ({name_list(filled, 4)}); "
                f"skip the lines above it with --skip {line - 1} (skip={line - 1})"
            )


def looks_like_names(texts: list[str]) -> bool:
    """Whether cells can be names of columns: different from each other, none a number."""
    return len(set(texts)) == len(texts) and not any(text[0].isdigit() or text[0] in "+-." for text in texts)


def check_cells(
    path: Path, named: int, header: int, layout: Layout, first: int, cells: list[np.ndarray]
) -> None:
    """Raise DataError for a record with fewer cells than the header, or with more that hold something.

    One of separators alone is an empty row, however many there are.
    """
    bad = layout.cells[first:] < named
    for empty in np.flatnonzero(bad).tolist():
        bad[empty] = any(column[empty] for column in cells)
    for column in cells[header:]:
        bad |= column != ""
    if bad.any():
        row = first + int(np.argmax(bad))
        raise DataError(
            f"'{path}' line {layout.lines[row]} has {layout.cells[row]} cells, the header has {header}"
        )


def quoted_columns(layout: Layout, first: int, width: int) -> list[np.ndarray | None]:
    """For each column, which of the records from `first` on stand in quotes they did not need."""
    record, cell = layout.quoted
    n = layout.cells.size - first
    out: list[np.ndarray | None] = []
    for j in range(width):
        rows = record[(cell == j) & (record >= first)] - first
        mask = None
        if rows.size:
            mask = np.zeros(n, dtype=bool)
            mask[rows] = True
        out.append(mask)
    return out


def without_empty(table: RawTable) -> RawTable:
    """The table without nameless empty columns, as spreadsheets leave them, without empty rows, and without
    those that repeat the header, as files put one below the other have them.
    """
    kept = [j for j, name in enumerate(table.names) if name or any(text.strip() for text in table.cells[j])]
    empty = rows_that_hold(table, kept, [""] * len(table.names))
    again = rows_that_hold(table, kept, table.names) if len(kept) > 1 else empty[:0]
    cells, quoted = [table.cells[j] for j in kept], [table.quoted[j] for j in kept]
    lines, notes = table.lines, table.notes
    if empty.size or again.size:
        full = np.ones(table.n, dtype=bool)
        full[empty] = full[again] = False
        cells = [column[full] for column in cells]
        quoted = [None if mask is None else mask[full] for mask in quoted]
        lines = lines[full]
    if again.size:
        more = f" and {again.size - 1} more" if again.size > 1 else ""
        where = f"line {table.lines[again[0]]}{more}"
        notes = (*notes, f"'{table.files[0][0]}' has its header again in {where}, left out")
    if not lines.size:
        raise DataError(f"'{table.files[0][0]}' has a header but no rows")
    return RawTable(table.files, [table.names[j] for j in kept], cells, quoted, lines, table.sep, notes)


def rows_that_hold(table: RawTable, columns: list[int], texts: list[str]) -> np.ndarray:
    """The rows (k,) whose cells in some columns are these `texts`, one for each column of the table."""
    rows = np.arange(table.n)
    for j in columns:
        rows = rows[table.cells[j][rows] == texts[j]]
        if not rows.size:
            break
    return rows


def join_tables(tables: list[RawTable]) -> RawTable:
    """The rows of several files with the same columns, as one table of text.

    Raises
    ------
    DataError
        When a file has other columns than the first.
    """
    first = tables[0]
    start, files, cells, quoted = 0, [], [], []
    orders = [column_order(first, table) for table in tables]
    for table in tables:
        files.append((table.files[0][0], start))
        start += table.n
    for j in range(len(first.names)):
        columns = [(table, order[j]) for table, order in zip(tables, orders, strict=True)]
        cells.append(np.concatenate([table.cells[k] for table, k in columns]))
        masks = [table.quoted[k] for table, k in columns]
        found = any(mask is not None for mask in masks)
        parts = [np.zeros(t.n, bool) if m is None else m for t, m in zip(tables, masks, strict=True)]
        quoted.append(np.concatenate(parts) if found else None)
    lines = np.concatenate([table.lines for table in tables])
    return RawTable(tuple(files), first.names, cells, quoted, lines, first.sep, joined_notes(tables))


def joined_notes(tables: list[RawTable]) -> tuple[str, ...]:
    """The notes of several files, each of which begins with the name of its file; the same of many is one."""
    names: dict[str, list[str]] = {}
    for table in tables:
        for note in table.notes:
            names.setdefault(note.removeprefix(f"'{table.files[0][0]}' "), []).append(table.files[0][0])
    return tuple(
        f"'{own[0]}' {what}" if len(own) == 1 else f"{name_list(own, 3)}: each {what}"
        for what, own in names.items()
    )


def column_order(first: RawTable, table: RawTable) -> list[int]:
    """Places in `table` of the columns of `first`."""
    if table.names == first.names:
        return list(range(len(first.names)))
    if sorted(table.names) != sorted(first.names) or len(set(table.names)) < len(table.names):
        differ = sorted(set(table.names) ^ set(first.names)) or sorted(table.names)
        both = f"'{table.files[0][0]}' and '{first.files[0][0]}'"
        raise DataError(f"{both} do not have the same columns: {name_list(differ)}")
    return [table.names.index(name) for name in first.names]
