"""Which batches the compiled path takes, and its arrays: every column coded once for the whole table."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastlmm_core.batch.compiled.compilable import may_compile
from fastlmm_core.batch.compiled.contrasts import ContrastPlan, contrast_plan
from fastlmm_core.batch.compiled.variables import (
    GridCovariates,
    TableVariables,
    grid_factors,
    numeric_columns,
    read_table,
)
from fastlmm_core.batch.trials import TrialTable
from fastlmm_core.design.coding.model_matrix import code_terms
from fastlmm_core.formula.expressions import deparse, label_of
from fastlmm_core.formula.parts import RandomPart, TermList
from fastlmm_core.kernels.equations.systems import Parameters
from fastlmm_core.kernels.trials.inference import ASYMPTOTIC, KENWARD_ROGER, RESIDUAL, SATTERTHWAITE
from fastlmm_core.kernels.trials.layout import count_levels
from fastlmm_core.means.mean_specs import parse_specs
from fastlmm_core.reml.theta_places import theta_places
from fastlmm_core.structures import make_coefficient_structure

MODES = {
    "kenward-roger": KENWARD_ROGER, "satterthwaite": SATTERTHWAITE, "residual": RESIDUAL,
    "asymptotic": ASYMPTOTIC,
}  # fmt: skip


@dataclass(frozen=True)
class FixedAtoms:
    """Atoms of a fixed term: names, and 0 factor by contrasts, 1 factor by all levels, 2 numeric."""

    names: tuple[str, ...]
    kinds: tuple[int, ...]


@dataclass(frozen=True)
class RandomPlan:
    """A random term.

    Attributes
    ----------
    group : str
    factors : tuple of str
        Of the grouping, the slowest first.
    columns : tuple of str
        Names of the coefficients.
    products : tuple of tuples of str
        Numeric variables whose product each coefficient is, none for the intercept.
    diagonal : bool
        Independent coefficients.
    """

    group: str
    factors: tuple[str, ...]
    columns: tuple[str, ...]
    products: tuple[tuple[str, ...], ...]
    diagonal: bool


@dataclass(frozen=True)
class CodedSpec:
    """Factors of a table of means: those whose means are compared, and those of the groups they are in."""

    main: tuple[str, ...]
    by: tuple[str, ...]

    @property
    def factors(self) -> tuple[str, ...]:
        """All of them, the first varying fastest."""
        return self.main + self.by


@dataclass(frozen=True)
class CodedTrials:
    """A table of trials as arrays of codes and numbers; variables go by their text in the formula.

    Attributes
    ----------
    factors : tuple of str
    levels : tuple of (L,) object arrays
        Labels of each factor over the whole table.
    codes : (n_factors, N) int32
    numeric : tuple of str
    numbers : (n_numeric, N) float64
    weights : (N,) float64
        NaN in rows where an expression is not defined, so that no such row is used.
    ok : (N,) bool
        Rows whose explanatory columns and keys are complete.
    y : (n_traits, N) float64
        Responses less offset; all missing where the response of a trial cannot be read.
    terms : tuple of FixedAtoms
    random : tuple of RandomPlan
    specs : tuple of CodedSpec
        Factors of each table of marginal means.
    column_of : dict of str to str
        Column of the table behind each factor of `specs`, which titles the means.
    covariates : GridCovariates
    family : ContrastPlan or None
    controls : tuple of int
        Code of the control in the factor of each specification, -1 without one.
    level_counts : (n_factors, T) int64
        Levels of each factor in each trial.
    """

    factors: tuple[str, ...]
    levels: tuple[np.ndarray, ...]
    codes: np.ndarray
    numeric: tuple[str, ...]
    numbers: np.ndarray
    weights: np.ndarray
    ok: np.ndarray
    y: np.ndarray
    intercept: bool
    terms: tuple[FixedAtoms, ...]
    random: tuple[RandomPlan, ...]
    specs: tuple[CodedSpec, ...]
    column_of: dict[str, str]
    covariates: GridCovariates
    family: ContrastPlan | None
    controls: tuple[int, ...]
    level_counts: np.ndarray

    @property
    def n_theta(self) -> int:
        return sum(
            len(r.columns) if r.diagonal else len(r.columns) * (len(r.columns) + 1) // 2 for r in self.random
        )

    @property
    def width(self) -> int:
        return max((len(r.columns) for r in self.random), default=1)

    def parameters(self, order: np.ndarray) -> Parameters:
        """Where theta sits in units with this order (K,) of the random terms."""
        terms = [self.random[k] for k in order]
        names = ["diag" if term.diagonal else "us" for term in terms]
        structures: list[Any] = [
            make_coefficient_structure(name, len(term.columns))
            for name, term in zip(names, terms, strict=True)
        ]
        return theta_places(structures)

    def fixed_arrays(self) -> tuple[Any, ...]:
        """The fixed part as ``kernels.trials.design`` takes it."""
        place = {**{n: i for i, n in enumerate(self.factors)}}
        number = {n: i for i, n in enumerate(self.numeric)}
        ptr = np.cumsum([0, *(len(t.names) for t in self.terms)])
        variable = [
            number[n] if k == 2 else place[n]
            for t in self.terms
            for n, k in zip(t.names, t.kinds, strict=True)
        ]
        kind = [k for t in self.terms for k in t.kinds]
        return int(self.intercept), integers(ptr), integers(variable), integers(kind)

    def random_arrays(self) -> tuple[Any, ...]:
        """The random terms as ``kernels.trials.design`` takes them."""
        place = {n: i for i, n in enumerate(self.factors)}
        number = {n: i for i, n in enumerate(self.numeric)}
        group_ptr = np.cumsum([0, *(len(r.factors) for r in self.random)])
        group = [place[n] for r in self.random for n in r.factors]
        parts = [product for r in self.random for product in r.products]
        coef_ptr = np.cumsum([0, *(len(part) for part in parts)])
        coef = [number[n] for part in parts for n in part]
        widths = [len(r.columns) for r in self.random]
        diagonal = [int(r.diagonal) for r in self.random]
        return tuple(integers(a) for a in (group_ptr, group, widths, coef_ptr, coef, diagonal))


def integers(values: Any) -> np.ndarray:
    """Contiguous int64."""
    return np.ascontiguousarray(values, dtype=np.int64)


def code_trials(table: TrialTable) -> CodedTrials | None:
    """Code a table for the compiled path; None when the plan needs the general path."""
    plan = table.plan
    parsed = plan.parsed
    if table.models or not may_compile(plan):
        return None
    family = contrast_plan(plan)
    assert not isinstance(family, bool)
    variables = read_table(table)
    if variables is None or (plan.weights and variables.columns.column(plan.weights).is_factor):
        return None
    if any(text not in variables.numbers for part in parsed.random for text in part.terms.atoms):
        return None
    text_of = grid_factors(parsed, variables) if plan.emmeans else {}
    if text_of is None:
        return None
    wanted = [parse_specs(spec).of_columns(text_of) for spec in plan.emmeans]
    if any(not set(spec.variables) <= set(text_of) for spec in wanted):
        return None
    specs = tuple(
        CodedSpec(
            tuple(text_of[name] for name in spec.variables if name not in spec.by),
            tuple(text_of[name] for name in spec.by),
        )
        for spec in wanted
    )
    most = 1 if family and family.control == "label" else len(text_of)
    if family and not all(1 <= len(spec.main) <= most for spec in specs):
        return None
    terms = fixed_plan(parsed.fixed, variables.numbers)
    random = tuple(random_plan(part) for part in parsed.random)
    if plan.blups and has_subset_interactions(random):
        return None
    column_of = {text: name for name, text in text_of.items()}
    return collect_codes(table, variables, terms, random, specs, column_of, family)


def fixed_plan(fixed: TermList, numbers: Collection[str]) -> tuple[FixedAtoms, ...]:
    """The terms of the fixed part, `numbers` being the texts of numeric variables."""
    factors = {text for text in fixed.atoms if text not in numbers}
    return tuple(
        FixedAtoms(
            term.atoms,
            tuple(
                int(full) if text in factors else 2 for text, full in zip(term.atoms, term.full, strict=True)
            ),
        )
        for term in code_terms(fixed, factors)
    )


def random_plan(part: RandomPart) -> RandomPlan:
    """A random term whose coefficients are products of numeric variables; of a plain formula only."""
    if not part.is_plain:
        raise ValueError(f"'{part.label}' is not for the compiled path")
    products = (*([()] if part.terms.intercept else []), *part.terms.terms)
    columns = tuple(label_of(":".join(product)) or "(Intercept)" for product in products)
    groups = tuple(deparse(node) for node in part.factors)
    return RandomPlan(part.group, groups, columns, products, part.structure == "diag")


def has_subset_interactions(random: Sequence[RandomPlan]) -> bool:
    """Whether a term such as (0 + new | gen), an effect of some levels only, may have interactions.

    Which rows they share decides whether the heritability of means over environments is defined.
    """
    single = [own for own in random if len(own.columns) == 1 and own.columns != ("(Intercept)",)]
    return any(set(own.factors) < set(other.factors) for own in single for other in random)


def collect_codes(
    table: TrialTable, variables: TableVariables, terms: tuple[FixedAtoms, ...],
    random: tuple[RandomPlan, ...], specs: tuple[CodedSpec, ...], column_of: dict[str, str],
    family: ContrastPlan | None,
) -> CodedTrials:  # fmt: skip
    """Stack codes and numbers, mark unusable rows and find the control."""
    plan = table.plan
    N = len(table.frame)
    factor_names = dict.fromkeys(n for t in terms for n, k in zip(t.names, t.kinds, strict=True) if k < 2)
    factor_names |= dict.fromkeys(n for r in random for n in r.factors)
    numbers, covariates = numeric_columns(plan, variables)
    coded = [variables.factors[name] for name in factor_names]
    codes = np.array([c.values for c in coded], dtype=np.int32).reshape(len(coded), N)
    ok = ~variables.missing
    weights = variables.columns.column(plan.weights).values if plan.weights else np.ones(N)
    if variables.undefined.any():
        weights = np.where(variables.undefined, np.nan, weights)
    for nameless in np.flatnonzero(table.keys.isna().to_numpy().any(axis=1)).tolist() if plan.by else ():
        ok[table.ptr[nameless] : table.ptr[nameless + 1]] = False
    y = table.y if variables.response is None else variables.response[None]
    if variables.offset is not None:
        y = y - variables.offset
    if table.faults:
        y = y.copy()
        for trial, trait in table.faults:
            y[trait, table.ptr[trial] : table.ptr[trial + 1]] = np.nan
    counts = np.zeros((len(coded), table.n_trials), dtype=np.int64)
    for f, column in enumerate(coded):
        count_levels(codes[f], ok, table.ptr, len(column.levels or ()), counts[f])
    names = tuple(factor_names)
    levels = tuple(np.array(c.levels, dtype=object) for c in coded)
    controls = tuple(
        find_code(levels[names.index(spec.main[0])], column_of[spec.main[0]], str(plan.ref))
        if family and family.control == "label" else -1
        for spec in specs
    )  # fmt: skip
    # A copy: to Numba a column that cannot be written is of another type, and kernels would be compiled anew.
    weights = np.array(weights, dtype=np.float64)
    return CodedTrials(
        names, levels, codes, tuple(numbers), np.array(list(numbers.values())).reshape(len(numbers), N),
        weights, ok, np.ascontiguousarray(y),
        plan.parsed.fixed.intercept, terms, random, specs, column_of, covariates, family, controls, counts,
    )  # fmt: skip


def find_code(levels: np.ndarray, name: str, wanted: str) -> int:
    """Code of a level, given as its label or as factor and label; -1 where there is none."""
    known = list(levels)
    return next((known.index(text) for text in (wanted, wanted.removeprefix(name)) if text in known), -1)
