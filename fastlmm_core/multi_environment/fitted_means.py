"""Two-way means of a fit: estimated where the cells are fixed, predicted where genotypes are random."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import scipy.sparse as sp

from fastlmm_core.design.group_columns import columns_of_individuals
from fastlmm_core.errors import DataError, OptionError, name_list, nearest_names
from fastlmm_core.multi_environment.two_way_table import TwoWayTable
from fastlmm_core.results.blups import user_effects
from fastlmm_core.results.effect_functions import effect_functions
from fastlmm_core.results.genotypes.attributes import columns_of_levels, fixed_rows, genotype_attributes

if TYPE_CHECKING:
    from fastlmm_core.results.fit import LMMFit

# Interaction smaller than this part of the means is that of an additive model.
ADDITIVE = 1e-9
OK = "ok"


def from_fit(fit: LMMFit, genotype: str, environment: str) -> TwoWayTable:
    """Means of every genotype in every environment by a fit.

    Raises
    ------
    DataError, OptionError
        When the fit has no such factors, or no interaction of them.
    """
    known = list(fit.design.frame.columns)
    for name in (genotype, environment):
        if name not in known:
            raise OptionError(f"the model has no factor '{name}'{nearest_names(name, known)}")
    own = [k for k, t in enumerate(fit.design.random) if not t.is_spline and genotype in t.group_variables
           and set(t.group_variables) <= {genotype, environment}]  # fmt: skip
    table = _predicted(fit, genotype, environment, own) if own else _estimated(fit, genotype, environment)
    spread = np.abs(table.interaction).max()
    if spread <= ADDITIVE * np.abs(table.means).max():
        terms = [fit.design.random[k] for k in own]
        if any(environment in t.group_variables or t.columns[-1].startswith(environment) for t in terms):
            raise DataError(f"the interaction of {genotype} and {environment} is estimated as zero")
        raise DataError(
            f"the model has no interaction of {genotype} and {environment}: add {genotype}:{environment}, "
            f"(1 | {genotype}:{environment}) or fa(0 + {environment} | {genotype})"
        )
    return table


def _estimated(fit: LMMFit, genotype: str, environment: str) -> TwoWayTable:
    """Adjusted means of the cells; their error from the differences within environments."""
    means = fit.emmeans([genotype, environment])
    frame = means.to_frame()
    wrong = frame[frame["status"] != OK]
    if len(wrong):
        cell = wrong.iloc[0]
        raise DataError(
            f"{len(wrong)} cells have no estimable mean, the first {cell[genotype]} in {cell[environment]}; "
            "make the genotypes random, with fa(0 + env | gen) for example"
        )
    wide = frame.pivot(index=genotype, columns=environment, values="estimate")
    genotypes = list(dict.fromkeys(frame[genotype]))
    environments = list(dict.fromkeys(frame[environment]))
    sed = means.sed_matrix()
    column = frame[environment].to_numpy()
    within = (column[:, None] == column) & ~np.eye(len(frame), dtype=bool)
    differences = fit.emmeans(genotype, by=environment).contrast("consec", adjust="none").to_frame()
    return TwoWayTable(
        tuple(map(str, genotypes)), tuple(map(str, environments)),
        wide.loc[genotypes, environments].to_numpy(float), 1.0, float(np.mean(sed[within] ** 2)) / 2.0,
        float(differences["df"].mean()), "adjusted means of the fit",
    )  # fmt: skip


def _predicted(fit: LMMFit, genotype: str, environment: str, terms: list[int]) -> TwoWayTable:
    """Fixed part of the cells, plus the predictions of genotypes, environments and their interaction.

    Genotypes and environments that are not fixed have their own properties in the fixed part, a family or a
    year; all else there is averaged over.
    """
    genotypes, environments = level_labels(fit, genotype), level_labels(fit, environment)
    shape = len(genotypes), len(environments)
    grid = pd.DataFrame(
        {genotype: np.repeat(np.array(genotypes, dtype=object), shape[1]),
         environment: np.tile(np.array(environments, dtype=object), shape[0])}
    )  # fmt: skip
    grid = with_numbers(fit, grid)
    means = _fixed_means(fit, grid).reshape(shape)
    random_terms = enumerate(fit.design.random)
    own = [k for k, t in random_terms if not t.is_spline and t.group_variables == (environment,)]
    for k in sorted({*terms, *own}):
        random, u = fit.design.random[k], user_effects(fit, k)
        further = {v for atom in random.coding.atoms.values() for v in atom.columns_read} - set(grid.columns)
        if further and k not in own:
            raise OptionError(f"the effects of {random.label} depend on {name_list(sorted(further))} too")
        places = [dict(zip(further, own_levels, strict=True))
                  for own_levels in product(*(_averaged(fit, name) for name in further))]  # fmt: skip
        for place in places:
            for codes, z in random.evaluate_layers(grid.assign(**place)):
                effect = np.where(codes < 0, 0.0, np.einsum("ij,ij->i", z, u[codes]))
                means += effect.reshape(shape) / len(places)
    groups = ", ".join(dict.fromkeys(fit.design.random[k].group for k in terms))
    return TwoWayTable(
        tuple(genotypes), tuple(environments), means,
        source=f"predictions of the fit ({groups})", shrunken=True,
    )  # fmt: skip


def with_numbers(fit: LMMFit, grid: pd.DataFrame) -> pd.DataFrame:
    """Levels as numbers where the fixed part or a slope reads them so: years with a trend."""
    codings = [fit.design.coding, *(term.coding for term in fit.design.random if not term.is_spline)]
    atoms = [atom for coding in codings for atom in coding.atoms.values() if not atom.is_factor]
    read = {name for atom in atoms for name in atom.columns_read}
    return grid.assign(**{name: pd.to_numeric(grid[name]) for name in grid.columns if name in read})


def _fixed_means(fit: LMMFit, grid: pd.DataFrame) -> np.ndarray:
    """Adjusted means of the fixed part (r,) in the cells of a grid; NaN where they are not estimable."""
    first, second = grid.columns
    grid = grid.assign(**_properties(fit, first, second, grid), **_properties(fit, second, first, grid))
    shares = columns_of_individuals(fit.design.formula, fit.design.random, first)
    if shares is not None:
        grid[list(shares.columns)] = shares.loc[grid[first]].to_numpy()
    rows, shift = fixed_rows(fit, grid, list(grid.columns))
    estimable = fit.design.estimable(rows)
    out = np.full(len(grid), np.nan)
    out[estimable] = effect_functions(fit, sp.csr_array(rows[estimable])).estimate() + shift[estimable]
    return out


def _properties(fit: LMMFit, name: str, other: str, grid: pd.DataFrame) -> dict[str, Any]:
    """Columns that are properties of a factor's levels, on the rows of a grid; none of one that is fixed."""
    terms = [k for k, t in enumerate(fit.design.random) if not t.is_spline and t.group_variables == (name,)]
    if name in fit.design.variables:
        return {}
    if not terms:  # in the interaction alone
        codes, levels = fit.design.level_codes(name)
        frame = fit.design.frame[list(fit.design.variables)]
        first, same = columns_of_levels(frame, codes, (other,))
        known = pd.Index(levels).get_indexer(pd.Index(grid[name]))
        return {} if (known < 0).any() else {v: frame[v].to_numpy()[first[known]] for v in same}
    read = {v for k in terms for a in fit.design.random[k].coding.atoms.values() for v in a.columns_read}
    own = genotype_attributes(fit, terms[0], read, (other,))
    complete = bool(grid[name].isin(own.frame.index).all())
    return dict(own.of(grid[name])) if complete or own.alike else {}


def _averaged(fit: LMMFit, name: str) -> list[Any]:
    """Levels of a factor, which are averaged over, or the mean of a covariate."""
    column = fit.design.frame[name]
    return list(column.cat.categories) if isinstance(column.dtype, pd.CategoricalDtype) else [column.mean()]


def level_labels(fit: LMMFit, name: str) -> list[str]:
    """Levels of a factor, those of a relationship without data included."""
    for term in fit.design.random:
        if not term.is_spline and term.group_variables == (name,):
            return [str(level) for level in term.levels]
    return list(fit.design.level_codes(name)[1])
