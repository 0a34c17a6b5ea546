"""What a formula is made of: terms of the fixed part, random parts, the whole."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

from fastlmm_core.display.displayed import Displayed
from fastlmm_core.formula.expressions import (
    Name,
    Node,
    deparse,
    label_of,
)
from fastlmm_core.formula.functions import (
    CONSTANTS,
    columns_read,
)
from fastlmm_core.formula.structured_parts import (
    UNITS,
    GroupFactor,
    SplinePart,
)
from fastlmm_core.limits import DEFAULT, Limits

Term = tuple[str, ...]  # texts of the variables of an interaction, in order of appearance in the formula


@dataclass(frozen=True)
class TermList:
    """The terms of one linear part.

    Attributes
    ----------
    intercept : bool
    terms : tuple of tuple of str
        Texts of the variables of each term, in R's order: by number of variables, then by appearance.
    atoms : dict of str to Node
        Syntax tree of each variable, in order of appearance.
    """

    intercept: bool
    terms: tuple[Term, ...]
    atoms: dict[str, Node]


@dataclass(frozen=True)
class RandomPart:
    """One random term ``STRUCT(terms | group, options)``.

    Attributes
    ----------
    group : str
        Label as lme4 writes it, ``"V:B"``.
    factors : tuple of Node
        Grouping variables, the slowest varying first in the order of the levels.
    terms : TermList
        What varies between the levels.
    structure : str
        Canonical name, ``"us"`` (unstructured), ``"diag"``, ``"fa"``, ...
    position : int
        Where the term starts in the formula.
    label : str
        The term as written, ``"fa(0 + year | gen, k=2)"``.
    kinds : tuple of GroupFactor
        How each factor right of the bar is meant; those with a column are `factors`, in the same order.
    options : dict
        Of the structure: ``{"k": 2}``.
    incidence : tuple of tuple of Node
        Columns left of the bar whose levels are those of ``vm(A)``, one tuple for each coefficient; several
        columns of one tuple are overlaid. Empty for an ordinary term.
    taken_from : str
        The term with ``||`` this one is a part of, ``"(1 + x || g)"``; empty for other terms.
    whole : TermList or None
        What varies in all of the term with ``||``: a factor beside others has the columns it has there.
    """

    group: str
    factors: tuple[Node, ...]
    terms: TermList
    structure: str
    position: int
    label: str = ""
    kinds: tuple[GroupFactor, ...] = ()
    options: dict[str, int] = field(default_factory=dict)
    incidence: tuple[tuple[Node, ...], ...] = ()
    taken_from: str = ""
    whole: TermList | None = None

    @property
    def is_plain(self) -> bool:
        """Independent levels of columns, unstructured or diagonal: what lme4 1.x fits."""
        if self.structure not in ("us", "diag") or any(kind.kind != "id" for kind in self.kinds):
            return False
        return not any(isinstance(node, Name) and node.name == UNITS for node in self.factors)


@dataclass(frozen=True, repr=False)
class ParsedFormula(Displayed):
    """A formula after parsing; independent of any table, so it can be reused for many.

    Attributes
    ----------
    text : str
        The formula as given.
    response : Node or None
        Expression left of ``~``.
    fixed : TermList
    offsets : tuple of Node
        Arguments of ``offset(...)``.
    random : tuple of RandomPart
        In the order of the formula.
    splines : tuple of SplinePart
        Penalized splines, in the order of the formula.
    limits : Limits
        What the model may grow to.
    open_trend : (str, str) or None
        The formula before, and the text of, a field trend by environments, whose terms depend on what the
        table says of them; see ``trend_environments.settle_environments``.
    """

    text: str
    response: Node | None
    fixed: TermList
    offsets: tuple[Node, ...]
    random: tuple[RandomPart, ...]
    splines: tuple[SplinePart, ...] = ()
    limits: Limits = DEFAULT
    open_trend: tuple[str, str] | None = None

    @property
    def expressions(self) -> tuple[Node, ...]:
        """Variables of the linear parts, offsets and grouping factors: all but the response."""
        nodes: list[Node] = [*self.fixed.atoms.values(), *self.offsets]
        for part in self.random:
            nodes += [*part.factors, *part.terms.atoms.values()]
            nodes += [node for columns in part.incidence for node in columns]
        nodes += [node for spline in self.splines for node in (*spline.variables, *spline.at)]
        return tuple(nodes)

    @property
    def is_plain(self) -> bool:
        """Whether lme4 1.x has every term: no other structure, relation of levels or spline."""
        return not self.splines and all(part.is_plain for part in self.random)

    @property
    def response_name(self) -> str:
        """The response as R prints it, ``""`` without one."""
        return "" if self.response is None else label_of(deparse(self.response))

    @cached_property
    def open_names(self) -> frozenset[str]:
        """Names whose meaning depends on the table: constants of the language, ``units``, and ``.``."""
        nodes = (*self.expressions, *(() if self.response is None else (self.response,)))
        names = {name.name for node in nodes for name in columns_read(node) if not name.quoted}
        return frozenset(names & {".", UNITS, *CONSTANTS})

    def _shown(self) -> str:
        return self.text
