"""Functions of variance components with standard errors by the delta method: ``"gen/(gen + Residual)"``."""

from __future__ import annotations

import ast
import cmath
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from fastlmm_core.display.displayed import Displayed
from fastlmm_core.display.rendering import format_significant
from fastlmm_core.errors import InferenceError, OptionError, nearest_names
from fastlmm_core.gate import public
from fastlmm_core.options import LEVEL, one_of
from fastlmm_core.results.components.component_rows import ComponentRow, component_rows, slope_variances

if TYPE_CHECKING:
    from fastlmm_core.results.fit_figures import FitFigures

LONGEST = 2000
STEP = 1e-30
# Imaginary part, relative to the real one, that is rounding of real arithmetic.
IMAGINARY = 1e-9
FUNCTIONS: dict[str, Callable[[complex], complex]] = {"sqrt": cmath.sqrt, "log": cmath.log, "exp": cmath.exp}
OPERATORS: dict[type, Callable[[complex, complex], complex]] = {
    ast.Add: lambda a, b: a + b, ast.Sub: lambda a, b: a - b, ast.Mult: lambda a, b: a * b,
    ast.Div: lambda a, b: a / b, ast.Pow: lambda a, b: a**b,
}  # fmt: skip
#: Scales on which an interval may be symmetric: function, its inverse and derivative, and its domain.
SCALES: dict[str, tuple[Callable[[float], float], ...]] = {
    "identity": (float, float, lambda x: 1.0),
    "log": (lambda x: float(np.log(x)), lambda y: float(np.exp(y)), lambda x: 1.0 / x),
    "logit": (
        lambda x: float(np.log(x / (1.0 - x))), lambda y: float(1.0 / (1.0 + np.exp(-y))),
        lambda x: 1.0 / (x * (1.0 - x)),
    ),
    "atanh": (
        lambda x: float(np.arctanh(x)), lambda y: float(np.tanh(y)), lambda x: 1.0 / (1.0 - x * x)
    ),
}  # fmt: skip
DOMAINS = {"identity": (-np.inf, np.inf), "log": (0.0, np.inf), "logit": (0.0, 1.0), "atanh": (-1.0, 1.0)}
QUOTED = re.compile("`([^`]*)`")


def delta_interval(estimate: float, se: float, level: float, scale: str) -> tuple[float, float]:
    """Limits that are symmetric on `scale`; NaN where the standard error is.

    Raises
    ------
    OptionError
        Where the estimate is outside the domain of the scale.
    """
    from scipy.special import ndtri

    to, back, slope = SCALES[scale]
    low, high = DOMAINS[scale]
    if not np.isfinite(se) or not np.isfinite(estimate):
        return np.nan, np.nan
    if not low < estimate < high:
        raise OptionError(
            f"scale='{scale}' is for values between {low:g} and {high:g}, not {estimate:.6g}; use 'identity'"
        )
    reach = float(ndtri(0.5 + 0.5 * level)) * se * slope(estimate)
    return back(to(estimate) - reach), back(to(estimate) + reach)


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

    @public(level=LEVEL, scale=one_of(tuple(SCALES)))
    def conf_int(self, level: float = 0.95, scale: str = "identity") -> tuple[float, float]:
        """Interval from the standard error, symmetric on a scale on which the estimate is more nearly normal.

        Parameters
        ----------
        level : float
        scale : {"identity", "log", "logit", "atanh"}
            ``"log"`` for variances and their ratios, ``"logit"`` for shares such as a heritability,
            ``"atanh"`` (Fisher's z) for correlations: limits stay inside.

        Raises
        ------
        OptionError
            Where the estimate is outside the domain of the scale.

        Examples
        --------
        >>> from fastlmm_core import datasets, lmm
        >>> fit = lmm("yield ~ rep + (1|gen) + (1|rep:block)", datasets.load("john_alpha"))
        >>> h2 = fit.vpredict("gen/(gen + Residual)")
        >>> [round(limit, 3) for limit in h2.conf_int(scale="logit")]
        [0.413, 0.813]
        """
        return delta_interval(self.estimate, self.se, level, scale)

    def _shown(self) -> str:
        value, se = (format_significant(figure, 4) for figure in (self.estimate, self.se))
        return f"{self.expression} = {value}, standard error {se} ({self.information} information)"


