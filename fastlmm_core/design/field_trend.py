"""The trend of a field as one option, ``field_trend="ps"``: the terms a formula and residual get from it.

"ps"                               row*col + (1 | row) + (1 | col) + ps(row, col, nseg=auto): what SpATS fits,
                                   with one smoothing parameter for each direction
"ps(range, bed, nseg=(10, 15))"    other columns, segments by hand
"ar1"                              residual="ar1(row):ar1(col)"
"ar1(row, col, nugget=TRUE)"       (1 | ar1(row):ar1(col)) beside independent residuals
"ps | env", "ar1 | env"            the same with parameters of its own for each environment: env*row*col,
                                   (1 | at(env):row), (1 | at(env):col), at(env):ps(row, col), and
                                   residual="ar1(row):ar1(col) | env"; see ``trend_environments``

References: Rodriguez-Alvarez, Boer, van Eeuwijk & Eilers (2018), Spatial Statistics 23, 52-71; Gilmour,
Cullis & Verbyla (1997), J. Agric. Biol. Environ. Stat. 2, 269-293.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from fastlmm_core.errors import OptionError, name_list, shown
from fastlmm_core.formula.covariance_names import constant
from fastlmm_core.formula.expressions import Binary, Call, Name, Node, Parser, bare, deparse, label_of
from fastlmm_core.formula.parsing import ParsedFormula, parse_formula
from fastlmm_core.formula.residual import parse_residual
from fastlmm_core.formula.structured_parts import AUTO, read_spline

DEFAULT_COLUMNS = ("row", "col")
OPTIONS = {"ps": ("nseg", "degree", "pord"), "ar1": ("nugget",)}
FORMS = (
    "write 'ps' or 'ar1', with other columns than row and col 'ps(range, bed)' or 'ar1(range, bed)', for "
    "each environment 'ps | env'"
)


@dataclass(frozen=True)
class FieldTrend:
    """A field trend as written; `parse_field_trend` makes it.

    Attributes
    ----------
    kind : str
        ``"ps"`` or ``"ar1"``.
    row, column : str
        Columns of the positions, as a formula writes them.
    options : str
        Of ``ps()``: ``"nseg=(10, 15), pord=2"``.
    nugget : bool
        An independent error beside the autoregressive process.
    by : str
        Column of the environments, each with a trend of its own; ``""`` for one field.
    """

    kind: str
    row: str
    column: str
    options: str = f"nseg={AUTO}"
    nugget: bool = False
    by: str = ""

    @property
    def at(self) -> str:
        """What the random terms begin with."""
        return f"at({self.by}):" if self.by else ""

    @property
    def surface(self) -> str:
        """The random term, ``""`` where the residual is the trend."""
        if self.kind == "ps":
            return f"{self.at}{self.smooth}"
        return f"(1 | {self.at}ar1({self.row}):ar1({self.column}))" if self.nugget else ""

    @property
    def smooth(self) -> str:
        """The surface of a ``"ps"`` without ``at()``."""
        return f"ps({self.row}, {self.column}, {self.options})"

    @property
    def least(self) -> int:
        """Distinct rows, and columns, that the surface of a ``"ps"`` needs."""
        return read_spline(*self._call()).order + 1

    def curve(self, direction: int) -> str:
        """The surface of a ``"ps"`` along rows (0) or columns (1) alone."""
        call, text = self._call()
        segments = read_spline(call, text).n_segments
        nseg = AUTO if segments is None else str(segments[direction])
        rest = [f"{name}={deparse(value)}" for name, value in call.arguments if name not in (None, "nseg")]
        return f"ps({', '.join([(self.row, self.column)[direction], f'nseg={nseg}', *rest])})"

    def _call(self) -> tuple[Call, str]:
        node = Parser(self.smooth).parse()
        assert isinstance(node, Call)
        return node, self.smooth

    @property
    def residual(self) -> str:
        """The residual it needs, ``""`` where any will do."""
        if self.kind == "ps" or self.nugget:
            return ""
        return f"ar1({self.row}):ar1({self.column})" + (f" | {self.by}" if self.by else "")


def parse_field_trend(text: str) -> FieldTrend:
    """Read the text of ``field_trend=``.

    Raises
    ------
    OptionError
        For a trend, option or column that is not known, and what would be right.
    FormulaError
        Where it cannot be read at all.
    """
    if not isinstance(text, str) or not text.strip():
        raise OptionError(f"field_trend={shown(text)}: {FORMS}")
    node: Node = bare(Parser(text).parse())
    by = ""
    if isinstance(node, Binary) and node.operator == "|":
        if not isinstance(node.right, Name):
            raise OptionError(f"field_trend={shown(text)} names one column after '|': 'ps | env'")
        by = deparse(node.right)
        node = bare(node.left)
    kind = node.function if isinstance(node, Call) else deparse(node)
    if kind not in OPTIONS or not isinstance(node, Call | Name):
        raise OptionError(f"field_trend={shown(text)} is not known; {FORMS}")
    arguments = node.arguments if isinstance(node, Call) else ()
    columns = [argument for name, argument in arguments if name is None] or [
        Name(0, c) for c in DEFAULT_COLUMNS
    ]
    given = {name: argument for name, argument in arguments if name is not None}
    if len(columns) != 2 or not all(isinstance(column, Name) for column in columns):
        raise OptionError(f"field_trend={shown(text)} names the columns of rows and columns of the field: "
                          f"'{kind}(row, col)'")  # fmt: skip
    for name in given:
        if name not in OPTIONS[kind]:
            raise OptionError(f"field_trend={shown(text)}: '{kind}' has no option '{name}'; "
                              f"it takes {name_list(OPTIONS[kind])}")  # fmt: skip
    row, column = map(deparse, columns)
    if row == column:
        raise OptionError(f"field_trend={shown(text)} names {shown(row)} twice; rows and columns of a field "
                          f"are two columns of the table: '{kind}(row, col)'")  # fmt: skip
    if kind == "ar1":
        return FieldTrend(kind, row, column, "", _nugget(given.get("nugget"), text), by)
    options = {"nseg": AUTO} | {str(name): deparse(value) for name, value in given.items()}
    return FieldTrend(
        kind, row, column, ", ".join(f"{name}={value}" for name, value in options.items()), by=by
    )


def _nugget(node: Node | None, text: str) -> bool:
    value: Any = False if node is None else constant(node, text)
    if not isinstance(value, bool):
        raise OptionError(f"field_trend={shown(text)}: nugget must be TRUE or FALSE")
    return value


def add_field_trend(
    formula: str | ParsedFormula, residual: str, text: str | None
) -> tuple[ParsedFormula, str]:
    """A formula and residual with the terms of a field trend.

    Terms that the formula has already are not repeated. The result is an ordinary formula, which results
    show, files keep and other programs can be given.

    Parameters
    ----------
    formula, residual
        As of `lmm`.
    text : str or None
        As of ``field_trend=``; None changes nothing.

    Returns
    -------
    ParsedFormula, str

    Raises
    ------
    OptionError
        For an unknown trend, and for a residual beside the one that the trend is.

    Examples
    --------
    >>> parsed, residual = add_field_trend("yield ~ (1 | gen)", "units", "ps(range, bed)")
    >>> parsed.text
    'yield ~ (1 | gen) + range*bed + (1 | range) + (1 | bed) + ps(range, bed, nseg=auto)'
    """
    parsed = parse_formula(formula)
    if text is None:
        return parsed, residual
    trend = parse_field_trend(text)
    if trend.residual:
        given = parse_residual(residual)
        if not given.is_plain:
            raise OptionError(f"field_trend={shown(text)} is the residual '{trend.residual}', and residual= "
                              f"is '{given.text}'; give one of them, or nugget=TRUE")  # fmt: skip
        return parsed, trend.residual
    fixed = "*".join(filter(None, (trend.by, trend.row, trend.column)))
    whole = with_terms(parsed, trend, fixed)
    if trend.kind == "ps" and trend.by:
        whole = replace(whole, open_trend=(parsed.text, text))
    return whole, residual


def with_terms(
    parsed: ParsedFormula, trend: FieldTrend, fixed: str, random: Sequence[tuple[str, str]] | None = None
) -> ParsedFormula:
    """The formula with the terms of a trend.

    Parameters
    ----------
    fixed : str
        Of a ``"ps"``: ``"env*row*col"``.
    random : list of (str, str), optional
        Random terms of a ``"ps"``, each after its grouping or spline without ``at()``; by default those of
        all environments.
    """
    added = [trend.surface]
    if trend.kind == "ps":
        if random is None:
            random = [*((name, f"(1 | {trend.at}{name})") for name in (trend.row, trend.column)),
                      (trend.smooth, trend.surface)]  # fmt: skip
        groups = {part.group for part in parsed.random if part.terms.intercept}
        added = [term for name, term in random if label_of(f"{trend.at}{name}") not in groups]
        added = [fixed, *added] if fixed else added
    return parse_formula(f"{parsed.text} + {' + '.join(added)}", parsed.limits)
