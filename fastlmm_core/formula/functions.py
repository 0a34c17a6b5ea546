"""The functions of the formula language: their parameters, and which columns an expression reads.

Every question about a call is answered here: whether the function is known, which argument goes where, which
arguments hold expressions of columns and which hold constants. `columns_read` follows the same declarations,
so no other place decides what a column is.
"""

from __future__ import annotations

import math
from collections.abc import Container, Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from fastlmm_core.errors import FormulaError, name_list, nearest_names
from fastlmm_core.formula.expressions import (
    IN_BACKTICKS,
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
)
from fastlmm_core.other_names import call_words

# Names of constants; a column of that name comes first (see `bind_constants`).
CONSTANTS: dict[str, Any] = {
    "TRUE": True, "FALSE": False, "T": True, "F": False, "pi": math.pi, "Inf": math.inf, "NA": math.nan,
    "NULL": None,
}  # fmt: skip


@dataclass(frozen=True)
class Signature:
    """What a function takes.

    Attributes
    ----------
    values : tuple of str
        Parameters that hold expressions of columns; ``"..."`` stands for any number of them.
    settings : tuple of str
        Parameters that hold constants: numbers, texts, ``c(...)``.
    coding : tuple of str
        Parameters that hold the name of a contrast coding.
    optional : int
        How many of `values`, from the end, may be left out.
    """

    values: tuple[str, ...] = ("x",)
    settings: tuple[str, ...] = ()
    coding: tuple[str, ...] = ()
    optional: int = 0

    @property
    def positions(self) -> tuple[str, ...]:
        """Parameters that arguments without a name fill, in order."""
        return self.values + self.coding + self.settings


_ONE = Signature()
_REDUCTION = Signature(settings=("na.rm",))
_SPLINE = ("df", "knots", "degree", "intercept", "Boundary.knots")
_CUBIC = ("df", "knots", "lower_bound", "upper_bound", "constraints")

ROWWISE = frozenset(
    "I log2 log10 log1p exp expm1 sqrt abs sin cos tan sinh cosh tanh atan asin acos floor ceiling trunc "
    "sign plogis qlogis as.numeric as.integer is.na log round pmin pmax ifelse".split()
)  # a value follows from the values of its arguments in the same row alone
REDUCTIONS = frozenset("mean sum min max sd var median length".split())
BASES = frozenset(("poly", "scale", "center", "bs", "ns", "cr", "cc"))
# Each distinct value of the argument is a level, also of numbers.
FACTOR_CALLS = ("C", "factor", "as.factor", "ordered", "relevel", "interaction")

SIGNATURES: dict[str, Signature] = {
    **dict.fromkeys(ROWWISE, _ONE),
    **dict.fromkeys(REDUCTIONS, _REDUCTION),
    "log": Signature(settings=("base",)),
    "round": Signature(settings=("digits",)),
    "pmin": Signature(("...",)),
    "pmax": Signature(("...",)),
    "ifelse": Signature(("test", "yes", "no")),
    "poly": Signature(settings=("degree", "raw")),
    "scale": Signature(settings=("center", "scale")),
    "center": _ONE,
    "bs": Signature(settings=_SPLINE),
    "ns": Signature(settings=tuple(name for name in _SPLINE if name != "degree")),
    "cr": Signature(settings=_CUBIC),
    "cc": Signature(settings=_CUBIC),
    "C": Signature(("object",), ("base", "reference", "levels"), ("contr",)),
    "factor": Signature(settings=("levels", "labels", "exclude", "ordered")),
    "as.factor": _ONE,
    "ordered": Signature(settings=("levels", "labels", "exclude")),
    "relevel": Signature(settings=("ref",)),
    "interaction": Signature(("...",), ("sep", "lex.order", "drop")),
    "cut": Signature(settings=("breaks", "labels", "include.lowest", "right", "dig.lab", "ordered_result")),
    "dummy": Signature(settings=("levels",)),
}  # fmt: skip
FUNCTIONS = frozenset(SIGNATURES)


def plain_function(name: str) -> str:
    """The name of a function without the prefix ``np.`` that Python users write."""
    return name.removeprefix("np.")


@dataclass(frozen=True)
class Arguments:
    """The arguments of a call by parameter.

    Attributes
    ----------
    values : tuple of Node
        Expressions of columns, in the order of the signature.
    settings : dict of str to Node
    coding : dict of str to Node
    """

    values: tuple[Node, ...]
    settings: dict[str, Node]
    coding: dict[str, Node]


