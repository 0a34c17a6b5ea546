"""The same model with the levels of one random term as fixed effects: where BLUEs come from."""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from fastlmm_core.design.building import build_design
from fastlmm_core.design.expressions import Name, deparse
from fastlmm_core.design.formula import parse_expression
from fastlmm_core.design.formula_parts import ParsedFormula, RandomPart, TermList
from fastlmm_core.design.table import Table
from fastlmm_core.errors import FastLMMWarning, InferenceError

if TYPE_CHECKING:
    from fastlmm_core.inference.mean_tables import EmmeansTable
    from fastlmm_core.results.fixed_part import FixedPart

NOT_PLAIN = "BLUEs need levels of one column, as in (1|gen), without a coefficient of their own"


def fixed_levels(fit: FixedPart, k: int) -> FixedLevels:
    """`FixedLevels` of random term k, made once for a fit.

    Raises
    ------
    InferenceError
        See `fit_fixed_levels`.
    """
    known: dict[int, FixedLevels] = fit.__dict__.setdefault("_fixed_levels", {})
    if k not in known:
        second = fit_fixed_levels(fit, k)  # which checks the term first
        known[k] = FixedLevels(second, fit.design.random[k].group_variables[0])
    return known[k]


class FixedLevels:
    """A second fit with the levels of a random term fixed, and the tables of their means.

    Parameters
    ----------
    fit : FixedPart
    name : str
        Column of the levels.
    """

    def __init__(self, fit: FixedPart, name: str):
        self.fit, self.name = fit, name
        self._means: dict[str, EmmeansTable] = {}

    def means(self, ddf: str | None = None) -> EmmeansTable:
        """Means of the levels; ``ddf`` as of ``LMMFit.emmeans``."""
        ddf = self.fit.default_ddf if ddf is None else ddf
        if ddf not in self._means:
            self._means[ddf] = self.fit.emmeans([self.name], ddf=ddf)
        return self._means[ddf]

    def any_means(self) -> EmmeansTable:
        """Means with whatever errors they have been made with, which all know the model's covariance."""
        return next(iter(self._means.values())) if self._means else self.means("asymptotic")


def fit_fixed_levels(fit: FixedPart, k: int) -> FixedPart:
    """A second fit of the same response, with the effects of random term k fixed.

    Raises
    ------
    InferenceError
        When the term is not one effect for each level of a column, or the levels are fixed effects already.
    """
    term, parsed = fit.design.random[k], fit.design.formula
    part = next(own for own in parsed.random if own.label == term.label)
    if term.columns != ("(Intercept)",) or len(term.group_variables) != 1 or term.at is not None:
        raise InferenceError(NOT_PLAIN)
    column = fit.design._table.columns[term.group_variables[0]]
    plain = isinstance(part.factors[0], Name)
    # numbers group as labels; in the fixed part they would be a covariate
    as_text = f"factor({deparse(part.factors[0])})" if plain and not column.is_factor else None
    held = {key: value for key, value in fit.prepared.fixed_parameters.items() if key != term.group}
    return fit_formula(fit, moved_to_fixed(parsed, part, as_text), fit.reml, held)


def fit_formula(fit: FixedPart, parsed: ParsedFormula, reml: bool, held: dict[str, Any]) -> FixedPart:
    """The same response and rows by another formula without an offset, which stays that of the fit."""
    relationships = {
        str(axis.relationship.name): axis.relationship
        for other in fit.design.random if not other.is_spline
        for axis in other.axes if axis.relationship is not None
    }  # fmt: skip
    residual = fit.design.residual
    if residual.relationship is not None:
        relationships[str(residual.known_name)] = residual.relationship
    design = build_design(
        parsed, used_rows(fit), weights=fit.weights, offset=fit.offset,
        contrasts=fit.prepared.contrasts, response=False, residual=residual.text,
        relationships=relationships, held=held,
    )  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FastLMMWarning)  # kept in the warnings of the fit
        again: FixedPart = fit.prepared.again(reml, design, held).fit(y=fit.response)
    return again


def moved_to_fixed(parsed: ParsedFormula, part: RandomPart, as_text: str | None = None) -> ParsedFormula:
    """The formula with the levels of a random term among its fixed main effects, without its offset."""
    node = part.factors[0] if as_text is None else parse_expression(as_text)
    text, fixed = deparse(node), parsed.fixed
    if (text,) in fixed.terms:
        raise InferenceError(f"{text} is a fixed effect already")
    main = sum(len(term) == 1 for term in fixed.terms)
    terms = (*fixed.terms[:main], (text,), *fixed.terms[main:])
    return replace(
        parsed, text=f"{parsed.text} with {text} fixed", offsets=(),
        fixed=TermList(fixed.intercept, terms, {**fixed.atoms, text: node}),
        random=tuple(own for own in parsed.random if own is not part),
    )  # fmt: skip


def used_rows(fit: FixedPart) -> Table:
    """The columns of the model on the rows used."""
    own = fit.design._table
    rows = np.arange(fit.nobs) if own.rows is None else own.rows
    columns: dict[str, Any] = {
        name: replace(
            column, values=column.values[rows],
            text=None if column.text is None else column.text.take(rows),
        )
        for name, column in own.columns.items()
    }  # fmt: skip
    return Table.of(columns, fit.nobs)
