"""The fixed part of a formula: R's term algebra (Chambers & Hastie 1992, Statistical Models in S, ch. 2).

``+ : * ^ / %in% -``, with ``0``, ``1`` and ``-1`` for the intercept.
"""

from __future__ import annotations

from fastlmm_core.errors import FormulaError
from fastlmm_core.formula.expressions import (
    Binary,
    Call,
    Name,
    Node,
    Number,
    Paren,
    Unary,
    bare,
    chain_of,
    deparse,
)
from fastlmm_core.formula.functions import check_functions
from fastlmm_core.formula.other_grammars import refuse_foreign_term
from fastlmm_core.formula.parts import TermList
from fastlmm_core.limits import DEFAULT, Limits


class Expansion:
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
            refuse_foreign_term(node, self.formula)
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
