"""Expressions whose values are numbers, with the rows where they have none told apart from missing data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from fastlmm_core.design.values.bases import State
from fastlmm_core.design.values.columns import NOWHERE
from fastlmm_core.design.values.evaluation import as_numbers, evaluate
from fastlmm_core.design.values.table import Table
from fastlmm_core.errors import DataError
from fastlmm_core.formula.expressions import (
    Constant,
    Name,
    Node,
    deparse,
    number_text,
)
from fastlmm_core.formula.functions import (
    columns_read,
    walk,
)
from fastlmm_core.reading.source import Places


@dataclass(frozen=True)
class Numbers:
    """A numeric expression on the N rows of a table.

    Attributes
    ----------
    text : str
        The expression as R prints it.
    values : (N, k) float64
        NaN in every row where a column the expression reads is missing.
    undefined : (N,) bool or None
        Rows where all those columns are given, and still the value is infinite or not a number; None when
        there are none.
    sources : dict of str to (N,) float64
        Numeric columns that are read, for messages.
    places : Places
        Names of the rows, for messages.
    """

    text: str
    values: np.ndarray
    undefined: np.ndarray | None
    sources: dict[str, np.ndarray]
    places: Places = NOWHERE

    def missing(self) -> np.ndarray:
        """(N,) bool: rows without a value because the data have none there."""
        missing = np.isnan(self.values).any(axis=1)
        return missing if self.undefined is None else missing & ~self.undefined

    def on_rows(self, rows: np.ndarray | None) -> np.ndarray:
        """(n, k) values of the rows used (None: all of them).

        Raises
        ------
        DataError
            Where the expression has no finite value in one of them.
        """
        if self.undefined is not None:
            used = self.undefined if rows is None else self.undefined[rows]
            if used.any():
                raise DataError(self._undefined(np.flatnonzero(used) if rows is None else rows[used]))
        return self.values if rows is None else self.values[rows]

    def _undefined(self, rows: np.ndarray) -> str:
        row = int(rows[0])
        own = self.values[row]
        what = "is not a number" if np.isnan(own).any() else "has infinite values"
        read = ", ".join(f"{name} = {number_text(float(x[row]))}" for name, x in self.sources.items())
        return (
            f"'{self.text}' {what} in {rows.size} of the rows used, the first in {self.places(row)}"
            f"{' for ' + read if read else ''}; correct such rows or leave them out"
        )


def evaluate_numbers(node: Node, table: Table, state: State) -> Numbers:
    """A numeric expression on all rows, with the rows where it has no value told apart from missing data.

    Raises
    ------
    DataError
        As `evaluate`, and when the expression is a factor.
    """
    return numbers_of(evaluate(node, table, state), node, table)


def numbers_of(value: Any, node: Node, table: Table) -> Numbers:
    """`evaluate_numbers` of an expression whose value is there already."""
    text = deparse(node)
    array = as_numbers(value, text)
    values = np.full(table.n, array) if array.ndim == 0 else array
    values = values[:, None] if values.ndim == 1 else values
    if isinstance(node, Name):
        return Numbers(text, values, None, {})
    undefined = ~np.isfinite(values).all(axis=1)
    if undefined.any():  # because a column is missing there, or because the function has no value?
        undefined &= ~(missing_sources(node, table) | missing_constants(node, values))
    if not undefined.any():
        return Numbers(text, values, None, {})
    read = {name.name: table.column(name.name) for name in columns_read(node)}
    sources = {name: column.values for name, column in read.items() if not column.is_factor}
    return Numbers(text, values, undefined, sources, table.places)


def missing_sources(node: Node, table: Table) -> np.ndarray:
    """(N,) bool: rows where a column the expression reads is missing."""
    missing = np.zeros(table.n, dtype=bool)
    for name in columns_read(node):
        missing |= table.column(name.name).missing()
    return missing


def missing_constants(node: Node, values: np.ndarray) -> np.ndarray:
    """(N,) bool: rows that the expression itself makes missing, as in ``ifelse(x > 9, NA, x)``."""
    written = any(isinstance(inner, Constant) and inner.name == "NA" for inner in walk(node))
    return np.isnan(values).any(axis=1) & written
