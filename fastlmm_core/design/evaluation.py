"""Values of the expressions in a formula. A fixed list of functions: a formula never runs foreign code."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastlmm_core.design.expressions import (
    Binary,
    Call,
    Name,
    Node,
    Number,
    Paren,
    Text,
    Unary,
    deparse,
    is_factor_call,
    names_in,
    number_text,
)
from fastlmm_core.design.table import Table, first_row
from fastlmm_core.errors import DataError, DependencyError, name_list

State = dict[str, dict[str, Any]]  # what poly(), scale(), ... remember of the data of the fit, by their text

ELEMENTWISE: dict[str, Callable[..., Any]] = {
    "I": lambda x: x, "log": np.log, "log2": np.log2, "log10": np.log10, "log1p": np.log1p, "exp": np.exp,
    "expm1": np.expm1, "sqrt": np.sqrt, "abs": np.abs, "sin": np.sin, "cos": np.cos, "tan": np.tan,
    "tanh": np.tanh, "atan": np.arctan, "asin": np.arcsin, "acos": np.arccos, "floor": np.floor,
    "ceiling": np.ceil, "round": np.round, "sign": np.sign, "pmin": np.minimum, "pmax": np.maximum,
    "as.numeric": lambda x: x,
}  # fmt: skip
STATEFUL = ("poly", "scale", "center", "bs", "cr", "cc")
FACTOR_CALLS = ("C", "factor", "as.factor", "ordered")
FUNCTIONS = frozenset(ELEMENTWISE) | frozenset(STATEFUL) | frozenset(FACTOR_CALLS)

_OPERATORS: dict[str, Callable[[Any, Any], Any]] = {
    "+": np.add, "-": np.subtract, "*": np.multiply, "/": np.divide, "^": np.power, "%%": np.mod,
    "%/%": np.floor_divide, "<": np.less, ">": np.greater, "<=": np.less_equal, ">=": np.greater_equal,
    "==": np.equal, "!=": np.not_equal,
}  # fmt: skip
_CONSTANTS: dict[str, Any] = {"TRUE": True, "FALSE": False, "T": True, "F": False, "pi": np.pi}


@dataclass(frozen=True)
class Numbers:
    """A numeric expression on the N rows of a table.

    Attributes
    ----------
    text : str
        The expression as R prints it.
    values : (N, k) float64
        NaN in every row where a column the expression reads is missing.
    undefined : (N,) bool or None
        Rows where all those columns are given, and still the value is infinite or not a number; None when
        there are none.
    sources : dict of str to (N,) float64
        Numeric columns that are read, for messages.
    """

    text: str
    values: np.ndarray
    undefined: np.ndarray | None
    sources: dict[str, np.ndarray]

    def missing(self) -> np.ndarray:
        """(N,) bool: rows without a value because the data have none there."""
        missing = np.isnan(self.values).any(axis=1)
        return missing if self.undefined is None else missing & ~self.undefined

    def on_rows(self, rows: np.ndarray | None) -> np.ndarray:
        """(n, k) values of the rows used (None: all of them).

        Raises
        ------
        DataError
            Where the expression has no finite value in one of them.
        """
        if self.undefined is not None:
            used = self.undefined if rows is None else self.undefined[rows]
            if used.any():
                raise DataError(self._undefined(np.flatnonzero(used) if rows is None else rows[used]))
        return self.values if rows is None else self.values[rows]

    def _undefined(self, rows: np.ndarray) -> str:
        row = int(rows[0])
        own = self.values[row]
        what = "is not a number" if np.isnan(own).any() else "has infinite values"
        read = ", ".join(f"{name} = {number_text(float(x[row]))}" for name, x in self.sources.items())
        return (
            f"'{self.text}' {what} in {rows.size} of the rows used, the first in row {row} (counted from 0)"
            f"{' for ' + read if read else ''}; correct such rows or leave them out"
        )


def evaluate_numbers(node: Node, table: Table, state: State) -> Numbers:
    """A numeric expression on all rows, with the rows where it has no value told apart from missing data.

    Raises
    ------
    DataError
        As `evaluate`, and when the expression is a factor.
    """
    text = deparse(node)
    array = np.asarray(evaluate(node, table, state))
    if array.dtype == object:
        labels = dict.fromkeys(str(label) for label in np.atleast_1d(array) if label is not None)
        raise DataError(f"'{text}' has the labels {name_list(labels, 4)}, but numbers are needed here")
    array = array.astype(np.float64, copy=False)
    values = (np.full(table.n, array) if array.ndim == 0 else array).reshape(table.n, -1)
    if isinstance(node, Name):
        return Numbers(text, values, None, {})
    missing = missing_sources(node, table)
    if missing.any():  # also where NumPy has a value all the same, as for NaN > 0
        values = np.where(missing[:, None], np.nan, values)
    undefined = ~np.isfinite(values).all(axis=1) & ~missing
    if not undefined.any():
        return Numbers(text, values, None, {})
    read = {name.name: table.column(name.name) for name in names_in(node) if name.name in table.names}
    sources = {name: column.values for name, column in read.items() if not column.is_factor}
    return Numbers(text, values, undefined, sources)


def missing_sources(node: Node, table: Table) -> np.ndarray:
    """(N,) bool: rows where a column the expression reads is missing."""
    missing = np.zeros(table.n, dtype=bool)
    for name in names_in(node):
        if name.name in table.names:
            missing |= table.column(name.name).missing()
    return missing


def is_elementwise(node: Node) -> bool:
    """Whether the values of a variable in a row follow from that row alone, factors coded by treatment."""
    if is_factor_call(node):
        assert isinstance(node, Call)
        treatment = node.function != "C" or len(node.arguments) == 1
        return treatment and is_elementwise(node.arguments[0][1])
    return _is_rowwise(node)


def _is_rowwise(node: Node) -> bool:
    if isinstance(node, Call):
        known = plain_function(node.function) in ELEMENTWISE
        return known and all(_is_rowwise(argument) for _, argument in node.arguments)
    if isinstance(node, Binary):
        return _is_rowwise(node.left) and _is_rowwise(node.right)
    if isinstance(node, Unary):
        return _is_rowwise(node.operand)
    return _is_rowwise(node.inner) if isinstance(node, Paren) else True


def plain_function(name: str) -> str:
    """The name of a function without the prefix ``np.`` that Python users write."""
    return name.removeprefix("np.")


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
    (n,) or (n, k) ndarray, or a scalar
        Object array of labels for a factor column.

    Raises
    ------
    DataError
        When arithmetic is asked of a factor, or a function gets arguments it does not take.
    """
    if isinstance(node, Number):
        return node.value
    if isinstance(node, Text):
        return node.value
    if isinstance(node, Paren):
        return evaluate(node.inner, table, state)
    if isinstance(node, Name):
        return _named(node, table)
    if isinstance(node, Unary):
        operand = _numbers(evaluate(node.operand, table, state), node)
        return (
            np.logical_not(operand)
            if node.operator == "!"
            else (-operand if node.operator == "-" else operand)
        )
    if isinstance(node, Binary):
        return _binary(node, table, state)
    assert isinstance(node, Call)
    return _call(node, table, state)


