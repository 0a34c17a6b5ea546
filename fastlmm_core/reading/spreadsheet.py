"""Spreadsheets as cells of text, through pandas and its engine."""

from __future__ import annotations

import datetime
import math
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from fastlmm_core.errors import DataError, DependencyError, LimitError, OptionError, name_list, nearest_names
from fastlmm_core.limits import escaped
from fastlmm_core.reading.files import TITLE_LINES, RawTable, looks_like_names, without_empty
from fastlmm_core.reading.options import ReadOptions


def read_sheet(path: Path, options: ReadOptions) -> RawTable:
    """The cells of one sheet of an .xlsx file.

    Numbers that are stored as text count as quoted where all numbers of their column are.

    Raises
    ------
    DataError
        When the file or the sheet cannot be read.
    DependencyError
        Without the engine of pandas.
    """
    frame, notes = load_sheet(path, options)
    grid = frame.to_numpy(dtype=object)[options.skip :]
    filled = np.array([any(cell_text(cell).strip() for cell in row) for row in grid], dtype=bool)
    lines = np.flatnonzero(filled) + options.skip + 1
    grid = grid[filled]
    if len(grid) < 2:
        words = "has a header but no rows" if len(grid) else "is empty"
        raise DataError(f"'{path}' {words}")
    names = [cell_text(cell).strip() for cell in grid[0]]
    check_sheet_header(path, names, grid, lines)
    cells, quoted = [], []
    for column in grid[1:].T:
        cells.append(np.array([cell_text(cell) for cell in column], dtype=object))
        texts = np.array([isinstance(cell, str) for cell in column], dtype=bool)
        numbers = any(isinstance(cell, (int, float)) and not is_blank(cell) for cell in column)
        quoted.append(texts if texts.any() and not numbers else None)
    return without_empty(RawTable(((path.name, 0),), names, cells, quoted, lines[1:], "", notes))


def load_sheet(path: Path, options: ReadOptions) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """(cells as objects, notes) of the sheet asked for, or of the first."""
    try:
        with zipfile.ZipFile(path) as archive:
            size = sum(part.file_size for part in archive.infolist())
        options.limits.check("file_size", size, f"'{escaped(path.name)}' unpacks to {{}} bytes")
        with pd.ExcelFile(path) as book:
            names = [str(name) for name in book.sheet_names]
            sheet = pick_sheet(path, names, options.sheet)
            frame = book.parse(sheet, header=None, dtype=object, na_filter=False)
    except ImportError as err:
        words = "spreadsheets need openpyxl: pip install 'fastlmm_core[excel]', or openpyxl alone"
        raise DependencyError(words) from err
    except (OptionError, LimitError):
        raise
    except Exception as err:  # the engine raises its own tree of errors for damaged files
        raise DataError(f"'{path}' is not a readable spreadsheet: {err}") from err
    said = options.sheet is not None or len(names) == 1
    return frame, () if said else (f"'{path.name}': the first of {len(names)} sheets, '{sheet}', is read",)


def pick_sheet(path: Path, names: list[str], sheet: str | int | None) -> str:
    """Name of the sheet asked for."""
    if sheet is None:
        return names[0]
    if str(sheet) in names:
        return str(sheet)
    number = int(sheet) if str(sheet).isdigit() else 0
    if 1 <= number <= len(names):
        return names[number - 1]
    hint = f"; it has {len(names)}" if number else nearest_names(str(sheet), names)
    raise OptionError(f"sheet={sheet!r} is not in '{path}'{hint}")


def check_sheet_header(path: Path, names: list[str], grid: np.ndarray, lines: np.ndarray) -> None:
    """Raise DataError where a later row looks like the header and the first one like a title."""
    named = sum(map(bool, names))
    usual = max(sum(bool(cell_text(c).strip()) for c in row) for row in grid[1:TITLE_LINES])
    if named >= usual - 1:
        return
    for row, line in zip(grid[1:TITLE_LINES], lines[1:], strict=False):
        filled = [text for cell in row if (text := cell_text(cell).strip())]
        if len(filled) >= usual - 1 and looks_like_names(filled):
            raise DataError(
                f"'{path}': line {line} looks like the header ({name_list(filled, 4)}); "
                f"skip the lines above it with --skip {line - 1} (skip={line - 1})"
            )


def is_blank(cell: Any) -> bool:
    """Whether a cell holds nothing."""
    return cell is None or (isinstance(cell, float) and math.isnan(cell))


def cell_text(cell: Any) -> str:
    """A cell as a text file would hold it."""
    if is_blank(cell):
        return ""
    if isinstance(cell, bool):
        return str(cell).upper()  # as spreadsheets show and export it
    if isinstance(cell, float):
        return str(int(cell)) if cell.is_integer() and abs(cell) < 1e15 else repr(cell)
    if isinstance(cell, (datetime.datetime, pd.Timestamp)) and cell.time() == datetime.time():
        return cell.date().isoformat()
    return str(cell)
