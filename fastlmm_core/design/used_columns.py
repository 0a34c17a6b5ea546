"""The columns of a table on the rows that a model uses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from fastlmm_core.design.values.columns import Column, as_factor
from fastlmm_core.design.values.labels import drop_unused


@dataclass(frozen=True)
class UsedColumns:
    """Columns of the table on the rows used, converted when asked for (numbers and codes only)."""

    columns: dict[str, Any]
    rows: np.ndarray | None
    index: Any

    def used(self, name: str, kind: str | None = None) -> tuple[np.ndarray, tuple[str, ...] | None]:
        """Values on the rows used, or codes and the levels that occur; `kind` as of `Variable`."""
        column = self.columns[name]
        if kind == "factor":
            column = as_factor(column)
        elif kind == "numeric" and column.days is not None:
            column = Column(name, np.append(column.days, np.nan)[column.values], None)
        values = column.values if self.rows is None else column.values[self.rows]
        if column.levels is None:
            return values, None
        return drop_unused(values, column.levels)
