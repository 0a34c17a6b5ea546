"""Functions of variance components with standard errors by the delta method: ``"V1/(V1 + V2)"``."""

from __future__ import annotations

import ast
import cmath
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from fastlmm_core.display.displayed import Displayed
from fastlmm_core.display.rendering import format_significant
from fastlmm_core.errors import InferenceError, OptionError
from fastlmm_core.results.component_rows import component_covariance, component_rows

if TYPE_CHECKING:
    from fastlmm_core.results.figures import FitFigures

LONGEST = 2000
STEP = 1e-30
FUNCTIONS: dict[str, Callable[[complex], complex]] = {"sqrt": cmath.sqrt, "log": cmath.log, "exp": cmath.exp}
OPERATORS: dict[type, Callable[[complex, complex], complex]] = {
    ast.Add: lambda a, b: a + b, ast.Sub: lambda a, b: a - b, ast.Mult: lambda a, b: a * b,
    ast.Div: lambda a, b: a / b, ast.Pow: lambda a, b: a**b,
}  # fmt: skip


@dataclass(frozen=True, repr=False)
class VarianceFunction(Displayed):
    """Value of a function of variance components and its standard error.

    Attributes
    ----------
    expression : str
    estimate, se : float
    information : str
        Information about the components behind `se`.

    Examples
    --------
    >>> from fastlmm_core import datasets, lmm
    >>> fit = lmm("yield ~ rep + (1|gen) + (1|rep:block)", datasets.load("john_alpha"))
    >>> h2 = fit.vpredict("V1/(V1 + V3)")
    >>> round(h2.estimate, 3), round(h2.se, 3)
    (0.636, 0.108)
    """

    expression: str
    estimate: float
    se: float
    information: str

    def _shown(self) -> str:
        value, se = (format_significant(figure, 4) for figure in (self.estimate, self.se))
        return f"{self.expression} = {value}, standard error {se} ({self.information} information)"


def vpredict(fit: FitFigures, expression: str, information: str = "average") -> VarianceFunction:
    """Function of the components V1, V2, ... of a fit.

    The rows are those of ``component_rows``: the lower triangle of every term row by row, the residual last.

    Parameters
    ----------
    expression : str
        Arithmetic of V1, V2, ..., numbers, ``sqrt``, ``log`` and ``exp``.
    information : {"average", "expected", "observed"}

    Raises
    ------
    OptionError
        For anything else in the expression, or a component that the model does not have.
    """
    values = np.array([row.value for row in component_rows(fit)])
    tree = _parse(expression, values.size)
    estimate = _evaluate(tree, expression, values.astype(complex))
    gradient = np.empty(values.size)
    for i in range(values.size):  # the complex step is exact to rounding
        moved = values.astype(complex)
        moved[i] += 1j * STEP
        gradient[i] = _evaluate(tree, expression, moved).imag / STEP
    try:
        covariance = component_covariance(fit, information)
        variance = float(gradient @ covariance @ gradient)
    except InferenceError:
        variance = np.nan
    return VarianceFunction(expression, float(estimate.real), float(np.sqrt(max(variance, 0.0))), information)


def _parse(expression: str, count: int) -> ast.expr:
    if not isinstance(expression, str) or not expression.strip() or len(expression) > LONGEST:
        raise OptionError(f"vpredict takes a text such as 'V1/(V1+V2)' of at most {LONGEST} characters")
    try:
        tree = ast.parse(expression.strip().replace("^", "**"), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise OptionError("vpredict cannot read the expression; write for example 'V1/(V1+V2)'") from None
    for node in ast.walk(tree):
        _check(node, count)
    return tree


def _check(node: ast.AST, count: int) -> None:
    """Refuse what is not arithmetic of components."""
    if isinstance(node, ast.Name):
        number = node.id[1:]
        if node.id in FUNCTIONS:
            return
        if not (node.id[:1] == "V" and number.isdecimal() and 1 <= int(number[:6]) <= count):
            raise OptionError(f"vpredict does not know '{node.id[:40]}'; the components are V1 to V{count}")
    elif isinstance(node, ast.Call):
        if not (isinstance(node.func, ast.Name) and node.func.id in FUNCTIONS and len(node.args) == 1):
            raise OptionError("vpredict knows the functions sqrt, log and exp of one argument")
    elif isinstance(node, ast.Constant):
        if isinstance(node.value, bool) or not isinstance(node.value, int | float) or abs(node.value) > 1e300:
            raise OptionError("vpredict takes numbers and components only")
    elif not isinstance(node, (ast.BinOp, ast.UnaryOp, ast.Load, ast.USub, ast.UAdd, *OPERATORS)):
        raise OptionError(
            "vpredict takes + - * / ^, parentheses, sqrt, log and exp of components and numbers"
        )


def _evaluate(node: Any, expression: str, values: np.ndarray) -> complex:
    try:
        return complex(_value(node, values))
    except (ZeroDivisionError, OverflowError, ValueError):
        return complex(np.nan)


def _value(node: Any, values: np.ndarray) -> complex:
    if isinstance(node, ast.Constant):
        return complex(float(node.value))  # type: ignore[arg-type]
    if isinstance(node, ast.Name):
        return complex(values[int(node.id[1:]) - 1])
    if isinstance(node, ast.UnaryOp):
        operand = _value(node.operand, values)
        return -operand if isinstance(node.op, ast.USub) else operand
    if isinstance(node, ast.Call):
        return FUNCTIONS[node.func.id](_value(node.args[0], values))  # type: ignore[attr-defined]
    return OPERATORS[type(node.op)](_value(node.left, values), _value(node.right, values))
