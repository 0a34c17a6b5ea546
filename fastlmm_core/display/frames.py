"""Data frames that print like the other tables: rounded, aligned, every column there."""

from __future__ import annotations

import functools
import inspect
import shutil
import sys
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import pandas as pd

from fastlmm_core.display.rendering import Table

P = ParamSpec("P")
R = TypeVar("R")

# What a column says when there is nothing to say.
UNREMARKABLE = "ok"
SCREEN = 60
# Columns that stand below the table where all rows have the same.
SAID_ONCE = ("ddf", "method")


class FigureFrame(pd.DataFrame):
    """A pandas DataFrame of unrounded figures; what is made of it, rows and columns of it too, stays one.

    Only looking differs: text and HTML are those of `Table`, with the decimals that the standard errors are
    worth. Long frames are cut after pandas' own ``display.max_rows``, and say so; no column is left out but
    `status` where every row is "ok". ``to_string`` and all else are pandas'.
    """

    # pandas carries these along (Series and DataFrame subclassing in its manual)
    _metadata = ["_title", "_columns_titled"]  # noqa: RUF012
    _title: str
    _columns_titled: pd.Index

    @property
    def _constructor(self) -> type[FigureFrame]:
        return FigureFrame

    @classmethod
    def of(cls, frame: pd.DataFrame, title: str = "") -> FigureFrame:
        """The frame under a title, on the same memory."""
        own = cls(frame, copy=False)
        own._title, own._columns_titled = title, frame.columns
        return own

    def to_frame(self) -> pd.DataFrame:
        """The same figures as a plain DataFrame, under the name that all tables have for it."""
        return pd.DataFrame(self)

    def _table(self) -> Table:
        rows = pd.get_option("display.max_rows")
        rows = SCREEN if rows == 0 else rows  # pandas' word for "as many as the terminal has lines"
        index = self.index
        named = index.nlevels > 1 or index.name is not None or not pd.api.types.is_integer_dtype(index.dtype)
        frame = pd.DataFrame(self).set_axis([str(name) for name in self.columns], axis=1)
        if named:
            # columns may be called like the index: they stand behind the labels all the same
            labels = [str(name) if name is not None else " " * i for i, name in enumerate(index.names)]
            free = [name if name not in frame.columns else f"{name} " for name in labels]
            cells = {name: index.get_level_values(i).astype(str) for i, name in enumerate(free)}
            frame = pd.concat([pd.DataFrame(cells), frame.reset_index(drop=True)], axis=1)
        hidden, notes = self._said_below()
        title = getattr(self, "_title", "") or ""
        if title and not set(self._columns_titled).issuperset(self.columns):
            title = ""  # a summary or a transpose is no longer what the title says
        return Table(
            frame, title, notes, hidden=hidden, max_rows=rows, max_width=_terminal_width(), trim=True,
            all_rows='pd.set_option("display.max_rows", None)',
        )  # fmt: skip

    def _said_below(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Columns that are not shown, and lines that say what they have."""
        hidden, notes = [], []
        for name in self.columns:
            values = list(self[name].unique()) if name in ("status", *SAID_ONCE) else []
            if name == "status" and values == [UNREMARKABLE]:
                hidden.append(name)
            elif len(values) == 1 and len(self) > 1:
                hidden.append(name)
                notes.append(f"{name}: {values[0]}")
        return tuple(map(str, hidden)), tuple(notes)

    def _is_plain(self) -> bool:
        """Whether it can be shown as a table; other frames print as pandas prints them."""
        names = set(map(str, self.columns))
        return self.columns.nlevels == 1 and len(names) == len(self.columns) and self.size > 0

    def __str__(self) -> str:
        return self._table().to_text() if self._is_plain() else repr(pd.DataFrame(self))

    def __repr__(self) -> str:
        if not self._is_plain():
            return repr(pd.DataFrame(self))
        rows, columns = len(self.index), len(self.columns)
        return f"{self}\n[DataFrame of {rows:,} rows x {columns} columns, not rounded inside]"

    def _repr_html_(self) -> str | None:
        if not self._is_plain():
            return pd.DataFrame(self)._repr_html_()  # type: ignore[operator]
        return self._table().to_html()


def _terminal_width() -> int | None:
    """Columns of the terminal; None where text goes to a file, a pipe or a notebook."""
    stream = sys.stdout
    if stream is None or not stream.isatty():
        return None
    return shutil.get_terminal_size().columns


def titled(title: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Give the frames that a method returns, also in a dict, a title and the manner of the other tables.

    Parameters
    ----------
    title : str
        May name arguments of the method: ``"Analysis of variance, type {type}"``; in a dict, ``{key}``.
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        signature = inspect.signature(function)

        @functools.wraps(function)
        def framed(*args: P.args, **kwargs: P.kwargs) -> R:
            found: Any = function(*args, **kwargs)
            if not isinstance(found, (pd.DataFrame, dict)):
                return found
            words = {}
            if "{" in title:
                given = signature.bind(*args, **kwargs)
                given.apply_defaults()
                words = {name: value for name, value in given.arguments.items() if name != "self"}
            if isinstance(found, dict):
                own: Any = {
                    key: FigureFrame.of(frame, title.format(**words, key=key)) for key, frame in found.items()
                }
                return own
            framed_table: Any = FigureFrame.of(found, title.format(**words))
            return framed_table

        return framed

    return decorate
