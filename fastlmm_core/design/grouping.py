"""Levels of grouping factors: which there are, and which of them every row of a table has."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastlmm_core.design.values.bases import State
from fastlmm_core.design.values.columns import Column
from fastlmm_core.design.values.evaluation import evaluate_factor
from fastlmm_core.design.values.labels import drop_unused
from fastlmm_core.design.values.table import Table
from fastlmm_core.design.values.variables import Raw
from fastlmm_core.errors import DataError, DesignError, name_list
from fastlmm_core.formula.expressions import Name, Node, deparse
from fastlmm_core.formula.structured_parts import UNITS
from fastlmm_core.reading.spelling import shown_label, spelled_otherwise
from fastlmm_core.structures.levels.relation import LevelFactor

# Levels of one term: above, memory would end before the first equation.
MAX_LEVELS = 20_000_000


@dataclass(frozen=True)
class Axis:
    """One factor of the levels of a term, or several independent ones joined.

    Attributes
    ----------
    kind : str
        ``"id"``, ``"ar1"`` or ``"vm"``.
    name : str
    nodes : tuple of Node
        Expressions of the factors, the slowest varying first; empty for ``vm(A)``, whose columns stand left
        of the bar.
    member_levels : tuple of tuple of str
        Levels of each of them.
    cells : (L,) int64 or None
        Combined codes that are levels, increasing; None when all are.
    levels : (L,) ndarray of str
    relationship : Relationship or None
    """

    kind: str
    name: str
    nodes: tuple[Node, ...]
    member_levels: tuple[tuple[str, ...], ...]
    cells: np.ndarray | None
    levels: np.ndarray
    relationship: Any = None

    def level_factor(self) -> LevelFactor:
        """The axis as the engine takes it."""
        return LevelFactor(self.kind, self.name, tuple(self.levels.tolist()), self.relationship)

    def codes(self, table: Table, nodes: Sequence[Node], states: Mapping[str, State]) -> np.ndarray:
        """(k,) int64 level of every row of a table, -1 where it is missing or none of them.

        `states` is what the expressions remember of the data of the fit, by their text.
        """
        cell = np.zeros(table.n, dtype=np.int64)
        known = np.ones(table.n, dtype=bool)
        for node, levels in zip(nodes, self.member_levels, strict=True):
            codes = codes_among(evaluate_factor(node, table, states[deparse(node)]), levels)
            known &= codes >= 0
            cell = cell * len(levels) + codes
        if self.cells is not None:
            at = np.minimum(np.searchsorted(self.cells, cell), self.cells.size - 1)
            known &= self.cells[at] == cell
            cell = at
        return np.where(known, cell, -1)


def codes_among(column: Column, levels: Sequence[str]) -> np.ndarray:
    """(k,) int64 codes of a factor's values among other levels; -1 where missing or not among them."""
    assert column.levels is not None
    place = {level: i for i, level in enumerate(levels)}
    return np.array([*(place.get(level, -1) for level in column.levels), -1], dtype=np.int64)[column.values]


def is_units(node: Node, names: object) -> bool:
    """Whether a factor stands for the rows themselves: ``units`` where no column has that name."""
    return isinstance(node, Name) and node.name == UNITS and UNITS not in names  # type: ignore[operator]


def read_group(node: Node, table: Table, positions: bool) -> Raw:
    """A grouping variable on all rows of a table.

    Parameters
    ----------
    node : Node
    table : Table
    positions : bool
        The levels are positions in a line (``ar1``): all declared ones of a factor, all whole numbers of the
        range of a numeric column.

    Raises
    ------
    DataError
        For positions that are not whole numbers.
    """
    if is_units(node, table.names):
        return Raw(np.arange(table.n, dtype=np.int32), tuple(map(str, range(table.n))), {})
    if positions and isinstance(node, Name) and not table.column(node.name).is_factor:
        return whole_numbers(table.column(node.name))
    state: State = {}
    column = evaluate_factor(node, table, state)
    raw = Raw(column.values, column.levels, state, column.ordered, column.alphabetical)
    return raw.by_distance() if positions else raw


def whole_numbers(column: Column) -> Raw:
    """A numeric column as positions: a level for every whole number from the smallest to the largest.

    Raises
    ------
    DataError
        When a value is not whole, or the range is out of all proportion.
    """
    x = column.values
    given = ~np.isnan(x)
    broken = given & (x != np.round(x))
    if broken.any():
        raise DataError(f"positions in ar1({column.name}) must be whole numbers, but {int(broken.sum())} "
                        f"are not, such as {x[np.argmax(broken)]:g}; number the positions 1, 2, 3, "
                        "...")  # fmt: skip
    if not given.any():
        return Raw(np.full(x.size, -1, dtype=np.int32), (), {})
    low, high = x[given].min(), x[given].max()
    if high - low + 1 > 100_000 + 100 * np.unique(x[given]).size:
        raise DataError(f"positions in ar1({column.name}) run from {low:.0f} to {high:.0f}, of which only "
                        f"{np.unique(x[given]).size} occur; number them 1, 2, 3, ... with gaps as wide as "
                        "those in the field")  # fmt: skip
    codes = np.where(given, x - low, -1).astype(np.int32)
    levels = tuple(str(int(low) + i) for i in range(int(high - low) + 1))
    return Raw(codes, levels, {"positions": {"first": low}})


