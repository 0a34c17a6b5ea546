"""What a genotype value is a function of: rows of genotypes, within levels of other factors or over them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import scipy.sparse as sp

from fastlmm_core.design.group_columns import columns_of_individuals
from fastlmm_core.errors import OptionError, name_list, nearest_names
from fastlmm_core.formula.functions import columns_read
from fastlmm_core.results.effect_functions import EffectFunctions, effect_functions
from fastlmm_core.results.genotypes.attributes import fixed_rows, genotype_attributes
from fastlmm_core.results.genotypes.heritability_levels import level_relation
from fastlmm_core.results.row_variances import new_level_variance, term_covariance

if TYPE_CHECKING:
    from fastlmm_core.design.matrices import Design
    from fastlmm_core.results.fixed_part import FixedPart

Weights = dict[int, list[sp.csr_array]]


@dataclass(frozen=True)
class GenotypeRows:
    """Values of genotypes as functions of the effects.

    Attributes
    ----------
    labels : DataFrame (r rows)
        `by` columns and, last, the genotype; genotypes vary fastest.
    functions : EffectFunctions
    shift : (r,)
        Offset.
    new : (r,)
        Variance of effects whose level did not occur: an interaction with an environment not tried.
    weights : dict of int to list of (r, L) csr_array
        By random term and coefficient, for the variance before the trial.
    checks : (r,) bool
        Genotypes without an effect in the random term, which are no candidates: checks that are fixed.
    notes : tuple of str
        What the values hold, in words.
    fixed : bool
        Genotypes have effects in the fixed part too, so that there is no variance between them.
    """

    labels: pd.DataFrame
    functions: EffectFunctions
    shift: np.ndarray
    new: np.ndarray
    weights: Weights
    checks: np.ndarray
    notes: tuple[str, ...] = ()
    fixed: bool = False

    def prior(self, rows: np.ndarray) -> np.ndarray:
        """Variance (s, s) of the random part of some rows, as the model has it before the trial.

        NaN where genotypes are fixed.
        """
        fit = self.functions.fit
        if self.fixed:
            return np.full((rows.size, rows.size), np.nan)
        total = np.diag(self.new[rows])
        for k, weights in self.weights.items():
            T, (relation, _) = term_covariance(fit, k), level_relation(fit, k)
            own = [sp.csr_array(part)[rows] for part in weights]
            for a, left in enumerate(own):
                for b, right in enumerate(own):
                    if T[a, b] != 0.0 and left.nnz and right.nnz:
                        inner = right.T.toarray() if relation is None else relation @ right.T.toarray()
                        total = total + T[a, b] * (left @ inner)
        return np.asarray(total)


def genotype_rows(
    fit: FixedPart, k: int, by: tuple[str, ...], average: tuple[str, ...] = ()
) -> GenotypeRows:  # fmt: skip
    """Mean and random effects of the genotypes of term k, for every combination of the levels of `by`.

    All random terms count whose columns are the genotype and those of `by`, and the genotype's own fixed
    effect beside `(0 + env | gen)`.  Properties of the genotypes (see
    ``genotype_attributes``) have their own value; of other columns factors are averaged over, covariates are
    at their mean.
    """
    design = fit.design
    gen, frame = design.random[k].group_variables[-1], design.frame
    _check_columns(fit, k, by, average)
    used = [h for h in range(len(design.random)) if _counts(design.random[h], gen, by)]
    shares = columns_of_individuals(design.formula, design.random, gen)
    groups = [] if shares is None else list(shares.columns)
    own = genotype_attributes(fit, k, _slopes(fit, used), (*by, *average))
    averaged = _averaged(fit, used, {gen, *by, *own.frame.columns}, frame)
    untold = _untold(design)
    names = [name for name in _individuals(design.random[k]) if name not in untold]
    names += sorted(set(own.frame.index) - set(names))  # checks that are in no relationship
    grid = _grid(design, gen, names, by, averaged)
    values = own.of(grid[gen])
    for name in values.columns:
        grid[name] = values[name]
    if shares is not None:  # known of all individuals, with data or without
        grid[groups] = shares.loc[grid[gen]].to_numpy()
    for name in _slopes(fit, used):
        if name not in grid:
            grid[name] = float(frame[name].mean())
    r = len(grid) // max(1, int(np.prod([len(levels) for levels in averaged.values()])))
    group = np.arange(len(grid)) // (len(grid) // r)
    W = sp.csr_array((np.full(len(grid), r / len(grid)), (group, np.arange(len(grid)))), shape=(r, len(grid)))
    labels = grid.iloc[:: len(grid) // r][[*by, gen]].reset_index(drop=True)
    weights: Weights = {}
    new = np.zeros(r)
    for h in used:
        weights[h], extra = _term_weights(fit, h, grid, W)
        new += extra
    names = [*by, *own.frame.columns, *groups, *([gen] if gen in design.variables else [])]
    fixed, shift = fixed_rows(fit, grid.iloc[:: len(grid) // r], names)
    if not design.estimable(fixed).all():
        raise OptionError("the mean of the fixed part is not estimable for some genotypes; simplify it")
    checks = np.array([abs(part).sum(axis=1) for part in weights[k]]).sum(axis=0) == 0.0
    checks &= not checks.all()
    shown = [name for name in own.frame.columns if name in design.variables and name not in own.known]
    notes: tuple[str, ...] = (f"with the effect of the own {', '.join(shown)} of each",) if shown else ()
    if untold:
        notes += (f"without {name_list(untold)}, whose genetic groups the data do not tell",)
    functions = effect_functions(fit, fixed, weights)
    return GenotypeRows(labels, functions, shift, new, weights, checks, notes, gen in design.variables)


def _untold(design: Design) -> dict[str, None]:
    """Individuals without a value, for the data do not tell their fixed genetic groups."""
    out: dict[str, None] = {}
    for term, untold in zip(design.random, design.untold_levels, strict=True):
        if untold is not None and untold.any():
            out |= dict.fromkeys(map(str, np.asarray(term.levels, dtype=object)[untold.any(axis=1)]))
    return out


def _individuals(term: Any) -> list[str]:
    """Levels of a term that may be chosen: genetic groups of unknown parents are none."""
    factors = () if term.relation is None else term.relation.factors
    related = [getattr(own, "relationship", None) for own in factors]
    groups = {name for own in related if own is not None for name in own.groups}
    return [name for name in map(str, term.levels) if name not in groups]


def _check_columns(fit: FixedPart, k: int, by: tuple[str, ...], average: tuple[str, ...]) -> None:
    """Raise OptionError where `by` or `average` are no columns of the model, or levels have several."""
    term, frame = fit.design.random[k], fit.design.frame
    for option, names in (("by", by), ("average", average)):
        for name in names:
            if name == term.group_variables[-1] or name not in frame.columns:
                near = nearest_names(name, frame.columns)
                raise OptionError(f"{option}='{name}' is not a factor of this model{near}")
    if len(term.group_variables) > 1:
        raise OptionError(f"genotype values need the levels of one column, not of {term.group}")


def _needed(term: Any) -> set[str]:
    """Columns that an evaluation of a random term reads."""
    nodes = [node for columns in term.incidence for node in columns]
    nodes += [node for node, _ in term.at_factors]
    read = {name.name for node in nodes for name in columns_read(node)}
    return read | set(term.group_variables)


def _left(term: Any) -> set[str]:
    return {name for atom in term.coding.atoms.values() for name in atom.columns_read}


def _counts(term: Any, gen: str, by: tuple[str, ...]) -> bool:
    """Whether a random term is part of a value: of genotypes, or of the levels of `by` that it stands in."""
    if term.is_spline or term.incidence:
        return False
    needed = _needed(term)
    return needed <= {gen, *by} and (gen in needed or _left(term) <= set(by))


def _slopes(fit: FixedPart, used: list[int]) -> list[str]:
    return sorted({name for h in used for name in _left(fit.design.random[h])})


def _averaged(fit: FixedPart, used: list[int], known: set[str], frame: pd.DataFrame) -> dict[str, list[str]]:
    """Factors left of a bar that are averaged over, with their levels."""
    out = {}
    for name in _slopes(fit, used):
        if name not in known and isinstance(frame[name].dtype, pd.CategoricalDtype):
            out[name] = [str(level) for level in frame[name].cat.categories]
    return out


def _grid(
    design: Design, gen: str, names: list[str], by: tuple[str, ...], averaged: dict[str, list[str]]
) -> pd.DataFrame:
    """Rows of all combinations: `by` slowest, then genotypes, then what is averaged over."""
    parts = [list(design.level_codes(name)[1]) for name in by] + [names] + list(averaged.values())
    index = pd.MultiIndex.from_product(parts, names=[*by, gen, *averaged])
    return index.to_frame(index=False)


def _term_weights(
    fit: FixedPart, h: int, grid: pd.DataFrame, W: sp.csr_array
) -> tuple[list[sp.csr_array], np.ndarray]:
    """Weights of the levels by coefficient, and the variance that levels not tried bring."""
    term = fit.design.random[h]
    codes, values = term.evaluate(grid)
    known = np.flatnonzero(codes >= 0)
    size = (len(grid), len(term.levels))
    weights = [
        sp.csr_array(W @ sp.csr_array((values[known, a], (known, codes[known])), shape=size))
        for a in range(values.shape[1])
    ]
    T = new_level_variance(fit, h) * term_covariance(fit, h)
    fresh = np.where(codes < 0, np.einsum("ia,ab,ib->i", values, T, values), 0.0)
    return weights, np.asarray(W.power(2) @ fresh)
