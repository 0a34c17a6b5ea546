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

    Examples
    --------
    >>> from fastlmm_core import datasets, lmm
    >>> fit = lmm("yield ~ rep + (1|gen) + (1|rep:block)", datasets.load("john_alpha"))
    >>> fit.genotype_values("gen").best(2)
    The 2 best of 24:
     gen  estimate      se  p_among   p_all
     G01    4.9807  0.1766   0.5875  0.2485
     G05    4.9545  0.1765   0.5176  0.2485
    Next: .to_frame()
    """

    frame: pd.DataFrame
    title: str
    notes: tuple[str, ...] = ()
    by: tuple[str, ...] = ()
    hidden: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.frame)

    def to_frame(self) -> pd.DataFrame:
        """The unrounded figures.

        Examples
        --------
        >>> from fastlmm_core import datasets, lmm
        >>> fit = lmm("yield ~ rep + (1|gen) + (1|rep:block)", datasets.load("john_alpha"))
        >>> fit.genotype_values("gen").best(2).to_frame()["gen"].tolist()
        ['G01', 'G05']
        """
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
