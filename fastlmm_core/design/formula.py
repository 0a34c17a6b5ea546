"""lme4's formula notation: the response, the terms of the fixed part, and the random terms.

The term algebra is R's (Chambers & Hastie 1992, Statistical Models in S, ch. 2): ``+ : * ^ / %in% -``, with
``0``, ``1`` and ``-1`` for the intercept. Bars follow lme4 (Bates et al. 2015, J. Stat. Softw. 67(1), table
2);
structures of coefficients and relations of levels are those of lme4 2.x, glmmTMB and ASReml.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache

from fastlmm_core.design.covariance_names import check_structure, resolve_structure
from fastlmm_core.design.expressions import (
    DEEPEST,
    Binary,
    Call,
    Name,
    Node,
    Number,
    Paren,
    Parser,
    Sequence,
    Unary,
    bare,
    chain_of,
    children_of,
    deparse,
    label_of,
)
from fastlmm_core.design.functions import (
    CONSTANTS,
    FUNCTIONS,
    bind_constants,
    check_functions,
    columns_read,
    is_factor_call,
)
from fastlmm_core.design.structured_parts import (
    SPLINES,
    UNITS,
    GroupFactor,
    SplinePart,
    option_text,
    read_group_factor,
    read_spline,
    refuse_call_among_fixed,
)
from fastlmm_core.errors import FormulaError
from fastlmm_core.limits import DEFAULT, Limits

WIDE = frozenset({"bs", "ns", "cr", "cc", "poly", "cut"})  # a number says how many columns they make
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

    @property
    def is_plain(self) -> bool:
        """Independent levels of columns, unstructured or diagonal: what lme4 1.x fits."""
        if self.structure not in ("us", "diag") or any(kind.kind != "id" for kind in self.kinds):
            return False
        return not any(isinstance(node, Name) and node.name == UNITS for node in self.factors)


@dataclass(frozen=True)
class ParsedFormula:
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
    """

    text: str
    response: Node | None
    fixed: TermList
    offsets: tuple[Node, ...]
    random: tuple[RandomPart, ...]
    splines: tuple[SplinePart, ...] = ()
    limits: Limits = DEFAULT

    @property
    def expressions(self) -> tuple[Node, ...]:
        """Variables of the linear parts, offsets and grouping factors: all but the response."""
        nodes: list[Node] = [*self.fixed.atoms.values(), *self.offsets]
        for part in self.random:
            nodes += [*part.factors, *part.terms.atoms.values()]
            nodes += [node for columns in part.incidence for node in columns]
        nodes += [node for spline in self.splines for node in spline.variables]
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

    def __str__(self) -> str:
        return self.text


