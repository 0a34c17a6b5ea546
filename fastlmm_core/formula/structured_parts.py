"""What a formula says beyond lme4's bars: relations of the levels right of a bar, and penalized splines.

Right of the bar each factor may be a call: ``vm(gen, A)`` a known relationship, ``ar1(row)`` positions in a
line, ``at(site)`` separate parameters for each level, ``at(site, S1, S3)`` for these alone, ``id(gen)`` the
factor itself.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from fastlmm_core.errors import FormulaError, name_list
from fastlmm_core.formula.covariance_names import constant
from fastlmm_core.formula.expressions import (
    Binary,
    Call,
    Name,
    Node,
    Number,
    Text,
    bare,
    deparse,
    label_of,
    number_text,
)

RELATIONS = ("vm", "ar1", "at", "id")
SPLINES = ("spl", "ps")
AUTO = "auto"  # nseg=auto: as many segments as the data ask for, ``smooths.segments_for``
UNITS = "units"  # in the place of a factor: every row is a level


@dataclass(frozen=True)
class GroupFactor:
    """One factor right of a bar.

    Attributes
    ----------
    kind : str
        ``"id"``, ``"ar1"``, ``"vm"`` or ``"at"``.
    text : str
        As written: ``"ar1(row)"``.
    relationship : str or None
        Name in ``relationships=`` of a ``"vm"``.
    has_column : bool
        False for ``vm(A)``, whose columns stand left of the bar.
    levels : tuple of str
        Of ``at(site, S1, S3)`` the levels; empty for all.
    """

    kind: str
    text: str
    relationship: str | None = None
    has_column: bool = True
    levels: tuple[str, ...] = ()


@dataclass(frozen=True)
class SplinePart:
    """A penalized spline, ``spl(x)``, ``ps(x)`` or ``ps(x1, x2)``; ``at(env):spl(x)`` one for each level.

    Attributes
    ----------
    label : str
        ``"ps(row, col, nseg=(6, 14))"``.
    kind : str
        ``"spl"`` or ``"ps"``.
    variables : tuple of Node
    n_segments : tuple of int, or None
        One for each variable; None where ``nseg=auto`` leaves them to the data.
    degree, order : int
        Of the B-splines, and of the differences that are penalized.
    position : int
    curve : str
        The label without ``at()``.
    at : tuple of Node
        Factors of ``at()``; each of their levels has a spline of its own.
    at_levels : tuple of tuple of str
        By factor of ``at()`` the levels that are asked for, none for all.
    """

    label: str
    kind: str
    variables: tuple[Node, ...]
    n_segments: tuple[int, ...] | None
    degree: int
    order: int
    position: int
    curve: str
    at: tuple[Node, ...] = ()
    at_levels: tuple[tuple[str, ...], ...] = ()


def names_spline(label: str) -> bool:
    """Whether a term is a spline by its label, ``"at(env, E1):ps(row, col)"``."""
    return label.split("):")[-1].startswith(tuple(f"{name}(" for name in SPLINES))


def read_group_factor(node: Node, formula: str) -> tuple[GroupFactor, tuple[Node, ...]] | None:
    """The relation a factor right of a bar is written with, and its column; None for a plain factor.

    Raises
    ------
    FormulaError
        When the call has too few or too many arguments.
    """
    if not isinstance(node, Call) or node.function not in RELATIONS:
        return None
    kind, text = node.function, label_of(deparse(node))
    arguments = [argument for name, argument in node.arguments if name is None]
    if len(arguments) < len(node.arguments):
        raise FormulaError(f"'{kind}()' right of a bar takes no options", formula, node.position)
    if kind == "vm":
        if not 1 <= len(arguments) <= 2 or not isinstance(arguments[-1], Name):
            raise FormulaError("vm() takes a factor and the name of a relationship: vm(gen, A)",
                               formula, node.position)  # fmt: skip
        return GroupFactor(kind, text, arguments[-1].name, len(arguments) == 2), tuple(arguments[:-1])
    levels: tuple[str, ...] = ()
    if kind == "at" and len(arguments) > 1:
        given = [_items(argument) for argument in arguments[1:]]
        levels = tuple(_level(own, formula) for items in given for own in items)
        arguments = arguments[:1]
    if len(arguments) != 1:
        raise FormulaError(f"'{kind}()' right of a bar takes one factor: {kind}(x)", formula, node.position)
    return GroupFactor(kind, text, levels=levels), tuple(arguments)


def _items(node: Node) -> list[Node]:
    """One level, or those of ``c("E1", "E3")``."""
    if isinstance(node, Call) and node.function == "c":
        return [argument for _, argument in node.arguments]
    return [node]


def _level(node: Node, formula: str) -> str:
    """A level's text."""
    if isinstance(node, Name):
        return node.name
    if isinstance(node, Text):
        return node.value
    if isinstance(node, Number):
        return number_text(node.value)
    raise FormulaError(f"'{deparse(node)}' in at() is not a level; write at(env, E1) or at(env, \"E 1\")",
                       formula, node.position)  # fmt: skip


