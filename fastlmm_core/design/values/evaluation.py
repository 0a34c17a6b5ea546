"""Values of the expressions in a formula. A fixed list of functions: a formula never runs foreign code."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from fastlmm_core.design.values.bases import State, evaluate_basis, reduce_column
from fastlmm_core.design.values.columns import Column, as_factor
from fastlmm_core.design.values.factor_functions import FACTOR_FUNCTIONS, cut, indicator
from fastlmm_core.design.values.table import Table
from fastlmm_core.errors import DataError, name_list
from fastlmm_core.formula.expressions import (
    Binary,
    Call,
    Constant,
    Name,
    Node,
    Number,
    Paren,
    Text,
    Unary,
    deparse,
    number_text,
)
from fastlmm_core.formula.functions import (
    BASES,
    CONSTANTS,
    REDUCTIONS,
    ROWWISE,
    literal,
    match_arguments,
    plain_function,
    walk,
)

_ELEMENTWISE: dict[str, Callable[..., Any]] = {
    "I": lambda x: x, "log2": np.log2, "log10": np.log10, "log1p": np.log1p, "exp": np.exp,
    "expm1": np.expm1, "sqrt": np.sqrt, "abs": np.abs, "sin": np.sin, "cos": np.cos, "tan": np.tan,
    "sinh": np.sinh, "cosh": np.cosh, "tanh": np.tanh, "atan": np.arctan, "asin": np.arcsin,
    "acos": np.arccos, "floor": np.floor, "ceiling": np.ceil, "trunc": np.trunc, "sign": np.sign,
    "plogis": lambda x: 1.0 / (1.0 + np.exp(-x)), "qlogis": lambda x: np.log(x / (1.0 - x)),
}  # fmt: skip
_ARITHMETIC: dict[str, Callable[[Any, Any], Any]] = {
    "+": np.add, "-": np.subtract, "*": np.multiply, "/": np.divide, "^": np.power, "%%": np.mod,
    "%/%": np.floor_divide,
}  # fmt: skip
_COMPARISONS: dict[str, Callable[[Any, Any], Any]] = {
    "<": np.less, ">": np.greater, "<=": np.less_equal, ">=": np.greater_equal, "==": np.equal,
    "!=": np.not_equal,
}  # fmt: skip


@dataclass(frozen=True)
class Logical:
    """Truth values: (n,) or scalar float64 of 0, 1 and, where missing, NaN."""

    values: Any


def as_numbers(value: Any, text: str) -> np.ndarray:
    """The value of an expression as float64 of any shape.

    Raises
    ------
    DataError
        When it is a factor or a text.
    """
    if isinstance(value, Column):
        raise DataError(
            f"'{text}' has the labels {name_list(value.levels or (), 4)}, but numbers are needed here"
        )
    if isinstance(value, str):
        words = f"'{text}' is the text '{value}', but numbers are needed here"
        raise DataError(f"{words}; names of columns stand in backticks, not in quotes")
    return np.asarray(value.values if isinstance(value, Logical) else value, dtype=np.float64)


def is_elementwise(node: Node) -> bool:
    """Whether the values of a variable in a row follow from that row alone, factors coded by treatment."""
    if not isinstance(node, Call):
        return _is_rowwise(node)
    function = plain_function(node.function)
    arguments = match_arguments(node)
    if function == "C":
        return not arguments.coding and not arguments.settings and is_elementwise(arguments.values[0])
    if function in ("factor", "as.factor"):
        named = "levels" in arguments.settings or "labels" not in arguments.settings
        return named and "ordered" not in arguments.settings and is_elementwise(arguments.values[0])
    return _is_rowwise(node)


def _is_rowwise(node: Node) -> bool:
    return all(plain_function(inner.function) in ROWWISE for inner in walk(node) if isinstance(inner, Call))


def evaluate(node: Node, table: Table, state: State) -> Any:
    """Value of an expression on a table.

    Parameters
    ----------
    node : Node
    table : Table
        n rows.
    state : dict
        What stateful functions remember; filled at the first evaluation, used afterwards.

    Returns
    -------
    (n,) or (n, k) ndarray, a scalar, a text, Logical, or Column
        A Column is a factor.

    Raises
    ------
    DataError
        When arithmetic is asked of a factor, or a function gets arguments it does not take.
    """
    if isinstance(node, (Number, Text)):
        return node.value
    if isinstance(node, Constant):
        value = CONSTANTS[node.name]
        return Logical(float(value)) if isinstance(value, bool) else np.nan if value is None else value
    if isinstance(node, Paren):
        return evaluate(node.inner, table, state)
    if isinstance(node, Name):
        column = table.column(node.name)
        return column.values if column.levels is None else column
    if isinstance(node, Unary):
        operand = _numbers(evaluate(node.operand, table, state), node)
        if node.operator == "!":
            return Logical(np.where(np.isnan(operand), np.nan, operand == 0))
        return -operand if node.operator == "-" else operand
    if isinstance(node, Binary):
        return _binary(node, table, state)
    assert isinstance(node, Call)
    return _call(node, table, state)


def _numbers(value: Any, node: Node) -> Any:
    """The value for arithmetic; truth values, also of a column, count 0 and 1.

    One column, of ``dummy(env, "A")``, is (n,) as those of the table are: beside these (n, 1) would be n x n.
    """
    if isinstance(value, Column) and is_logical(value):
        truth = [float(level.upper() == "TRUE") for level in value.levels or ()]
        return np.array([*truth, np.nan])[value.values]
    if isinstance(value, (str, Column)):
        raise DataError(f"'{deparse(node)}' needs numbers, but got a factor or a text")
    value = value.values if isinstance(value, Logical) else value
    return value[:, 0] if np.ndim(value) == 2 and value.shape[1] == 1 else value


def _side_by_side(left: Any, right: Any, node: Binary) -> tuple[Any, Any]:
    """Both sides for arithmetic by rows; a variable goes with each column of ``poly(x, 2)``."""
    several = [side.shape[1] for side in (left, right) if np.ndim(side) == 2]
    if not several:
        return left, right
    if len(set(several)) > 1 or node.operator not in _ARITHMETIC:
        counts = " and ".join(map(str, several))
        raise DataError(f"'{deparse(node)}': '{node.operator}' does not go with {counts} columns; it needs "
                        "one on each side")  # fmt: skip
    first, second = (side[:, None] if np.ndim(side) == 1 else side for side in (left, right))
    return first, second


def is_logical(column: Column) -> bool:
    """Whether the levels of a column are truth values, as they come from Python or from R."""
    return {level.upper() for level in column.levels or ()} <= {"FALSE", "TRUE"}


def _binary(node: Binary, table: Table, state: State) -> Any:
    operator = node.operator
    if operator == "%in%":
        return _member(node, table, state)
    left, right = evaluate(node.left, table, state), evaluate(node.right, table, state)
    if isinstance(right, str):
        left = _as_written(node.left, left, table)
    elif isinstance(left, str):
        right = _as_written(node.right, right, table)
    if operator in ("==", "!=") and any(isinstance(side, (str, Column)) for side in (left, right)):
        return _same_label(left, right, operator == "!=")
    left, right = _side_by_side(_numbers(left, node), _numbers(right, node), node)
    with np.errstate(all="ignore"):
        if operator in _ARITHMETIC:
            return _ARITHMETIC[operator](np.asarray(left, dtype=np.float64), right)
        if operator in _COMPARISONS:
            missing = np.isnan(left) | np.isnan(right)
            return Logical(np.where(missing, np.nan, _COMPARISONS[operator](left, right)))
        if operator in ("&", "|"):
            return Logical(_connect(left, right, operator == "&"))
    raise DataError(f"operator '{operator}' in '{deparse(node)}' is not arithmetic")


def _as_written(node: Node, value: Any, table: Table) -> Any:
    """A column of numbers as the labels that stand in the table, to be compared with a text."""
    return table.factor(node.name) if isinstance(node, Name) else value


def _connect(left: Any, right: Any, both: bool) -> Any:
    """``&`` and ``|``: missing unless one side decides."""
    decisive = 0.0 if both else 1.0
    a, b = (np.where(np.isnan(x), np.nan, np.asarray(x) != 0) for x in (left, right))
    decided = (a == decisive) | (b == decisive)
    return np.where(decided, decisive, np.where(np.isnan(a) | np.isnan(b), np.nan, 1.0 - decisive))


def _labels(value: Any) -> np.ndarray:
    """(n,) or () labels as objects, None where missing."""
    if isinstance(value, Column):
        return np.array([*(value.levels or ()), None], dtype=object)[value.values]
    if isinstance(value, str):
        return np.asarray(value, dtype=object)
    return _labels(as_factor(Column("", np.atleast_1d(np.asarray(value, dtype=np.float64)), None)))


def _same_label(left: Any, right: Any, negate: bool) -> Logical:
    left, right = _labels(left), _labels(right)
    missing = np.asarray(pd.isna(left)) | np.asarray(pd.isna(right))
    same = np.equal(left, right).astype(np.float64)
    return Logical(np.where(missing, np.nan, 1.0 - same if negate else same))


def _member(node: Binary, table: Table, state: State) -> Logical:
    """``x %in% c(...)``: never missing, as in R."""
    value, wanted = evaluate(node.left, table, state), literal(node.right)
    texts = {
        w if isinstance(w, str) else number_text(w)
        for w in (wanted if isinstance(wanted, list) else [wanted])
    }
    column = as_column(value, node.left, table.n)
    inside = np.array([*(level in texts for level in column.levels or ()), False])
    return Logical(inside[column.values].astype(np.float64))


def as_column(value: Any, node: Node, n: int) -> Column:
    """Any value as a factor of n rows; numbers become levels in numeric order."""
    if isinstance(value, Column):
        return value
    if isinstance(value, Logical):
        truth = np.broadcast_to(value.values, (n,))
        codes = np.where(np.isnan(truth), -1, truth).astype(np.int32)
        return Column("", codes, ("FALSE", "TRUE"))
    if isinstance(value, str):
        return Column("", np.zeros(n, dtype=np.int32), (value,))
    values = np.asarray(value, dtype=np.float64)
    if values.ndim > 1 and values.shape[1] > 1:
        raise DataError(f"'{deparse(node)}' has {values.shape[1]} columns and cannot be a factor")
    return as_factor(Column("", np.broadcast_to(values.reshape(-1) if values.ndim else values, (n,)), None))


def evaluate_factor(node: Node, table: Table, state: State) -> Column:
    """An expression as a factor of all rows: a column, ``factor(...)``, a comparison, or numbers."""
    if isinstance(node, Name):
        return table.factor(node.name)
    return as_column(evaluate(node, table, state), node, table.n)


def _call(node: Call, table: Table, state: State) -> Any:
    function = plain_function(node.function)
    arguments = match_arguments(node)
    as_labels = function in FACTOR_FUNCTIONS or function == "dummy"
    values = [] if as_labels else [evaluate(argument, table, state) for argument in arguments.values]
    settings = {name: literal(setting) for name, setting in arguments.settings.items()}
    text = deparse(node)
    if function in FACTOR_FUNCTIONS:
        columns = [evaluate_factor(argument, table, state) for argument in arguments.values]
        return FACTOR_FUNCTIONS[function](columns, settings, text, state)
    if function == "cut":
        return cut(as_numbers(values[0], text), settings, text, state)
    if function == "dummy":
        return indicator(evaluate_factor(arguments.values[0], table, state), settings, text, state)
    if function in REDUCTIONS:
        return reduce_column(function, as_numbers(values[0], text), settings, text, state)
    if function in BASES:
        texts = text, deparse(arguments.values[0])
        return evaluate_basis(function, as_numbers(_numbers(values[0], node), text), settings, texts, state)
    if function == "is.na":
        return _is_missing(values[0])
    if function == "ifelse":
        return _choose(node, values, table.n)
    if function in ("as.numeric", "as.integer"):
        return _converted(function, values[0], text, state)
    if function == "I":
        return values[0]
    with np.errstate(all="ignore"):
        return _elementwise(function, [_numbers(value, node) for value in values], settings, text)


def _elementwise(function: str, values: list[Any], settings: dict[str, Any], text: str) -> Any:
    if function in ("pmin", "pmax"):
        smaller = np.minimum if function == "pmin" else np.maximum
        found = values[0]
        if any(np.ndim(value) == 2 for value in values):
            raise DataError(f"'{text}' takes one column in each place")
        for value in values[1:]:
            found = smaller(found, value)
        return found
    if function == "log":
        base = settings.get("base")
        if base is None:
            return np.log(values[0])
        return np.log(values[0]) / np.log(_number(base, "base", text))
    if function == "round":
        return np.round(values[0], int(_number(settings.get("digits", 0), "digits", text)))
    return _ELEMENTWISE[function](values[0])


def _number(value: Any, name: str, text: str) -> float:
    if isinstance(value, (int, float)) and np.isfinite(value):
        return float(value)
    raise DataError(f"'{text}': {name} must be a finite number")


def _is_missing(value: Any) -> Logical:
    if isinstance(value, Column):
        return Logical(value.missing().astype(np.float64))
    return Logical(np.isnan(value.values if isinstance(value, Logical) else value).astype(np.float64))


def _choose(node: Call, values: list[Any], n: int) -> Any:
    """``ifelse(test, yes, no)``: numbers, or a factor where one of the two is a text or a factor."""
    test = np.broadcast_to(np.asarray(_numbers(values[0], node), dtype=np.float64), (n,))
    missing, true = np.isnan(test), np.where(np.isnan(test), 0.0, test) != 0
    if any(isinstance(value, (str, Column)) for value in values[1:]):
        sides = [np.broadcast_to(_labels(value), (n,)) for value in values[1:]]
        labels = np.where(true, sides[0], sides[1])
        labels[missing] = None
        levels = tuple(sorted({label for label in labels if label is not None}))
        place = {label: i for i, label in enumerate(levels)}
        return Column("", np.array([place.get(label, -1) for label in labels], dtype=np.int32), levels)
    sides = [np.broadcast_to(as_numbers(value, deparse(node)), (n,)) for value in values[1:]]
    return np.where(missing, np.nan, np.where(true, sides[0], sides[1]))


def _converted(function: str, value: Any, text: str, state: State) -> np.ndarray:
    """``as.numeric`` and ``as.integer``: days of dates, 0 and 1 of truth values, places of ordered levels."""
    if isinstance(value, Column):
        known = _numbers_of_levels(value, state.setdefault(text, {}))
        unknown = [level for level in value.levels or () if level not in known]
        if unknown:
            raise DataError(f"'{text}' needs numbers, but labels like {name_list(unknown, 2)} may mean "
                            "their places or the numbers in them; convert the column")  # fmt: skip
        value = np.array([*(known[level] for level in value.levels or ()), np.nan])[value.values]
    numbers = as_numbers(value, text)
    return np.trunc(numbers) if function == "as.integer" else numbers


def _numbers_of_levels(column: Column, memory: dict[str, Any]) -> dict[str, float]:
    """What levels mean as numbers; what they meant in the data of the fit stays so."""
    levels = column.levels or ()
    own: dict[str, float] = {}
    if column.days is not None:
        own = dict(zip(levels, column.days, strict=True))
    elif is_logical(column):
        own = {level: float(level.upper() == "TRUE") for level in levels}
    elif column.ordered:
        own = {level: float(place) for place, level in enumerate(levels, start=1)}
    for level, number in own.items():
        memory.setdefault(level, number)
    return memory
