"""A table of figures with a title and notes, as it is printed and as a data frame."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pandas as pd

ROWS_SHOWN = 200


@dataclass(frozen=True, eq=False, repr=False)
class FigureTable:
    """Figures that nothing further is computed from.

    Attributes
    ----------
    frame : DataFrame
        Unrounded.
    title : str
    notes : tuple of str
    by : tuple of str
        Columns that split the printed table.
    hidden : tuple of str
        Columns that are not printed.
    """

    frame: pd.DataFrame
    title: str
    notes: tuple[str, ...] = ()
    by: tuple[str, ...] = ()
    hidden: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.frame)

    def to_frame(self) -> pd.DataFrame:
        """The unrounded figures."""
        return self.frame.copy()

    def _table(self) -> Any:
        from fastlmm_core.results.rendering import Table

        return Table(
            self.frame,
            title=self.title,
            notes=self.notes,
            by=self.by,
            hidden=self.hidden,
            max_rows=ROWS_SHOWN,
        )

    def __str__(self) -> str:
        return str(self._table())

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return str(self._table().to_html())