class _Expansion:
    """Terms collected so far while walking one side of a formula; `others` is what ``.`` stands for."""

    def __init__(self, formula: str, others: tuple[str, ...] | None = None, limits: Limits = DEFAULT):
        self.formula = formula
        self.limits = limits
        self.others = others
        self.atoms: dict[str, Node] = {}
        self.order: dict[str, int] = {}
        self.offsets: list[Node] = []

    def fail(self, message: str, node: Node) -> FormulaError:
        return FormulaError(message, self.formula, node.position)

    def atom(self, node: Node) -> list[frozenset[str]]:
        if isinstance(node, Call):
            refuse_call_among_fixed(node, self.formula)
            check_functions(node, self.formula)
        text = deparse(node)
        self.order.setdefault(text, len(self.order))
        self.atoms.setdefault(text, node)
        return [frozenset((text,))]

    def expand(self, node: Node, intercept: bool) -> tuple[list[frozenset[str]], bool]:
        """Terms of `node` and whether the intercept stays, given that it was `intercept` before."""
        if isinstance(node, Paren):
            return self.expand(node.inner, intercept)
        if isinstance(node, Number):
            if node.value not in (0, 1):
                raise self.fail(
                    "a number in a formula is 0 or 1 (the intercept); write I(...) for arithmetic", node
                )
            return [], bool(node.value)
        if isinstance(node, Unary) and node.operator in "+-":
            if node.operator == "+":
                return self.expand(node.operand, intercept)
            return self._subtract([], node.operand, intercept)
        if isinstance(node, Binary):
            return self._binary(node, intercept)
        if isinstance(node, Call) and node.function == "offset":
            if len(node.arguments) != 1:
                raise self.fail("offset() takes one expression", node)
            check_functions(node.arguments[0][1], self.formula)
            self.offsets.append(node.arguments[0][1])
            return [], intercept
        if isinstance(node, Name) and node.name == "." and not node.quoted and self.others is not None:
            named = [Name(node.position, name, quoted=True) for name in self.others]
            return [term for name in named for term in self.atom(name)], intercept
        if isinstance(node, (Name, Call)):
            return self.atom(node), intercept
        raise self.fail(f"'{deparse(node)}' is not a term; wrap expressions in I(...)", node)

    def _subtract(
        self, terms: list[frozenset[str]], node: Node, intercept: bool
    ) -> tuple[list[frozenset[str]], bool]:
        removed, constant = self.expand(node, False)
        if isinstance(bare(node), Number):
            return terms, not bool(bare(node).value)  # type: ignore[attr-defined]
        return [t for t in terms if t not in set(removed)], intercept and not constant

    def _binary(self, node: Binary, intercept: bool) -> tuple[list[frozenset[str]], bool]:
        operator = node.operator
        if operator in "+-":
            return self._sum(node, intercept)
        if operator == "^":
            power = bare(node.right)
            if not isinstance(power, Number) or power.value != int(power.value) or power.value < 1:
                raise self.fail(
                    "the power of terms must be a whole number; write I(x^p) for arithmetic", node.right
                )
            return self._power(self.expand(node.left, False)[0], int(power.value)), intercept
        if operator in (":", "*", "/", "%in%"):
            left, right = self.expand(node.left, False)[0], self.expand(node.right, False)[0]
            if not left or not right:
                raise self.fail(f"'{operator}' needs variables on both sides", node)
            return self._combine(operator, left, right), intercept
        if operator in ("|", "||"):
            raise self.fail("a random term stands in parentheses: (1|group), joined by '+'", node)
        raise self.fail(f"'{operator}' has no meaning between terms; wrap arithmetic in I(...)", node)

    def _sum(self, node: Binary, intercept: bool) -> tuple[list[frozenset[str]], bool]:
        first, links = chain_of(node, "+-")
        left, intercept = self.expand(first, intercept)
        terms = dict.fromkeys(left)
        for link in links:
            if link.operator == "+":
                right, intercept = self.expand(link.right, intercept)
                terms.update(dict.fromkeys(right))
                self._check_terms(len(terms))
            else:
                left, intercept = self._subtract(list(terms), link.right, intercept)
                terms = dict.fromkeys(left)
        return list(terms), intercept

    def _check_terms(self, count: int) -> None:
        self.limits.check("terms", count, "the formula has at least {} terms")

    def _crossed(self, start: list[frozenset[str]], left: list, right: list) -> list[frozenset[str]]:
        """`start` and every term of `left` with every one of `right`; stops as soon as there are too many."""
        terms = dict.fromkeys(start)
        for a in left:
            terms.update(dict.fromkeys(a | b for b in right))
            self._check_terms(len(terms))
        return list(terms)

    def _power(self, base: list[frozenset[str]], power: int) -> list[frozenset[str]]:
        terms = base
        for _ in range(min(power, len(base) + 1) - 1):
            before = len(terms)
            terms = self._crossed(terms, terms, base)
            if len(terms) == before:
                break
        return terms

    def _combine(self, operator: str, left: list, right: list) -> list[frozenset[str]]:
        if operator == "/":
            return _union(left, [frozenset().union(*left) | b for b in right])
        return self._crossed(_union(left, right) if operator == "*" else [], left, right)

    def finish(self, terms: list[frozenset[str]], intercept: bool) -> TermList:
        """The terms in R's order: by number of variables, then by appearance."""
        ordered = sorted(terms, key=len)
        texts = tuple(tuple(sorted(t, key=self.order.__getitem__)) for t in ordered)
        used = {text for term in texts for text in term}
        return TermList(intercept, texts, {t: n for t, n in self.atoms.items() if t in used})


