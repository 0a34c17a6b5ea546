"""Covariance structures of a batch, the same in every trial: residual, relationships, held parameters."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from fastlmm_core.design.building import read_relationships
from fastlmm_core.design.parameter_names import has_labels
from fastlmm_core.design.term_axes import find_relationship
from fastlmm_core.errors import OptionError
from fastlmm_core.formula.expressions import Node
from fastlmm_core.formula.parts import ParsedFormula
from fastlmm_core.formula.residual import ParsedResidual, parse_residual
from fastlmm_core.formula.structured_parts import UNITS
from fastlmm_core.structures.relationships import Relationship


@dataclass(frozen=True, eq=False)
class Structures:
    """What a plan says about covariances besides its formula.

    Attributes
    ----------
    residual : str
        As of `lmm`.
    relationships : dict of str to Relationship
        Built once; every trial takes the same objects, and what they compute stays with them.
    held : dict
        Variance parameters that are held, as plain numbers, lists and dicts.
    start : dict
        Variances that the searches start from, likewise.
    """

    residual: str = UNITS
    relationships: Mapping[str, Relationship] = field(default_factory=dict)
    held: Mapping[str, Any] = field(default_factory=dict)
    start: Mapping[str, Any] = field(default_factory=dict)

    @cached_property
    def parsed(self) -> ParsedResidual:
        """The residual, parsed once."""
        return parse_residual(self.residual)

    @property
    def is_plain(self) -> bool:
        """Whether residuals are independent with one variance, and all parameters are estimated."""
        return self.parsed.is_plain and not self.held

    @cached_property
    def described(self) -> dict[str, Any]:
        """JSON form of all that decides the results, relationships by the hash of their content."""
        described: dict[str, Any] = {}
        if not self.parsed.is_plain:
            described["residual"] = self.parsed.text
        if self.relationships:
            described["relationships"] = {k: own.fingerprint() for k, own in self.relationships.items()}
        if self.held:
            described["fixed_parameters"] = self.held
        if self.start:
            described["start"] = self.start
        return described

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Structures) and self.described == other.described

    def __hash__(self) -> int:
        return hash(json.dumps(self.described, sort_keys=True))


PLAIN = Structures()


def make_structures(
    parsed: ParsedFormula, residual: Any, relationships: Any, held: Any, start: Any = None
) -> Structures:
    """The structures of a batch, checked once.

    Raises
    ------
    FormulaError, OptionError, DataError
        For a residual that cannot be read, a relationship that is not given or cannot be built, and
        parameters that are no numbers.
    """
    own = Structures(
        UNITS if residual is None else residual, read_relationships(relationships), plain_values(held or {}),
        plain_values(start or {}, "start"),
    )  # fmt: skip
    for name in named_relationships(parsed, own.parsed):
        find_relationship(name, own.relationships)
    return own


def named_relationships(parsed: ParsedFormula, residual: ParsedResidual) -> list[str]:
    """Relationships that ``vm()`` names in a formula and a residual."""
    kinds = [*(kind for part in parsed.random for kind in part.kinds), *residual.factors]
    return [kind.relationship for kind in kinds if kind.relationship is not None]


def plain_values(held: Any, where: str = "fixed_parameters") -> dict[str, Any]:
    """Held parameters, or starting values, as numbers and lists, which pickle, and have one JSON form."""
    if not isinstance(held, Mapping):
        kind = type(held).__name__
        raise OptionError(f"{where} must be given by term, {{'Residual': 40.0}}, not as {kind}")
    out: dict[str, Any] = {}
    for key, value in held.items():
        if isinstance(value, Mapping):
            out[str(key)] = plain_values(value, f"{where}['{key}']")
        elif key == "note" and isinstance(value, str):
            continue
        else:
            out[str(key)] = finite_numbers(value, f"{where}['{key}']")
    return out


def finite_numbers(value: Any, where: str) -> Any:
    """A variance, or the rows of a covariance matrix.

    Raises
    ------
    OptionError
        For anything else.
    """
    if isinstance(value, pd.DataFrame) and has_labels(value):
        raise OptionError(
            f"{where} is a table with labels, which trials need not have in common; give the matrix alone, "
            "table.to_numpy(), in the order of the coefficients"
        )
    try:
        numbers = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
        raise OptionError(f"{where} must be numbers, a variance or a covariance matrix") from None
    if not np.isfinite(numbers).all():
        raise OptionError(f"{where} holds a number that is not finite")
    return numbers.tolist()


def label_factors(parsed: ParsedFormula) -> list[Node]:
    """Grouping factors of random terms whose values are labels: not the positions of ``ar1``."""
    out: list[Node] = []
    for part in parsed.random:
        kinds = [kind.kind for kind in part.kinds if kind.has_column]
        own = zip(kinds, part.factors, strict=True) if kinds else (("id", node) for node in part.factors)
        out += [node for kind, node in own if kind != "ar1"]
        out += [node for columns in part.incidence for node in columns]
    return [*out, *(node for spline in parsed.splines for node in spline.at)]
