"""The offset of a model: terms of the formula, which any table can evaluate, and values given beside it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from fastlmm_core.design.inputs import numbers_for_rows
from fastlmm_core.design.values.bases import State
from fastlmm_core.design.values.numeric_values import Numbers, evaluate_numbers
from fastlmm_core.design.values.table import Table
from fastlmm_core.errors import DataError
from fastlmm_core.formula.expressions import Node, deparse
from fastlmm_core.formula.functions import names_read
from fastlmm_core.formula.parts import ParsedFormula


@dataclass(frozen=True)
class Offset:
    """What is added to the linear predictor with coefficient 1.

    Attributes
    ----------
    terms : tuple of Node
        Arguments of ``offset(...)`` in the formula.
    states : tuple of dict
        What they remember of the data of the fit.
    parts : tuple of Numbers
        Values of the option ``offset=``, if any, and of the terms, on all N rows of the table of the fit.
    given : bool
        Whether the first of `parts` is the option's, which other tables do not have.
    """

    terms: tuple[Node, ...]
    states: tuple[State, ...]
    parts: tuple[Numbers, ...]
    given: bool

    @property
    def columns_read(self) -> tuple[str, ...]:
        """Columns of the table that the terms of the formula read."""
        return names_read(self.terms)

    def total(self, rows: np.ndarray | None) -> np.ndarray | None:
        """(n,) sum on the rows used; None without any."""
        values = [part.on_rows(rows)[:, 0] for part in self.parts]
        return np.sum(values, axis=0) if values else None

    def given_mean(self, rows: np.ndarray | None) -> float:
        """Mean over the rows used of the values given beside the formula."""
        return float(np.mean(self.parts[0].on_rows(rows)[:, 0])) if self.given else 0.0

    def on_table(self, table: Table) -> np.ndarray:
        """(m,) sum of the terms of the formula on another table."""
        total = np.zeros(table.n)
        for node, state in zip(self.terms, self.states, strict=True):
            total += evaluate_numbers(node, table, state).on_rows(None)[:, 0]
        return total


def read_offset(parsed: ParsedFormula, table: Table, option: Any) -> Offset:
    """The offset of the option and those of the formula on all rows, one column each.

    Raises
    ------
    DataError
        When one of them is not one column of numbers.
    """
    parts, states = [], []
    if option is not None:
        values = numbers_for_rows(option, table, "offset")
        infinite = np.isinf(values)
        parts.append(Numbers("offset", values[:, None], infinite if infinite.any() else None, {}))
    for node in parsed.offsets:
        state: State = {}
        try:
            numbers = evaluate_numbers(node, table, state)
        except DataError as error:
            raise DataError(f"offset({deparse(node)}) must be numeric: {error}") from None
        if numbers.values.shape[1] != 1:
            raise DataError(f"offset({deparse(node)}) must be one column of numbers, not "
                            f"{numbers.values.shape[1]}")  # fmt: skip
        parts.append(numbers)
        states.append(state)
    return Offset(parsed.offsets, tuple(states), tuple(parts), option is not None)