def _union(left: list[frozenset[str]], right: list[frozenset[str]]) -> list[frozenset[str]]:
    return list(dict.fromkeys([*left, *right]))


@dataclass(frozen=True)
class _Bar:
    """A bar as written: name of the structure (None for plain parentheses), columns before it, options."""

    inner: Binary
    name: str | None = None
    before: tuple[Node, ...] = ()
    given: tuple[tuple[str | None, Node], ...] = ()


def _split_random(node: Node, formula: str) -> tuple[Node | None, list[_Bar | SplinePart]]:
    """Take the random terms out of the right-hand side: (fixed remainder, bars and splines)."""
    if isinstance(node, Binary) and node.operator in "+-":
        first, links = chain_of(node, "+-")
        left, found = _split_random(first, formula)
        for link in links:
            right, more = _split_random(link.right, formula)
            if link.operator == "-" and more:
                raise FormulaError("a random term cannot be subtracted", formula, link.position)
            if left is None or right is None:
                left = left if right is None else Unary(link.position, link.operator, right)
            else:
                left = Binary(link.position, link.operator, left, right)
            found += more
        return left, found
    if isinstance(node, Paren):
        inner = bare(node)
        if _is_bar(inner):
            return None, [_Bar(inner)]  # type: ignore[arg-type]
        remainder, found = _split_random(inner, formula)
        return (None if remainder is None else Paren(node.position, remainder)), found
    if isinstance(node, Call) and node.function in SPLINES:
        return None, [read_spline(node, formula)]
    if isinstance(node, Sequence) or (isinstance(node, Call) and node.function not in FUNCTIONS):
        bar = _read_bar(node, formula)
        if bar is not None:
            return None, [bar]
    return node, []


def _is_bar(node: Node) -> bool:
    return isinstance(node, Binary) and node.operator in ("|", "||")


def _read_bar(node: Call | Sequence, formula: str) -> _Bar | None:
    """``STRUCT(columns, ..., terms | group, options)``, or the same without a name; None without a bar."""
    name = node.function if isinstance(node, Call) else None
    given = node.arguments if isinstance(node, Call) else tuple((None, item) for item in node.items)
    places = [i for i, (key, argument) in enumerate(given) if key is None and _is_bar(bare(argument))]
    if not places:
        return None
    if name is not None:
        check_structure(name, formula, node.position)
    inner = bare(given[places[0]][1])
    assert isinstance(inner, Binary)
    if len(places) > 1:
        raise FormulaError("a random term has one bar", formula, given[places[1]][1].position)
    for key, argument in given[: places[0]]:
        if key is not None:
            raise FormulaError(f"the option '{key}' stands after the bar", formula, argument.position)
    before = tuple(argument for _, argument in given[: places[0]])
    return _Bar(inner, name, before, tuple(given[places[0] + 1 :]))


