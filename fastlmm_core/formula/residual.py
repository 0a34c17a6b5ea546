"""The residual of a model: ``residual="units"``, by groups, within subjects, over a field, or known.

"units"                  independent, one variance
"units | env"            a variance for each level of env
"us(visit | subject)"    a covariance of the visits of a subject; "... | arm" one for each arm
"ar1(row):ar1(col)"      a process over the plots of a field, missing plots allowed; "... | env" one for each
"vm(units, Omega)"       a known covariance of the rows; "vm(plot, Omega)" of rows named by a column
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fastlmm_core.display.displayed import Displayed
from fastlmm_core.errors import FormulaError, OptionError
from fastlmm_core.formula.covariance_names import check_structure, resolve_structure
from fastlmm_core.formula.expressions import Binary, Call, Name, Node, Parser, bare, deparse
from fastlmm_core.formula.functions import check_functions, is_factor_call, names_read
from fastlmm_core.formula.other_grammars import residual_here
from fastlmm_core.formula.structured_parts import UNITS, GroupFactor, option_text, read_group_factor
from fastlmm_core.structures.levels.relation import LevelFactor
from fastlmm_core.structures.registry import find_coefficient_structure
from fastlmm_core.structures.relationships.blocks import BlockCovariance


@dataclass(frozen=True)
class ParsedResidual:
    """A residual as written; independent of any table.

    Attributes
    ----------
    text : str
        As results show it; it reads as the same residual again.
    kind : str
        ``"units"``, ``"within"``, ``"field"`` or ``"known"``.
    by : tuple of Node
        Factors after the last bar, whose combined levels have parameters of their own.
    structure : str or None
        Of the positions within a subject.
    options : dict
    position : Node or None
    subject : tuple of Node
    factors : tuple of GroupFactor
        Of a field, or the one of a known covariance.
    nodes : tuple of Node
        Columns of `factors`.
    """

    text: str
    kind: str
    by: tuple[Node, ...] = ()
    structure: str | None = None
    options: dict[str, int] = field(default_factory=dict)
    position: Node | None = None
    subject: tuple[Node, ...] = ()
    factors: tuple[GroupFactor, ...] = ()
    nodes: tuple[Node, ...] = ()

    @property
    def expressions(self) -> tuple[Node, ...]:
        """All columns it reads."""
        own = (*self.by, *self.subject, *self.nodes)
        return own if self.position is None else (self.position, *own)

    @property
    def by_distance(self) -> bool:
        """Whether the distance of the positions within a subject has a meaning."""
        return self.structure is not None and find_coefficient_structure(self.structure).by_distance

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns it reads."""
        return names_read(self.expressions)

    @property
    def is_plain(self) -> bool:
        """Independent residuals with one variance."""
        return self.kind == "units" and not self.by


