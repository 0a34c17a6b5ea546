"""Variables of a formula: read from a table, and coded as a fit codes them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from fastlmm_core.design.coding.contrasts import Contrast, contrast_of, contrast_of_call, polynomial
from fastlmm_core.design.values.bases import State
from fastlmm_core.design.values.columns import Column
from fastlmm_core.design.values.evaluation import Logical, as_column, evaluate, evaluate_factor
from fastlmm_core.design.values.labels import drop_unused, order_by_numbers
from fastlmm_core.design.values.numeric_values import Numbers, evaluate_numbers, numbers_of
from fastlmm_core.design.values.table import Table
from fastlmm_core.errors import DataError, DesignError, name_list
from fastlmm_core.formula.expressions import Call, Name, Node, deparse, label_of
from fastlmm_core.formula.functions import is_factor_call, names_read


@dataclass(frozen=True)
class Atom:
    """One variable of a formula, as coded for a fit: a column, ``C(x)``, ``log(x)``, ``poly(x, 2)``.

    Attributes
    ----------
    text : str
        As R prints it.
    node : Node
    levels : tuple of str or None
        Levels that occur, None for a numeric variable.
    contrast : Contrast or None
    suffixes : tuple of str
        (k,) Appended to `text` for the k columns of a numeric variable.
    state : dict
        What stateful functions remember of the data of the fit.
    """

    text: str
    node: Node
    levels: tuple[str, ...] | None
    contrast: Contrast | None
    suffixes: tuple[str, ...]
    state: State

    @property
    def is_factor(self) -> bool:
        return self.levels is not None

    @property
    def columns_read(self) -> tuple[str, ...]:
        """Names of the table's columns the variable reads."""
        return names_read((self.node,))

    def names(self, full: bool) -> list[str]:
        """Column names; for a factor by all levels (`full`) or by contrasts."""
        if self.levels is None:
            return [label_of(self.text) + suffix for suffix in self.suffixes]
        assert self.contrast is not None
        return [label_of(self.text) + suffix for suffix in (self.levels if full else self.contrast.suffixes)]

    def width(self, full: bool) -> int:
        if self.levels is None:
            return len(self.suffixes)
        assert self.contrast is not None
        return len(self.levels) if full else len(self.contrast.suffixes)

    def read(self, table: Table) -> np.ndarray:
        """Values on any table: (n,) int32 codes (-1 missing) or (n, k) float64.

        Raises
        ------
        DataError
            When a level did not occur in the data of the fit.
        """
        if self.levels is None:
            return evaluate_numbers(self.node, table, self.state).on_rows(None)
        column = evaluate_factor(self.node, table, self.state)
        assert column.levels is not None
        if column.levels == self.levels:
            return column.values
        known = {level: i for i, level in enumerate(self.levels)}
        place = np.array([*(known.get(level, -2) for level in column.levels), -1], dtype=np.int32)
        codes = place[column.values]
        if (codes == -2).any():
            unknown = [column.levels[c] for c in np.unique(column.values[codes == -2])]
            raise DataError(
                f"'{self.text}' has the levels {name_list(unknown)}, which did not occur in the data of "
                f"the fit; "
                f"known: {name_list(self.levels)}"
            )
        return codes


@dataclass(frozen=True)
class Raw:
    """A variable on all N rows of the table, before rows with missing values are dropped.

    Attributes
    ----------
    values : Numbers or (N,) int32
        Numbers, or codes of a factor with -1 for missing.
    levels : tuple of str or None
        None for numbers.
    state : dict
        What stateful functions remember of the data.
    ordered : bool
        Whether it is an ordered factor, coded by polynomials unless something else is asked for.
    alphabetical : bool
        Whether its levels are text of which nobody gave the order.
    """

    values: Numbers | np.ndarray
    levels: tuple[str, ...] | None
    state: State
    ordered: bool = False
    alphabetical: bool = False

    def missing(self) -> np.ndarray:
        """(N,) bool."""
        return self.values.missing() if isinstance(self.values, Numbers) else self.values < 0

    def on_rows(self, rows: np.ndarray | None) -> np.ndarray:
        """(n,) codes or (n, k) numbers of the rows used (None: all of them); see `Numbers.on_rows`."""
        if isinstance(self.values, Numbers):
            return self.values.on_rows(rows)
        return self.values if rows is None else self.values[rows]

    def by_distance(self) -> Raw:
        """The factor where the distance of its levels counts: R2 before R10 unless an order was given."""
        if self.levels is None or isinstance(self.values, Numbers):
            return self
        order = order_by_numbers(self.levels)
        if not self.alphabetical or order == list(range(len(order))):
            return self
        place = np.empty(len(order) + 1, dtype=np.int32)
        place[order] = np.arange(len(order), dtype=np.int32)
        place[-1] = -1
        return replace(self, values=place[self.values], levels=tuple(self.levels[i] for i in order))

    @property
    def keeps_alphabet(self) -> bool:
        """Whether the order given is R10, R2, as pandas and R make it of text by themselves."""
        if self.levels is None or self.alphabetical or self.ordered:
            return False
        if list(self.levels) != sorted(self.levels):
            return False
        return order_by_numbers(self.levels) != list(range(len(self.levels)))


def read_raw(node: Node, table: Table) -> Raw:
    """Evaluate one variable: codes and levels for a factor, numbers otherwise."""
    state: State = {}
    if isinstance(node, Name):
        column = table.column(node.name)
        if column.days is not None:
            raise DataError(f"column '{node.name}' holds dates; write as.numeric({deparse(node)}) for days "
                            f"or factor({deparse(node)}) for levels")  # fmt: skip
        if not column.is_factor:
            return Raw(evaluate_numbers(node, table, state), None, state)
        return Raw(column.values, column.levels, state, column.ordered, column.alphabetical)
    value = evaluate(node, table, state)
    if is_factor_call(node) or isinstance(value, (Column, Logical, str)):
        column = as_column(value, node, table.n)
        return Raw(column.values, column.levels, state, column.ordered, column.alphabetical)
    return Raw(numbers_of(value, node, table), None, state)


def make_atom(
    text: str, node: Node, raw: Raw, rows: np.ndarray | None, contrasts: Any
) -> tuple[Atom, np.ndarray]:
    """(Atom, values on the rows used); levels that do not occur there are dropped.

    Raises
    ------
    DataError
        Where numbers are infinite or not defined.
    DesignError
        For a factor with one level only.
    """
    values = raw.on_rows(rows)
    if raw.levels is None:
        k = values.shape[1]
        suffixes = ("",) if k == 1 and not _numbered(node) else tuple(str(i + 1) for i in range(k))
        return Atom(text, node, None, None, suffixes, raw.state), values
    codes, levels = drop_unused(values, raw.levels)
    if len(levels) < 2:
        raise DesignError(f"factor '{text}' has only the level {name_list(levels)} in the {codes.size} "
                          f"rows used; "
                          "leave it out of the fixed part")  # fmt: skip
    given = None if not contrasts else contrasts.get(text, contrasts.get(label_of(text)))
    if given is None and raw.ordered:
        given = polynomial(levels)
    contrast = (
        contrast_of_call(node, levels, given) if is_factor_call(node) else contrast_of(given, levels, text)
    )
    return Atom(text, node, levels, contrast, (), raw.state), codes


def _numbered(node: Node) -> bool:
    return isinstance(node, Call) and node.function in ("poly", "bs", "ns", "cr", "cc")