def _grouping(node: Node, formula: str, limits: Limits = DEFAULT) -> list[tuple[str, tuple[Node, ...]]]:
    """(label, factors) of every grouping a bar's right side stands for; ``a/b`` gives ``a`` and ``b:a``."""
    node = bare(node)
    if isinstance(node, Binary) and node.operator == "/":
        outer, inner = _grouping(node.left, formula), _grouping(node.right, formula)
        if len(inner) != 1:
            raise FormulaError("write nested grouping factors as a/b/c", formula, node.right.position)
        label, whole = outer[0]
        return [(f"{inner[0][0]}:{label}", inner[0][1] + whole), *outer]
    if isinstance(node, Binary) and node.operator == "*":
        left, right = _grouping(node.left, formula, limits), _grouping(node.right, formula, limits)
        limits.check("terms", len(left) * (len(right) + 1), "the formula has at least {} random terms")
        return [*left, *right, *((f"{a}:{b}", f + g) for a, f in left for b, g in right)]
    if isinstance(node, Binary) and node.operator == ":":
        left, right = _grouping(node.left, formula), _grouping(node.right, formula)
        if len(left) != 1 or len(right) != 1:
            raise FormulaError("'/' inside ':' is not a grouping factor", formula, node.position)
        return [(f"{left[0][0]}:{right[0][0]}", left[0][1] + right[0][1])]
    if isinstance(node, Binary) and node.operator == "+":
        raise FormulaError(
            "write one random term for each grouping factor: (1|a) + (1|b)", formula, node.position
        )
    if isinstance(node, Name):
        return [(node.name, (node,))]
    if is_factor_call(node):
        check_functions(node, formula)
        return [(label_of(deparse(node)), (node,))]
    if read_group_factor(node, formula) is not None:
        return [(label_of(deparse(node)), (node,))]
    raise FormulaError(f"'{deparse(node)}' is not a grouping factor; use column names joined by ':' or '/'",
                       formula, node.position)  # fmt: skip


def _random_parts(
    bar: _Bar, formula: str, others: tuple[str, ...] | None, limits: Limits
) -> list[RandomPart]:
    """The random terms one bar stands for, the finest grouping first, as lme4 writes them."""
    name = bar.name or "us"
    structure, options = resolve_structure(name, bar.given, formula)
    if bar.inner.operator == "||" and structure not in ("us", "diag"):
        raise FormulaError(f"'||' asks for independent coefficients, '{name}' for correlated ones; write '|'",
                           formula, bar.inner.position)  # fmt: skip
    out = []
    for label, nodes in _grouping(bar.inner.right, formula, limits):
        kinds, factors = _relations(nodes, formula)
        columns = _incidence(bar, kinds, formula)
        related = any(kind.kind in ("ar1", "vm") for kind in kinds)
        pieces = [_NO_TERMS] if columns else _pieces(bar, formula, others, limits, related)
        whole = ""
        if bar.inner.operator == "||":
            whole = label_of(f"{bar.name or ''}({deparse(bar.inner.left)} || {label})")
            structure = "diag" if related else structure
        for piece in pieces:
            left = (
                ", ".join(map(deparse, (*bar.before, bar.inner.left))) if len(pieces) == 1 else _text(piece)
            )
            term = label_of(f"{bar.name or ''}({left} | {label}{option_text(bar.given)})")
            term, whole = (whole, "") if related and whole else (term, whole)
            out.append(RandomPart(label, factors, piece, structure, bar.inner.left.position, term, kinds,
                                  options, columns, whole))  # fmt: skip
    return out


_NO_TERMS = TermList(False, (), {})


def _text(terms: TermList) -> str:
    """A linear part as labels show it: ``"1 + x"``, ``"0 + x"``."""
    return " + ".join([*(["1"] if terms.intercept else ["0"]), *(":".join(term) for term in terms.terms)])


def _pieces(
    bar: _Bar, formula: str, others: tuple[str, ...] | None, limits: Limits, related: bool
) -> list[TermList]:
    """What varies between the levels; ``||`` takes it apart where levels have no correlation to share."""
    node = bar.inner.left
    expansion = _Expansion(formula, others, limits)
    terms, intercept = expansion.expand(node, True)
    whole = expansion.finish(terms, intercept)
    if expansion.offsets:
        raise FormulaError("offset() has no meaning in a random term", formula, node.position)
    if not whole.intercept and not whole.terms:
        raise FormulaError("the random term is empty; write (1|group) or (x|group)", formula, node.position)
    if bar.inner.operator == "|" or related:
        return [whole]
    pieces = [TermList(True, (), {})] if whole.intercept else []
    return pieces + [TermList(False, (t,), {text: whole.atoms[text] for text in t}) for t in whole.terms]


