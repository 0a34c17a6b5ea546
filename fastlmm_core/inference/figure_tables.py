"""A table of figures with a title and notes, as it is printed and as a data frame."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from fastlmm_core.display.displayed import Displayed
from fastlmm_core.display.rendering import Table

ROWS_SHOWN = 200


@dataclass(frozen=True, eq=False, repr=False)
class FigureTable(Displayed):
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

    def _shown(self) -> Table:
        return Table(
            self.frame,
            title=self.title,
            notes=self.notes,
            by=self.by,
            hidden=self.hidden,
            max_rows=ROWS_SHOWN,
        )
