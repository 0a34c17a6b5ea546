"""The same model with the levels of one random term as fixed effects: where BLUEs come from."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import scipy.sparse as sp

from fastlmm_core.design.building import build_design
from fastlmm_core.design.group_columns import columns_of_individuals, without_group_terms
from fastlmm_core.design.values.table import Table
from fastlmm_core.errors import FastLMMWarning, InferenceError
from fastlmm_core.formula.expressions import Name, deparse
from fastlmm_core.formula.parsing import parse_expression
from fastlmm_core.formula.parts import ParsedFormula, RandomPart, TermList
from fastlmm_core.means.mean_rows import MeanRows
from fastlmm_core.means.mean_specs import MeanSpecs
from fastlmm_core.results.genotypes.attributes import GenotypeAttributes, fixed_rows, genotype_attributes
from fastlmm_core.results.genotypes.heritability_levels import has_indicators, one_effect_each

if TYPE_CHECKING:
    from fastlmm_core.design.random_terms import RandomTerm
    from fastlmm_core.means.mean_tables import EmmeansTable
    from fastlmm_core.results.fixed_part import FixedPart

NOT_PLAIN = (
    "BLUEs need effects of the levels of one column: (1|gen), (0 + new|gen), (0 + env|gen), (0 + env:new|gen)"
)
MOST_EFFECTS = 5_000  # of levels within those of another factor that become fixed
NOT_ESTIMABLE = "the BLUEs are not estimable beside the other fixed effects"
NO_DATA = "some levels have no data, and so no BLUE"


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
        known[k] = FixedLevels(second, fit, k)
    return known[k]


class FixedLevels:
    """A second fit with the levels of a random term fixed, and the tables of their means.

    Parameters
    ----------
    fit : FixedPart
        The second.
    first, k : FixedPart and int
        The first, and its random term.

    Attributes
    ----------
    name : str
        Column of the levels.
    coefficient : tuple of str
        The variable that the effects are coefficients of, ``("new",)``; empty for the levels themselves.
    within : (str, tuple of str) or None
        Column and levels that the effects are in, of ``(0 + env | gen)`` and ``(0 + env:new | gen)``.
    """

    def __init__(self, fit: FixedPart, first: FixedPart, k: int):
        term = first.design.random[k]
        self.fit, self.first, self.k, self.name = fit, first, k, term.group_variables[0]
        self.within = levels_within(term)
        self.coefficient: tuple[str, ...] = ()
        if not one_effect_each(term):
            self.coefficient = tuple(text for text, atom in term.coding.atoms.items() if not atom.is_factor)
        self._means: dict[tuple[int | None, str], EmmeansTable] = {}

    def means(self, ddf: str | None = None, place: int | None = None) -> EmmeansTable:
        """Means of the levels; ``ddf`` as of ``LMMFit.emmeans``.

        Of ``group + (0 + new | gen)`` the new lines and the checks have a mean: that of their own group and,
        of a line, its effect. Of ``(0 + env | gen)`` it is the mean over environments, or with `place` that
        in the environment of this number.
        """
        ddf = self.fit.default_ddf if ddf is None else ddf
        place = None if self.within is None else place
        if (place, ddf) not in self._means:
            if self.coefficient:
                found = self._of_all_genotypes(ddf, place)
            elif place is None or self.within is None:
                found = self.fit.emmeans([self.name], ddf=ddf)
            else:
                name, levels = self.within
                found = self.fit.emmeans([self.name], at={name: levels[place]}, ddf=ddf)
            self._means[place, ddf] = found
        return self._means[place, ddf]

    @cached_property
    def attributes(self) -> GenotypeAttributes:
        """Properties of the levels."""
        coding = self.first.design.random[self.k].coding
        read = {name for atom in coding.atoms.values() for name in atom.columns_read}
        return genotype_attributes(self.first, self.k, read)

    @property
    def means_differ_by_effects(self) -> bool:
        """Whether a difference of two means is that of the effects, and of nothing else in the fixed part."""
        return not self.coefficient or self.attributes.alike

    def _of_all_genotypes(self, ddf: str, place: int | None) -> EmmeansTable:
        """Means with the properties that each genotype has, the checks too."""
        term, own = self.first.design.random[self.k], self.attributes
        codes, levels = self.first.design.level_codes(self.name)
        effects = pd.Series(term.values.sum(axis=1)).groupby(np.array(levels, dtype=object)[codes])
        if (effects.nunique() > 1).any():
            raise InferenceError(f"'{self.coefficient[0]}' differs between the plots of a {self.name}")
        names = own.frame.index.to_numpy()
        grid = own.frame.reset_index(drop=True)
        if place is not None and self.within is not None:
            grid[self.within[0]] = self.within[1][place]
        base, shift = fixed_rows(self.first, grid, list(grid.columns))
        effect = effects.first().reindex(names).to_numpy()
        lines = np.flatnonzero(effect)
        places = {name: j for j, name in enumerate(self.fit.coef_names)}
        K = np.zeros((names.size, len(places)))
        both = [j for j, name in enumerate(self.first.coef_names) if name in places]
        K[:, [places[self.first.coef_names[j]] for j in both]] = base.toarray()[:, both]
        K[lines] += effect[lines, None] * self._effect_rows(names[lines].tolist(), place)
        rows = MeanRows(
            pd.DataFrame({self.name: names}), sp.csr_array(K), shift, np.zeros(names.size, bool),
            MeanSpecs((self.name,), ()),
        )  # fmt: skip
        functions = self.fit.linear_functions(rows.K, ddf=ddf)
        response = self.first.design.formula.response
        return rows.table(functions, 0.95, f"Means of {self.name} as fixed effects", (), response)

    def differences(self, labels: Sequence[Any], adjusted: bool, place: int | None = None) -> np.ndarray:
        """Covariance (S, S) of the effects of S levels less that of the first one.

        It gives the variance of every difference, also where the effects themselves are not estimable: beside
        ``group``, which has a level for all new lines together, those of ``(0 + new | gen)`` are not.

        Parameters
        ----------
        labels : sequence of S labels
        adjusted : bool
            Kenward & Roger's, or that of the model.
        place : int, optional
            Environment, of ``(0 + env:new | gen)``; by default their mean.

        Raises
        ------
        InferenceError
            For a level without data, and where a difference is not estimable.
        """
        rows = self._effect_rows(labels, place)
        ddf = "kenward-roger" if adjusted else "asymptotic"
        functions = self.fit.linear_functions(rows[1:] - rows[0], ddf=ddf)
        if not functions.estimable.all():
            raise InferenceError(NOT_ESTIMABLE)
        out = np.zeros((len(rows), len(rows)))
        out[1:, 1:] = functions.cov if adjusted else functions.cov_unadjusted
        return out

    def test_of_effects(self, labels: Sequence[Any], ddf: str) -> dict[str, float]:
        """F test of no difference between the effects of some levels, or their means within a factor.

        Of levels in groups that are fixed effects it is of those within the same ones.
        """
        rows, own = self._effect_rows(labels), self.attributes.frame.loc[[str(label) for label in labels]]
        group = own.groupby(list(own.columns)).ngroup().to_numpy()  # `new` is one of them
        first = np.unique(group, return_index=True)[1][group]
        at = np.flatnonzero(first != np.arange(len(rows)))
        found = self.fit.linear_functions(rows[at] - rows[first[at]], ddf=ddf).f_test(np.eye(at.size))
        return {"df_num": found.df_num, "df_den": found.df_den, "F": found.F, "p": found.p}

    def _effect_rows(self, labels: Sequence[Any], place: int | None = None) -> np.ndarray:
        """Rows (S, p_full) of the effects of S levels alone, at a coefficient of 1.

        Of those within a factor the effect in one of its levels, or the mean over them.

        Raises
        ------
        InferenceError
            For a level without data.
        """
        coding, values = self.fit.design.coding, self.fit.design._values
        factors = {text: atom for text, atom in coding.atoms.items() if atom.is_factor}
        other = [] if self.within is None else [
            text for text, atom in factors.items() if atom.columns_read == (self.within[0],)
        ]  # fmt: skip
        own, start, width = next(
            (text, start, width)
            for term, start, width in zip(coding.terms, coding.starts, coding.widths, strict=False)
            for text in term.atoms
            if text in factors and factors[text].columns_read == (self.name,)
            and set(term.atoms) == {text, *self.coefficient, *other}
        )  # fmt: skip
        levels = {str(level): i for i, level in enumerate(coding.atoms[own].levels or ())}
        at = np.array([levels.get(str(label), -1) for label in labels])
        if (at < 0).any():
            raise InferenceError(NO_DATA)
        there = {text: np.repeat(value[:1], at.size, axis=0) for text, value in values.items()}
        there |= {own: at.astype(values[own].dtype)}
        there |= {text: np.ones((at.size, 1)) for text in self.coefficient}
        places = [0] if self.within is None else [place] if place is not None else range(len(self.within[1]))
        rows = np.zeros((at.size, len(self.fit.coef_names)))
        for number in places:
            there |= {text: np.full(at.size, number, values[text].dtype) for text in other}
            whole = coding.matrix(there, at.size).toarray()
            rows[:, start : start + width] += whole[:, start : start + width] / len(places)
        return rows

    def any_means(self, place: int | None = None) -> EmmeansTable:
        """Means with whatever errors they have been made with, which all know the model's covariance."""
        known = [table for (own, _), table in self._means.items() if own == place or self.within is None]
        return known[0] if known else self.means("asymptotic", place)


