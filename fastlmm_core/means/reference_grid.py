"""The grid of factor levels and covariate values that marginal means are averages over."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp
from numpy.typing import NDArray

from fastlmm_core.design.values.columns import Column
from fastlmm_core.design.values.table import Table
from fastlmm_core.errors import DataError, OptionError, check_option, name_list, nearest_names, shown
from fastlmm_core.means.mean_specs import plain_name
from fastlmm_core.means.nesting import Nesting, find_nesting
from fastlmm_core.means.own_positions import OwnPositions, own_positions
from fastlmm_core.options import numbers

Floats = NDArray[np.floating]
WEIGHTS = ("equal", "proportional", "outer", "cells", "flat")
LARGEST_GRID = 5_000_000


@dataclass(frozen=True)
class ReferenceGrid:
    """All combinations of the values of the fixed part's variables, the first variable varying fastest.

    Attributes
    ----------
    values : dict
        Variable to its values, in the grid's order.
    factors : frozenset of str
        Which of them are factors.
    counts : ndarray (m,)
        Rows of the data in the cell of each grid point, by its factors.
    X : sparse (m, p_full)
        Design rows (or their slopes).
    nesting : Nesting or None
        Factors nested in others, where the data leave combinations undetermined for it.
    offset : ndarray (m,) or None
        Offset of the model (or its slope).
    positions : OwnPositions or None
        Of plots in the fields of several environments.
    """

    values: Mapping[str, tuple[Any, ...]]
    factors: frozenset[str]
    counts: Floats
    X: Any
    nesting: Nesting | None = None
    offset: Floats | None = None
    positions: OwnPositions | None = None

    def shape(self) -> tuple[int, ...]:
        """Number of values of each variable."""
        return tuple(len(v) for v in self.values.values())

    def labels(self, names: Sequence[str]) -> pd.DataFrame:
        """All combinations of the values of `names`, the first varying fastest."""
        return grid_labels({name: self.values[name] for name in names}, self.factors)


def grid_codes(shape: Sequence[int]) -> list[NDArray[np.integer]]:
    """Position of each variable's value at every grid point, first variable fastest."""
    m = int(np.prod(shape, dtype=np.int64)) if len(shape) else 1
    points = np.arange(m)
    codes: list[NDArray[np.integer]] = []
    for length in shape:
        codes.append(points % length)
        points = points // length
    return codes


def grid_table(
    values: Mapping[str, Sequence[Any]], factors: frozenset[str], positions: OwnPositions | None = None
) -> Table:
    """All combinations of `values` as columns of codes and of numbers, some moved to `positions`."""
    codes = grid_codes([len(v) for v in values.values()])
    columns = {
        name: Column(name, code.astype(np.int32), tuple(levels))
        if name in factors
        else Column(name, np.asarray(levels, dtype=np.float64)[code], None)
        for (name, levels), code in zip(values.items(), codes, strict=True)
    }
    for name, shift in (positions.shifts if positions is not None else {}).items():
        columns[name] = replace(columns[name], values=columns[name].values + shift)
    return Table.of(columns, codes[0].size if codes else 1)


def grid_labels(values: Mapping[str, Sequence[Any]], factors: frozenset[str]) -> pd.DataFrame:
    """All combinations of `values` as a table for reading: factors as text, covariates as numbers."""
    columns = {}
    for (name, levels), code in zip(
        values.items(), grid_codes([len(v) for v in values.values()]), strict=True
    ):
        own = np.array(levels, dtype=object if name in factors else np.float64)[code]
        columns[name] = pd.Series(own, dtype=own.dtype)  # text would become pandas' own string type
    return pd.DataFrame(columns)


def grid_at(design: Any, at: Mapping[str, Any] | None) -> dict[str, Any]:
    """The values of `at` by names of variables of the fixed part; raises as `grid_values`."""
    if at is not None and not isinstance(at, Mapping):
        raise OptionError(f"at={shown(at)} must give values by variable, for example {{'x': [1, 2]}}")
    at = {plain_name(str(name)): value for name, value in (at or {}).items()}
    for name in at:
        if name not in design.variables:
            raise OptionError(
                f"at: '{name}' is not a variable of the fixed part{nearest_names(name, design.variables)}"
            )
    return at


def grid_values(design: Any, at: Mapping[str, Any] | None) -> dict[str, tuple[Any, ...]]:
    """Values of each variable: all levels of a factor, the mean of a covariate, or what `at` says.

    A covariate whose levels enter too has all its values.

    Raises
    ------
    OptionError
        When `at` names an unknown variable.
    DataError
        When `at` names an unknown level, or gives a covariate something that is not a number.
    """
    at = grid_at(design, at)
    values: dict[str, tuple[Any, ...]] = {}
    for name, variable in design.variables.items():
        if variable.kind == "factor":
            values[name] = factor_values(name, variable.levels, at.get(name))
        else:
            values[name] = covariate_values(name, variable.mean, at.get(name, variable.points))
    return values


def as_list(value: Any) -> list[Any]:
    """One value or several as a list."""
    return list(value) if isinstance(value, (list, tuple, np.ndarray, pd.Series, range)) else [value]


