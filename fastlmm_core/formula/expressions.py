"""Expressions of R's formula language: tokens, syntax tree, and the text R would print for them.

Precedence as in R's ``?Syntax``, from tight to loose: ``^``, unary sign, ``:``, ``%op%``, ``* /``, ``+ -``,
comparisons, ``&``, ``| ||``, ``~``.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from typing import NoReturn

from fastlmm_core.errors import FormulaError

#: For headers of tables, "yield t/ha" or "height [cm]", that are written as they stand.
IN_BACKTICKS = "names of columns with blanks or signs stand in backticks"


@dataclass(frozen=True)
class Node:
    """A node of the syntax tree; `position` is where it starts in the formula (not part of equality)."""

    position: int = field(compare=False)


@dataclass(frozen=True)
class Number(Node):
    value: float


@dataclass(frozen=True)
class Text(Node):
    value: str


@dataclass(frozen=True)
class Name(Node):
    """A name that stands for a column; `quoted` when it was written in backticks."""

    name: str
    quoted: bool = field(default=False, compare=False)


@dataclass(frozen=True)
class Constant(Node):
    """A name that the table has no column for and the language knows: ``pi``, ``TRUE``."""

    name: str


@dataclass(frozen=True)
class Call(Node):
    function: str
    arguments: tuple[tuple[str | None, Node], ...]


@dataclass(frozen=True)
class Unary(Node):
    operator: str
    operand: Node


@dataclass(frozen=True)
class Binary(Node):
    operator: str
    left: Node
    right: Node


@dataclass(frozen=True)
class Paren(Node):
    inner: Node


@dataclass(frozen=True)
class Sequence(Node):
    """Several expressions in parentheses, ``(10, 20)``: the value of an option, or columns before a bar."""

    items: tuple[Node, ...]


@dataclass(frozen=True)
class Token:
    kind: str
    text: str
    position: int


_TOKEN = re.compile(
    r"""(?P<space>\s+)
      | (?P<number>(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?L?)
      | (?P<name>(?:[^\W\d]|\.(?!\d))[\w.]*)
      | (?P<quoted>`[^`]*`)
      | (?P<string>"[^"]*"|'[^']*')
      | (?P<operator>%[^%\s]*%|\*\*|<=|>=|==|!=|\|\||[-+*/^:|~()<>,=&!])""",
    re.VERBOSE,
)

_COMPARE, _ADD, _MULTIPLY = (8, 9), (10, 11), (12, 13)  # binding power to the left and to the right
_BINDING = {
    "~": (1, 2), "|": (4, 5), "||": (4, 5), "&": (6, 7),
    "<": _COMPARE, ">": _COMPARE, "<=": _COMPARE, ">=": _COMPARE, "==": _COMPARE, "!=": _COMPARE,
    "+": _ADD, "-": _ADD, "*": _MULTIPLY, "/": _MULTIPLY, ":": (16, 17), "^": (21, 20),
}  # fmt: skip
_SPECIAL_BINDING = (14, 15)  # %% and %/%
_UNARY_BINDING = 18
DEEPEST = 100  # levels of brackets; also of an expression inside a function: all that walk a tree recurse


def tokenize(formula: str) -> list[Token]:
    """Split a formula into tokens.

    Raises
    ------
    FormulaError
        At a character that cannot start a token, or a string that is not closed.
    """
    tokens: list[Token] = []
    at = 0
    while at < len(formula):
        match = _TOKEN.match(formula, at)
        if match is None:
            character = formula[at]
            reason = f"is not part of the formula language; {IN_BACKTICKS}"
            if character in "\"'`":
                reason = "is never closed"
            raise FormulaError(f"{character!r} {reason}", formula, at)
        kind = str(match.lastgroup)
        if kind != "space":
            text = "^" if match.group() == "**" else match.group()
            tokens.append(Token(kind, text, at))
        at = match.end()
    tokens.append(Token("end", "", len(formula)))
    return tokens


def chain_of(node: Node, operators: str) -> tuple[Node, list[Binary]]:
    """The first operand of ``a + b - c + ...`` and the links to the others: long sums need no recursion."""
    links = []
    while isinstance(node, Binary) and node.operator in operators:
        links.append(node)
        node = node.left
    return node, links[::-1]


def children_of(node: Node) -> tuple[Node, ...]:
    """The nodes right below a node."""
    if isinstance(node, Binary):
        return node.left, node.right
    if isinstance(node, Call):
        return tuple(argument for _, argument in node.arguments)
    if isinstance(node, Unary):
        return (node.operand,)
    if isinstance(node, Sequence):
        return node.items
    return (node.inner,) if isinstance(node, Paren) else ()


def bare(node: Node) -> Node:
    """The expression without the parentheses around it."""
    while isinstance(node, Paren):
        node = node.inner
    return node


class Parser:
    """Precedence-climbing parser over the tokens of one formula."""

    def __init__(self, formula: str):
        self.formula = formula
        self.tokens = tokenize(formula)
        self.at = 0
        self.depth = 0

    def fail(self, message: str, position: int) -> NoReturn:
        raise FormulaError(message, self.formula, position)

    @property
    def token(self) -> Token:
        return self.tokens[self.at]

    def advance(self) -> Token:
        token = self.tokens[self.at]
        self.at += 1
        return token

    def expect(self, text: str, opened: Token) -> None:
        if self.token.text != text or self.token.kind != "operator":
            found = f"found '{self.token.text}'" if self.token.text else "the formula ends"
            self.fail(f"'{text}' expected to close '{opened.text}' at character {opened.position + 1}, "
                      f"but {found}",
                      self.token.position)  # fmt: skip
        self.advance()

    def parse(self) -> Node:
        """The tree of the whole formula."""
        if self.token.kind == "end":
            self.fail("the formula is empty; write for example 'yield ~ gen + (1|block)'", 0)
        node = self.expression(0)
        if self.token.text == "=":
            self.fail("'=' is not expected here; write 'response ~ terms'", self.token.position)
        if self.token.kind != "end":
            words = f"'{self.token.text}' is not expected here; an operator such as '+' may be missing"
            self.fail(f"{words}; {IN_BACKTICKS}", self.token.position)
        return node

    def expression(self, minimum: int) -> Node:
        self.depth += 1
        if self.depth > DEEPEST:
            self.fail(f"brackets and signs are nested more than {DEEPEST} deep", self.token.position)
        left = self.prefix()
        while self.token.kind == "operator":
            operator = self.token.text
            binding = _SPECIAL_BINDING if operator.startswith("%") else _BINDING.get(operator)
            if binding is None or binding[0] < minimum:
                break
            position = self.advance().position
            left = Binary(position, operator, left, self.expression(binding[1]))
        self.depth -= 1
        return left

    def prefix(self) -> Node:
        token = self.advance()
        if token.kind == "number":
            value = float(token.text.rstrip("L"))
            if math.isinf(value):
                self.fail("the number is too large", token.position)
            return Number(token.position, value)
        if token.kind == "string":
            return Text(token.position, token.text[1:-1])
        if token.kind == "quoted":
            return Name(token.position, token.text[1:-1], quoted=True)
        if token.kind == "name":
            if self.token.kind == "operator" and self.token.text == "(":
                return self.call(token)
            return Name(token.position, token.text)
        if token.text in ("+", "-"):
            return Unary(token.position, token.text, self.expression(_UNARY_BINDING))
        if token.text == "!":
            return Unary(token.position, token.text, self.expression(7))
        if token.text == "~":
            return Unary(token.position, token.text, self.expression(2))
        if token.text == "(":
            items = [self.expression(0)]
            while self.token.text == "," and self.token.kind == "operator":
                self.advance()
                if self.token.kind == "name" and self.tokens[self.at + 1].text == "=":
                    self.fail("options belong to a structure with a name, fa(0 + x | group, k=2)",
                              self.token.position)  # fmt: skip
                items.append(self.expression(0))
            self.expect(")", token)
            if len(items) > 1:
                return Sequence(token.position, tuple(items))
            return Paren(token.position, items[0])
        if token.kind == "end":
            self.fail("the formula ends where a term is expected", token.position)
        self.fail(f"a term is expected before '{token.text}'", token.position)

    def call(self, function: Token) -> Call:
        opened = self.advance()
        arguments: list[tuple[str | None, Node]] = []
        while self.token.text != ")":
            name = None
            if self.token.kind == "name" and self.tokens[self.at + 1].text == "=":
                name = self.advance().text
                self.advance()
            arguments.append((name, self.expression(0)))
            if self.token.text != ",":
                break
            self.advance()
        self.expect(")", opened)
        return Call(function.position, function.text, tuple(arguments))


def number_text(value: float) -> str:
    """A number as R prints it with 15 significant digits: ``1``, ``0.5``, ``1e+05``."""
    if not math.isfinite(value):
        return "NA" if math.isnan(value) else ("Inf" if value > 0 else "-Inf")
    if abs(value) < 1e5 and value == int(value):  # most levels: no shorter with an exponent
        return str(int(value))
    fixed, scientific = f"{value:.15g}", f"{value:.14e}"
    mantissa, exponent = scientific.split("e")
    mantissa = mantissa.rstrip("0").rstrip(".")
    compact = f"{mantissa}e{exponent}"
    if "e" in fixed:
        fixed = f"{value:f}".rstrip("0").rstrip(".") if abs(value) >= 1 else fixed
    return compact if len(compact) < len(fixed) or "e" in fixed else fixed


_PLAIN_NAME = re.compile(r"(?:[^\W\d]|\.(?!\d))[\w.]*\Z")
_TIGHT = {"^", ":", "/"}


def deparse(node: Node) -> str:
    """The text R's ``deparse`` gives: ``I(x^2)``, ``log(x + 1)``, ``poly(x, 2)``."""
    if isinstance(node, Number):
        return number_text(node.value)
    if isinstance(node, Text):
        return f'"{node.value}"'
    if isinstance(node, Constant):
        return node.name
    if isinstance(node, Name):
        return node.name if _PLAIN_NAME.match(node.name) else f"`{node.name}`"
    if isinstance(node, Call):
        parts = (deparse(a) if name is None else f"{name} = {deparse(a)}" for name, a in node.arguments)
        return f"{node.function}({', '.join(parts)})"
    if isinstance(node, Unary):
        return f"{node.operator}{deparse(node.operand)}"
    if isinstance(node, Binary):
        space = "" if node.operator in _TIGHT else " "
        return f"{deparse(node.left)}{space}{node.operator}{space}{deparse(node.right)}"
    if isinstance(node, Sequence):
        return f"({', '.join(deparse(item) for item in node.items)})"
    assert isinstance(node, Paren)
    return f"({deparse(node.inner)})"


def label_of(text: str) -> str:
    """An expression's text as results show it: without the backticks that the formula needs."""
    return text.replace("`", "")
