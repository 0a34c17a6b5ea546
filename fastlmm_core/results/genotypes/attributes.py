"""Columns that are properties of the genotypes, and the fixed part of their values.

A model cannot tell a property (new or old, a check's own name, a marker) from a place (an environment in
which no other genotype stands): both are the same in all plots of a genotype.  Properties have the
genotype's own value; places are averaged over.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import scipy.sparse as sp

from fastlmm_core.design.group_columns import columns_of_individuals
from fastlmm_core.errors import OptionError
from fastlmm_core.formula.functions import columns_read
from fastlmm_core.means.mean_rows import rows_of_means
from fastlmm_core.means.mean_specs import columns_of_specs, parse_specs
from fastlmm_core.means.reference_grid import reference_grid

if TYPE_CHECKING:
    from fastlmm_core.results.fixed_part import FixedPart


@dataclass(frozen=True)
class GenotypeAttributes:
    """Properties of the genotypes.

    Attributes
    ----------
    frame : DataFrame
        A row a genotype, by its label; a column a property.
    known : frozenset of str
        Properties by what the model says: coefficients of the genotypes, ``new`` of ``(0 + new | gen)``, and
        columns that tell which value they have. The others only look like properties.
    random : (l,) ndarray of str
        Genotypes with data and an effect, which checks that are fixed do not have.
    """

    frame: pd.DataFrame
    known: frozenset[str]
    random: np.ndarray

    @property
    def alike(self) -> bool:
        """Whether all random genotypes have the same properties."""
        own = self.frame.loc[self.random]
        return bool((own.nunique() <= 1).all())

    def of(self, genotypes: pd.Series) -> pd.DataFrame:
        """A row for each genotype; one without data has the properties that all random ones share.

        Raises
        ------
        OptionError
            For a genotype without data, and a property in which the others differ.
        """
        out = self.frame.reindex(genotypes.astype(str)).reset_index(drop=True)
        lost = ~genotypes.astype(str).isin(self.frame.index).to_numpy()
        for name in self.frame.columns if lost.any() else ():
            values = self.frame.loc[self.random, name].unique()
            if len(values) > 1:
                raise OptionError(
                    f"'{genotypes.iloc[int(np.argmax(lost))]}' has no data, and so no '{name}'; give "
                    f"average='{name}' for values averaged over it"
                )
            out.loc[lost, name] = values[0]
        return out


def genotype_attributes(
    fit: FixedPart, k: int, coefficients: Collection[str], average: Collection[str] = ()
) -> GenotypeAttributes:
    """Columns of the model that are the same in all rows of a genotype.

    Without a word of the model, a column is taken for a property where some genotypes have several rows, and
    no other random term and no residual uses it as a place. Columns of their genetic groups are none: these
    are part of their effects, and known of those without data (``design.group_columns``).

    Parameters
    ----------
    k : int
        Random term of the genotypes.
    coefficients : collection of str
        Columns that their effects are coefficients of.
    average : collection of str
        Columns that are none.
    """
    frame, term = fit.design.frame, fit.design.random[k]
    gen = term.group_variables[-1]
    code, levels = fit.design.level_codes(gen)
    shares = columns_of_individuals(fit.design.formula, fit.design.random, gen)
    first, same = columns_of_levels(frame, code, {gen, *average, *([] if shares is None else shares.columns)})
    names = np.array(levels, dtype=object)
    own = [name for name in same if name in coefficients and frame[name].nunique() > 1]
    known = {name for name in same if own and _tells(frame, name, own)}
    replicated, used = names.size < len(frame), _places(fit, gen)
    same = [name for name in same if name in known or (replicated and name not in used)]
    properties = frame[same].iloc[first].set_axis(names, axis=0)
    there = [codes[(codes >= 0) & (values != 0.0).any(axis=1)] for codes, values in term.layers]
    random = np.asarray(term.levels, dtype=object)[np.unique(np.concatenate(there))].astype(str)
    return GenotypeAttributes(properties, frozenset(known), random)


def columns_of_levels(
    frame: pd.DataFrame, code: np.ndarray, without: Collection[str]
) -> tuple[np.ndarray, list[str]]:
    """First row (l,) of each level of a factor with codes (n,), and the columns that its rows all share."""
    first, same = np.unique(code, return_index=True)[1], list[str]()
    for name in frame.columns:
        values = None if name in without else pd.factorize(frame[name])[0]
        if values is not None and np.array_equal(values, values[first][code]):
            same.append(name)
    return first, same


def _tells(frame: pd.DataFrame, name: str, own: list[str]) -> bool:
    """Whether the coefficients `own` are the same in all rows with one value of a column."""
    groups = frame.groupby(name, observed=True)
    return name in own or all((groups[other].nunique() <= 1).all() for other in own)


def _places(fit: FixedPart, gen: str) -> set[str]:
    """Columns that other random terms or the residual group rows by."""
    residual = fit.design.residual
    found = {residual.position_name, residual.subject_name, *(residual.by or ())[:1]}
    for term in fit.design.random:
        if not term.is_spline and gen not in term.group_variables:
            read = [name for node, _ in term.at_factors for name in columns_read(node)]
            found |= {*term.group_variables, *(name.name for name in read)}
    return {str(name) for name in found if name is not None}


def fixed_rows(fit: FixedPart, grid: pd.DataFrame, names: list[str]) -> tuple[sp.csr_array, np.ndarray]:
    """Rows (r, p_full) of the fixed part and offsets (r,) at the columns `names` of a grid.

    Factors that are not named are averaged over as in marginal means, covariates are at their mean.

    Raises
    ------
    OptionError
        When the fixed part says nothing of some row.
    """
    variables = fit.design.variables
    own = [name for name in dict.fromkeys(names) if name in variables]
    factors = [name for name in own if variables[name].kind == "factor"]
    numbers = {name: pd.to_numeric(grid[name]).to_numpy(float) for name in own if name not in factors}
    points, code = np.zeros((1, 0)), np.zeros(len(grid), np.int64)
    if numbers:
        points, code = np.unique(np.column_stack([*numbers.values()]), axis=0, return_inverse=True)
    parts, shifts = list[sp.csr_array](), list[np.ndarray]()
    at = np.zeros(len(grid), np.int64)
    for n, point in enumerate(points):
        mine = np.flatnonzero(code.ravel() == n)
        held = dict(zip(numbers, point, strict=True))
        rows, offset, at[mine] = _mean_rows(fit, grid.iloc[mine], factors, held)
        at[mine] += sum(part.shape[0] for part in parts)
        parts.append(rows)
        shifts.append(offset)
    K, shift = sp.csr_array(sp.vstack(parts)), np.concatenate(shifts)
    return sp.csr_array(K[at]), shift[at]


def _mean_rows(
    fit: FixedPart, grid: pd.DataFrame, factors: list[str], at: dict[str, Any]
) -> tuple[sp.csr_array, np.ndarray, np.ndarray]:
    """Rows of the means of `factors` at covariates `at`, their offsets, and which the rows of a grid need."""
    specs = columns_of_specs(parse_specs(factors or "~ 1", None), fit.design)
    found = rows_of_means(reference_grid(fit.design, at), specs, "equal")
    if not factors:
        return found.K, found.shift, np.zeros(len(grid), np.int64)
    keys = zip(*(found.labels[name].astype(str) for name in factors), strict=True)
    places = {key: i for i, key in enumerate(keys)}
    wanted = zip(*(grid[name].astype(str) for name in factors), strict=True)
    rows = np.array([places.get(key, -1) for key in wanted])
    if (rows < 0).any():
        row = grid.iloc[int(np.argmax(rows < 0))]
        what = ", ".join(f"{name}={row[name]}" for name in factors)
        raise OptionError(f"the fixed part has no mean for {what}")
    return found.K, found.shift, rows