def _named(node: Name, table: Table) -> Any:
    if node.name in _CONSTANTS and node.name not in table.names:
        return _CONSTANTS[node.name]
    column = table.column(node.name)
    if column.levels is None:
        return column.values
    return np.array([*column.levels, None], dtype=object)[column.values]


def _numbers(value: Any, node: Node) -> Any:
    if isinstance(value, str) or (isinstance(value, np.ndarray) and value.dtype == object):
        raise DataError(f"'{deparse(node)}' needs numbers, but got a factor or a text")
    return value


def _binary(node: Binary, table: Table, state: State) -> Any:
    if node.operator not in _OPERATORS:
        raise DataError(f"operator '{node.operator}' in '{deparse(node)}' is not arithmetic")
    left, right = evaluate(node.left, table, state), evaluate(node.right, table, state)
    if node.operator not in ("==", "!="):
        left, right = _numbers(left, node), _numbers(right, node)
    with np.errstate(all="ignore"):
        if np.asarray(left).dtype.kind == "b":  # numpy refuses to subtract booleans
            left = np.asarray(left, dtype=np.float64)
        return _OPERATORS[node.operator](left, right)


def _call(node: Call, table: Table, state: State) -> Any:
    function = plain_function(node.function)
    positional = [evaluate(a, table, state) for name, a in node.arguments if name is None]
    named = {name: evaluate(a, table, state) for name, a in node.arguments if name is not None}
    try:
        if function in STATEFUL:
            return _stateful(function, node, positional, named, state)
        if function == "log" and (len(positional) == 2 or "base" in named):
            base = named.get("base", positional[-1])
            with np.errstate(all="ignore"):
                return np.log(_numbers(positional[0], node)) / np.log(base)
        if function == "round" and "digits" in named:
            positional.append(named.pop("digits"))
        if function == "round" and len(positional) == 2:
            positional[1] = int(positional[1])
        if function != "I":
            positional = [_numbers(value, node) for value in positional]
        with np.errstate(all="ignore"):
            return ELEMENTWISE[function](*positional, **named)
    except TypeError as error:
        raise DataError(f"'{deparse(node)}' does not work with these arguments: {error}") from None