def factor_values(name: str, levels: Sequence[str], wanted: Any) -> tuple[str, ...]:
    """Levels of a factor to use, all of them without `wanted`."""
    if wanted is None:
        return tuple(levels)
    chosen = tuple(str(level) for level in as_list(wanted))
    for level in chosen:
        if level not in levels:
            raise DataError(f"at: '{level}' is not a level of '{name}'{nearest_names(level, levels)}")
    repeated = [level for level in dict.fromkeys(chosen) if chosen.count(level) > 1]
    if repeated:
        raise DataError(f"at: '{name}' has {name_list(repeated)} more than once")
    if not chosen:
        raise DataError(f"at: '{name}' needs at least one of its levels")
    return chosen


def covariate_values(name: str, mean: float, wanted: Any) -> tuple[float, ...]:
    """Values of a covariate to use, its mean without `wanted`."""
    if wanted is None:
        return (float(mean),)
    try:
        values = tuple(float(value) for value in as_list(wanted))
    except (TypeError, ValueError, OverflowError):
        raise DataError(f"at: '{name}' is numeric and needs numbers, not {shown(wanted)}") from None
    if not values or not np.all(np.isfinite(values)):
        raise DataError(f"at: '{name}' needs at least one finite number, not {shown(wanted)}")
    return values


def cell_counts(
    design: Any, values: Mapping[str, Sequence[Any]], factors: frozenset[str], kept: Sequence[str] = ()
) -> Floats:
    """Rows of the data in each grid point's combination of levels: of factors, of covariates `kept`, and of
    the classes that stand in the grid for a covariate."""
    shape = [len(v) for v in values.values()]
    strides = np.cumprod([1, *shape])[:-1]
    point = np.zeros(design.n, dtype=np.int64)
    inside = np.ones(design.n, dtype=bool)
    base = np.zeros(int(np.prod(shape, dtype=np.int64)), dtype=np.int64)
    for (name, levels), code, stride in zip(values.items(), grid_codes(shape), strides, strict=True):
        own = design.variables[name]
        if name not in factors:
            if name in kept:
                point += np.searchsorted(levels, design.used_column(name)[0]) * stride
            elif own.point_of is not None and tuple(levels) == own.points:
                point += own.point_of * stride
            else:
                continue
            base += code * stride
            continue
        row_code, occurring = design.used_column(name)
        if occurring != levels:
            chosen = {level: i for i, level in enumerate(levels)}
            row_code = np.array([chosen.get(level, -1) for level in occurring])[row_code]
            inside &= row_code >= 0
        point += row_code * stride
        base += code * stride
    counts = np.bincount(point if inside.all() else point[inside], minlength=base.size)
    return counts[base].astype(np.float64)


def reference_grid(
    design: Any, at: Mapping[str, Any] | None = None, kept: Sequence[str] = (), plain: Sequence[str] = (),
    about: Sequence[str] = (),
) -> ReferenceGrid:  # fmt: skip
    """Grid over all variables of the fixed part with its design rows.

    Factors take all their levels and covariates their mean over the rows used, unless `at` says otherwise;
    positions of plots theirs over those of the environment (see ``own_positions``).

    Parameters
    ----------
    design : Design
    at : mapping, optional
        {variable: value or values}.
    kept : sequence of str
        Covariates of which `at` has all values; rows are counted by them as by factors.
    plain : sequence of str
        Variables that means are asked for, whose values are what labels say.
    about : sequence of str
        Variables whose values in `at` lie about their mean.

    Raises
    ------
    OptionError
        For a grid of more than five million points.
    """
    values = grid_values(design, at)
    factors = frozenset(name for name, v in design.variables.items() if v.kind == "factor")
    size = int(np.prod([len(v) for v in values.values()], dtype=np.float64))
    if size > LARGEST_GRID:
        shown = ", ".join(f"{name}: {len(v)}" for name, v in values.items())
        raise OptionError(f"the reference grid has {size:,} points ({shown}); restrict factors with `at`")
    counts = cell_counts(design, values, factors, kept)
    table = grid_table(values, factors)
    positions = own_positions(design, table, {*plain, *(set(at or ()) - set(about))})
    if positions is not None:
        table = grid_table(values, factors, positions)
    X = sp.csr_array(design.fixed_matrix(table))
    nesting = nesting_of(design, values, factors)
    return ReferenceGrid(values, factors, counts, X, nesting, design.offset_at(table), positions)


def nesting_of(design: Any, values: Mapping[str, Sequence[Any]], factors: frozenset[str]) -> Nesting | None:
    """Nesting among the factors, looked for where some coefficients are not determined.

    Nested factors leave a null space: the cells between groups. In a model of full rank every mean over the
    grid is determined, and none of them is taken from the user.
    """
    if design.null_space.shape[1] == 0:
        return None
    rows, size, points = {}, {}, {}
    for (name, chosen), code in zip(
        values.items(), grid_codes([len(v) for v in values.values()]), strict=True
    ):
        if name in factors:
            own, levels = design.used_column(name)
            place = {level: i for i, level in enumerate(levels)}
            rows[name], size[name] = own.astype(np.int64), len(levels)
            points[name] = np.array([place[level] for level in chosen])[code]
    return find_nesting(rows, size, points) if rows else None