def _relations(nodes: tuple[Node, ...], formula: str) -> tuple[tuple[GroupFactor, ...], tuple[Node, ...]]:
    """How the factors of a grouping are meant, and their columns."""
    kinds: list[GroupFactor] = []
    factors: list[Node] = []
    for node in nodes:
        kind, columns = read_group_factor(node, formula) or (
            GroupFactor("id", label_of(deparse(node))),
            (node,),
        )
        for column in columns:
            if not isinstance(column, Name) and not is_factor_call(column):
                raise FormulaError(f"'{deparse(column)}' is not a factor; use a column name",
                                   formula, column.position)  # fmt: skip
            if isinstance(column, Call):
                check_functions(column, formula)
        kinds.append(kind)
        factors += columns
    if all(kind.kind == "at" for kind in kinds):
        raise FormulaError(f"'{kinds[0].text}' says for which levels a term has parameters of its own; join "
                           "it to a factor, at(site):gen", formula, nodes[0].position)  # fmt: skip
    if sum(not kind.has_column for kind in kinds) > 1:
        raise FormulaError("one vm(A) without a factor is enough: the columns left of the bar are its levels",
                           formula, nodes[0].position)  # fmt: skip
    return tuple(kinds), tuple(factors)


def _incidence(bar: _Bar, kinds: tuple[GroupFactor, ...], formula: str) -> tuple[tuple[Node, ...], ...]:
    """Columns whose levels are those of ``vm(A)``; empty for an ordinary term."""
    relation = next((kind for kind in kinds if not kind.has_column), None)
    if relation is None:
        if bar.before:
            raise FormulaError("columns before a bar are joined by '+'; by ',' only where vm(A) without a "
                               "factor stands right of it, us(calf, dam | vm(A))",
                               formula, bar.inner.position)  # fmt: skip
        return ()
    if bar.inner.operator == "||":
        raise FormulaError(f"write diag(... | {relation.text}) for independent effects",
                           formula, bar.inner.position)  # fmt: skip
    return tuple(_overlaid(node, relation, formula) for node in (*bar.before, bar.inner.left))


def _overlaid(node: Node, relation: GroupFactor, formula: str) -> tuple[Node, ...]:
    node = bare(node)
    if isinstance(node, Binary) and node.operator == "+":
        return _overlaid(node.left, relation, formula) + _overlaid(node.right, relation, formula)
    if isinstance(node, Name) or is_factor_call(node):
        return (node,)
    raise FormulaError(f"left of the bar of '{relation.text}' stand columns with its levels, "
                       f"us(calf, dam | {relation.text}), not '{deparse(node)}'; or write the factor in it: "
                       f"vm(calf, {relation.relationship})", formula, node.position)  # fmt: skip


@lru_cache(maxsize=512)
def _parse(formula: str, others: tuple[str, ...] | None, limits: Limits) -> ParsedFormula:
    tree = Parser(formula).parse()
    _check_tree(tree, formula, limits)
    if isinstance(tree, Binary) and isinstance(tree.left, Binary) and tree.left.operator == "~":
        raise FormulaError("a formula has one '~'", formula, tree.position)
    if isinstance(tree, Binary) and tree.operator == "~":
        response, right = tree.left, tree.right
        check_functions(response, formula)
    elif isinstance(tree, Unary) and tree.operator == "~":
        response, right = None, tree.operand  # type: ignore[assignment]
    else:
        raise FormulaError("'~' is missing; write 'response ~ terms'", formula, len(formula))
    remainder, found = _split_random(right, formula)
    expansion = _Expansion(formula, others, limits)
    terms, intercept = ([], True) if remainder is None else expansion.expand(remainder, True)
    if response is not None:
        terms = [t for t in terms if t != frozenset((deparse(response),))]
    bars = [bar for bar in found if isinstance(bar, _Bar)]
    random = [part for bar in bars for part in _random_parts(bar, formula, others, limits)]
    limits.check("terms", len(random), "the formula has {} random terms")
    splines = tuple(part for part in found if isinstance(part, SplinePart))
    fixed = expansion.finish(terms, intercept)
    return ParsedFormula(formula, response, fixed, tuple(expansion.offsets), tuple(random), splines, limits)