def option_text(given: tuple[tuple[str | None, Node], ...]) -> str:
    """Options as labels show them, ``", k=2"``."""
    return "".join(
        f", {deparse(node) if name is None else f'{name}={deparse(node)}'}" for name, node in given
    )


def read_spline(node: Call, formula: str) -> SplinePart:
    """``spl(x)``, ``ps(x, nseg=20)``, ``ps(x1, x2, nseg=(10, 20))`` or ``ps(x1, x2, nseg=auto)``.

    Raises
    ------
    FormulaError
        When variables or options are not what the spline takes.
    """
    kind = node.function
    variables = tuple(argument for name, argument in node.arguments if name is None)
    given = {name: argument for name, argument in node.arguments if name is not None}
    for variable in map(bare, variables):
        if isinstance(variable, Binary) and variable.operator == "|":
            curve = f"{kind}({', '.join([*map(deparse, variables[:-1]), deparse(variable.left)])})"
            raise FormulaError(f"'{deparse(node)}': a spline for each level of {deparse(variable.right)} is "
                               f"at({deparse(variable.right)}):{curve}", formula, node.position)  # fmt: skip
    if not 1 <= len(variables) <= (2 if kind == "ps" else 1):
        what = ("one variable or two; options are written by name, such as nseg=20" if kind == "ps" else
                "one variable, whose distinct values are the knots; ps(x, nseg=9) takes their number, and "
                "ps(x1, x2) two variables")  # fmt: skip
        raise FormulaError(f"'{kind}()' takes {what}", formula, node.position)
    allowed = ("nseg", "degree", "pord") if kind == "ps" else ()
    for name in given:
        if name not in allowed:
            what = (
                f"; it takes {name_list(allowed)}"
                if allowed
                else ": its knots are the distinct values; ps(x, nseg=9) takes their number"
            )
            raise FormulaError(f"'{kind}()' has no option '{name}'{what}", formula, node.position)
    automatic = isinstance(given.get("nseg"), Name) and deparse(given["nseg"]) == AUTO
    values = {name: constant(argument, formula) for name, argument in given.items()
              if not (automatic and name == "nseg")}  # fmt: skip
    segments = values.get("nseg", 20)
    segments = segments if isinstance(segments, tuple) else (segments,) * len(variables)
    if len(segments) != len(variables):
        raise FormulaError(f"nseg of {len(segments)} numbers does not go with {len(variables)} variables",
                           formula, node.position)  # fmt: skip
    degree, order = values.get("degree", 3), values.get("pord", 2)
    _check_numbers(segments, degree, order, formula, node.position)
    label = label_of(f"{kind}({', '.join(map(deparse, variables))}{option_text(tuple(given.items()))})")
    return SplinePart(
        label, kind, variables, None if automatic else segments, degree, order, node.position, label
    )


def read_spline_at(nodes: list[Node], formula: str) -> SplinePart | None:
    """``at(env):ps(row, col)``, by the factors of the ``:``; None where none of them is a spline.

    Raises
    ------
    FormulaError
        When a spline stands beside anything but ``at()``.
    """
    calls = [node for node in nodes if isinstance(node, Call)]
    splines = [node for node in calls if node.function in SPLINES]
    if not splines:
        return None
    others = [node for node in nodes if node is not splines[0]]
    part, texts = read_spline(splines[0], formula), []
    factors: list[Node] = []
    levels: list[tuple[str, ...]] = []
    for node in others:
        found = read_group_factor(node, formula)
        if found is None or found[0].kind != "at":
            raise FormulaError(f"'{splines[0].function}()' stands as a term of its own, joined by '+', or as "
                               f"at(env):{splines[0].function}(...), one for each environment",
                               formula, node.position)  # fmt: skip
        texts.append(found[0].text)
        factors += found[1]
        levels.append(found[0].levels)
    label = label_of(":".join([*texts, part.label]))
    first = min(node.position for node in nodes)
    return replace(part, label=label, at=tuple(factors), at_levels=tuple(levels), position=first)


def _check_numbers(segments: tuple[Any, ...], degree: Any, order: Any, formula: str, position: int) -> None:
    def whole(value: Any, low: int, high: int) -> bool:
        return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high

    for count in segments:
        if not whole(count, 1, 10_000):
            raise FormulaError(
                f"nseg={count} must be a whole number of segments, 1 to 10000", formula, position
            )
    if not whole(degree, 1, 10):
        raise FormulaError(f"degree={degree} must be a whole number, 1 to 10", formula, position)
    if not whole(order, 1, min(degree + 1, 4)):
        raise FormulaError(
            f"pord={order} must be a whole number, 1 to {min(degree + 1, 4)}", formula, position
        )
    for count in segments:
        if count + degree <= order:
            raise FormulaError(f"nseg={count} with degree {degree} leaves nothing to penalize by "
                               f"differences of order {order}; use more "
                               "segments", formula, position)  # fmt: skip
