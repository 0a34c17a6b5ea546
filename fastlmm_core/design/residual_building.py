"""A residual on the rows used: subjects, visits and plots coded, and duplicates refused."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from fastlmm_core.design.grouping import (
    codes_among,
    combine_factors,
    group_text,
    is_units,
    read_group,
    relationship_codes,
    trim_range,
    used_levels,
)
from fastlmm_core.design.term_axes import find_relationship
from fastlmm_core.design.values.columns import Column
from fastlmm_core.design.values.table import Table
from fastlmm_core.design.values.variables import Raw
from fastlmm_core.errors import DataError, DesignError, FormulaError, name_list, nearest_names
from fastlmm_core.formula.expressions import Node, deparse, label_of
from fastlmm_core.formula.residual import ParsedResidual, ResidualSpec
from fastlmm_core.structures.levels.relation import LevelFactor

# Cells of a grid for every plot in it: above, the positions are not those of a field.
SPARSEST_GRID = 50


def read_residual(parsed: ParsedResidual, table: Table) -> dict[str, Raw]:
    """The columns a residual reads, on all rows, by `group_text`.

    Raises
    ------
    FormulaError
        When a column is not in the table.
    """
    for name in parsed.columns:
        if name not in table.names and not (parsed.kind == "known" and name == "units"):
            raise FormulaError(f"residual='{parsed.text}': column '{name}' is not in the data"
                               f"{nearest_names(name, table.names)}")  # fmt: skip
    by_distance = parsed.by_distance
    asked = [(node, False) for node in (*parsed.by, *parsed.subject)]
    asked += [(parsed.position, by_distance)] if parsed.position is not None else []
    asked += [(node, kind.kind == "ar1") for kind, node in zip(parsed.factors, parsed.nodes, strict=True)]
    return {group_text(node, positions): read_group(node, table, positions) for node, positions in asked}


def build_residual(
    parsed: ParsedResidual, raw: dict[str, Raw], rows: np.ndarray | None, n: int, table: Table,
    relationships: Mapping[str, Any],
) -> ResidualSpec:  # fmt: skip
    """The residual on the n rows used.

    Raises
    ------
    DataError
        For two rows in one cell, visit or row of a relationship.
    DesignError
        For visits that a structure cannot place.
    """
    by, by_codes, by_levels = None, np.zeros(n, dtype=np.int32), (None,)
    if parsed.by:
        codes, labels, _ = _combined(parsed.by, raw, rows)
        by = (label_of(":".join(map(deparse, parsed.by))), tuple(labels.tolist()), codes)
        by_codes, by_levels = codes, by[1]
    if parsed.kind == "units":
        if by is not None and len(by_levels) == n:
            raise DesignError(f"residual='{parsed.text}': '{by[0]}' has {n} levels in {n} rows, so that one "
                              "row would tell each variance; name a factor with several rows in each "
                              "level")  # fmt: skip
        return ResidualSpec(parsed.text, "units", by)
    if parsed.kind == "within":
        return _within(parsed, raw, rows, by, by_codes)
    if parsed.kind == "field":
        return _field(parsed, raw, rows, by, by_codes, by_levels)
    return _known(parsed, raw, rows, table, relationships)


def _combined(
    nodes: tuple[Node, ...], raw: dict[str, Raw], rows: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    used = [used_levels(raw[deparse(node)], rows) for node in nodes]
    return combine_factors([codes for codes, _ in used], [levels for _, levels in used])


def _within(
    parsed: ParsedResidual, raw: dict[str, Raw], rows: np.ndarray | None, by: Any, by_codes: np.ndarray
) -> ResidualSpec:
    position = parsed.position
    assert position is not None and parsed.structure is not None
    name = label_of(deparse(position))
    by_distance = parsed.by_distance
    own = raw[group_text(position, by_distance)]
    assert own.levels is not None
    codes, levels = used_levels(own, rows)
    if by_distance:
        codes, levels = _distances(parsed, own, rows, name)
    subject_name = label_of(":".join(map(deparse, parsed.subject)))
    subjects, labels, _ = _combined(parsed.subject, raw, rows)
    if by is not None:  # rows of a subject under two levels of `by` are independent
        names = (by[1], tuple(labels.tolist()))
        subjects, _, cells = combine_factors([by_codes, subjects], list(names))
        labels = labels[cells % labels.size]
    _refuse_duplicates(
        subjects.astype(np.int64) * len(levels) + codes,
        lambda row: f"subject '{labels[subjects[row]]}' of '{subject_name}' has {{count}} rows at '{name}' "
        f"'{levels[codes[row]]}'",
        f"'{parsed.text}' needs one row for each {name} of a subject",
    )  # fmt: skip
    return ResidualSpec(
        parsed.text, "within", by, parsed.structure, parsed.options, name, levels, codes,
        subject_name, subjects,
    )  # fmt: skip


def _distances(
    parsed: ParsedResidual, own: Raw, rows: np.ndarray | None, name: str
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Positions in a line: levels that occur of a factor, whole numbers of a numeric column.

    A number between the others that never occurs widens the distance of its neighbours; ``ar1`` knows what to
    do with it, and other structures would have parameters that no row tells anything about.
    """
    codes, used = used_levels(own, rows)
    assert own.levels is not None
    if not own.state.get("positions"):
        return codes, used
    whole, levels = trim_range(own.on_rows(rows), own.levels)
    if len(levels) > len(used) and parsed.structure != "ar1":
        absent = [level for level in levels if level not in set(used)]
        raise DesignError(f"'{parsed.text}': '{name}' {name_list(absent)} never occurs between the others, "
                          f"so that '{parsed.structure}' has parameters without data; ar1 takes gaps, or "
                          f"write factor({name}) for visits in order")  # fmt: skip
    return whole, levels


