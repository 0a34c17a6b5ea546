"""The way back from the scale of the model to the scale of the response: log(y), sqrt(y), 1/y and the like.

The formula says how the response was transformed, so the inverse can be read off it: an expression that holds
one column, wrapped in monotone functions and arithmetic with numbers, is undone from the outside in.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastlmm_core.formula.expressions import (
    Binary,
    Call,
    Constant,
    Name,
    Node,
    Number,
    Paren,
    Unary,
    deparse,
    label_of,
)
from fastlmm_core.formula.functions import CONSTANTS, columns_read, match_arguments, plain_function

Floats = NDArray[np.floating]


@dataclass(frozen=True)
class Step:
    """Inverse of one function: x = inverse(z) with slope dx/dz, for z between `low` and `high`.

    `factor` is that of an affine step x = shift + factor z, `log` that of x + added = exp(log z); else None.
    """

    inverse: Callable[[Floats], Floats]
    slope: Callable[[Floats], Floats]
    low: float = -np.inf
    high: float = np.inf
    factor: float | None = None
    log: float | None = None
    added: float = 0.0


# Inverses and slopes are named functions with their constants bound: tables that hold them can be pickled.
def linear(shift: float, factor: float, z: Floats) -> Floats:
    """shift + factor z."""
    return shift + factor * z


def flat(value: float, z: Floats) -> Floats:
    """The value for every z."""
    return np.full(z.shape, value)


def scaled_exponential(factor: float, scale: float, z: Floats) -> Floats:
    """factor exp(scale z)."""
    return factor * np.exp(scale * z)


def scaled_power(factor: float, exponent: float, z: Floats) -> Floats:
    """factor z^exponent."""
    return factor * z**exponent


def slope_of_log1p(z: Floats) -> Floats:
    """1 / (1 + z)."""
    return 1.0 / (1.0 + z)


def slope_of_tan(z: Floats) -> Floats:
    """1 / cos(z)^2."""
    return 1.0 / np.cos(z) ** 2


def slope_of_arctanh(z: Floats) -> Floats:
    """1 / (1 - z^2)."""
    return 1.0 / (1.0 - z * z)


def reciprocal(numerator: float, z: Floats) -> Floats:
    """numerator / z."""
    return numerator / z


def slope_of_reciprocal(numerator: float, z: Floats) -> Floats:
    """-numerator / z^2."""
    return -numerator / z**2


def affine(shift: float, factor: float) -> Step:
    """x = shift + factor z."""
    return Step(partial(linear, shift, factor), partial(flat, factor), factor=factor)


def exponential(base: float) -> Step:
    """x = base^z, the inverse of a logarithm."""
    scale = float(np.log(base))
    return Step(partial(scaled_exponential, 1.0, scale), partial(scaled_exponential, scale, scale), log=scale)


def power(exponent: float) -> Step:
    """x = z^(1 / exponent) for z >= 0, the inverse of a power."""
    inverse = 1.0 / exponent
    return Step(partial(scaled_power, 1.0, inverse), partial(scaled_power, inverse, inverse - 1.0), low=0.0)


FUNCTIONS: dict[str, Step] = {
    "log": exponential(np.e),
    "log2": exponential(2.0),
    "log10": exponential(10.0),
    "log1p": Step(np.expm1, np.exp, log=1.0, added=1.0),
    "exp": Step(np.log, partial(reciprocal, 1.0), low=0.0),
    "expm1": Step(np.log1p, slope_of_log1p, low=-1.0),
    "sqrt": power(0.5),
    "asin": Step(np.sin, np.cos, low=-0.5 * np.pi, high=0.5 * np.pi),
    "atan": Step(np.tan, slope_of_tan, low=-0.5 * np.pi, high=0.5 * np.pi),
    "tanh": Step(np.arctanh, slope_of_arctanh, low=-1.0, high=1.0),
}


@dataclass(frozen=True)
class ResponseScale:
    """How the response of a model was transformed, and back.

    Attributes
    ----------
    text : str
        The response as the formula has it, "log(yield)".
    variable : str
        The column in it.
    steps : tuple of Step
        Inverses, the outermost function's first.
    inner : str
        What stands inside of a logarithm, "yield" or "yield + 1".
    """

    text: str
    variable: str
    steps: tuple[Step, ...] = field(repr=False)
    inner: str = ""

    def back(self, eta: Floats) -> Floats:
        """Values on the scale of the response; NaN outside of what the transformation can give."""
        return self._pass(eta, clip=False)[0]

    def limits_back(self, lower: Floats, upper: Floats) -> tuple[Floats, Floats]:
        """Limits on the scale of the response, cut at the ends of what the transformation can give."""
        a, b = self._pass(lower, clip=True)[0], self._pass(upper, clip=True)[0]
        return np.fmin(a, b), np.fmax(a, b)

    def slope(self, eta: Floats) -> Floats:
        """Derivative of the response in the scale of the model."""
        return self._pass(eta, clip=False)[1]

    def _pass(self, eta: Floats, clip: bool) -> tuple[Floats, Floats]:
        z: Floats = np.asarray(eta, dtype=np.float64)
        slope: Floats = np.ones(z.shape)
        with np.errstate(all="ignore"):
            for step in self.steps:
                outside = (z < step.low) | (z > step.high)
                z = np.clip(z, step.low, step.high) if clip else np.where(outside, np.nan, z)
                z, slope = step.inverse(z), slope * step.slope(z)
        return z, slope

    @property
    def linear_factor(self) -> float | None:
        """f where a difference d is the difference f d of the response (a change of units), else None."""
        factors = [step.factor for step in self.steps]
        return None if None in factors else float(np.prod([f for f in factors if f is not None]))

    @property
    def log_factor(self) -> float | None:
        """f where a difference d is the ratio exp(f d) of what is inside of a logarithm, else None."""
        factor = 1.0
        for step in self.steps:
            if step.log is not None:
                return factor * step.log
            if step.factor is None:
                return None
            factor *= step.factor
        return None


def response_scale(node: Node | None) -> ResponseScale | None:
    """The way back for the response of a formula; None for a plain column, and where none can be read off."""
    if node is None or isinstance(node, Name):
        return None
    names = list(columns_read(node))
    steps: list[Step] = []
    inner, current = "", node
    while not isinstance(current, Name):
        undone = undo(current)
        if undone is None:
            return None
        step, current = undone
        if step is not None:
            steps.append(step)
            if step.log is not None and not inner:
                inner = label_of(deparse(current)) + (f" + {step.added:g}" if step.added else "")
    if len(names) != 1 or not steps:
        return None
    return ResponseScale(label_of(deparse(node)), names[0].name, tuple(steps), inner)


def undo(node: Node) -> tuple[Step | None, Node] | None:
    """The inverse of the outermost function of an expression, and what it was applied to."""
    if isinstance(node, Paren):
        return None, node.inner
    if isinstance(node, Unary):
        return (affine(0.0, -1.0) if node.operator == "-" else None), node.operand
    if isinstance(node, Call):
        return undo_call(node)
    return undo_binary(node) if isinstance(node, Binary) else None


def undo_call(node: Call) -> tuple[Step | None, Node] | None:
    """The inverse of a function of the formula language."""
    name = plain_function(node.function)
    arguments = match_arguments(node)
    inside = arguments.values[0]
    if name == "log" and "base" in arguments.settings:
        base = constant(arguments.settings["base"])
        return None if base is None or base <= 0.0 or base == 1.0 else (exponential(base), inside)
    if len(node.arguments) != 1:
        return None
    if name in ("I", "as.numeric"):
        return None, inside
    return (FUNCTIONS[name], inside) if name in FUNCTIONS else None


def undo_binary(node: Binary) -> tuple[Step | None, Node] | None:
    """The inverse of arithmetic with a number on one side."""
    left, right = constant(node.left), constant(node.right)
    if right is not None and left is None:
        steps: dict[str, Any] = {
            "+": lambda: affine(-right, 1.0), "-": lambda: affine(right, 1.0),
            "*": lambda: affine(0.0, 1.0 / right), "/": lambda: affine(0.0, right),
            "^": lambda: power(right), "**": lambda: power(right),
        }  # fmt: skip
        if node.operator in steps and not (right == 0.0 and node.operator not in "+-"):
            return steps[node.operator](), node.left
    if left is not None and right is None:
        if node.operator == "+":
            return affine(-left, 1.0), node.right
        if node.operator == "-":
            return affine(left, -1.0), node.right
        if node.operator == "*" and left != 0.0:
            return affine(0.0, 1.0 / left), node.right
        if node.operator == "/" and left != 0.0:
            return Step(partial(reciprocal, left), partial(slope_of_reciprocal, left), low=0.0), node.right
    return None


def constant(node: Node) -> float | None:
    """Value of an expression without columns that is a number, a negative number or one in parentheses."""
    if isinstance(node, Number):
        return float(node.value)
    if isinstance(node, Constant):
        value = CONSTANTS[node.name]
        return None if value is None or not np.isfinite(value) else float(value)
    if isinstance(node, Paren):
        return constant(node.inner)
    if isinstance(node, Unary) and node.operator in "+-":
        inner = constant(node.operand)
        return None if inner is None else (-inner if node.operator == "-" else inner)
    if isinstance(node, Binary) and node.operator in ("+", "-", "*", "/", "^", "**"):
        a, b = constant(node.left), constant(node.right)
        if a is None or b is None or (node.operator == "/" and b == 0.0):
            return None
        if node.operator in "+-":
            return a + b if node.operator == "+" else a - b
        if node.operator in ("*", "/"):
            return a * b if node.operator == "*" else a / b
        return float(a**b)
    return None