def _stateful(
    function: str, node: Call, positional: list[Any], named: dict[str, Any], state: State
) -> np.ndarray:
    x = np.asarray(_numbers(positional[0], node), dtype=np.float64)
    if np.isinf(x).any():  # one such row would spoil the basis of all others
        raise DataError(f"'{deparse(node.arguments[0][1])}' in '{deparse(node)}' has infinite values, "
                        f"{first_row(np.isinf(x), x)}; correct such rows or leave them out")  # fmt: skip
    memory = state.setdefault(deparse(node), {})
    if function in ("scale", "center"):
        return _standardize(x, function, positional, named, memory)
    options = {name: int(v) if name in ("df", "degree") else v for name, v in named.items()}
    if len(positional) > 1:
        options["degree" if function == "poly" else "df"] = int(positional[1])
    if not memory:
        _check_spread(function, x, options, node)
    transforms = _formulaic_transforms()
    values = transforms[function](x, **options, _state=memory)
    if hasattr(values, "keys"):
        return np.column_stack([np.asarray(values[key], dtype=np.float64) for key in values])
    values = np.asarray(values, dtype=np.float64)
    return values.reshape(x.shape[0], -1)


def _formulaic_transforms() -> Any:
    try:
        from formulaic.transforms import TRANSFORMS
    except ImportError as error:
        raise DependencyError("poly() and splines need formulaic: pip install formulaic") from error
    return TRANSFORMS


def _check_spread(function: str, x: np.ndarray, options: dict[str, Any], node: Node) -> None:
    distinct = np.unique(x[~np.isnan(x)]).size
    degree = int(options.get("degree", 1)) if function == "poly" else 1
    if degree < 1:
        raise DataError(f"'{deparse(node)}': the degree must be at least 1")
    if distinct <= degree:
        raise DataError(
            f"'{deparse(node)}' needs more than {degree} distinct values, but the column has {distinct}"
        )


def _standardize(
    x: np.ndarray, function: str, positional: list[Any], named: dict[str, Any], memory: dict[str, Any]
) -> np.ndarray:
    """R's ``scale(x, center = TRUE, scale = TRUE)``; missing values stay missing."""
    if not memory:
        center = named.get("center", positional[1] if len(positional) > 1 else True)
        spread = named.get("scale", positional[2] if len(positional) > 2 else True)
        memory["center"] = float(np.nanmean(x)) if center is True else float(center)
        memory["scale"] = 1.0
        if function == "scale" and spread is not False:
            shifted = x - memory["center"]
            count = int((~np.isnan(x)).sum())
            root = float(np.sqrt(np.nansum(shifted**2) / max(count - 1, 1)))
            memory["scale"] = root if spread is True else float(spread)
    return np.asarray((x - memory["center"]) / memory["scale"])
