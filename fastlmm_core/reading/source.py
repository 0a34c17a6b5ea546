"""Where the rows of a table come from: files and their lines, and the text that stood in numeric columns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

KEY = "source"  # in DataFrame.attrs


@dataclass(frozen=True)
class Labels:
    """A column as labels, as they stand in the file.

    Attributes
    ----------
    codes : (N,) int32
        Places in `levels`, -1 for missing.
    levels : tuple of str
        Sorted: as numbers where all are numbers, else as text.
    """

    codes: np.ndarray
    levels: tuple[str, ...]

    def take(self, rows: Any) -> Labels:
        """The labels of some rows."""
        return Labels(self.codes[np.asarray(rows, dtype=np.int64)], self.levels)

    def categories(self) -> pd.Categorical:
        """The labels as pandas' categories, in their order."""
        return pd.Categorical.from_codes(self.codes, pd.Index(self.levels, dtype=object))


class Source(str):
    """What a table read from files keeps of them; it travels in ``DataFrame.attrs``.

    The rows are those of the index that the reader gave (0 to N - 1): slices and sorted copies of the table
    find their lines and labels by it.  It is text, the names of the files, because pandas writes ``attrs``
    as JSON into Parquet files and copies and compares them with every operation.

    Attributes
    ----------
    files : tuple of (str, int)
        Names of the files and the first row of each; the rows are those of `lines`.
    lines : (N,) int64
        Line of its file on which a row begins, counted from 1.
    labels : dict of str to Labels
        The text of numeric columns that numbers do not give back, such as 007 or 1.10.
    notes : tuple of str
        What the reader decided and the user should know.
    """

    files: tuple[tuple[str, int], ...]
    lines: np.ndarray
    labels: dict[str, Labels]
    notes: tuple[str, ...]

    def __new__(
        cls, files: tuple[tuple[str, int], ...], lines: np.ndarray, labels: dict[str, Labels],
        notes: tuple[str, ...],
    ) -> Source:  # fmt: skip
        self = super().__new__(cls, ", ".join(name for name, _ in files))
        self.files, self.lines, self.labels, self.notes = files, lines, labels, notes
        return self

    def __deepcopy__(self, memo: Any) -> Source:
        return self

    def __reduce__(self) -> Any:
        return Source, (self.files, self.lines, self.labels, self.notes)

    def place(self, row: int) -> str:
        """Where a row stands, for a message: ``line 12``, with the file where there are several."""
        line = f"line {self.lines[row]}"
        if len(self.files) == 1:
            return line
        return f"{line} of '{next(name for name, first in reversed(self.files) if first <= row)}'"

    def slice(self, rows: np.ndarray) -> Source:
        """The source of some rows, in ascending order, as a table of their own."""
        starts = np.searchsorted(rows, [first for _, first in self.files])
        files = tuple((name, int(at)) for (name, _), at in zip(self.files, starts, strict=True))
        labels = {name: own.take(rows) for name, own in self.labels.items()}
        return Source(files, self.lines[rows], labels, self.notes)


def source_of(frame: pd.DataFrame) -> Source | None:
    """The source of a table that the reader made, None for others."""
    source = frame.attrs.get(KEY)
    return source if isinstance(source, Source) else None


def notes_of(frame: pd.DataFrame) -> tuple[str, ...]:
    """What the reader of a table has to say."""
    source = source_of(frame)
    return () if source is None else source.notes


def detached(frame: pd.DataFrame) -> pd.DataFrame:
    """Rows of a table as a table of their own, which takes along no more of the source than they need."""
    source = source_of(frame)
    if source is None:
        return frame
    rows = frame.index.to_numpy(dtype=np.int64)
    order = np.argsort(rows, kind="stable")
    out = frame.copy(deep=False)
    place = np.empty(rows.size, dtype=np.int64)
    place[order] = np.arange(rows.size)
    out.index = pd.Index(place)
    out.attrs[KEY] = source.slice(rows[order])
    return out


@dataclass(frozen=True)
class Places:
    """Names of the rows of a table, for messages.

    Attributes
    ----------
    source : Source or None
    index : Index or None
        Of the table; in the source's rows where there is one.
    """

    source: Source | None = None
    index: Any = None

    @classmethod
    def of(cls, data: Any) -> Places:
        """Those of any table."""
        if not isinstance(data, pd.DataFrame):
            return cls()
        source = source_of(data)
        return cls(source, None if source is None else data.index)

    def __call__(self, position: int) -> str:
        if self.source is None:
            return f"row {position} (counted from 0)"
        return self.source.place(int(self.index[position]))

    def labels(self, name: str) -> Labels | None:
        """The text of a column on the rows of the table, where it is kept."""
        kept = None if self.source is None else self.source.labels.get(name)
        return None if kept is None else kept.take(self.index)