def match_arguments(node: Call, formula: str | None = None) -> Arguments:
    """Which argument of a call is which parameter, by name and then by position as in R.

    Raises
    ------
    FormulaError
        For an unknown function, an argument it does not take, or one that is missing or given twice.
    """
    name = plain_function(node.function)
    signature = SIGNATURES.get(name)
    if signature is None:
        words = call_words(node.function)
        hint = f"; here {words}" if words else nearest_names(node.function, sorted(FUNCTIONS))
        if not words:
            hint += f"; {IN_BACKTICKS}"
        raise FormulaError(f"function '{node.function}' is not known{hint}", formula, node.position)
    if not node.arguments:
        raise FormulaError(f"'{node.function}()' needs an argument", formula, node.position)
    named = _named_arguments(node, signature, formula)
    free = [parameter for parameter in signature.positions if parameter not in named]
    values: list[Node] = []
    for given, argument in node.arguments:
        if given is not None:
            continue
        if signature.values == ("...",):
            values.append(argument)
            continue
        if not free:
            most = len(signature.positions)
            raise FormulaError(f"'{node.function}' takes at most {most} argument{'s' if most > 1 else ''}",
                               formula, argument.position)  # fmt: skip
        named[free.pop(0)] = argument
    if signature.values != ("...",):
        values = _required_values(node, signature, named, formula)
    if not values:
        raise FormulaError(f"'{node.function}()' needs an argument", formula, node.position)
    return Arguments(
        tuple(values), {k: v for k, v in named.items() if k in signature.settings},
        {k: v for k, v in named.items() if k in signature.coding},
    )  # fmt: skip


def _named_arguments(node: Call, signature: Signature, formula: str | None) -> dict[str, Node]:
    named: dict[str, Node] = {}
    known = tuple(name for name in signature.positions if name != "...")
    for given, argument in node.arguments:
        if given is None:
            continue
        if given not in known:
            allowed = f"; it takes {name_list(known, 12)}" if known else "; it takes columns only"
            raise FormulaError(f"'{node.function}' has no argument '{given}'{allowed}", formula,
                               argument.position)  # fmt: skip
        if given in named:
            raise FormulaError(f"argument '{given}' of '{node.function}' is given twice", formula,
                               argument.position)  # fmt: skip
        named[given] = argument
    return named


def _required_values(
    node: Call, signature: Signature, named: dict[str, Node], formula: str | None
) -> list[Node]:
    needed = signature.values[: len(signature.values) - signature.optional]
    for parameter in needed:
        if parameter not in named:
            raise FormulaError(f"'{node.function}' needs the argument '{parameter}'", formula, node.position)
    return [named[parameter] for parameter in signature.values if parameter in named]


def check_functions(node: Node, formula: str) -> None:
    """Refuse, at its position, a call of an unknown function or with arguments it does not take."""
    if isinstance(node, Call):
        for parameter, setting in match_arguments(node, formula).settings.items():
            try:
                literal(setting)
            except FormulaError as error:
                if node.function == "poly" and columns_read(setting):
                    other = deparse(setting)
                    words = f"poly() takes one column; a second one has its own, as in + poly({other}, 2)"
                    raise FormulaError(words, formula, setting.position) from None
                raise FormulaError(
                    f"{parameter} = {deparse(setting)} of '{node.function}' must be a constant (a number, a "
                    f"text, TRUE, FALSE or c(...)): {error}", formula, setting.position,
                ) from None  # fmt: skip
    for child in children(node):
        check_functions(child, formula)


def children(node: Node) -> tuple[Node, ...]:
    """The parts of an expression that hold columns."""
    if isinstance(node, Call):
        return match_arguments(node).values
    if isinstance(node, Unary):
        return (node.operand,)
    if isinstance(node, Binary):
        return (node.left,) if node.operator == "%in%" else (node.left, node.right)
    return (node.inner,) if isinstance(node, Paren) else ()


def walk(node: Node) -> list[Node]:
    """The expression and all its parts that hold columns, in order of appearance."""
    return [node, *(inner for child in children(node) for inner in walk(child))]


def columns_read(node: Node) -> list[Name]:
    """The columns an expression reads, in order of appearance.

    Names that are constants (``pi``, ``T``) count as columns until `bind_constants` has seen the table.
    """
    return [inner for inner in walk(node) if isinstance(inner, Name)]


