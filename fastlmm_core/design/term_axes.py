"""The levels of a random term: factors as they come, positions in a line, levels of a relationship."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastlmm_core.design.grouping import (
    Axis,
    combine_factors,
    group_text,
    relationship_codes,
    trim_range,
    used_levels,
)
from fastlmm_core.design.values.variables import Raw
from fastlmm_core.errors import OptionError, nearest_names
from fastlmm_core.formula.expressions import Node, deparse, label_of
from fastlmm_core.formula.structured_parts import GroupFactor
from fastlmm_core.limits import DEFAULT, Limits


@dataclass(frozen=True)
class TermData:
    """What random terms are built from.

    Attributes
    ----------
    raw, groups : dict of str to Raw
        Variables of the linear parts, and of the groupings by `group_text`.
    rows : (n,) int64 or None
        Rows used, None for all.
    n : int
        Number of rows used.
    contrasts : dict or None
    relationships : dict of str to Relationship
    limits : Limits
    """

    raw: dict[str, Raw]
    groups: dict[str, Raw]
    rows: np.ndarray | None
    n: int
    contrasts: Any
    relationships: Mapping[str, Any]
    limits: Limits = DEFAULT

    def on(self, part: np.ndarray | None) -> np.ndarray | None:
        """Rows of the table that a subset of the rows used are."""
        return self.rows if part is None else (part if self.rows is None else self.rows[part])


def read_axes(
    grouping: list[tuple[GroupFactor, Node | None]],
    column: Node | None,
    data: TermData,
    rows: np.ndarray | None,
) -> tuple[tuple[Axis, ...], np.ndarray]:
    """Axes of the levels, and the level of every row; adjacent independent factors are one axis."""
    axes: list[Axis] = []
    cell: np.ndarray | None = None
    i = 0
    while i < len(grouping):
        kind, node = grouping[i]
        j = i + 1
        if kind.kind == "id":
            while j < len(grouping) and grouping[j][0].kind == "id":
                j += 1
            nodes = tuple(own for _, own in grouping[i:j] if own is not None)
            axis, codes = _independent(nodes, data, rows)
        elif kind.kind == "ar1":
            assert node is not None
            axis, codes = _positions(node, data, rows)
        else:
            axis, codes = _related(kind, node, column, data, rows)
        axes.append(axis)
        cell = codes if cell is None else cell.astype(np.int64) * axis.levels.size + codes
        i = j
    assert cell is not None
    return tuple(axes), cell


def _independent(nodes: tuple[Node, ...], data: TermData, rows: np.ndarray | None) -> tuple[Axis, np.ndarray]:
    used = [used_levels(data.groups[deparse(node)], rows) for node in nodes]
    codes, labels, cells = combine_factors([c for c, _ in used], [levels for _, levels in used])
    name = label_of(":".join(deparse(node) for node in nodes))
    return Axis("id", name, nodes, tuple(levels for _, levels in used), cells, labels), codes


def _positions(node: Node, data: TermData, rows: np.ndarray | None) -> tuple[Axis, np.ndarray]:
    raw = data.groups[group_text(node, positions=True)]
    assert raw.levels is not None
    codes, levels = trim_range(raw.on_rows(rows), raw.levels)
    values = np.array(levels, dtype=object)
    return Axis("ar1", label_of(deparse(node)), (node,), (levels,), None, values), codes


def _related(
    kind: GroupFactor, node: Node | None, column: Node | None, data: TermData, rows: np.ndarray | None
) -> tuple[Axis, np.ndarray]:
    name = str(kind.relationship)
    relationship = find_relationship(name, data.relationships)
    source = node if node is not None else column
    assert source is not None
    text = deparse(source)
    codes = relationship_codes(data.groups[text], text, relationship, rows)
    levels = tuple(relationship.levels)
    nodes = () if node is None else (node,)
    axis = Axis("vm", kind.text, nodes, (levels,), None, np.array(levels, dtype=object), relationship)
    return axis, codes


def find_relationship(name: str, relationships: Mapping[str, Any]) -> Any:
    """A relationship by its name in the formula.

    Raises
    ------
    OptionError
        When there is none of that name.
    """
    if name not in relationships:
        known = nearest_names(name, relationships) if relationships else ""
        raise OptionError(f"relationship '{name}' is not given{known}; give relationships={{'{name}': ...}}")
    return relationships[name]