def trim_range(codes: np.ndarray, levels: tuple[str, ...]) -> tuple[np.ndarray, tuple[str, ...]]:
    """Positions from the first to the last that occurs, those between them kept; -1 stays."""
    used = codes[codes >= 0]
    if not used.size:
        return codes, ()
    low, high = int(used.min()), int(used.max())
    return np.where(codes >= 0, codes - low, -1).astype(np.int32), levels[low : high + 1]


def relationship_codes(raw: Raw, text: str, relationship: Any, rows: np.ndarray | None) -> np.ndarray:
    """(n,) int64 codes of the rows used among the levels of a relationship.

    Raises
    ------
    DataError
        When levels of the data are not among them.
    """
    assert raw.levels is not None
    codes = codes_among(Column(text, raw.on_rows(rows), raw.levels), relationship.levels)
    absent = codes < 0
    if absent.any():
        found = np.unique(raw.on_rows(rows)[absent])
        names = [raw.levels[c] for c in found if c >= 0]
        hint = _spelled_otherwise(names, relationship.levels) or relationship.misread(names)
        raise DataError(f"{len(names)} levels of '{text}' are not in the relationship '{relationship.name}': "
                        f"{name_list(names)}; it needs all levels of the data{relationship.elsewhere}"
                        f"{hint}")  # fmt: skip
    return codes


def _spelled_otherwise(names: Sequence[str], known: Sequence[str]) -> str:
    """Labels of a relationship that are those of the data but for blanks and capitals."""
    pairs = spelled_otherwise(names, map(str, known))
    if not pairs:
        return ""
    own, other = pairs[0]
    both = f"{shown_label(other)} for {shown_label(own)}"
    return f"; {len(pairs)} of them it has in another spelling, {both}: blanks and capitals count"


def combine_factors(
    codes: list[np.ndarray], levels: list[tuple[str, ...]]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(codes, labels, cells) of the combinations that occur, the first factor varying slowest.

    Parameters
    ----------
    codes : list of (n,) int32
    levels : list of tuple of str

    Returns
    -------
    codes : (n,) int32
    labels : (L,) ndarray of str
    cells : (L,) int64
    """
    if len(codes) == 1:
        labels = np.array(levels[0], dtype=object)
        return codes[0], labels, np.arange(labels.size, dtype=np.int64)
    if math.prod(len(names) for names in levels) >= 2**62:
        raise DesignError(
            f"the {len(levels)} factors of a group have too many combinations; make one column of them"
        )
    cell = codes[0].astype(np.int64)
    for own, names in zip(codes[1:], levels[1:], strict=True):
        cell = cell * len(names) + own
    cells, inverse = occurring_cells(cell, int(np.prod([len(names) for names in levels], dtype=object)))
    return inverse.astype(np.int32), combined_labels(cells, levels), cells


def combined_labels(cells: np.ndarray, levels: Sequence[Sequence[str]], separator: str = ":") -> np.ndarray:
    """(L,) labels ``"a:b"`` of combined codes over several factors, the first varying slowest."""
    rest, parts = cells, []
    for names in reversed(levels):
        parts.append(np.array(names, dtype=object)[rest % len(names)])
        rest = rest // len(names)
    labels = parts.pop()
    while parts:
        labels = labels + separator + parts.pop()
    return labels


def product_labels(axes: Sequence[Axis], group: str) -> np.ndarray:
    """(L,) labels of the full product of several axes, the first varying slowest.

    Raises
    ------
    DesignError
        When the product would have millions of levels.
    """
    size = 1
    for axis in axes:
        size *= axis.levels.size
    if size > MAX_LEVELS:
        sizes = " x ".join(f"{axis.levels.size} of '{axis.name}'" for axis in axes)
        raise DesignError(f"the term over '{group}' would have {size} levels ({sizes}); at most {MAX_LEVELS}")
    return combined_labels(np.arange(size), [axis.levels.tolist() for axis in axes])


def occurring_cells(cell: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """`np.unique` with inverse of (n,) integers below `size`, by counting when that is cheap."""
    if size > 8 * cell.size + 1000:
        return np.unique(cell, return_inverse=True)
    seen = np.bincount(cell, minlength=size) > 0
    return np.flatnonzero(seen), (np.cumsum(seen) - 1)[cell]


def used_levels(raw: Raw, rows: np.ndarray | None) -> tuple[np.ndarray, tuple[str, ...]]:
    """Codes and levels of a factor that occur on the rows used."""
    assert raw.levels is not None
    return drop_unused(raw.on_rows(rows), raw.levels)


def group_text(node: Node, positions: bool) -> str:
    """Key of a grouping variable among those read; positions are read in a way of their own."""
    return f"ar1({deparse(node)})" if positions else deparse(node)
