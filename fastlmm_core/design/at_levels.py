"""``at(site)``: terms with parameters of their own for every level of a factor, or of several joined."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from fastlmm_core.design.bases import State
from fastlmm_core.design.evaluation import evaluate_factor
from fastlmm_core.design.expressions import Node, deparse
from fastlmm_core.design.grouping import codes_among, combine_factors, combined_labels, used_levels
from fastlmm_core.design.table import Table
from fastlmm_core.design.variables import Raw

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
    """(k,) bool: rows of a table that are not of the level `at`, those of unknown or missing levels too."""
    outside = np.zeros(table.n, dtype=bool)
    cell = np.zeros(table.n, dtype=np.int64)
    for node, levels in factors:
        codes = codes_among(evaluate_factor(node, table, states[deparse(node)]), levels)
        outside |= codes < 0
        cell = cell * len(levels) + codes
    known = cell[~outside]
    outside[~outside] = combined_labels(known, [levels for _, levels in factors]) != at
    return outside


def at_text(names: Sequence[str], at: str) -> str:
    """The level in the call: ``"at(site, S1)"``."""
    return f"at({':'.join(names)}, {at})"
