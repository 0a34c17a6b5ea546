"""Where new rows stand among those of a residual: in the cells of a field, or at the visits of a subject.

An autoregression goes on beyond the positions of the fit: what is k steps from the last one has rho^k of its
correlations. Numbers have a place there, and levels that a factor of a field declares.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from fastlmm_core.design.grouping import group_text
from fastlmm_core.design.residual_building import read_residual
from fastlmm_core.design.values.table import Table
from fastlmm_core.errors import DataError, name_list, nearest_names
from fastlmm_core.formula.expressions import Node, deparse
from fastlmm_core.formula.residual import ParsedResidual, parse_residual
from fastlmm_core.structures.registry import find_coefficient_structure

if TYPE_CHECKING:
    from fastlmm_core.design.matrices import Design
    from fastlmm_core.design.values.variables import Raw
    from fastlmm_core.formula.residual import ResidualSpec

WHOLE = re.compile(r"-?\d+")


@dataclass(frozen=True)
class NewResidualRows:
    """New rows by what a residual knows of rows.

    Attributes
    ----------
    groups : (m,) int64
        Level of the factor right of ``|``; zeros where there is none.
    places : (m,) int64
        Nearest cell in the grid of that level, or visit; days of one autoregression go on below the first
        visit, 0, and beyond the last.
    subjects : (m,) int64
        Subject of the fit, -1 for others; empty for a field.
    beyond : (m, F) int64
        Steps from that cell along each factor of a field, 0 within it; (m, 0) for visits.
    """

    groups: np.ndarray
    places: np.ndarray
    subjects: np.ndarray
    beyond: np.ndarray


def new_residual_rows(design: Design, table: Table, new_subjects: bool) -> NewResidualRows:
    """Find the rows of `table` among those of the residual of a design.

    Parameters
    ----------
    new_subjects : bool
        Whether subjects may be others than those of the fit.

    Raises
    ------
    DataError
        For columns that are not there, missing values, and levels, visits, positions or subjects that the fit
        has not.
    """
    parsed = parse_residual(design.residual.text)
    for name in parsed.columns:
        if name not in table.names:
            raise DataError(f"new data: the column '{name}' of residual='{parsed.text}' is not there"
                            f"{nearest_names(name, table.names)}")  # fmt: skip
    used, spec = design.table, design.residual
    own_table = Table.of(used.columns, next(iter(used.columns.values())).values.size)
    old = read_residual(parsed, own_table)
    try:
        new = read_residual(parsed, table)
    except DataError as wrong:
        raise DataError(f"new data: {wrong}") from None
    groups = np.zeros(table.n, np.int64)
    if spec.by is not None:
        own = _labels(parsed.by, new)
        of_fit = dict(zip(_labels(parsed.by, old, used.rows), spec.by[2].tolist(), strict=True))
        groups = _places(own, of_fit, spec.by[0], "which did not occur in the fit")
    if spec.kind == "field":
        cells, beyond = _cells(design, parsed, old, new, groups)
        return NewResidualRows(groups, cells, np.empty(0, np.int64), beyond)
    visits = _visits(design.residual, parsed, old, new)
    together = (*parsed.by, *parsed.subject)
    assert spec.subject_codes is not None
    subjects = dict(zip(_labels(together, old, used.rows), spec.subject_codes.tolist(), strict=True))
    labels = _labels(together, new)
    own_subjects = np.array([subjects.get(label, -1) for label in labels], np.int64)
    if not new_subjects and (own_subjects < 0).any():
        absent = [label for label, code in zip(labels, own_subjects, strict=True) if code < 0]
        unknown = name_list(list(dict.fromkeys(":".join(label) for label in absent)))
        name = ":".join(map(deparse, together))
        raise DataError(f"new data: '{name}' has the levels {unknown}, of which the fit has no residuals; "
                        "allow_new_levels=True predicts the mean of such rows, with the variance of their "
                        "visit")  # fmt: skip
    return NewResidualRows(groups, visits, own_subjects, np.empty((groups.size, 0), np.int64))


def _labels(
    nodes: tuple[Node, ...], raw: dict[str, Raw], rows: np.ndarray | None = None, positions: bool = False
) -> list[tuple[str, ...]]:
    """Labels of these rows (all) along some factors.

    Raises
    ------
    DataError
        For rows without a value.
    """
    columns = []
    for node in nodes:
        own = raw[group_text(node, positions)]
        assert own.levels is not None
        codes = own.on_rows(rows).astype(np.int64)
        if (codes < 0).any():
            lost = int(np.argmax(codes < 0))
            raise DataError(f"new data: '{deparse(node)}' has no value in row {lost + 1}, which its residual "
                            "needs")  # fmt: skip
        columns.append(np.array(own.levels, object)[codes].tolist())
    return list(zip(*columns, strict=True))


def _places(
    labels: list[tuple[str, ...]], known: dict[tuple[str, ...], int], name: str, why: str
) -> np.ndarray:
    unknown = list(dict.fromkeys(":".join(label) for label in labels if label not in known))
    if unknown:
        raise DataError(f"new data: '{name}' has the levels {name_list(unknown)}, {why}; residual=False "
                        "predicts without residuals")  # fmt: skip
    return np.array([known[label] for label in labels], np.int64)


def _visits(
    spec: ResidualSpec, parsed: ParsedResidual, old: dict[str, Raw], new: dict[str, Raw]
) -> np.ndarray:
    """(m,) visits of the fit, of one autoregression also days before and after them.

    Raises
    ------
    DataError
        For other visits.
    """
    assert parsed.position is not None and spec.structure is not None
    node, positions, levels = parsed.position, parsed.by_distance, spec.positions
    labels, read = _labels((node,), new, positions=positions), old[group_text(node, positions)]
    known: dict[tuple[str, ...], int] = {(label,): at for at, label in enumerate(levels)}
    if not find_coefficient_structure(spec.structure).markov:
        why = f", and '{spec.structure}' has parameters of their own for others; ar1 goes on beyond its days"
    elif not read.state.get("positions"):
        why = ", and only numbers have a place beyond"
    elif len(levels) == 1:
        why = ", and a single one has no autocorrelation"
    else:
        known, why = _on_the_line(labels, levels, read), ""
    line = f"{levels[0]} to {levels[-1]}" if positions else name_list(levels, 4)
    return _places(labels, known, deparse(node), f"where the fit has no residuals: it knows {line}{why}")


def _on_the_line(
    labels: list[tuple[str, ...]], levels: tuple[str, ...], read: Raw
) -> dict[tuple[str, ...], int]:
    """Steps from the first of the positions `levels` of the fit, of all labels that have a place there."""
    numbers, declared = bool(read.state.get("positions")), read.levels or ()
    out = {}
    for own in set(labels):
        (label,) = own
        if numbers and WHOLE.fullmatch(label):
            out[own] = int(label) - int(levels[0])
        elif not numbers and label in declared:
            out[own] = declared.index(label) - declared.index(levels[0])
    return out


def _cells(
    design: Design, parsed: ParsedResidual, old: dict[str, Raw], new: dict[str, Raw], groups: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Nearest cells (m,) and the steps (m, F) from there."""
    spec = design.residual
    cells, beyond = np.zeros(groups.size, np.int64), np.zeros((groups.size, len(parsed.nodes)), np.int64)
    for f, (relation, node) in enumerate(zip(parsed.factors, parsed.nodes, strict=True)):
        in_line = relation.kind == "ar1"
        labels = _labels((node,), new, positions=in_line)
        for group in np.unique(groups):
            factor = spec.field_factors[group][f]
            mine = np.flatnonzero(groups == group)
            own = [labels[row] for row in mine]
            known: dict[tuple[str, ...], int] = {(label,): at for at, label in enumerate(factor.levels)}
            if not in_line:
                span, rest = name_list(factor.levels, 4), ", and others are independent of them"
            else:
                span = f"{factor.levels[0]} to {factor.levels[-1]}"
                rest = ", and a single position has no autocorrelation"
                if factor.size > 1:
                    known = _on_the_line(own, factor.levels, old[group_text(node, True)])
                    rest = ", and only numbers and declared levels have a place beyond"
            where = "" if spec.by is None else f" in '{spec.by[1][group]}'"
            why = f"outside of the field{where}, whose plots with a response have {span}{rest}"
            at = _places(own, known, factor.name, why)
            nearest = np.clip(at, 0, factor.size - 1)
            cells[mine] = cells[mine] * factor.size + nearest
            beyond[mine, f] = np.abs(at - nearest)
    return cells, beyond