@dataclass(frozen=True, repr=False)
class ResidualSpec(Displayed):
    """The residual on the rows used.

    Attributes
    ----------
    text : str
    kind : str
        ``"units"``, ``"within"``, ``"field"`` or ``"known"``.
    by : (name, levels, codes) or None
        Factor whose levels have parameters of their own, with the (n,) int32 level of every row.
    structure : str or None
        Covariance of the positions within a subject; `options` are its options.
    position_name, positions, position_codes
        What varies within a subject: its levels and the (n,) int32 level of every row.
    subject_name, subject_codes
        Subjects, (n,) int32; one of two levels of `by` counts as two.
    field_factors : tuple of tuple of LevelFactor
        Factors of the grid, by level of `by`, trimmed to the range used there.
    field_codes : tuple of (n,) int32
        Place of every row along each factor of its grid.
    known_name : str or None
        Name of the relationship.
    known_rows : (n,) int64 or None
        Row of every observation among its levels.
    relationship : Relationship or None
    """

    text: str = UNITS
    kind: str = "units"
    by: tuple[str, tuple[str, ...], np.ndarray] | None = None
    structure: str | None = None
    options: Mapping[str, int] = field(default_factory=dict)
    position_name: str | None = None
    positions: tuple[str, ...] = ()
    position_codes: np.ndarray | None = None
    subject_name: str | None = None
    subject_codes: np.ndarray | None = None
    field_factors: tuple[tuple[LevelFactor, ...], ...] = ()
    field_codes: tuple[np.ndarray, ...] = ()
    known_name: str | None = None
    known_rows: np.ndarray | None = None
    relationship: Any = None

    def _shown(self) -> str:
        return f"residual: {self.text}"

    @property
    def is_plain(self) -> bool:
        """Independent residuals with one variance."""
        return self.kind == "units" and self.by is None

    @property
    def group(self) -> str:
        """What the components of the residual are listed under: ``"Residual(trait|animal)"``."""
        inner = f"({self.position_name}|{self.subject_name})" if self.kind == "within" else ""
        return f"Residual{inner}" + ("" if self.by is None else f"|{self.by[0]}")

    def known_blocks(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """Known covariance of the rows used by blocks: rows (k,) and their covariance (k, k)."""
        assert self.known_rows is not None
        if not isinstance(self.relationship, BlockCovariance):
            return [(np.arange(self.known_rows.size), self.known_covariance())]
        return self.relationship.blocks_of(self.known_rows)

    def known_covariance(self) -> np.ndarray:
        """(n, n) known covariance of the rows used."""
        assert self.known_rows is not None
        unit = np.zeros((self.relationship.size, self.known_rows.size))
        unit[self.known_rows, np.arange(self.known_rows.size)] = 1.0
        return np.asarray(self.relationship.multiply(unit))[self.known_rows]


PLAIN = ParsedResidual(UNITS, "units")


def parse_residual(text: Any) -> ParsedResidual:
    """Read the text of ``residual=``.

    Parameters
    ----------
    text : str or None
        None for ``"units"``.

    Returns
    -------
    ParsedResidual

    Raises
    ------
    OptionError
        When it is not a string.
    FormulaError
        Where it goes wrong, and what would be right.
    """
    if text is None or text == UNITS:
        return PLAIN
    if isinstance(text, ParsedResidual):
        return text
    if not isinstance(text, str):
        raise OptionError(f"residual={text!r} must be a string such as 'units', 'units | env' or "
                          "'ar1(row):ar1(col)'")  # fmt: skip
    if not text.strip():
        raise FormulaError("residual= is empty; write for example 'units' or 'us(visit | subject)'", text, 0)
    node = bare(Parser(text).parse())
    try:
        return _parse_tree(node, text)
    except FormulaError:
        words = residual_here(node)
        if not words or words == deparse(node):
            raise
        raise FormulaError(f"'{deparse(node)}' as residual: here '{words}'", text, node.position) from None


def _parse_tree(node: Node, text: str) -> ParsedResidual:
    by: tuple[Node, ...] = ()
    if isinstance(node, Binary) and node.operator == "|":
        by = _factors(node.right, text, "after the last bar")
        node = bare(node.left)
    tail = f" | {':'.join(map(deparse, by))}" if by else ""
    if isinstance(node, Name) and node.name == UNITS:
        return ParsedResidual(UNITS + tail, "units", by)
    within = _parse_within(node, by, text, tail) if isinstance(node, Call) else None
    return within or _parse_relations(node, by, text, tail)


def _factors(node: Node, text: str, where: str) -> tuple[Node, ...]:
    """Columns joined by ``:``."""
    node = bare(node)
    if isinstance(node, Binary) and node.operator == ":":
        return _factors(node.left, text, where) + _factors(node.right, text, where)
    if isinstance(node, Name):
        return (node,)
    if is_factor_call(node):
        check_functions(node, text)
        return (node,)
    raise FormulaError(f"{where} of a residual stand factors joined by ':', not '{deparse(node)}'",
                       text, node.position)  # fmt: skip


def _parse_within(node: Call, by: tuple[Node, ...], text: str, tail: str) -> ParsedResidual | None:
    """``STRUCT(position | subject, options)``; None when the call has no bar."""
    if not node.arguments:
        return None
    inner = bare(node.arguments[0][1])
    if not isinstance(inner, Binary) or inner.operator not in ("|", "||"):
        return None
    check_structure(node.function, text, node.position)
    if inner.operator == "||":
        raise FormulaError("write '|' for what varies within a subject; diag(visit | subject) has no "
                           "covariances", text, inner.position)  # fmt: skip
    structure, options = resolve_structure(node.function, node.arguments[1:], text)
    if not find_coefficient_structure(structure).within_subjects:
        raise FormulaError(f"'{node.function}' is a structure of random terms; within a subject there are "
                           "us, diag, cs, homcs, ar1, hetar1, toep and "
                           "homtoep", text, node.position)  # fmt: skip
    position = _factors(inner.left, text, "left of the bar")
    subject = _factors(inner.right, text, "right of the bar")
    if len(position) > 1:
        raise FormulaError("one factor varies within a subject; make a column of the combinations",
                           text, inner.left.position)  # fmt: skip
    if any(isinstance(own, Name) and own.name == UNITS for own in subject):
        raise FormulaError(
            "'units' has one row a subject; name the column of the subjects", text, inner.right.position
        )
    label = f"{node.function}({deparse(position[0])} | {':'.join(map(deparse, subject))}"
    label += f"{option_text(node.arguments[1:])}){tail}"
    return ParsedResidual(label, "within", by, structure, options, position[0], subject)


def _parse_relations(node: Node, by: tuple[Node, ...], text: str, tail: str) -> ParsedResidual:
    """``ar1(row):ar1(col)`` or ``vm(units, Omega)``."""
    kinds: list[GroupFactor] = []
    nodes: list[Node] = []
    for factor in _product(node):
        found = read_group_factor(factor, text)
        if found is None and isinstance(factor, Name):
            found = GroupFactor("id", deparse(factor)), (factor,)
        if found is None or found[0].kind == "at" or not found[0].has_column:
            raise FormulaError(
                f"'{deparse(factor)}' is not a residual; write units, STRUCT(visit | subject), "
                "ar1(row):ar1(col) or vm(units, Omega), each with '| env' for parameters of each "
                "level", text, factor.position
            )  # fmt: skip
        kinds.append(found[0])
        nodes += _factors(found[1][0], text, "in the factors")
    label = ":".join(map(deparse, _product(node))) + tail  # can be read again: with its backticks
    if any(kind.kind == "vm" for kind in kinds):
        if len(kinds) > 1 or by:
            raise FormulaError(
                "a known residual covariance stands alone: vm(units, Omega)", text, node.position
            )
        return ParsedResidual(label, "known", (), factors=tuple(kinds), nodes=tuple(nodes))
    if not any(kind.kind == "ar1" for kind in kinds):
        raise FormulaError(f"'{label}' has nothing that relates the rows; write units, ar1() around a "
                           f"factor, or 'units | {label}' for variances of its levels",
                           text, node.position)  # fmt: skip
    return ParsedResidual(label, "field", by, factors=tuple(kinds), nodes=tuple(nodes))


def _product(node: Node) -> list[Node]:
    node = bare(node)
    if isinstance(node, Binary) and node.operator == ":":
        return _product(node.left) + _product(node.right)
    return [node]