def levels_within(term: RandomTerm) -> tuple[str, tuple[str, ...]] | None:
    """Column and levels of the factor that the effects are in, ``(0 + env | gen)``; None of others.

    With a coefficient of 1 or 0, ``(0 + env:new | gen)``, those of the genotypes where it is 1.
    """
    factors = [atom for atom in term.coding.atoms.values() if atom.is_factor]
    several = has_indicators(term) and not one_effect_each(term)
    if not several or term.kept is not None or len(term.coding.atoms) > 2 or len(factors) != 1:
        return None
    (atom,) = factors
    levels = tuple(str(level) for level in atom.levels or ())
    return (atom.columns_read[0], levels) if len(levels) == len(term.columns) else None


def fit_fixed_levels(fit: FixedPart, k: int) -> FixedPart:
    """A second fit of the same response, with the effects of random term k fixed.

    Raises
    ------
    InferenceError
        When the term is not one effect for each level of a column, or the levels are fixed effects already.
    """
    term, parsed = fit.design.random[k], fit.design.formula
    part = next(own for own in parsed.random if own.label == term.label)
    within = levels_within(term)
    one_column = len(term.columns) == 1 and not any(atom.is_factor for atom in term.coding.atoms.values())
    nested = one_effect_each(term)  # in groups of genotypes, which they are within as fixed effects too
    single = len(term.layers) == 1 and len(part.terms.terms) <= 1 and (one_column or within or nested)
    if not single or len(term.group_variables) != 1 or term.at is not None:
        raise InferenceError(NOT_PLAIN)
    if within is not None and len(term.levels) * len(within[1]) > MOST_EFFECTS:
        count = f"{len(term.levels)} levels x {len(within[1])} of {within[0]}"
        raise InferenceError(f"BLUEs of {count} are too many fixed effects: at most {MOST_EFFECTS:,}")
    column = fit.design.table.columns[term.group_variables[0]]
    plain = isinstance(part.factors[0], Name)
    # numbers group as labels; in the fixed part they would be a covariate
    as_text = f"factor({deparse(part.factors[0])})" if plain and not column.is_factor else None
    # beside the fixed effects nothing is left of others that the same levels have by another relation
    effects = term.group_variables, term.columns, None
    beside = [
        own for own in fit.design.random
        if not own.is_spline and own is not term and (own.group_variables, own.columns, own.at) == effects
    ]  # fmt: skip
    labels, groups = {own.label for own in beside}, {term.group, *(own.group for own in beside)}
    held = {key: value for key, value in fit.prepared.fixed_parameters.items() if key not in groups}
    left = replace(parsed, random=tuple(own for own in parsed.random if own.label not in labels))
    # levels that are fixed hold what they have of genetic groups
    groups_of = columns_of_individuals(parsed, fit.design.random, term.group_variables[0])
    left = without_group_terms(left, groups_of)
    return fit_formula(fit, moved_to_fixed(left, part, as_text, nested), fit.reml, held)


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


def moved_to_fixed(
    parsed: ParsedFormula, part: RandomPart, as_text: str | None = None, alone: bool = False
) -> ParsedFormula:
    """The formula with the levels of a random term, or its coefficient in each, fixed; without an offset.

    `alone` are the levels without the factor that each of them is in one level of.
    """
    node = part.factors[0] if as_text is None else parse_expression(as_text)
    text, fixed = deparse(node), parsed.fixed
    own = (text, *(variable for term in part.terms.terms if not alone for variable in term))
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
    own = fit.design.table
    rows = np.arange(fit.nobs) if own.rows is None else own.rows
    columns: dict[str, Any] = {
        name: replace(
            column, values=column.values[rows],
            text=None if column.text is None else column.text.take(rows),
        )
        for name, column in own.columns.items()
    }  # fmt: skip
    return Table.of(columns, fit.nobs)