def _field(
    parsed: ParsedResidual, raw: dict[str, Raw], rows: np.ndarray | None, by: Any, by_codes: np.ndarray,
    by_levels: tuple[Any, ...],
) -> ResidualSpec:  # fmt: skip
    columns = []
    for relation, node in zip(parsed.factors, parsed.nodes, strict=True):
        read = raw[group_text(node, relation.kind == "ar1")]
        codes = read.on_rows(rows).astype(np.int32)
        columns.append((relation.kind, label_of(deparse(node)), codes, read.levels or ()))
    places = [np.empty(by_codes.size, dtype=np.int32) for _ in columns]
    grids = []
    for e, level in enumerate(by_levels):
        mine = np.flatnonzero(by_codes == e)
        factors, cell, size = [], np.zeros(mine.size, dtype=np.int64), 1
        for (kind, name, codes, levels), place in zip(columns, places, strict=True):
            if kind == "ar1":
                own, used = trim_range(codes[mine], levels)
            else:
                own, used = used_levels(Raw(codes[mine], levels, {}), None)
            place[mine] = own
            cell = cell * len(used) + own
            size *= len(used)
            factors.append(LevelFactor(kind, name, used))
        where = "" if level is None else f" in '{level}'"
        _refuse_sparse(size, mine.size, factors, where)
        _refuse_duplicates(
            cell,
            lambda row, factors=factors, mine=mine, where=where: "{count} plots stand at " + ", ".join(
                f"{f.name} '{f.levels[place[mine[row]]]}'" for f, place in zip(factors, places, strict=True)
            ) + where,
            f"'{parsed.text}' needs one row in each cell" + ("" if by else "; for several fields write '| "
                                                                           "env'"),
        )  # fmt: skip
        grids.append(tuple(factors))
    return ResidualSpec(parsed.text, "field", by, field_factors=tuple(grids), field_codes=tuple(places))


def _refuse_sparse(size: int, n: int, factors: list[LevelFactor], where: str) -> None:
    if size > SPARSEST_GRID * n + 10_000:
        shape = " x ".join(f"{f.size} of '{f.name}'" for f in factors)
        raise DesignError(f"{n} plots{where} lie in a grid of {shape} = {size} cells; number the plots of "
                          "each field from 1, and write '| env' for several fields")  # fmt: skip


def _known(
    parsed: ParsedResidual, raw: dict[str, Raw], rows: np.ndarray | None, table: Table,
    relationships: Mapping[str, Any],
) -> ResidualSpec:  # fmt: skip
    name, node = str(parsed.factors[0].relationship), parsed.nodes[0]
    relationship = find_relationship(name, relationships)
    own = raw[group_text(node, positions=False)]
    if is_units(node, table.names):
        codes = _unit_rows(own, rows, relationship, name, table)
    else:
        codes = relationship_codes(own, deparse(node), relationship, rows)
    _refuse_duplicates(
        codes, lambda row: f"'{relationship.levels[codes[row]]}' of '{name}' has {{count}} rows",
        f"'{parsed.text}' gives the covariance of the rows, one level for each",
    )  # fmt: skip
    return ResidualSpec(parsed.text, "known", known_name=name, known_rows=codes, relationship=relationship)


def _unit_rows(own: Raw, rows: np.ndarray | None, relationship: Any, name: str, table: Table) -> np.ndarray:
    """Row of every observation among the levels of a covariance of units: named by number, from 1 or 0."""
    size = len(relationship.levels)
    if size != table.n:
        raise DataError(f"vm(units, {name}): the covariance has {size} rows and the data have {table.n}; "
                        "give one for each row of the data, in their order")  # fmt: skip
    for first in (1, 0):
        labels = tuple(str(i + first) for i in range(table.n))
        codes = codes_among(Column("units", own.on_rows(rows), labels), relationship.levels)
        if (codes >= 0).all():
            return codes
    raise DataError(f"vm(units, {name}): its levels must be the numbers of the rows, '1', '2', ..., not "
                    f"{name_list(relationship.levels, 3)}; or name the column that has them: vm(plot, "
                    f"{name})")  # fmt: skip


def _refuse_duplicates(cell: np.ndarray, describe: Any, rule: str) -> None:
    """DataError naming the first cell that several rows share."""
    found, first, counts = np.unique(cell, return_index=True, return_counts=True)
    if found.size < cell.size:
        worst = int(np.argmax(counts > 1))
        more = int((counts > 1).sum()) - 1
        others = f", and {more} more such cells" if more else ""
        raise DataError(f"{describe(int(first[worst])).format(count=int(counts[worst]))}{others}; {rule}")
