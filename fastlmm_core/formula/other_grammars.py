"""Terms as ASReml, sommer, glmmTMB, brms and nlme write them, and how they are written here.

Those languages multiply functions of factors, ``fa(env, 2):vm(gen, A)``; here one bar stands between the
coefficients and their groups, ``fa(0 + env | vm(gen, A), k=2)``. The names are in
``fastlmm_core.other_names``, what is put together from them here. Nothing is ever taken for what it might
mean: a term that is known from elsewhere is an error that says what to write.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from fastlmm_core.errors import FormulaError
from fastlmm_core.formula.covariance_names import known_names, takes_factors
from fastlmm_core.formula.expressions import Binary, Call, Name, Node, Number, Text, Unary, bare, deparse
from fastlmm_core.formula.functions import FUNCTIONS
from fastlmm_core.formula.structured_parts import RELATIONS, UNITS
from fastlmm_core.other_names import CORRELATIONS, TERMS

_LEFT_OUT = {"levels": "A", "variable": "1", "smooth": "col"}  # the second argument by place


@dataclass
class _Product:
    """Factors of a term by where they stand here: left of the bar, right of it, or in the fixed part."""

    structures: list[tuple[str, str, str]] = field(default_factory=list)  # name, coefficients, options
    levels: list[str] = field(default_factory=list)
    environments: list[str] = field(default_factory=list)  # of at(), also among `levels`
    single: list[str] = field(default_factory=list)  # at(env, "a"): the column that is 1 in it
    single_of: list[str] = field(default_factory=list)  # their factors
    names: list[str] = field(default_factory=list)  # written plainly; also among `levels`
    variables: list[str] = field(default_factory=list)
    smooth: list[tuple[str, str]] = field(default_factory=list)  # in the fixed part, spline
    words: list[str] = field(default_factory=list)  # of what has no place


def _foreign(node: Node) -> tuple[str, str]:
    """(place, text) of a call that another program has in formulas, ``("", "")`` of anything else."""
    if not isinstance(node, Call) or node.function in FUNCTIONS or not node.arguments:
        return "", ""
    place = TERMS.get(node.function, ("", ""))
    if node.function in known_names():  # of a structure that somebody registered too
        place = place if place[0] == "levels" else ("columns", node.function)
    return ("", "") if place[0] in ("columns", "levels") and _has_bar(node) else place


def _has_bar(node: Node) -> bool:
    return any(
        isinstance(own := bare(inner), Binary) and own.operator in ("|", "||") for inner in _given(node)
    )


def _given(node: Node) -> list[Node]:
    return [argument for _, argument in node.arguments] if isinstance(node, Call) else []


def _factors(node: Node) -> list[Node]:
    """The factors that ``:`` joins, also inside sommer's ``vsm(...)``."""
    node = bare(node)
    if isinstance(node, Binary) and node.operator == ":":
        return _factors(node.left) + _factors(node.right)
    if isinstance(node, Call) and _foreign(node)[0] == "product":
        found = [factor for key, argument in node.arguments if key is None for factor in _factors(argument)]
        given = next((argument for key, argument in node.arguments if key == "Gu"), None)
        if given is not None and found:
            found[-1] = Call(node.position, "vm", ((None, _first(found[-1])), (None, given)))
        return found
    return [node]


def _first(node: Node) -> Node:
    return bare(node.arguments[0][1]) if isinstance(node, Call) and node.arguments else node


def _filled(call: Call, text: str) -> str:
    """The text of the table with the arguments in it; those left out are names that explain themselves."""
    given = [deparse(own) for key, own in call.arguments if key in (None, "cov", "A", "G")]
    return text.format(*given, *(_LEFT_OUT[TERMS[call.function][0]],) * 2)


def _number(call: Call) -> Number | None:
    """The number of factors of ``fa(env, 2)``, of knots of ``spl(x, 10)``."""
    return next((own for _, own in call.arguments[1:] if isinstance(own, Number)), None)


def _enter_structure(call: Call, text: str, out: _Product) -> None:
    option, number = takes_factors(text), _number(call)
    options = f", {option}={deparse(number)}" if option and number is not None else ""
    out.structures.append((text, _coefficients(_first(call)), options))


