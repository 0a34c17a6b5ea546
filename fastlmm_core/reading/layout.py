"""Where the records and cells of a delimited text lie, and which cells stand in quotes.

A parser of tables gives the values of cells and forgets the rest: on which line a row began, how many cells
it had, and whether a number stood in quotes.  This scan keeps just that; pandas reads the values.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fastlmm_core.errors import DataError

QUOTE, NEWLINE, BLANKS = ord('"'), ord("\n"), b" \t"


@dataclass(frozen=True)
class Layout:
    """Records of a text that are not blank.

    Attributes
    ----------
    starts : (R,) int64
        First byte of each record.
    lines : (R,) int64
        Line on which it begins, counted from 1.
    cells : (R,) int64
        How many it has.
    quoted : (2, Q) int64
        Record and cell, both from 0, of the cells in quotes that hold nothing which asks for quotes.
    padded : bool
        Whether blanks stand between separators and quotes.
    """

    starts: np.ndarray
    lines: np.ndarray
    cells: np.ndarray
    quoted: np.ndarray
    padded: bool


def scan(name: str, data: bytes, sep: str) -> Layout:
    """Find records, cells and quotes of a text.

    Parameters
    ----------
    name : str
        Of the file, for messages.
    data : bytes
        UTF-8 with "\\n" at the end of each line.
    sep : str

    Raises
    ------
    DataError
        For quotes that are not closed, or closed within a cell.
    """
    text = np.frombuffer(data, np.uint8)
    newline = text == NEWLINE
    marks = np.flatnonzero(newline | (text == ord(sep)))
    opening, closing, padded = quotes(name, data, text, sep)
    inside = enclosed(marks, opening, closing)
    within = marks[inside]
    marks = marks[~inside] if within.size else marks
    ranks = np.flatnonzero(newline[marks])
    ends = marks[ranks]
    starts = np.concatenate([[0], ends[:-1] + 1])
    cells = np.diff(ranks, prepend=-1)
    lines = np.arange(1, starts.size + 1)
    if within.size and newline[within].any():
        lines = np.searchsorted(np.flatnonzero(newline), starts) + 1
    kept = ~blank_records(data, text, starts, ends, cells)
    quoted = quoted_cells(opening, closing, within, marks, ranks)
    if not kept.all():
        place = np.cumsum(kept) - 1
        quoted = quoted[:, kept[quoted[0]]]
        quoted[0] = place[quoted[0]]
    return Layout(starts[kept], lines[kept], cells[kept], quoted, padded)


def enclosed(marks: np.ndarray, opening: np.ndarray, closing: np.ndarray) -> np.ndarray:
    """Which of the positions lie between quotes."""
    if not opening.size:
        return np.zeros(marks.size, dtype=bool)
    before = np.searchsorted(opening, marks) - 1
    return (before >= 0) & (closing[before] > marks)


def quotes(name: str, data: bytes, text: np.ndarray, sep: str) -> tuple[np.ndarray, np.ndarray, bool]:
    """(positions of opening quotes, of their closing ones, whether blanks stand before them).

    A doubled quote closes and opens again at once.  Where all quotes alternate, stand at the ends of cells
    and are even in number, that is all; else they are walked one by one, since a quote inside a bare cell,
    as in 5" pot, is a character like any other.
    """
    found = np.flatnonzero(text == QUOTE) if b'"' in data else np.empty(0, np.int64)
    if not found.size:
        return found, found, False
    if found.size % 2 == 0:
        opening, closing = found[0::2], found[1::2]
        ends = np.array([QUOTE, NEWLINE, ord(sep)], dtype=np.uint8)
        begun = (opening == 0) | np.isin(text[opening - 1], ends)
        ended = np.isin(text[np.minimum(closing + 1, text.size - 1)], ends)
        doubled = text[opening - 1] == QUOTE
        linked = ~doubled[1:] | (closing[:-1] + 1 == opening[1:])
        if begun.all() and ended.all() and linked.all():
            return opening, closing, False
    return walk_quotes(name, data, found.tolist(), ord(sep))


def walk_quotes(
    name: str, data: bytes, found: list[int], sep: int
) -> tuple[np.ndarray, np.ndarray, bool]:  # fmt: skip
    """`quotes`, one by one."""
    opening: list[int] = []
    closing: list[int] = []
    padded = inside = False
    skip = -1
    for at in found:
        if at == skip:
            continue
        after = data[at + 1] if at + 1 < len(data) else NEWLINE
        if inside:
            if after == QUOTE:  # a doubled quote is one character
                skip = at + 1
                continue
            if after not in (sep, NEWLINE) and data[at + 1 : at + 80].lstrip(BLANKS)[:1] not in (
                b"", b"\n", bytes([sep]),
            ):  # fmt: skip
                raise unreadable(name, data, at, "text follows a closing quote")
            closing.append(at)
            inside = False
            continue
        before = at - 1
        while before >= 0 and data[before] in BLANKS and data[before] != sep:
            before -= 1
        if before < 0 or data[before] in (sep, NEWLINE):
            opening.append(at)
            inside = True
            padded = padded or before < at - 1
    if inside:
        raise unreadable(name, data, opening[-1], "the quote that opens there is not closed")
    return np.array(opening, np.int64), np.array(closing, np.int64), padded


def unreadable(name: str, data: bytes, at: int, why: str) -> DataError:
    """The error for a byte of a file."""
    line = data.count(b"\n", 0, at) + 1
    return DataError(f"'{name}' is not a readable CSV file, line {line}: {why}")


def blank_records(
    data: bytes, text: np.ndarray, starts: np.ndarray, ends: np.ndarray, cells: np.ndarray
) -> np.ndarray:
    """(R,) bool, records of nothing but blanks, which pandas leaves out too."""
    blank = starts == ends
    first = text[np.minimum(starts, text.size - 1)]
    for k in np.flatnonzero((cells == 1) & ~blank & np.isin(first, np.frombuffer(BLANKS, np.uint8))):
        blank[k] = not data[starts[k] : ends[k]].strip(BLANKS)
    return blank


def quoted_cells(
    opening: np.ndarray, closing: np.ndarray, within: np.ndarray, marks: np.ndarray, ranks: np.ndarray
) -> np.ndarray:
    """(2, Q) record and cell of cells in quotes without separator, line break or quote in them."""
    if not opening.size:
        return np.empty((2, 0), np.int64)
    whole = np.ones(opening.size, dtype=bool)
    again = np.flatnonzero(closing[:-1] + 1 == opening[1:])  # a quote that is doubled
    whole[again] = whole[again + 1] = False
    whole[np.searchsorted(opening, within) - 1] = False
    mark = np.searchsorted(marks, opening[whole])
    record = np.searchsorted(ranks, mark)
    first = np.concatenate([[0], ranks[:-1] + 1])[record]
    return np.array([record, mark - first])
