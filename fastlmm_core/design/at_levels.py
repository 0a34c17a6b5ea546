"""``at(site)``: terms with parameters of their own for every level of a factor, or of several joined."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from fastlmm_core.design.grouping import codes_among, combine_factors, combined_labels, used_levels
from fastlmm_core.design.values.bases import State
from fastlmm_core.design.values.columns import Column
from fastlmm_core.design.values.evaluation import evaluate_factor
from fastlmm_core.design.values.table import Table
from fastlmm_core.design.values.variables import Raw
from fastlmm_core.errors import DataError, name_list
from fastlmm_core.formula.expressions import Node, deparse

AtFactors = tuple[tuple[Node, tuple[str, ...]], ...]  # factors of at() with their levels


def split_at_levels(
    nodes: Sequence[Node], groups: Mapping[str, Raw], rows: np.ndarray | None
) -> tuple[AtFactors, Iterator[tuple[str, np.ndarray]]]:
    """The factors, and (label, its rows among those used) of every combination that occurs.

    Parameters
    ----------
    nodes : factors of ``at()``
    groups : dict of str to Raw
        Groupings on all rows, by their text.
    rows : (n,) int64 or None
        Rows used.
    """
    used = [used_levels(groups[deparse(node)], rows) for node in nodes]
    factors = tuple((node, levels) for node, (_, levels) in zip(nodes, used, strict=True))
    codes, labels, _ = combine_factors([own for own, _ in used], [levels for _, levels in used])
    return factors, ((str(label), np.flatnonzero(codes == e)) for e, label in enumerate(labels))


def outside_at(factors: AtFactors, at: str, table: Table, states: Mapping[str, State]) -> np.ndarray:
    """(k,) bool: rows of a table that are not of the level `at`.

    Raises
    ------
    DataError
        For levels that are missing or did not occur in the fit: their parameters are not known.
    """
    cell = np.zeros(table.n, dtype=np.int64)
    for node, levels in factors:
        column = evaluate_factor(node, table, states[deparse(node)])
        codes = codes_among(column, levels)
        if (codes < 0).any():
            raise DataError(_without_parameters(node, column, codes < 0, levels))
        cell = cell * len(levels) + codes
    return np.asarray(combined_labels(cell, [levels for _, levels in factors]) != at)


def _without_parameters(node: Node, column: Column, unknown: np.ndarray, levels: tuple[str, ...]) -> str:
    """Message for rows (k,) bool whose level of at() is missing or not among those of the fit."""
    name, codes = deparse(node), column.values[unknown].astype(np.int64)
    labels = dict.fromkeys(str((column.levels or ())[code]) for code in codes if code >= 0)
    said = f"the levels {name_list(labels)}" if labels else "no value"
    return (f"new data: '{name}' has {said}, for which at({name}) has no parameters; "
            f"known: {name_list(levels)}")  # fmt: skip


def at_text(names: Sequence[str], at: str) -> str:
    """The level in the call: ``"at(site, S1)"``."""
    return f"at({':'.join(names)}, {at})"
