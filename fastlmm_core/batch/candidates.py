"""Several models in one batch, of which every trial gets one: what may be given, checked once.

``formula=`` is then a list of formulas, or names with formulas or with what goes with one:
``{"spatial": {"formula": "yield ~ gen", "field_trend": "ps"}, "blocks": "yield ~ gen + (1 | rep:block)"}``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fastlmm_core.batch.structures import named_relationships
from fastlmm_core.design.group_columns import group_columns, with_group_terms
from fastlmm_core.errors import FormulaError, OptionError, nearest_names, shown
from fastlmm_core.formula.parsing import parse_formula
from fastlmm_core.formula.parts import ParsedFormula
from fastlmm_core.formula.residual import UNITS, parse_residual
from fastlmm_core.limits import DEFAULT, Limits
from fastlmm_core.structures.relationships import made_of

CHOICES = ("first", "aic", "bic")
KEYS = ("formula", "residual", "field_trend")


@dataclass(frozen=True)
class Candidate:
    """One of the models.

    Attributes
    ----------
    name : str
        By which the column of the trials, and the table `fits`, call it; a formula alone is its own name.
    formula : str
    residual, field_trend : str or None
        Its own; None for those of the batch.
    """

    name: str
    formula: str
    residual: str | None = None
    field_trend: str | None = None


def read_candidates(given: Any) -> tuple[Candidate, ...]:
    """The models of ``formula=``, in the order given; one without a name for a single formula.

    Raises
    ------
    OptionError, FormulaError
        For anything else than formulas.
    """
    if isinstance(given, Mapping):
        found = tuple(_named(str(name), own) for name, own in given.items())
    elif isinstance(given, Sequence) and not isinstance(given, str):
        for own in given:
            if not isinstance(own, str):
                example = "{'spatial': {'formula': ..., 'field_trend': 'ps'}}"
                raise OptionError(
                    f"formula: a list holds formulas, not {shown(own)}; give others a name, {example}"
                )
        found = tuple(Candidate(own, own) for own in given)
    elif isinstance(given, str):
        return (Candidate("", given),)
    else:
        raise FormulaError(f"the formula must be a string, not {type(given).__name__}")
    if not found:
        raise OptionError("formula= is empty; give a formula, or several to choose from")
    names = [own.name for own in found]
    for name in names:
        if not name or names.count(name) > 1:
            raise OptionError(f"formula: the model {shown(name)} stands there twice or has no name")
    return found


def relationships_in(formulas: Any, residual: Any = None, limits: Limits = DEFAULT) -> set[str]:
    """Relationships that ``vm()`` names in one or several formulas and their residuals."""
    named: set[str] = set()
    for own in read_candidates(formulas):
        rows = parse_residual(own.residual or residual or UNITS)
        named.update(named_relationships(parse_formula(own.formula, limits), rows))
    return named


def check_relationships_used(given: Mapping[str, Any], named: set[str]) -> None:
    """Raise OptionError for a relationship that no model names, nor one that is made of it.

    For the doors that answer one command; in Python several models may share what is given.
    """
    unused = sorted(set(given) - named - {part for name in named for part in made_of(given.get(name))})
    if unused and named.issubset(given):  # else what is named is not given, which its model says
        raise OptionError(
            f"relationship '{unused[0]}' is in no formula: write vm(gen, {unused[0]}), with the column of "
            "its levels, or leave it out"
        )


def _named(name: str, given: Any) -> Candidate:
    if isinstance(given, str):
        return Candidate(name, given)
    if not isinstance(given, Mapping) or not isinstance(given.get("formula"), str):
        raise OptionError(f"formula[{shown(name)}] must be a formula, or {{'formula': ..., 'residual': ...}}")
    for key, value in given.items():
        if key not in KEYS:
            raise OptionError(
                f"formula[{shown(name)}] has no key {shown(key)}{nearest_names(str(key), KEYS)}"
            )
        if value is not None and not isinstance(value, str):
            raise OptionError(f"formula[{shown(name)}].{key}={shown(value)} must be a text")
    return Candidate(name, given["formula"], given.get("residual"), given.get("field_trend"))


def check_choice(choose: Any, column: str | None, count: int) -> None:
    """Raise OptionError for a choice that cannot be made among so many formulas."""
    if choose not in CHOICES:
        raise OptionError(f"choose={shown(choose)} is not known; allowed: {', '.join(CHOICES)}")
    if column is not None and choose != "first":
        raise OptionError(f"formula_column='{column}' names the model of each trial, so that choose= has "
                          "nothing to choose; leave one of them out")  # fmt: skip
    if count == 1:
        if choose != "first" or column is not None:
            option = f"choose='{choose}'" if column is None else f"formula_column='{column}'"
            raise OptionError(f"{option} needs several formulas to choose from")


def check_fixed_parts(
    choose: str, formulas: Sequence[ParsedFormula], relationships: Mapping[str, Any], reml: bool
) -> None:
    """Raise OptionError for a choice by REML criteria of different fixed parts.

    A restricted likelihood is one of contrasts free of the fixed part, so that it compares only models with
    the same one. Genetic groups of a relationship that are fixed are part of it, and so is the order of the
    terms: it decides which of dependent columns are kept, and the criterion is one of the columns kept.
    """
    if choose == "first" or not reml:
        return
    parts = []
    for parsed in formulas:
        names = [name for own in group_columns(parsed, relationships) for name in own.names]
        parts.append(with_group_terms(parsed, relationships, names).fixed)
    if len({(own.intercept, own.terms) for own in parts}) < 2:
        return
    same = len({(own.intercept, frozenset(map(frozenset, own.terms))) for own in parts}) < 2
    words = "orders of the terms of a fixed part" if same else "fixed parts"
    raise OptionError(f"choose='{choose}' compares REML criteria, which differ between {words}; give all "
                      "formulas the same one, or reml=False")  # fmt: skip