def check_names(grid: ReferenceGrid, names: Sequence[str], design: Any) -> None:
    """Raise OptionError for a variable that is not in the fixed part."""
    for name in names:
        if name not in grid.values:
            groups = [term.group for term in design.random if not term.is_spline]
            group = next((own for own in groups if own == name or own.startswith(f"vm({name},")), None)
            if group is not None:
                raise OptionError(
                    f"specs: '{name}' is random in this model and has no marginal means; its values, "
                    f"mean + BLUP, are fit.genotype_values('{group}')"
                )
            raise OptionError(
                f"specs: '{name}' is not a variable of the fixed part{nearest_names(name, grid.values)}"
                if grid.values
                else f"specs: '{name}' is not in the fixed part, which has an intercept only; use '~ 1'"
            )


def averaging_matrix(grid: ReferenceGrid, variables: Sequence[str], weights: Any) -> sp.csr_array:
    """Weights (r, m) that take the grid to means for `variables`, first varying fastest.

    Parameters
    ----------
    grid : ReferenceGrid
    variables : sequence of str
        The others are averaged over.
    weights : str or array_like
        "equal"; "proportional" to the counts of the combinations averaged over; "outer", products of
        the one-way counts; "cells", the counts of the cells themselves; "flat", equal over cells with data;
        or one weight for each combination averaged over, first variable fastest.

    Returns
    -------
    csr_array (r, m)
        Rows sum to 1; a row that averages over cells without data has no entries ("cells", "flat"), nor has
        one for levels of a nested factor outside of their group.

    Raises
    ------
    OptionError
        For an unknown name or a wrong number of weights.
    """
    names, shape = list(grid.values), grid.shape()
    codes = dict(zip(names, grid_codes(shape), strict=True))
    size = dict(zip(names, shape, strict=True))
    others = [name for name in names if name not in variables]
    row, n_rows = combined_code(codes, size, variables, grid.counts.size)
    other, n_others = combined_code(codes, size, others, grid.counts.size)
    cell = cell_weights(grid, codes, size, others, other, n_others, weights)
    if grid.nesting is not None:
        cell = within_groups(cell, grid.nesting, others, isinstance(weights, str) and weights == "equal")
    totals = np.bincount(row, weights=cell, minlength=n_rows)
    used = np.flatnonzero(cell)
    used = used[np.argsort(row[used], kind="stable")]
    ends = np.cumsum(np.bincount(row[used], minlength=n_rows))
    start = np.concatenate([[0], ends])
    return sp.csr_array((cell[used] / totals[row[used]], used, start), shape=(n_rows, cell.size))


def within_groups(cell: Floats, nesting: Nesting, others: Sequence[str], equal: bool) -> Floats:
    """Weights (m,) of the grid points that exist; levels of one group count together as one when `equal`."""
    cell = np.where(nesting.occurs, cell, 0.0)
    if equal:
        for name in nesting.groups:
            if name in others:
                cell = cell / np.maximum(nesting.siblings[name], 1)
    return cell


def combined_code(
    codes: Mapping[str, NDArray[np.integer]], size: Mapping[str, int], names: Sequence[str], m: int
) -> tuple[NDArray[np.integer], int]:
    """One number (m,) for the combination of `names`, first fastest, and how many there are."""
    code, stride = np.zeros(m, dtype=np.int64), 1
    for name in names:
        code = code + codes[name] * stride
        stride *= size[name]
    return code, stride


def cell_weights(
    grid: ReferenceGrid,
    codes: Mapping[str, NDArray[np.integer]],
    size: Mapping[str, int],
    others: Sequence[str],
    other: NDArray[np.integer],
    n_others: int,
    weights: Any,
) -> Floats:
    """Unnormalised weight (m,) of each grid point."""
    counts = grid.counts
    if not isinstance(weights, str):
        given = numbers("weights", weights)
        if given.shape != (n_others,) or not np.all(np.isfinite(given)) or abs(given.sum()) < 1e-8:
            raise OptionError(
                f"weights: {n_others} finite numbers with a sum other than 0 are needed, one for each "
                f"combination of {name_list(others) or 'nothing averaged over'}; {given.size} were given"
            )
        return given[other]
    check_option("weights", weights, WEIGHTS)
    if weights == "equal" or n_others == 1:  # one grid point: its prediction, whatever its count
        return np.ones(counts.size)
    if weights == "cells":
        return counts
    if weights == "flat":
        return (counts > 0).astype(np.float64)
    if weights == "proportional":
        return np.bincount(other, weights=counts, minlength=n_others)[other]
    product = np.ones(counts.size)
    for name in others:
        product *= np.bincount(codes[name], weights=counts, minlength=size[name])[codes[name]]
    return product


def averaged_over(grid: ReferenceGrid, variables: Sequence[str]) -> tuple[str, ...]:
    """Variables with several values that are not in `variables`."""
    return tuple(name for name, v in grid.values.items() if name not in variables and len(v) > 1)
