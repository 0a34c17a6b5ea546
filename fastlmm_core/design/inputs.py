"""What a formula reads from a table, checked: names, response, weights, offset, complete rows."""

from __future__ import annotations

import re
from collections.abc import Container, Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from fastlmm_core.design.coding.rank import Rank
from fastlmm_core.design.grouping import group_text, read_group
from fastlmm_core.design.values.columns import plain_values
from fastlmm_core.design.values.numeric_values import Numbers, evaluate_numbers
from fastlmm_core.design.values.table import Table
from fastlmm_core.design.values.variables import Raw, read_raw
from fastlmm_core.errors import DataError, DesignError, FormulaError, name_list, nearest_names
from fastlmm_core.formula.expressions import Name, Parser
from fastlmm_core.formula.functions import columns_read, names_read
from fastlmm_core.formula.parts import ParsedFormula
from fastlmm_core.formula.structured_parts import UNITS
from fastlmm_core.other_names import COLUMNS
from fastlmm_core.reading.columns import is_number_text
from fastlmm_core.reading.options import MISSING_AMONG_NUMBERS

# Largest number whose square, summed over any column, is a number; its inverse is the smallest.
LARGEST_VALUE = 1e150


def check_names(parsed: ParsedFormula, table: Table, response: bool) -> None:
    """Refuse names that are not columns, at their position in the formula."""
    nodes = list(parsed.expressions)
    if response:
        if parsed.response is None:
            raise FormulaError("the response is missing; write 'response ~ terms'", parsed.text, 0)
        nodes.append(parsed.response)
    for node in nodes:
        for name in columns_read(node):
            if name.name not in table.names:
                if name.name == UNITS and any(node in part.factors for part in parsed.random):
                    continue
                words = COLUMNS.get(name.name)
                hint = f": {words}" if words else nearest_names(name.name, table.names)
                raise FormulaError(
                    f"column '{name.name}' is not in the data{hint}", parsed.text, name.position
                )


def read_variables(parsed: ParsedFormula, table: Table) -> tuple[dict[str, Raw], dict[str, Raw]]:
    """Variables of the linear parts, and of the groupings by `group_text`, on all rows."""
    raw = {text: read_raw(node, table) for text, node in parsed.fixed.atoms.items()}
    groups: dict[str, Raw] = {}
    for part in parsed.random:
        for text, node in part.terms.atoms.items():
            if text not in raw:
                raw[text] = read_raw(node, table)
        kinds = [kind.kind for kind in part.kinds if kind.has_column]
        asked = [(node, kind == "ar1") for kind, node in zip(kinds, part.factors, strict=True)]
        asked += [(node, False) for columns in part.incidence for node in columns]
        for node, positions in asked:
            text = group_text(node, positions)
            if text not in groups:
                groups[text] = read_group(node, table, positions)
    for node in (own for spline in parsed.splines for own in spline.at):
        groups.setdefault(group_text(node, False), read_group(node, table, False))
    return raw, groups


def read_response(parsed: ParsedFormula, table: Table) -> Numbers:
    """The response on all rows, one column."""
    name, node = parsed.response_name, parsed.response
    assert node is not None
    try:
        numbers = evaluate_numbers(node, table, {})
    except DataError:
        for inner in columns_read(node):
            column = table.column(inner.name)
            if column.levels is not None:
                first = int(np.argmax(np.asarray(column.values) >= 0))
                raise DataError(response_words(inner.name, column.levels, table.places(first))) from None
        raise
    if numbers.values.shape != (table.n, 1):
        raise DataError(
            f"the response '{name}' must be one column of {table.n} numbers, not of shape "
            f"{numbers.values.shape}"
        )
    return numbers


def response_words(name: str, labels: tuple[str, ...], first: str = "") -> str:
    """What is wrong with a response that has labels, of which the `first` stands in that line or row."""
    begun = f", the first in {first}" if first else ""
    return (
        f"the response must be numeric, but '{name}' has the labels {name_list(labels, 4)}{begun}; "
        f"{_to_numbers(labels)}"
    )


# Numbers as people write them: thousands apart, another sign than the hyphen, a unit behind.
PARTED = re.compile(r"[+-]?\d{1,3}(?:[ \u00a0\u202f'\u2019.,]\d{3})+(?:[.,]\d+)?|[+-]?\d+[.,]\d+")
OTHER_MINUS = re.compile(r"[\u2212\u2013]\d+(?:[.,]\d+)?")
WITH_UNIT = re.compile(r"[+-]?\d+(?:[.,]\d+)?\s*([^\d\s.,+-]\D*)")


def _to_numbers(labels: tuple[str, ...]) -> str:
    """What would make numbers of labels: a decimal point, another type, or fewer words."""
    words = [label for label in labels if not is_number_text(label)]
    if not words:
        return (
            "they are numbers kept as text: take quotes, --factor and points of thousands away, or convert "
            "the column (in Python with pandas.to_numeric)"
        )
    if all(is_number_text(label.replace(",", ".", 1)) for label in words):
        return "write them with a decimal point, or read the file with decimal=','"
    cells = [label.strip() for label in words if label.strip() not in MISSING_AMONG_NUMBERS]
    shown = name_list(cells, 2)
    if cells and all(map(PARTED.fullmatch, cells)):
        return f"take away what parts thousands ({shown}), and write one decimal sign in all of the column"
    if cells and all(map(OTHER_MINUS.fullmatch, cells)):
        return f"write the minus as '-' ({shown})"
    units = {found[1] if found else None for found in map(WITH_UNIT.fullmatch, cells)}
    if len(units) == 1 and None not in units:
        return f"take the unit away ({shown}), into the name of the column"
    if len(words) < len(labels):
        verb = "is" if len(words) == 1 else "are"
        return f"{name_list(words, 4)} {verb} not numeric: correct, or mark as missing"
    return "a factor cannot be modelled as a response"


