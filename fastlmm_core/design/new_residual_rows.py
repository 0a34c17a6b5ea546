"""Where new rows stand among those of a residual: in the cells of a field, or at the visits of a subject."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from fastlmm_core.design.grouping import group_text
from fastlmm_core.design.residual_building import read_residual
from fastlmm_core.design.values.table import Table
from fastlmm_core.errors import DataError, name_list, nearest_names
from fastlmm_core.formula.expressions import Node, deparse
from fastlmm_core.formula.residual import ParsedResidual, parse_residual

if TYPE_CHECKING:
    from fastlmm_core.design.matrices import Design
    from fastlmm_core.design.values.variables import Raw


@dataclass(frozen=True)
class NewResidualRows:
    """New rows by what a residual knows of rows.

    Attributes
    ----------
    groups : (m,) int64
        Level of the factor right of ``|``; zeros where there is none.
    places : (m,) int64
        Cell in the grid of that level, or visit.
    subjects : (m,) int64
        Subject of the fit, -1 for others; empty for a field.
    """

    groups: np.ndarray
    places: np.ndarray
    subjects: np.ndarray


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
        return NewResidualRows(groups, _cells(design, parsed, new, groups), np.empty(0, np.int64))
    assert parsed.position is not None
    node, positions = parsed.position, parsed.by_distance
    known: dict[tuple[str, ...], int] = {(label,): at for at, label in enumerate(spec.positions)}
    line = f"{spec.positions[0]} to {spec.positions[-1]}"
    why = f"where the fit has no residuals: it knows {line if positions else name_list(spec.positions, 4)}"
    visits = _places(_labels((node,), new, positions=positions), known, deparse(node), why)
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
    return NewResidualRows(groups, visits, own_subjects)


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


def _cells(design: Design, parsed: ParsedResidual, new: dict[str, Raw], groups: np.ndarray) -> np.ndarray:
    cells = np.zeros(groups.size, np.int64)
    for f, (relation, node) in enumerate(zip(parsed.factors, parsed.nodes, strict=True)):
        labels = _labels((node,), new, positions=relation.kind == "ar1")
        for group in np.unique(groups):
            factor = design.residual.field_factors[group][f]
            mine = np.flatnonzero(groups == group)
            known: dict[tuple[str, ...], int] = {(label,): at for at, label in enumerate(factor.levels)}
            line = f"{factor.levels[0]} to {factor.levels[-1]}"
            span = line if relation.kind == "ar1" else name_list(factor.levels, 4)
            where = "" if design.residual.by is None else f" in '{design.residual.by[1][group]}'"
            why = f"outside of the field{where}, whose plots with a response have {span}"
            at = _places([labels[row] for row in mine], known, factor.name, why)
            cells[mine] = cells[mine] * len(factor.levels) + at
    return cells
