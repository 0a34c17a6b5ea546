"""Names of the covariance structures of coefficients in a formula, their aliases and their options.

Names are lme4's (2.1) and glmmTMB's; SAS's and mmrm's are aliases where they mean the same (``un``, ``csh``,
``toeph``, ``ar1h``). ``cs`` and ``toep`` have a variance for each coefficient, ``ar1`` has one, as in lme4.
"""

from __future__ import annotations

from typing import Any

from fastlmm_core.design.expressions import Call, Node, Number, Paren, Sequence, Text, Unary, deparse
from fastlmm_core.errors import FormulaError, name_list

ALIASES = {"un": "us", "csh": "cs", "toeph": "toep", "ar1h": "hetar1"}
# Canonical name by name and value of hom=.
_HOMOGENEOUS = {
    ("diag", True): "homdiag", ("diag", False): "diag", ("homdiag", True): "homdiag",
    ("cs", True): "homcs", ("cs", False): "cs", ("homcs", True): "homcs",
    ("ar1", True): "ar1", ("ar1", False): "hetar1", ("hetar1", False): "hetar1",
    ("toep", True): "homtoep", ("toep", False): "toep", ("homtoep", True): "homtoep",
}  # fmt: skip
_RANK = {"rr": "d", "fa": "k"}  # the option with the number of factors, 2 unless given
STRUCTURES = (
    "us", "diag", "homdiag", "cs", "homcs", "ar1", "hetar1", "toep", "homtoep", "rr", "fa",
)  # fmt: skip
# Structures whose variances can take over that of an independent residual.
ABSORBS_RESIDUAL = frozenset(("us", "diag", "homdiag", "cs", "homcs", "toep", "homtoep", "fa"))
# Structures in which the order of the coefficients, and their distance, has a meaning.
BY_DISTANCE = frozenset(("ar1", "hetar1", "toep", "homtoep"))

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
        return int(node.value) if node.value == int(node.value) else node.value
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
    """All names a structure can be written by."""
    return (*STRUCTURES, *ALIASES)


def resolve_structure(
    name: str, given: tuple[tuple[str | None, Node], ...], formula: str, position: int
) -> tuple[str, Options]:
    """Canonical name and options of ``name(... | ..., given)``.

    Parameters
    ----------
    name : str
        As written; one of `known_names`.
    given : tuple of (name, Node)
        Arguments after the bar.
    formula : str
    position : int

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
    structure = ALIASES.get(name, name)
    options: Options = {}
    allowed = ("d", "k") if structure in _RANK else ("hom",)
    for key, node in given:
        if key is None:
            example = "k=2" if structure in _RANK else "hom=TRUE"
            raise FormulaError(f"after the bar of '{name}(...)' stand options by name, such as {example}",
                               formula, node.position)  # fmt: skip
        if key not in allowed or (structure == "us" and key == "hom"):
            what = "takes no options" if structure == "us" else f"takes the option {name_list(allowed)}"
            raise FormulaError(f"'{name}()' {what}, not '{key}'", formula, node.position)
        value = constant(node, formula)
        if key == "hom":
            if not isinstance(value, bool):
                raise FormulaError(f"hom={deparse(node)} must be TRUE or FALSE", formula, node.position)
            if (structure, value) not in _HOMOGENEOUS:
                raise FormulaError(f"'{name}' has {'own variances' if value else 'one variance'} by its "
                                   "name; leave hom= out", formula, node.position)  # fmt: skip
            structure = _HOMOGENEOUS[structure, value]
            continue
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise FormulaError(f"{key}={deparse(node)} must be a whole number of factors, at least 1",
                               formula, node.position)  # fmt: skip
        if options:
            raise FormulaError(f"'{name}()' has one number of factors: d= or k=", formula, node.position)
        options[_RANK[structure]] = value
    if structure in _RANK and not options:
        options[_RANK[structure]] = 2
    return structure, options
