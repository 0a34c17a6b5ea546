"""What a genotype value is a function of: rows of genotypes, within levels of other factors or over them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import scipy.sparse as sp

from fastlmm_core.design.functions import columns_read
from fastlmm_core.engine.solution import StructuredSolution
from fastlmm_core.errors import OptionError, nearest_names
from fastlmm_core.reading import level_label
from fastlmm_core.results.effect_functions import EffectFunctions, effect_functions
from fastlmm_core.results.heritability_levels import level_relation

if TYPE_CHECKING:
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
    """

    labels: pd.DataFrame
    functions: EffectFunctions
    shift: np.ndarray
    new: np.ndarray
    weights: Weights

    def prior(self, rows: np.ndarray) -> np.ndarray:
        """Variance (s, s) of the random part of some rows, as the model has it before the trial."""
        fit = self.functions.fit
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


def term_covariance(fit: FixedPart, k: int) -> np.ndarray:
    """Covariance (m, m) of the coefficients of random term k, units of the response."""
    solved = fit.solved
    if isinstance(solved, StructuredSolution):
        return solved.covariance(k)
    return np.asarray(solved.user_sigma2 * solved.user_covariance(k))


def genotype_rows(fit: FixedPart, k: int, by: tuple[str, ...]) -> GenotypeRows:
    """Mean and random effects of the genotypes of term k, for every combination of the levels of `by`.

    All random terms count whose columns are the genotype and those of `by`.  Columns that are the same in all
    plots of a genotype have its value; of others left of a bar, factors are averaged over, covariates are at
    their mean.
    """
    design = fit.design
    gen = design.random[k].group_variables[-1]
    frame = design.frame
    for name in by:
        if name == gen or name not in frame.columns:
            raise OptionError(
                f"by='{name}' is not a factor of this model{nearest_names(name, frame.columns)}"
            )
    own = own_values(frame, gen)
    names = [str(level) for level in design.random[k].levels]
    if len(design.random[k].group_variables) > 1:
        raise OptionError(f"genotype values need the levels of one column, not of {design.random[k].group}")
    used = [h for h in range(len(design.random)) if _counts(design.random[h], gen, by)]
    averaged = _averaged(fit, used, {gen, *by, *own.columns}, frame)
    grid = _grid(frame, gen, names, by, averaged)
    for name in own.columns:
        grid[name] = own[name].reindex(grid[gen]).to_numpy()
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
    fixed, shift = _fixed_rows(fit, grid.iloc[:: len(grid) // r], [*by, *own.columns])
    return GenotypeRows(labels, effect_functions(fit, fixed, weights), shift, new, weights)


def own_values(frame: pd.DataFrame, gen: str) -> pd.DataFrame:
    """Columns that are the same in all rows of a genotype, by its label: group, new or old, a covariate."""
    groups = frame.groupby(frame[gen].map(level_label).astype(str), observed=True)
    same = [name for name in frame.columns if name != gen and (groups[name].nunique() <= 1).all()]
    first = groups[same].first() if same else pd.DataFrame(index=list(groups.groups))
    return first


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
    frame: pd.DataFrame, gen: str, names: list[str], by: tuple[str, ...], averaged: dict[str, list[str]]
) -> pd.DataFrame:
    """Rows of all combinations: `by` slowest, then genotypes, then what is averaged over."""
    parts = [_levels(frame[name]) for name in by] + [names] + list(averaged.values())
    index = pd.MultiIndex.from_product(parts, names=[*by, gen, *averaged])
    return index.to_frame(index=False)


def _levels(column: pd.Series) -> list[str]:
    if isinstance(column.dtype, pd.CategoricalDtype):
        return [str(level) for level in column.cat.categories]
    return [level_label(value) for value in np.unique(column)]


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
    T = term_covariance(fit, h)
    fresh = np.where(codes < 0, np.einsum("ia,ab,ib->i", values, T, values), 0.0)
    return weights, np.asarray(W.power(2) @ fresh)


def _fixed_rows(fit: FixedPart, grid: pd.DataFrame, names: list[str]) -> tuple[sp.csr_array, np.ndarray]:
    """Rows of the fixed part and offsets, averaged as marginal means are."""
    factors = [
        name for name in names
        if name in fit.design.variables and fit.design.variables[name].kind == "factor"
    ]  # fmt: skip
    means = fit.emmeans(factors or "~ 1", ddf="asymptotic")
    if not factors:
        at = np.zeros(len(grid), np.int64)
    else:
        keys = zip(*(means.labels[f].astype(str) for f in factors), strict=True)
        places = {key: i for i, key in enumerate(keys)}
        wanted = zip(*(grid[f].astype(str) for f in factors), strict=True)
        at = np.array([places.get(key, -1) for key in wanted])
        if (at < 0).any():
            row = grid.iloc[int(np.argmax(at < 0))]
            what = ", ".join(f"{f}={row[f]}" for f in factors)
            raise OptionError(f"the fixed part has no mean for {what}")
    if not means.functions.estimable[np.unique(at)].all():
        raise OptionError("the mean of the fixed part is not estimable for some genotypes; simplify it")
    return sp.csr_array(sp.csr_array(means.K)[at]), np.asarray(means.shift)[at]