def _enter_levels(call: Call, text: str, out: _Product) -> None:
    if call.function == "at" and len(call.arguments) > 1:
        out.single_of.append(deparse(_first(call)))
        chosen = [own for _, level in call.arguments[1:] for own in _items(level)]
        out.single += [f"dummy({deparse(_first(call))}, {_level(own)})" for own in chosen]
        return
    if call.function == "at":
        out.environments.append(deparse(_first(call)))
    out.levels.append(_filled(call, text))


def _enter_smooth(call: Call, text: str, out: _Product) -> None:
    number = _number(call)
    if any(isinstance(own, Text) and own.value == "re" for _, own in call.arguments):
        out.levels.append(deparse(_first(call)))  # mgcv's s(gen, bs = "re")
    elif call.function == "s" and number is not None and number.value >= 2:
        x = deparse(_first(call))
        out.smooth.append((x, f"ps({x}, nseg={int(number.value) - 1})"))
    else:
        fixed, spline = text.split(" + ")
        out.smooth.append((_filled(call, fixed), _filled(call, spline)))


def _enter_variable(call: Call, text: str, out: _Product) -> None:
    out.variables.append(_filled(call, text))


def _enter_words(call: Call, text: str, out: _Product) -> None:
    out.words.append(text)


def _enter_known(call: Call, text: str, out: _Product) -> None:
    """glmmTMB's ``propto(0 + env | gen, A)``."""
    inner, relation = _first(call), deparse(call.arguments[1][1]) if len(call.arguments) > 1 else "A"
    group = ""
    if isinstance(inner, Binary) and inner.operator == "|":
        group = "" if isinstance(bare(inner.right), Number) else f"{deparse(inner.right)}:"
        inner = inner.left
    out.words.append(text.format("", f"{group}vm({deparse(_beside_zero(inner))}, {relation})"))


def _beside_zero(node: Node) -> Node:
    """The factor of ``0 + visit`` and ``visit + 0``."""
    if isinstance(node, Binary) and node.operator == "+":
        left, right = bare(node.left), bare(node.right)
        return right if isinstance(left, Number) else left if isinstance(right, Number) else node
    return node


_ENTER = {
    "columns": _enter_structure, "levels": _enter_levels, "smooth": _enter_smooth,
    "variable": _enter_variable, "other": _enter_words, "known": _enter_known,
}  # fmt: skip


def _items(node: Node) -> tuple[Node, ...]:
    return tuple(own for _, own in node.arguments) if isinstance(node, Call) else (node,)


def _level(node: Node) -> str:
    return deparse(node) if isinstance(node, Text) else f'"{deparse(node)}"'


def _coefficients(node: Node) -> str:
    """Left of a bar: a factor has a coefficient for every level, a variable the intercept beside its own."""
    place, text = _foreign(node)
    if place == "variable" and isinstance(node, Call):
        return f"1 + {_filled(node, text)}"
    return f"0 + {deparse(node)}" if isinstance(node, Name) else deparse(node)


def _placed(node: Node) -> _Product | None:
    """The factors of a term by place; None where no function of another program is among them."""
    factors, out = _factors(node), _Product()
    if not any(_foreign(factor)[0] for factor in (*factors, bare(node))):
        return None
    for factor in factors:
        place, text = _foreign(factor)
        if isinstance(factor, Call) and place:
            _ENTER[place](factor, text, out)
        else:
            out.names.append(deparse(factor))
            out.levels.append(deparse(factor))
    return out


def term_here(node: Node) -> str:
    """How a term of another program's formula is written here, ``""`` where nothing is known of it.

    Parameters
    ----------
    node : Node
        A term, the factors of it joined by ``:``.

    Returns
    -------
    str

    Examples
    --------
    >>> from fastlmm_core.formula.expressions import Parser
    >>> term_here(Parser("fa(env, 2):vm(gen, A)").parse())
    'fa(0 + env | vm(gen, A), k=2)'
    >>> term_here(Parser("at(env):units").parse())
    'residual="units | env"'
    """
    parts = _placed(node)
    if parts is None:
        return ""
    if parts.words:
        return parts.words[0]
    if UNITS in parts.levels and (parts.environments or parts.single or parts.structures):
        return f'residual="{residual_here(node)}"'
    if parts.single:
        return _in_single_levels(parts)
    if parts.structures:
        return _with_structure(parts)
    if parts.smooth:
        return _as_spline(parts)
    related = [level for level in parts.levels if level not in parts.names]
    if parts.variables and not related:
        return ":".join(parts.variables + parts.names)
    return _right_of_a_bar(parts)