def names_read(nodes: Iterable[Node]) -> tuple[str, ...]:
    """Names of the columns that expressions read, each once, in order of appearance."""
    return tuple(dict.fromkeys(name.name for node in nodes for name in columns_read(node)))


def is_factor_call(node: Node) -> bool:
    """Whether the expression makes each distinct value a level: ``factor(...)``, ``C(...)``, ..."""
    return isinstance(node, Call) and node.function in FACTOR_CALLS


def bind_constants(node: Node, columns: Container[str]) -> Node:
    """The expression with names that are constants and no columns replaced by what they mean.

    A name that stands alone is always a column: nothing is modelled by a constant.
    """
    return node if isinstance(node, Name) else _bind(node, columns)


def _bind(node: Node, columns: Container[str]) -> Node:
    if isinstance(node, Name):
        constant = node.name in CONSTANTS and not node.quoted and node.name not in columns
        return Constant(node.position, node.name) if constant else node
    if isinstance(node, Call):
        values = {id(argument) for argument in match_arguments(node).values}
        bound = tuple((k, _bind(a, columns) if id(a) in values else a) for k, a in node.arguments)
        return replace(node, arguments=bound)
    if isinstance(node, Unary):
        return replace(node, operand=_bind(node.operand, columns))
    if isinstance(node, Binary):
        right = node.right if node.operator == "%in%" else _bind(node.right, columns)
        return replace(node, left=_bind(node.left, columns), right=right)
    return replace(node, inner=_bind(node.inner, columns)) if isinstance(node, Paren) else node


def literal(node: Node) -> Any:
    """Value of a constant argument: a number, a text, TRUE, FALSE, NULL, or a list of them.

    Raises
    ------
    FormulaError
        When it is not a constant.
    """
    if isinstance(node, (Number, Text)):
        return node.value
    if isinstance(node, (Name, Constant)) and node.name in CONSTANTS:
        return CONSTANTS[node.name]
    if isinstance(node, Paren):
        return literal(node.inner)
    if isinstance(node, Unary) and node.operator in "+-":
        value = _number(node.operand)
        return -value if node.operator == "-" else value
    if isinstance(node, Call) and node.function in ("c", "seq"):
        return _listed(node)
    if isinstance(node, Binary):
        return _arithmetic(node)
    raise FormulaError(f"'{deparse(node)}' is not a constant")


def _number(node: Node) -> float:
    value = literal(node)
    if isinstance(value, (int, float)):
        return float(value)
    raise FormulaError(f"'{deparse(node)}' is not a number")


def _listed(node: Call) -> list[Any]:
    if node.function == "c":
        found: list[Any] = []
        for _, argument in node.arguments:
            value = literal(argument)
            found += value if isinstance(value, list) else [value]
        return found
    given = dict(zip(("from", "to", "by"), (a for k, a in node.arguments if k is None), strict=False))
    given |= {k: a for k, a in node.arguments if k is not None}
    if not {"from", "to"} <= set(given) <= {"from", "to", "by"}:
        raise FormulaError("seq() takes from, to and by")
    first, last = _number(given["from"]), _number(given["to"])
    return _steps(first, last, _number(given["by"]) if "by" in given else math.copysign(1.0, last - first))


def _steps(first: float, last: float, by: float) -> list[Any]:
    if not by or not math.isfinite((last - first) / by) or not 0 <= (last - first) / by <= 10_000:
        raise FormulaError("a sequence needs a step towards its end, and has at most 10,000 numbers")
    return [first + by * i for i in range(int((last - first) / by + 1e-10) + 1)]


def _arithmetic(node: Binary) -> Any:
    """Arithmetic of constants, also of lists with a number: ``1/3``, ``2:4 * 10``."""
    if node.operator == ":":
        a, b = _number(node.left), _number(node.right)
        return _steps(a, b, math.copysign(1.0, b - a))
    operations = {"+": np.add, "-": np.subtract, "*": np.multiply, "/": np.divide, "^": np.float_power}
    sides = [literal(side) for side in (node.left, node.right)]
    items = [item for side in sides for item in (side if isinstance(side, list) else [side])]
    if node.operator in operations and all(isinstance(item, (int, float)) for item in items):
        with np.errstate(all="ignore"):
            try:
                value = operations[node.operator](*(np.asarray(side, dtype=np.float64) for side in sides))
            except (ValueError, OverflowError):  # lists of different length
                value = np.asarray(np.nan)
        if np.isfinite(value).all():
            return value.tolist()
    raise FormulaError(f"'{deparse(node)}' is not a constant")
