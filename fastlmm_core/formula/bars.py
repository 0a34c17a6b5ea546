"""Random terms of a formula: what stands left and right of a bar, and in which structure.

Bars follow lme4 (Bates et al. 2015, J. Stat. Softw. 67(1), table 2); structures of coefficients and relations
of levels are those of lme4 2.x, glmmTMB and ASReml.
"""

from __future__ import annotations

from dataclasses import dataclass

from fastlmm_core.errors import FormulaError
from fastlmm_core.formula.covariance_names import check_structure, resolve_structure
from fastlmm_core.formula.expressions import (
    Binary,
    Call,
    Name,
    Node,
    Paren,
    Sequence,
    Unary,
    bare,
    chain_of,
    deparse,
    label_of,
)
from fastlmm_core.formula.fixed_terms import Expansion
from fastlmm_core.formula.functions import (
    FUNCTIONS,
    check_functions,
    is_factor_call,
)
from fastlmm_core.formula.other_grammars import (
    refuse_foreign_grouping,
    refuse_foreign_term,
    refuse_number_before_bar,
)
from fastlmm_core.formula.parts import RandomPart, TermList
from fastlmm_core.formula.structured_parts import (
    SPLINES,
    GroupFactor,
    SplinePart,
    option_text,
    read_group_factor,
    read_spline,
    read_spline_at,
)
from fastlmm_core.limits import DEFAULT, Limits
from fastlmm_core.other_names import TERMS


@dataclass(frozen=True)
class Bar:
    """A bar as written: name of the structure (None for plain parentheses), columns before it, options."""

    inner: Binary
    name: str | None = None
    before: tuple[Node, ...] = ()
    given: tuple[tuple[str | None, Node], ...] = ()


def split_random(node: Node, formula: str) -> tuple[Node | None, list[Bar | SplinePart]]:
    """Take the random terms out of the right-hand side: (fixed remainder, bars and splines)."""
    if isinstance(node, Binary) and node.operator in "+-":
        first, links = chain_of(node, "+-")
        left, found = split_random(first, formula)
        for link in links:
            right, more = split_random(link.right, formula)
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
            return None, [Bar(inner)]  # type: ignore[arg-type]
        remainder, found = split_random(inner, formula)
        return (None if remainder is None else Paren(node.position, remainder)), found
    if isinstance(node, Call) and node.function in SPLINES:
        return None, [read_spline(node, formula)]
    if isinstance(node, Binary) and node.operator == ":":
        first, links = chain_of(node, ":")
        spline = read_spline_at([bare(own) for own in (first, *(link.right for link in links))], formula)
        if spline is not None:
            return None, [spline]
    if isinstance(node, Sequence) or (
        isinstance(node, Call) and (node.function not in FUNCTIONS or node.function in TERMS)
    ):
        bar = _read_bar(node, formula)
        if bar is not None:
            return None, [bar]
    if isinstance(node, Call) or (isinstance(node, Binary) and node.operator == ":"):
        refuse_foreign_term(node, formula)
    return node, []


def _is_bar(node: Node) -> bool:
    return isinstance(node, Binary) and node.operator in ("|", "||")


def _read_bar(node: Call | Sequence, formula: str) -> Bar | None:
    """``STRUCT(columns, ..., terms | group, options)``, or the same without a name; None without a bar."""
    name = node.function if isinstance(node, Call) else None
    given = node.arguments if isinstance(node, Call) else tuple((None, item) for item in node.items)
    places = [i for i, (key, argument) in enumerate(given) if key is None and _is_bar(bare(argument))]
    if not places:
        return None
    if name is not None:
        refuse_number_before_bar(node, formula)
        refuse_foreign_term(node, formula)
        check_structure(name, formula, node.position)
    inner = bare(given[places[0]][1])
    assert isinstance(inner, Binary)
    if len(places) > 1:
        raise FormulaError("a random term has one bar", formula, given[places[1]][1].position)
    for key, argument in given[: places[0]]:
        if key is not None:
            raise FormulaError(f"the option '{key}' stands after the bar", formula, argument.position)
    before = tuple(argument for _, argument in given[: places[0]])
    return Bar(inner, name, before, tuple(given[places[0] + 1 :]))


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


def random_parts(bar: Bar, formula: str, others: tuple[str, ...] | None, limits: Limits) -> list[RandomPart]:
    """The random terms one bar stands for, the finest grouping first, as lme4 writes them."""
    name = bar.name or "us"
    structure, options = resolve_structure(name, bar.given, formula)
    if bar.inner.operator == "||" and structure not in ("us", "diag"):
        raise FormulaError(f"'||' asks for independent coefficients, '{name}' for correlated ones; write '|'",
                           formula, bar.inner.position)  # fmt: skip
    refuse_foreign_grouping(bar.inner.left, bar.inner.right, formula)
    out = []
    for label, nodes in _grouping(bar.inner.right, formula, limits):
        kinds, factors = _relations(nodes, formula)
        columns = _incidence(bar, kinds, formula)
        related = any(kind.kind in ("ar1", "vm") for kind in kinds)
        linear = NO_TERMS if columns else _varying_terms(bar, formula, others, limits)
        pieces = [linear]
        whole = ""
        if bar.inner.operator == "||":
            whole = label_of(f"{bar.name or ''}({deparse(bar.inner.left)} || {label})")
            if related:  # one term: its levels have a correlation to share
                structure = "diag"
            else:
                pieces = _pieces(linear)
        for piece in pieces:
            left = (
                ", ".join(map(deparse, (*bar.before, bar.inner.left))) if len(pieces) == 1 else _text(piece)
            )
            term = label_of(f"{bar.name or ''}({left} | {label}{option_text(bar.given)})")
            term, whole = (whole, "") if related and whole else (term, whole)
            out.append(RandomPart(label, factors, piece, structure, bar.inner.left.position, term, kinds,
                                  options, columns, whole, linear if whole else None))  # fmt: skip
    return out


NO_TERMS = TermList(False, (), {})


def _text(terms: TermList) -> str:
    """A linear part as labels show it: ``"1 + x"``, ``"0 + x"``."""
    return " + ".join([*(["1"] if terms.intercept else ["0"]), *(":".join(term) for term in terms.terms)])


def _varying_terms(bar: Bar, formula: str, others: tuple[str, ...] | None, limits: Limits) -> TermList:
    """What varies between the levels."""
    node = bar.inner.left
    expansion = Expansion(formula, others, limits)
    terms, intercept = expansion.expand(node, True)
    linear = expansion.finish(terms, intercept)
    if expansion.offsets:
        raise FormulaError("offset() has no meaning in a random term", formula, node.position)
    if not linear.intercept and not linear.terms:
        raise FormulaError("the random term is empty; write (1|group) or (x|group)", formula, node.position)
    return linear


def _pieces(linear: TermList) -> list[TermList]:
    """The intercept and the terms of a linear part one by one."""
    pieces = [TermList(True, (), {})] if linear.intercept else []
    return pieces + [TermList(False, (t,), {text: linear.atoms[text] for text in t}) for t in linear.terms]


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


def _incidence(bar: Bar, kinds: tuple[GroupFactor, ...], formula: str) -> tuple[tuple[Node, ...], ...]:
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