def vpredict(fit: FitFigures, expression: str, information: str = "average") -> VarianceFunction:
    """Function of the components of a fit.

    The rows are those of ``component_rows``: the lower triangle of every term row by row, the residual last.

    Parameters
    ----------
    expression : str
        Arithmetic of V1, V2, ..., or of their names, numbers, ``sqrt``, ``log`` and ``exp``.
    information : {"average", "expected", "observed"}

    Raises
    ------
    OptionError
        For anything else in the expression, or a component that the model does not have.
    """
    rows = component_rows(fit)
    values = np.array([row.value for row in rows])
    tree = _parse(expression, rows)
    estimate = _evaluate(tree, values.astype(complex))
    if not abs(estimate.imag) <= IMAGINARY * abs(estimate.real):  # a root or logarithm below zero
        return VarianceFunction(expression, np.nan, np.nan, information)
    gradient = np.empty(values.size)
    for i in range(values.size):  # the complex step is exact to rounding
        moved = values.astype(complex)
        moved[i] += 1j * STEP
        gradient[i] = _evaluate(tree, moved).imag / STEP
    try:
        slope = gradient @ np.array([row.slope for row in rows])
        variance = float(slope_variances(fit, slope[None], information)[0])
    except InferenceError:
        variance = np.nan
    return VarianceFunction(expression, float(estimate.real), float(np.sqrt(max(variance, 0.0))), information)


def _parse(expression: str, rows: Sequence[ComponentRow]) -> ast.expr:
    """The tree of an expression, with V1, V2, ... in place of names."""
    if not isinstance(expression, str) or not expression.strip() or len(expression) > LONGEST:
        raise OptionError(f"vpredict takes a text such as 'V1/(V1+V2)' of at most {LONGEST} characters")
    text = QUOTED.sub(lambda found: f"V{_place(found[1], rows) + 1}", expression)
    try:
        tree = ast.parse(text.strip().replace("^", "**"), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise OptionError("vpredict cannot read the expression; write for example 'V1/(V1+V2)'") from None
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and node.id not in FUNCTIONS and not _is_number(node.id, len(rows)):
            node.id = f"V{_place(node.id, rows) + 1}"
        _check(node)
    return tree


def _is_number(name: str, count: int) -> bool:
    """Whether a name is one of V1, V2, ..."""
    return name[:1] == "V" and name[1:].isdecimal() and 1 <= int(name[1:7]) <= count


def _place(name: str, rows: Sequence[ComponentRow]) -> int:
    """Component that a name stands for: ``var(gen)`` or ``cov(gen: a, b)``, or the group of one variance."""
    labels = [row.label for row in rows]
    if name in labels:
        return labels.index(name)
    groups = [i for i, row in enumerate(rows) if row.group == name and row.var2 is None]
    if len(groups) == 1:
        return groups[0]
    if groups:
        several = ", ".join(f"`{labels[i]}`" for i in groups)
        raise OptionError(f"vpredict: '{name[:40]}' has several variances; write one of {several}")
    known = dict.fromkeys([*(row.group for row in rows), *labels])
    raise OptionError(
        f"vpredict does not know '{name[:40]}'; the components are V1 to V{len(rows)}, or by name in "
        f"backticks `{labels[0]}`{nearest_names(name, known)}"
    )


def _check(node: ast.AST) -> None:
    """Refuse what is not arithmetic of components."""
    if isinstance(node, ast.Name):
        return
    if isinstance(node, ast.Call):
        if not (isinstance(node.func, ast.Name) and node.func.id in FUNCTIONS and len(node.args) == 1):
            raise OptionError("vpredict knows the functions sqrt, log and exp of one argument")
    elif isinstance(node, ast.Constant):
        if isinstance(node.value, bool) or not isinstance(node.value, int | float) or abs(node.value) > 1e300:
            raise OptionError("vpredict takes numbers and components only")
    elif not isinstance(node, (ast.BinOp, ast.UnaryOp, ast.Load, ast.USub, ast.UAdd, *OPERATORS)):
        raise OptionError(
            "vpredict takes + - * / ^, parentheses, sqrt, log and exp of components and numbers"
        )


def _evaluate(node: Any, values: np.ndarray) -> complex:
    try:
        return complex(_value(node, values))
    except (ZeroDivisionError, OverflowError, ValueError):
        return complex(np.nan, np.nan)


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