def _in_single_levels(parts: _Product) -> str:
    """``at(env, "a"):gen``: the coefficient is a column that is 1 in that level."""
    if not parts.levels:
        return " + ".join(parts.single)
    right = ":".join(parts.levels)
    fixed = " + ".join(f"{column}:{right}" for column in parts.single)
    words = " + ".join(f"(0 + {column} | {right})" for column in parts.single)
    return f"{words}; in the fixed part {fixed}" if parts.levels == parts.names else words


def _as_spline(parts: _Product) -> str:
    """A spline is a term of its own beside its variables, one for each environment after ``at()``."""
    fixed, spline = parts.smooth[0]
    by = list(dict.fromkeys(parts.environments + parts.names))
    return f"{'*'.join([*by, fixed])} + {''.join(f'at({name}):' for name in by)}{spline}"


def _with_structure(parts: _Product) -> str:
    """``us(env):gen``: one structure left of the bar, all other factors right of it."""
    (name, columns, options), *others = parts.structures
    if others:
        return f"one structure left of a bar, such as {name}({columns} | group{options})"
    right = ":".join(parts.levels)
    return f"{name}({columns} | {right or 'group'}{options})"


def _right_of_a_bar(parts: _Product) -> str:
    """``at(env):rep``, ``ar1(row):ar1(col)``, ``vm(gen, A)``: an intercept, or slopes, of such levels."""
    if parts.environments and not parts.variables and len(parts.levels) == len(parts.environments):
        return ":".join(parts.environments)
    left = " + ".join(["0", *parts.variables]) if parts.variables else "1"
    term = f"({left} | {':'.join(parts.levels) or 'group'})"
    if parts.environments and set(parts.levels) <= {*parts.names, *(f"at({e})" for e in parts.environments)}:
        return f"{term}; in the fixed part {':'.join(parts.environments + parts.names)}"
    if parts.levels and all(level.startswith("ar1(") for level in parts.levels):
        return f'{term}, or residual="{":".join(parts.levels)}"'
    return term


def residual_here(node: Node) -> str:
    """How a residual of another program is written here, ``""`` where nothing is known of it.

    Examples
    --------
    >>> from fastlmm_core.formula.expressions import Parser
    >>> residual_here(Parser("dsum(~ ar1v(row):ar1(col) | env)").parse())
    'ar1(row):ar1(col) | env'
    >>> residual_here(Parser("id(subject):corh(visit)").parse())
    'cs(visit | subject)'
    """
    node = bare(node)
    if isinstance(node, Unary) and node.operator == "~":
        return residual_here(node.operand) or deparse(node.operand)
    if isinstance(node, Call) and (node.function == "dsum" or node.function in CORRELATIONS):
        return _of_one_sided_formula(node)
    if isinstance(node, Number):
        return UNITS
    if isinstance(node, Call) and _has_bar(node):
        return _within_subjects(node)
    if isinstance(node, Binary) and node.operator == "|":
        inner = residual_here(node.left)
        return f"{inner} | {deparse(node.right)}" if inner else ""
    if isinstance(node, Call) and node.function == "ar1" and len(node.arguments) > 1:
        return ":".join(f"ar1({deparse(axis)})" for _, axis in node.arguments)
    parts = _placed(node)
    if parts is None or parts.words or parts.variables or parts.smooth:
        return ""
    axes = [level for level in parts.levels if not level.startswith("at(")]
    by = parts.environments + parts.single_of
    if parts.structures:
        (name, columns, options), *_ = parts.structures
        if name == "diag" and axes in ([], [UNITS]):
            axes, by = [UNITS], [*by, columns.removeprefix("0 + ")]
        elif any("(" in axis for axis in axes):
            return ""
        else:
            subject = ":".join("subject" if axis == UNITS else axis for axis in axes)
            axes = [f"{name}({columns.removeprefix('0 + ')} | {subject or 'subject'}{options})"]
    return ":".join(axes or [UNITS]) + (f" | {':'.join(by)}" if by else "")


