"""``at(site)``: terms with parameters of their own for every level of a factor, or of several joined.

``at(site, S1, S3)`` has those of these levels alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from fastlmm_core.design.grouping import codes_among, combine_factors, combined_labels, used_levels
from fastlmm_core.design.values.bases import State
from fastlmm_core.design.values.columns import Column
from fastlmm_core.design.values.evaluation import evaluate_factor
from fastlmm_core.design.values.table import Table
from fastlmm_core.design.values.variables import Raw
from fastlmm_core.errors import DataError, name_list, nearest_names
from fastlmm_core.formula.expressions import Node, deparse, label_of

AtFactors = tuple[tuple[Node, tuple[str, ...]], ...]  # factors of at() with their levels


def split_at_levels(
    nodes: Sequence[Node], chosen: Sequence[tuple[str, ...]], groups: Mapping[str, Raw],
    rows: np.ndarray | None,
) -> tuple[AtFactors, Iterator[tuple[str, np.ndarray]]]:  # fmt: skip
    """The factors, and (label, its rows among those used) of every combination that occurs and is asked for.

    Parameters
    ----------
    nodes : factors of ``at()``
    chosen : by factor the levels that are asked for, none for all
    groups : dict of str to Raw
        Groupings on all rows, by their text.
    rows : (n,) int64 or None
        Rows used.

    Raises
    ------
    DataError
        For levels that are asked for and do not occur.
    """
    used = [used_levels(groups[deparse(node)], rows) for node in nodes]
    factors = tuple((node, levels) for node, (_, levels) in zip(nodes, used, strict=True))
    codes, labels, cells = combine_factors([own for own, _ in used], [levels for _, levels in used])
    wanted = np.ones(labels.size, bool)
    for (node, levels), asked in reversed(list(zip(factors, chosen, strict=True))):
        own, cells = cells % len(levels), cells // len(levels)
        if asked:
            _check_levels(label_of(deparse(node)), asked, levels)
            wanted &= np.isin(own, [levels.index(level) for level in asked])
    return factors, ((str(labels[e]), np.flatnonzero(codes == e)) for e in np.flatnonzero(wanted))


def _check_levels(name: str, asked: tuple[str, ...], levels: tuple[str, ...]) -> None:
    for level in asked:
        if level not in levels:
            raise DataError(f"at({name}, {level}): '{name}' has no level '{level}' in the rows used"
                            f"{nearest_names(level, levels)}")  # fmt: skip


def outside_at(factors: AtFactors, at: str, table: Table, states: Mapping[str, State]) -> np.ndarray:
    """(k,) bool: rows of a table that are not of the level `at`; raises as `at_labels`."""
    return np.asarray(at_labels(factors, table, states) != at)


def at_labels(factors: AtFactors, table: Table, states: Mapping[str, State]) -> np.ndarray:
    """(k,) levels of ``at()`` of the rows of a table, as terms name theirs.

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
    return combined_labels(cell, [levels for _, levels in factors])


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
