"""Names of the covariance structures of coefficients in a formula, their aliases and their options.

Names are lme4's (2.1) and glmmTMB's; SAS's and mmrm's are aliases where they mean the same (``un``, ``csh``,
``toeph``, ``ar1h``). ``cs`` and ``toep`` have a variance for each coefficient, ``ar1`` has one, as in lme4.
"""

from __future__ import annotations

import math
from typing import Any

from fastlmm_core.errors import FormulaError, name_list
from fastlmm_core.formula.expressions import Call, Node, Number, Paren, Sequence, Text, Unary, deparse
from fastlmm_core.other_names import structure_words
from fastlmm_core.structures.registry import coefficient_structure_names, find_coefficient_structure

DEFAULT_FACTORS = 2  # of rr and fa, as in glmmTMB

_FACTORS = ("d", "k")  # the number of factors: d of rr and k of fa, each understood by both

Options = dict[str, Any]


def constant(node: Node, formula: str) -> Any:
    """The value of an option: a number, a truth value, a text, or a tuple of them.

    Raises
    ------
    FormulaError
        When it is none of them.
    """
    if isinstance(node, Paren):
        return constant(node.inner, formula)
    if isinstance(node, Number):
        return int(node.value) if math.isfinite(node.value) and node.value == int(node.value) else node.value
    if isinstance(node, Text):
        return node.value
    if isinstance(node, Unary) and node.operator == "-" and isinstance(node.operand, Number):
        return -node.operand.value
    named = getattr(node, "name", None)
    if named in ("TRUE", "T", "True", "FALSE", "F", "False"):
        return named[0] == "T"
    if isinstance(node, Sequence):
        return tuple(constant(item, formula) for item in node.items)
    if isinstance(node, Call) and node.function == "c":
        return tuple(constant(item, formula) for _, item in node.arguments)
    raise FormulaError(f"an option is a number, TRUE, FALSE or a text, not '{deparse(node)}'",
                       formula, node.position)  # fmt: skip


def known_names() -> tuple[str, ...]:
    """All names a structure can be written by: the registered ones, and their aliases."""
    names = coefficient_structure_names()
    return (*names, *(alias for name in names for alias in find_coefficient_structure(name).aliases))


def check_structure(name: str, formula: str, position: int) -> None:
    """Refuse a name that no structure is written by."""
    if name not in known_names():
        words = structure_words(name) or f"; allowed: {name_list(known_names(), limit=40)}"
        raise FormulaError(f"covariance structure '{name}' is not known{words}", formula, position)


def takes_factors(name: str) -> str | None:
    """The option that says how many factors a structure has, ``"k"`` of fa; None of any other."""
    if name not in known_names():
        return None
    return next((own for own in find_coefficient_structure(name).option_names if own in _FACTORS), None)


def resolve_structure(
    name: str, given: tuple[tuple[str | None, Node], ...], formula: str
) -> tuple[str, Options]:
    """Canonical name and options of ``name(... | ..., given)``.

    Parameters
    ----------
    name : str
        As written; one of `known_names`.
    given : tuple of (name, Node)
        Arguments after the bar.
    formula : str

    Returns
    -------
    structure : str
    options : dict
        ``{"d": ...}`` of rr, ``{"k": ...}`` of fa, else empty.

    Raises
    ------
    FormulaError
        For an option the structure does not have, or a value that makes no sense.
    """
    family = find_coefficient_structure(name)
    factors = takes_factors(name)
    allowed = _FACTORS if factors else ("hom",) if family.homogeneous_form else ()
    options: Options = {}
    for key, node in given:
        if key not in allowed:
            raise FormulaError(_wrong_option(name, key, allowed, factors), formula, node.position)
        value = constant(node, formula)
        if key == "hom":
            if not isinstance(value, bool):
                raise FormulaError(f"hom={deparse(node)} must be TRUE or FALSE", formula, node.position)
            family = find_coefficient_structure(name, value)
            continue
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise FormulaError(f"{key}={deparse(node)} must be a whole number of factors, at least 1",
                               formula, node.position)  # fmt: skip
        if options:
            raise FormulaError(f"'{name}()' has one number of factors: d= or k=", formula, node.position)
        options[str(factors)] = value
    if factors and not options:
        options[factors] = DEFAULT_FACTORS
    return family.name, options


def _wrong_option(name: str, key: str | None, allowed: tuple[str, ...], factors: str | None) -> str:
    if key is None:
        if not allowed:
            return f"'{name}()' takes no options"
        example = f"{factors}=2" if factors else "hom=TRUE"
        return f"after the bar of '{name}(...)' stand options by name, such as {example}"
    what = f"takes the option {name_list(allowed)}" if allowed else "takes no options"
    return f"'{name}()' {what}, not '{key}'"