def numbers_for_rows(given: Any, table: Table, option: str) -> np.ndarray:
    """(N,) float64 of a column name or of an array for all rows of the table."""
    if isinstance(given, str):
        if given not in table.names:
            return _expression_for_rows(given, table, option)
        column = table.column(given)
        if column.is_factor:
            raise DataError(f"{option}='{given}' must be numeric, but the column has labels")
        return column.values
    check_index(option, given, table.index)
    try:
        values = plain_values(given)
    except (TypeError, ValueError, OverflowError):
        raise DataError(f"{option} must be a column name or numbers, not {type(given).__name__}") from None
    if values.shape != (table.n,):
        raise DataError(f"{option} has shape {values.shape}, but the data have {table.n} rows")
    return values


def check_index(name: str, given: Any, index: pd.Index | None, rows: np.ndarray | None = None) -> None:
    """Refuse a Series whose rows are not called as those of the table.

    Parameters
    ----------
    index : (n,) Index or None
        Of the rows that it is to have; None where these have no names.
    rows : (n,) int64, optional
        Their places in a longer table, whose rows the Series may have, too.

    Raises
    ------
    DataError
    """
    if not isinstance(given, pd.Series) or index is None:
        return
    own = given.index
    if rows is not None and own.size != index.size:
        own = own[np.isin(np.arange(own.size), rows)]
    if own.size == index.size and not own.equals(index):
        raise DataError(f"{name} is a Series with another index than the data: name a column of the data, or "
                        "give the values alone (.to_numpy()), in the order of the rows")  # fmt: skip


def option_columns(given: str, names: Container[str]) -> tuple[str, ...]:
    """Columns that `numbers_for_rows` reads for a text, among columns of these `names`."""
    return (given,) if given in names else names_read([Parser(given).parse()])


def _expression_for_rows(text: str, table: Table, option: str) -> np.ndarray:
    """(N,) float64 of an expression of columns, such as ``"1/var"``."""
    try:
        node = Parser(text).parse()
    except FormulaError:
        node = None
    if node is None or isinstance(node, Name):
        raise DataError(f"{option}='{text}' is not a column of the data{nearest_names(text, table.names)}")
    unknown = [name for name in columns_read(node) if name.name not in table.names]
    if unknown:
        raise DataError(
            f"{option}='{text}' reads '{unknown[0].name}', which is not a column of the data"
            f"{nearest_names(unknown[0].name, table.names)}"
        )
    return np.ascontiguousarray(evaluate_numbers(node, table, {}).values[:, 0])


def read_weights(weights: Any, table: Table, rows: np.ndarray | None) -> np.ndarray | None:
    """(n,) weights of the rows used, all positive and finite."""
    if weights is None:
        return None
    values = numbers_for_rows(weights, table, "weights")
    values = values if rows is None else values[rows]
    bad = ~(np.isfinite(values) & (values > 0))
    if bad.any():
        at = int(np.argmax(bad))
        row = at if rows is None else int(rows[at])
        what = "missing" if np.isnan(values[at]) else f"{values[at]:g}"
        raise DataError(
            f"weights must be positive and finite: {int(bad.sum())} are not, the first in "
            f"{table.places(row)} is {what}; leave such rows out"
        )
    return values


def complete_rows(variables: Iterable[Raw | Numbers]) -> np.ndarray | None:
    """Positions of the rows without a missing value; None when that is all of them."""
    missing: np.ndarray | None = None
    for variable in variables:
        own = variable.missing()
        missing = own if missing is None else missing | own
    return None if missing is None or not missing.any() else np.flatnonzero(~missing)


def most_missing(table: Table) -> str:
    """Which column has the most missing values, for a message."""
    counts = {name: int(column.missing().sum()) for name, column in table._columns.items()}
    worst = max(counts, key=counts.__getitem__, default=None)
    return "" if worst is None else f"; '{worst}' alone is missing in {counts[worst]}"


def check_column_sizes(largest: np.ndarray, names: Sequence[str]) -> None:
    """Refuse columns whose largest absolute value (p,) has no square among the numbers of the machine.

    Raises
    ------
    DataError
    """
    bad = (largest > 0.0) & ~((largest >= 1.0 / LARGEST_VALUE) & (largest <= LARGEST_VALUE))
    if bad.any():
        j = int(np.flatnonzero(bad)[0])
        raise DataError(
            f"column {name_list([names[j]])} has values up to {largest[j]:.1g}, whose squares are no "
            "numbers; give it in other units"
        )


def check_size(n: int, rank: Rank) -> None:
    p = rank.kept.size
    if n <= p:
        raise DesignError(f"{n} observations are not enough for the {p} independent columns of the "
                          f"fixed part; "
                          "nothing is left to estimate the residual variance")  # fmt: skip
