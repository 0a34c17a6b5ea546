"""The same model with the levels of one random term as fixed effects: where BLUEs come from."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
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

NOT_PLAIN = "BLUEs need one coefficient for every level of one column, as in (1|gen) or (0 + new|gen)"
NO_MEANS = "a mean of every level needs (1|gen); of (0 + new|gen) there are differences only"


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
        term = fit.design.random[k]
        known[k] = FixedLevels(
            second, term.group_variables[0], () if term.columns == ("(Intercept)",) else term.columns
        )
    return known[k]


class FixedLevels:
    """A second fit with the levels of a random term fixed, and the tables of their means.

    Parameters
    ----------
    fit : FixedPart
    name : str
        Column of the levels.
    coefficient : tuple of str
        The variable that the effects are coefficients of, ``("new",)``; empty for the levels themselves.
    """

    def __init__(self, fit: FixedPart, name: str, coefficient: tuple[str, ...] = ()):
        self.fit, self.name, self.coefficient = fit, name, coefficient
        self._means: dict[str, EmmeansTable] = {}

    def means(self, ddf: str | None = None) -> EmmeansTable:
        """Means of the levels; ``ddf`` as of ``LMMFit.emmeans``.

        Raises
        ------
        InferenceError
            Of a term with a coefficient.
        """
        if self.coefficient:
            raise InferenceError(NO_MEANS)
        ddf = self.fit.default_ddf if ddf is None else ddf
        if ddf not in self._means:
            self._means[ddf] = self.fit.emmeans([self.name], ddf=ddf)
        return self._means[ddf]

    def differences(self, labels: Sequence[Any], adjusted: bool) -> np.ndarray:
        """Covariance (S, S) of the effects of S levels less that of the first one.

        It gives the variance of every difference, also where the effects themselves are not estimable: beside
        ``group``, which has a level for all new lines together, those of ``(0 + new | gen)`` are not.

        Parameters
        ----------
        labels : sequence of S labels
        adjusted : bool
            Kenward & Roger's, or that of the model.

        Raises
        ------
        InferenceError
            For a level without data, and where a difference is not estimable.
        """
        coding, values = self.fit.design.coding, self.fit.design._values
        own = next(
            text for text, atom in coding.atoms.items()
            if atom.is_factor and atom.columns_read == (self.name,)
            and any(set(term.atoms) == {text, *self.coefficient} for term in coding.terms)
        )  # fmt: skip
        places = {str(level): i for i, level in enumerate(coding.atoms[own].levels or ())}
        at = np.array([places.get(str(label), -1) for label in labels])
        if (at < 0).any():
            raise InferenceError("some levels have no data, and so no BLUE")
        there = {text: np.repeat(value[:1], at.size, axis=0) for text, value in values.items()}
        there |= {own: at.astype(values[own].dtype)}
        there |= {text: np.ones((at.size, 1)) for text in self.coefficient}
        rows = coding.matrix(there, at.size).toarray()
        ddf = "kenward-roger" if adjusted else "asymptotic"
        functions = self.fit.linear_functions(rows[1:] - rows[0], ddf=ddf)
        if not functions.estimable.all():
            raise InferenceError("the BLUEs are not estimable beside the other fixed effects")
        out = np.zeros((at.size, at.size))
        out[1:, 1:] = functions.cov if adjusted else functions.cov_unadjusted
        return out

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
    single = len(term.columns) == 1 and len(term.layers) == 1 and len(part.terms.terms) <= 1
    if not single or len(term.group_variables) != 1 or term.at is not None:
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
    """The formula with the levels of a random term, or its coefficient in each, fixed; without an offset."""
    node = part.factors[0] if as_text is None else parse_expression(as_text)
    text, fixed = deparse(node), parsed.fixed
    own = (text, *(variable for term in part.terms.terms for variable in term))
    if (text,) in fixed.terms or (len(own) > 1 and any(text in term for term in fixed.terms)):
        raise InferenceError(f"{text} is a fixed effect already")
    place = sum(len(term) <= len(own) for term in fixed.terms)
    terms = (*fixed.terms[:place], own, *fixed.terms[place:])
    return replace(
        parsed, text=f"{parsed.text} with {text} fixed", offsets=(),
        fixed=TermList(fixed.intercept, terms, {**fixed.atoms, **part.terms.atoms, text: node}),
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
