"""What a formula reads from a table, checked: names, response, weights, offset, complete rows."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastlmm_core.design.coding import Raw, read_factor, read_raw
from fastlmm_core.design.evaluation import evaluate
from fastlmm_core.design.expressions import Node, deparse, names_in
from fastlmm_core.design.formula import ParsedFormula
from fastlmm_core.design.rank import Rank
from fastlmm_core.design.table import Table
from fastlmm_core.errors import DataError, DesignError, FormulaError, name_list, nearest_names


def check_names(parsed: ParsedFormula, table: Table, response: bool) -> None:
    """Refuse names that are not columns, at their position in the formula."""
    nodes: list[Node] = [*parsed.fixed.atoms.values(), *parsed.offsets]
    for part in parsed.random:
        nodes += [*part.factors, *part.terms.atoms.values()]
    if response:
        if parsed.response is None:
            raise FormulaError("the response is missing; write 'response ~ terms'", parsed.text, 0)
        nodes.append(parsed.response)
    for node in nodes:
        for name in names_in(node):
            if name.name not in table.names:
                hint = nearest_names(name.name, table.names)
                raise FormulaError(
                    f"column '{name.name}' is not in the data{hint}", parsed.text, name.position
                )


def read_variables(parsed: ParsedFormula, table: Table) -> tuple[dict[str, Raw], dict[str, Raw]]:
    """Variables of the linear parts, and of the groupings, on all rows."""
    raw = {text: read_raw(node, table) for text, node in parsed.fixed.atoms.items()}
    groups: dict[str, Raw] = {}
    for part in parsed.random:
        for text, node in part.terms.atoms.items():
            if text not in raw:
                raw[text] = read_raw(node, table)
        for node in part.factors:
            text = deparse(node)
            if text not in groups:
                column = read_factor(node, table, {})
                groups[text] = Raw(column.values, column.levels, {})
    return raw, groups


def read_response(parsed: ParsedFormula, table: Table) -> np.ndarray:
    name, node = parsed.response_name, parsed.response
    assert node is not None
    for inner in names_in(node):
        column = table.column(inner.name)
        if column.is_factor:
            raise DataError(f"the response must be numeric, but '{inner.name}' has the labels "
                            f"{name_list(column.levels or (), 4)}; convert it to numbers")  # fmt: skip
    value = np.asarray(evaluate(node, table, {}), dtype=np.float64)
    if value.shape != (table.n,):
        raise DataError(
            f"the response '{name}' must be one column of {table.n} numbers, not of shape {value.shape}"
        )
    return value


def _numbers_for_rows(given: Any, table: Table, option: str) -> np.ndarray:
    """(N,) float64 of a column name or of an array for all rows of the table."""
    if isinstance(given, str):
        if given not in table.names:
            raise DataError(
                f"{option}='{given}' is not a column of the data{nearest_names(given, table.names)}"
            )
        column = table.column(given)
        if column.is_factor:
            raise DataError(f"{option}='{given}' must be numeric, but the column has labels")
        return column.values
    try:
        values = np.asarray(given, dtype=np.float64)
    except (TypeError, ValueError):
        raise DataError(f"{option} must be a column name or numbers, not {type(given).__name__}") from None
    if values.shape != (table.n,):
        raise DataError(f"{option} has shape {values.shape}, but the data have {table.n} rows")
    return values


def read_weights(weights: Any, table: Table, rows: np.ndarray | None) -> np.ndarray | None:
    """(n,) weights of the rows used, all positive and finite."""
    if weights is None:
        return None
    values = _numbers_for_rows(weights, table, "weights")
    values = values if rows is None else values[rows]
    bad = ~(np.isfinite(values) & (values > 0))
    if bad.any():
        at = int(np.argmax(bad))
        row = at if rows is None else int(rows[at])
        what = "missing" if np.isnan(values[at]) else f"{values[at]:g}"
        raise DataError(
            f"weights must be positive and finite: {int(bad.sum())} are not, "
            f"the first in row {row} is {what}; "
            "leave such rows out"
        )
    return values


def read_offset(parsed: ParsedFormula, table: Table, offset: Any) -> np.ndarray | None:
    """Sum of the offsets of the formula and of the argument, (N,)."""
    total: np.ndarray | None = None if offset is None else _numbers_for_rows(offset, table, "offset")
    for node in parsed.offsets:
        value = np.asarray(evaluate(node, table, {}))
        if value.dtype.kind not in "biuf":
            raise DataError(f"offset({deparse(node)}) must be numeric")
        value = np.broadcast_to(value.astype(np.float64), (table.n,))
        total = np.array(value) if total is None else total + value
    return total


def complete_rows(
    n: int, raw: dict[str, Raw], groups: dict[str, Raw], y: np.ndarray | None, offset: np.ndarray | None
) -> np.ndarray | None:
    """Positions of the rows without a missing value; None when that is all of them."""
    missing: np.ndarray | None = None
    for variable in [*raw.values(), *groups.values()]:
        if variable.levels is None:
            own = np.isnan(variable.values[:, 0]) if variable.values.shape[1] == 1 else np.isnan(
                variable.values).any(axis=1)  # fmt: skip
        else:
            own = variable.values < 0
        missing = own if missing is None else missing | own
    for numbers in (y, offset):
        if numbers is not None:
            missing = np.isnan(numbers) if missing is None else missing | np.isnan(numbers)
    return None if missing is None or not missing.any() else np.flatnonzero(~missing)


def most_missing(parsed: ParsedFormula, table: Table, response: bool) -> str:
    """Which column has the most missing values, for a message."""
    counts = {name: int(column.missing().sum()) for name, column in table._columns.items()}
    worst = max(counts, key=counts.__getitem__, default=None)
    return "" if worst is None else f"; '{worst}' alone is missing in {counts[worst]}"


def check_size(n: int, rank: Rank) -> None:
    p = rank.kept.size
    if n <= p:
        raise DesignError(f"{n} observations are not enough for the {p} independent columns of the "
                          f"fixed part; "
                          "nothing is left to estimate the residual variance")  # fmt: skip


def on_rows(values: np.ndarray | None, rows: np.ndarray | None) -> np.ndarray | None:
    return values if values is None or rows is None else values[rows]


def check_finite(y: np.ndarray | None, offset: np.ndarray | None, parsed: ParsedFormula) -> None:
    for values, what in ((y, f"the response '{parsed.response_name}'"), (offset, "the offset")):
        if values is not None and not np.isfinite(values).all():
            first = int(np.argmax(~np.isfinite(values)))
            raise DataError(f"{what} has infinite values, the first in used row {first}; "
                            "correct them or mark them as missing")  # fmt: skip