def _within_subjects(call: Call) -> str:
    """``corh(visit | subject)``, ``us(0 + visit | subject)``."""
    inner = _first(call)
    name = call.function if call.function in known_names() else TERMS.get(call.function, ("", ""))[1]
    if name not in known_names() or not isinstance(inner, Binary) or inner.operator != "|":
        return ""
    return f"{name}({deparse(_beside_zero(inner.left))} | {deparse(inner.right)})"


def _of_one_sided_formula(call: Call) -> str:
    """ASReml's ``dsum(~ units | env)`` and nlme's ``corAR1(form = ~ t | id)``."""
    inner = bare(_first(call))
    inner = bare(inner.operand) if isinstance(inner, Unary) and inner.operator == "~" else inner
    if not (isinstance(inner, Binary) and inner.operator == "|"):
        return ""
    left = "visit" if isinstance(inner.left, Number) else deparse(inner.left)
    if call.function in CORRELATIONS:
        return CORRELATIONS[call.function].format(left, deparse(inner.right))
    return f"{residual_here(inner.left) or left} | {deparse(inner.right)}"


def refuse_foreign_term(node: Node, formula: str) -> None:
    """Refuse a term of another program's formula, and say how it is written here."""
    words = _groups_beside(node) or term_here(node)
    if words:
        raise FormulaError(f"'{deparse(node)}': here {words}", formula, _start(node))


def _groups_beside(node: Node) -> str:
    """``us(1 + x | gen):env``, ``at(env):(1 | gen)``: groups are joined right of the bar."""
    factors = _factors(node) or [node]
    bars = [(own, inner) for own in factors if (inner := _bar_of(own)) is not None]
    if len(factors) < 2 or len(bars) != 1:
        return ""
    own, inner = bars[0]
    groups = ":".join(deparse(inner.right if factor is own else factor) for factor in factors)
    name = own.function if isinstance(own, Call) else ""
    return f"{name}({deparse(inner.left)} {inner.operator} {groups})"


def _bar_of(factor: Node) -> Binary | None:
    """``1 | gen`` of ``(1 | gen)`` and of ``us(1 | gen)``."""
    known = isinstance(factor, Call) and factor.function in known_names()
    inner = bare(_first(factor) if known else factor)
    return inner if isinstance(inner, Binary) and inner.operator in ("|", "||") else None


def _start(node: Node) -> int:
    """Where a term starts; the position of an operation is that of its sign."""
    return _start(node.left) if isinstance(node, Binary) else node.position


def refuse_foreign_grouping(left: Node, right: Node, formula: str) -> None:
    """Refuse what other programs have right of a bar: ``(1 | us(env):gen)``, ``(1 | gr(gen, cov = A))``."""
    calls = [own for own in _factors(right) if isinstance(own, Call) and _foreign(own)[0]]
    parts = _placed(right)
    if parts is None or all(call.function in RELATIONS for call in calls):
        return
    words = term_here(right)
    if not isinstance(bare(left), Number) and _only_levels(parts):
        words = f"({deparse(left)} | {':'.join(parts.levels)})"
    raise FormulaError(f"'{deparse(right)}': here {words}", formula, _start(right))


def _only_levels(parts: _Product) -> bool:
    return not (parts.structures or parts.single or parts.smooth or parts.words or parts.variables)


def refuse_number_before_bar(call: Node, formula: str) -> None:
    """Refuse ``fa(env, 2 | gen)``, where the number of factors stands before the bar."""
    if not isinstance(call, Call) or len(call.arguments) < 2:
        return
    option, inner = takes_factors(call.function), bare(call.arguments[1][1])
    if not option or not isinstance(inner, Binary) or inner.operator != "|":
        return
    if isinstance(bare(inner.left), Number):
        inside = f"{_coefficients(_first(call))} | {deparse(inner.right)}, {option}={deparse(inner.left)}"
        raise FormulaError(f"'{deparse(call)}': here {call.function}({inside})", formula, call.position)
