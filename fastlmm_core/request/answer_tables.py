"""Tables of an answer: rows or columns where they stand in it, or files that it names.

Sections hand their tables on as they are; how they are shown is decided once, for the whole answer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

Place = tuple[str | int, ...]


@dataclass(frozen=True, eq=False)
class Rows:
    """A table that stands in an answer as a list of objects, one a row.

    Attributes
    ----------
    columns : mapping of str to (n,)
    marks : tuple of str
        Columns of flags that only the rows have where they are true.
    """

    columns: Mapping[str, Any]
    marks: tuple[str, ...] = ()

    @classmethod
    def of(cls, frame: pd.DataFrame) -> Rows:
        """Those of a frame, without its index."""
        return cls({str(name): column.array for name, column in frame.items()})

    @property
    def frame(self) -> pd.DataFrame:
        """As a table."""
        return pd.DataFrame(dict(self.columns))


@dataclass(frozen=True, eq=False)
class Columns:
    """A table that stands in an answer as an object of columns, as requests write tables themselves."""

    frame: pd.DataFrame


@dataclass(frozen=True, eq=False)
class Spread:
    """A table whose figures stand beside what is said of it, in the object that holds it under ``table``.

    Attributes
    ----------
    inline : mapping
        Keys of that object.
    frame : function
        Makes the table.
    """

    inline: Mapping[str, Any]
    frame: Callable[[], pd.DataFrame]


def spread(columns: Mapping[str, Any]) -> Spread:
    """Columns that stand beside what is said of them."""
    return Spread(columns, lambda: pd.DataFrame(dict(columns)))


def rows_of(table: Any) -> Rows:
    """The rows of a table of results, or of a frame."""
    return Rows.of(table if isinstance(table, pd.DataFrame) else table.to_frame())


def apart(value: Any, write: Callable[[Place, pd.DataFrame], Any], place: Place = ()) -> Any:
    """An answer in whose tables' place stands what `write` says of them.

    Parameters
    ----------
    value : object
        An answer or a part of it.
    write : function
        Of the place in the answer, ``("emmeans", 0, "table")``, and the table.
    place : tuple
        Of `value`.
    """
    if isinstance(value, (Rows, Columns)):
        return write(place, value.frame)
    if isinstance(value, Spread):
        return write(place, value.frame())
    if isinstance(value, Mapping):
        return {key: apart(own, write, (*place, key)) for key, own in value.items()}
    if isinstance(value, list) and value and isinstance(value[0], Mapping):  # blocks
        return [apart(own, write, (*place, i)) for i, own in enumerate(value)]
    return value
