"""From the text of a formula to its parts, and the names in it bound to a table."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import replace
from functools import lru_cache

from fastlmm_core.errors import FormulaError
from fastlmm_core.formula.bars import Bar, random_parts, split_random
from fastlmm_core.formula.expressions import (
    DEEPEST,
    Binary,
    Call,
    Node,
    Number,
    Parser,
    Unary,
    children_of,
    deparse,
)
from fastlmm_core.formula.fixed_terms import Expansion
from fastlmm_core.formula.functions import (
    bind_constants,
    check_functions,
    columns_read,
)
from fastlmm_core.formula.parts import ParsedFormula, TermList
from fastlmm_core.formula.structured_parts import (
    SplinePart,
)
from fastlmm_core.limits import DEFAULT, Limits

WIDE = frozenset({"bs", "ns", "cr", "cc", "poly", "cut"})  # a number says how many columns they make


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
    remainder, found = split_random(right, formula)
    expansion = Expansion(formula, others, limits)
    terms, intercept = ([], True) if remainder is None else expansion.expand(remainder, True)
    if response is not None:
        own = frozenset((deparse(response),))
        if own in terms and not own.intersection(others or ()):  # but for "." in the place of all columns
            words = f"the response '{deparse(response)}' is on the right-hand side too: leave it out there"
            raise FormulaError(words, formula, right.position)
        terms = [t for t in terms if t != own]
    bars = [bar for bar in found if isinstance(bar, Bar)]
    random = [part for bar in bars for part in random_parts(bar, formula, others, limits)]
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
        parts += [node for spline in parsed.splines for node in spline.at]
        parts += [] if parsed.response is None else [parsed.response]
        used = {name.name for node in parts for name in columns_read(node)}.union(taken)
        whole = _parse(parsed.text, tuple(name for name in names if name not in used), parsed.limits)
        parsed = replace(whole, response=parsed.response, open_trend=parsed.open_trend)
    known = frozenset(names)

    def bound(terms: TermList) -> TermList:
        return replace(terms, atoms={text: bind_constants(node, known) for text, node in terms.atoms.items()})

    return replace(
        parsed, fixed=bound(parsed.fixed),
        response=None if parsed.response is None else bind_constants(parsed.response, known),
        offsets=tuple(bind_constants(node, known) for node in parsed.offsets),
        random=tuple(replace(part, factors=tuple(bind_constants(f, known) for f in part.factors),
                             terms=bound(part.terms), whole=part.whole and bound(part.whole))
                     for part in parsed.random),
    )  # fmt: skip