def _check_tree(tree: Node, formula: str, limits: Limits) -> None:
    """Refuse what is nested too deeply to be walked, and bases of more columns than any model may have.

    A sum of terms has no depth of its own: it is walked link by link (`chain_of`).
    """
    stack = [(tree, 0, False)]
    while stack:
        node, depth, inside = stack.pop()
        if depth > DEEPEST:
            raise FormulaError(
                f"an expression is more than {DEEPEST} operators deep; compute it as a column", formula,
                node.position,
            )  # fmt: skip
        if isinstance(node, Call) and node.function in WIDE:
            sizes = [a.value for _, a in node.arguments if isinstance(a, Number)]
            limits.check("columns", int(max(sizes, default=0)), f"{node.function}() asks for {{}} columns")
        inside = inside or isinstance(node, Call)
        flat = isinstance(node, Binary) and node.operator in "+-" and not inside
        for i, child in enumerate(children_of(node)):
            stack.append((child, depth + (i > 0 or not flat), inside))


def parse_formula(formula: str | ParsedFormula, limits: Limits = DEFAULT) -> ParsedFormula:
    """Parse lme4 notation: ``"yield ~ gen*N + offset(o) + (1|rep/block) + (x||gen)"``.

    Parameters
    ----------
    formula : str or ParsedFormula
        A formula without bars is a linear model. The result is cached by its text.
    limits : Limits
        How long it may be and how many terms it may have.

    Returns
    -------
    ParsedFormula

    Raises
    ------
    FormulaError
        With the position where the formula goes wrong.
    LimitError
        When it is too long or has too many terms.
    """
    if isinstance(formula, ParsedFormula):
        return formula
    if not isinstance(formula, str):
        raise FormulaError(f"the formula must be a string, not {type(formula).__name__}")
    limits.check("formula_length", len(formula), "the formula has {} characters")
    return _parse(formula, None, limits)


def parse_expression(text: str) -> Node:
    """One expression of columns, ``log(x)``, as it would stand in a formula.

    Raises
    ------
    FormulaError
        With the position where it goes wrong.
    """
    node = Parser(text).parse()
    check_functions(node, text)
    return node


def bind_formula(parsed: ParsedFormula, columns: Iterable[str], taken: Collection[str] = ()) -> ParsedFormula:
    """The formula with the names that only a table decides: constants that it has no column for, and ``.``.

    Parameters
    ----------
    parsed : ParsedFormula
    columns : iterable of str
        Names of the table's columns.
    taken : collection of str
        Columns with a part of their own (weights, keys of a batch), which ``.`` does not stand for.

    Returns
    -------
    ParsedFormula
        `parsed` itself when nothing depends on the table. ``.`` stands for the columns that are neither in
        the response nor in a grouping factor.
    """
    if not parsed.open_names:
        return parsed
    names = [str(name) for name in columns]
    if "." in parsed.open_names:
        parts = [node for part in parsed.random for node in part.factors]
        parts += [node for part in parsed.random for columns in part.incidence for node in columns]
        parts += [] if parsed.response is None else [parsed.response]
        used = {name.name for node in parts for name in columns_read(node)}.union(taken)
        response = parsed.response
        parsed = _parse(parsed.text, tuple(name for name in names if name not in used), parsed.limits)
        parsed = replace(parsed, response=response)
    known = frozenset(names)

    def bound(terms: TermList) -> TermList:
        return replace(terms, atoms={text: bind_constants(node, known) for text, node in terms.atoms.items()})

    return replace(
        parsed, fixed=bound(parsed.fixed),
        response=None if parsed.response is None else bind_constants(parsed.response, known),
        offsets=tuple(bind_constants(node, known) for node in parsed.offsets),
        random=tuple(replace(part, factors=tuple(bind_constants(f, known) for f in part.factors),
                             terms=bound(part.terms)) for part in parsed.random),
    )  # fmt: skip
