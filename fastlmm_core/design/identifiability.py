"""Random terms and residuals whose parameters no data can tell apart, refused by name."""

from __future__ import annotations

import numpy as np

from fastlmm_core.design.grouping import is_units
from fastlmm_core.design.random_terms import RandomTerm
from fastlmm_core.errors import DesignError, name_list
from fastlmm_core.formula.residual import ResidualSpec
from fastlmm_core.structures.coefficients.factor_loadings import FactorLoadings
from fastlmm_core.structures.registry import find_coefficient_structure


def check_terms(
    terms: list[RandomTerm], residual: ResidualSpec, n: int, names: object, weights: np.ndarray | None = None
) -> None:
    """Refuse what cannot be estimated.

    Parameters
    ----------
    terms : list of RandomTerm
    residual : ResidualSpec
    n : int
        Rows used.
    names : container of str
        Columns of the table.
    weights : (n,), optional
        Where they differ between rows of one coefficient, they tell its variance from the residual's.

    Raises
    ------
    DesignError
        For a group of one level, as many levels or random effects as rows, one observation a cell.
    """
    for term in terms:
        _check_two_levels(term, n)
        _check_factors(term)
        if any(is_units(node, names) for axis in term.axes for node in axis.nodes):
            _check_units(term, residual)
        elif term.relation is None and residual.kind == "units":
            _check_counts(term, terms, residual, n, weights)
        if term.relation is None and residual.kind == "within":
            _check_subjects(term, residual)


def _check_two_levels(term: RandomTerm, n: int) -> None:
    """lme4's ``check.nlev.gtr.1``."""
    if term.levels.size >= 2:
        return
    where = f"the {n} rows used" if term.at is None else f"the rows of '{term.at}'"
    raise DesignError(
        f"grouping factor '{term.group}' has only the level {name_list(term.levels)} in {where}; "
        "a random term needs at least two levels"
    )


def _check_factors(term: RandomTerm) -> None:
    """Factors are of effects in environments, not of one slope: left of the bar numbers are themselves."""
    family = find_coefficient_structure(term.structure)
    if not issubclass(family, FactorLoadings) or len(term.columns) > 1 or term.incidence:
        return
    numbers = [text for text, atom in term.coding.atoms.items() if not atom.is_factor]
    if numbers:
        raise DesignError(
            f"'{term.label}' has one coefficient, the slope in {name_list(numbers)}, which holds numbers: "
            f"for effects in its levels write factor({numbers[0]})"
        )


def _check_units(term: RandomTerm, residual: ResidualSpec) -> None:
    """Independent effects of the rows beside a residual that has them itself."""
    if term.relation is not None:
        return
    family = None if residual.structure is None else find_coefficient_structure(residual.structure)
    if residual.kind == "units" or (family is not None and family.absorbs_residual):
        raise DesignError(f"'{term.label}' is confounded with the residual '{residual.text}', which has an "
                          "independent part for every row; leave the term out")  # fmt: skip


def _check_counts(
    term: RandomTerm, terms: list[RandomTerm], residual: ResidualSpec, n: int, weights: np.ndarray | None
) -> None:
    """lme4's ``check.nobs.vs.nlev`` and ``check.nobs.vs.nRE``, and one observation a cell."""
    alike = [own for own in terms if own.label == term.label and own.at is not None] or [term]
    count, width = sum(own.levels.size for own in alike), len(term.columns)
    family = find_coefficient_structure(term.structure)
    if count >= n and family.absorbs_residual:
        raise DesignError(
            f"grouping factor '{term.group}' has {count} levels for {n} observations: its effect would be "
            f"confounded "
            "with the residual; every grouping factor needs fewer levels than there are observations"
        )
    if width > 1 and weights is not None and _weights_differ(alike, weights):
        return
    if not family.any_scale or residual.by is not None:
        if family.absorbs_residual and _one_observation_a_cell(alike, n):
            raise DesignError(
                f"'{term.label}' has one observation for each coefficient of a level, so that its variances "
                f"and the residual '{residual.text}' cannot be told apart; make it the residual, "
                f"residual='{term.structure}(... | {term.group})', or leave it out"
            )
        return
    if count * width < n:  # few however many have data
        return
    effects = sum(_effects_with_data(own) for own in alike)
    if effects >= n:
        product = f"{count} x {width} = " if effects == count * width else ""
        raise DesignError(
            f"the random term ({' + '.join(term.columns)} | {term.group}) has {product}{effects} random "
            f"effects for {n} observations: its parameters and the residual variance cannot be told apart; "
            "use fewer random coefficients"
        )


def _effects_with_data(term: RandomTerm) -> int:
    """Levels by coefficients that any row has: of ``(0 + env | gen)`` the environments of a genotype."""
    row, column = np.nonzero(np.where((term.codes >= 0)[:, None], term.values, 0.0))
    return int(np.unique(term.codes[row].astype(np.int64) * term.values.shape[1] + column).size)


def _one_observation_a_cell(terms: list[RandomTerm], n: int) -> bool:
    """Whether every row has a level and a coefficient of its own, in all levels of ``at()`` together."""
    rows = 0
    for term in terms:
        used = term.codes >= 0
        values = term.values[used] != 0.0
        if (values.sum(axis=1) != 1).any():
            return False
        cell = term.codes[used].astype(np.int64) * values.shape[1] + values.argmax(axis=1)
        if np.unique(cell).size < cell.size:
            return False
        rows += cell.size
    return rows == n


def _weights_differ(terms: list[RandomTerm], weights: np.ndarray) -> bool:
    """Whether the weights of the rows of one coefficient differ."""
    for term in terms:
        for column in term.values.T:
            own = weights[(term.codes >= 0) & (column != 0.0)]
            if own.size and np.ptp(own) > 1e-8 * own.max():
                return True
    return False


def _check_subjects(term: RandomTerm, residual: ResidualSpec) -> None:
    """Effects of the subjects beside a residual whose covariances within a subject are free."""
    assert residual.subject_codes is not None and residual.structure is not None
    used = term.codes >= 0
    if not used.all() or not same_partition(term.codes, residual.subject_codes):
        return
    constant = term.columns == ("(Intercept)",)
    family = find_coefficient_structure(residual.structure)
    absorbed = family.any_basis or (constant and family.absorbs_subject)
    if absorbed and (constant or _one_observation_a_cell([term], term.codes.size)):
        raise DesignError(f"'{term.label}' and the residual '{residual.text}' cannot be told apart: the "
                          "residual has all covariances within a subject; leave the term out")  # fmt: skip


def same_partition(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether two codings (n,) of the rows group them alike."""
    pairs = np.unique(a.astype(np.int64) * (int(b.max()) + 1) + b).size
    return bool(pairs == np.unique(a).size == np.unique(b).size)
