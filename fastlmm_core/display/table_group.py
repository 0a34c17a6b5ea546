"""Several tables under one heading, as text and as HTML."""

from __future__ import annotations

import html
from dataclasses import dataclass

from fastlmm_core.display.displayed import Displayed
from fastlmm_core.display.rendering import Table


@dataclass(frozen=True, repr=False)
class TableGroup(Displayed):
    """What a report prints.

    Attributes
    ----------
    heading : str
    tables : tuple of Table
    notes : tuple of str
        Sentences below them.
    """

    heading: str
    tables: tuple[Table, ...]
    notes: tuple[str, ...] = ()

    def _shown(self) -> TableGroup:
        return self

    def __str__(self) -> str:
        parts = [self.heading, *map(str, self.tables), "\n".join(self.notes)]
        return "\n\n".join(part for part in parts if part)

    def _repr_html_(self) -> str:
        parts = [f"<p><b>{html.escape(self.heading)}</b></p>", *(table.to_html() for table in self.tables)]
        parts += [f"<p>{html.escape(note)}</p>" for note in self.notes]
        return "\n".join(["<div>", *parts, "</div>"])
