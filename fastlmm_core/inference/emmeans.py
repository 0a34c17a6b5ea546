"""Estimated marginal means and slopes of a fitted model (Searle, Speed & Milliken 1980, Am. Stat. 34:216)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp
from numpy.typing import NDArray

from fastlmm_core.errors import OptionError, check_level, nearest_names
from fastlmm_core.inference.mean_tables import EmmeansTable
from fastlmm_core.inference.reference_grid import (
    MeanSpecs,
    ReferenceGrid,
    averaged_over,
    averaging_matrix,
    check_names,
    columns_of_specs,
    grid_table,
    parse_specs,
    reference_grid,
)
from fastlmm_core.inference.response_scale import response_scale
from fastlmm_core.inference.table_labels import group_codes

Floats = NDArray[np.floating]

SLOPE_STEP = 1e-2  # of the variable's range, for terms that are not linear in it


def emmeans(
    fit: Any,
    specs: str | Sequence[str],
    by: str | Sequence[str] | None = None,
    at: Mapping[str, Any] | None = None,
    weights: Any = "equal",
    ddf: str = "kenward-roger",
    information: str = "expected",
    level: float = 0.95,
) -> EmmeansTable:
    """Marginal means: predictions on the grid of all factor levels, averaged over what `specs` leaves out.

    Covariates are held at their mean over the rows used (also one with two values only) unless `at` says
    otherwise. The mean offset of the model, if any, is part of the means.

    Parameters
    ----------
    fit : LMMFit
    specs : str or sequence of str
        "~ V | N", "~ V*N", "V", ["V", "N"] or "~ 1".
    by : str or sequence of str, optional
        Further variables that make separate families.
    at : mapping, optional
        {variable: value or values}: covariate values, or the factor levels to use.
    weights : str or array_like
        How to average: "equal", "proportional", "outer", "cells", "flat", or a weight for each combination
        averaged over (first variable fastest).
    ddf : str
        "kenward-roger", "satterthwaite", "residual" or "asymptotic".
    information : str
        "expected", "observed" or "average".
    level : float
        Confidence level.

    Returns
    -------
    EmmeansTable
        Rows with the first variable varying fastest. Means that the data do not determine have status
        "not estimable" and no figures.

    Raises
    ------
    OptionError
        For an unknown variable, option or number of weights.
    DataError
        For an unknown level in `at`.
    """
    wanted, grid = columns_of_specs(parse_specs(specs, by), fit.design), reference_grid(fit.design, at)
    check_names(grid, wanted.variables)
    offset = getattr(fit.design, "offset", None)
    shift = 0.0 if offset is None else float(np.mean(offset))
    return table_of_means(
        fit, grid, wanted, weights, ddf, information, level, shift, "Estimated marginal means"
    )


def emtrends(
    fit: Any,
    specs: str | Sequence[str],
    var: str,
    by: str | Sequence[str] | None = None,
    at: Mapping[str, Any] | None = None,
    weights: Any = "equal",
    ddf: str = "kenward-roger",
    information: str = "expected",
    level: float = 0.95,
    delta: float | None = None,
) -> EmmeansTable:
    """Slopes of the prediction in a covariate, averaged as `emmeans` averages predictions.

    Where the design rows are linear in `var` the slope is exact; elsewhere it is a central difference with
    one Richardson step, taken at the covariate's mean or at its values in `at`.

    Parameters
    ----------
    var : str
        Numeric variable of the fixed part.
    delta : float, optional
        Use the difference quotient [f(x + delta) - f(x)] / delta, not the derivative. R's emtrends does,
        with a thousandth of the range; the two agree where the model is linear in `var`.
    fit, specs, by, at, weights, ddf, information, level
        As of `emmeans`.

    Returns
    -------
    EmmeansTable

    Raises
    ------
    OptionError
        When `var` is unknown or a factor; otherwise as `emmeans`.
    """
    design = fit.design
    if var not in design.variables:
        raise OptionError(f"var='{var}' is not in the fixed part{nearest_names(var, design.variables)}")
    if design.variables[var].kind == "factor":
        raise OptionError(f"var='{var}' is a factor; slopes are for numeric variables")
    wanted, grid = columns_of_specs(parse_specs(specs, by), design), reference_grid(design, at)
    check_names(grid, wanted.variables)
    slopes = replace(grid, X=slope_rows(design, grid, var, delta))
    return table_of_means(
        fit, slopes, wanted, weights, ddf, information, level, 0.0, f"Slopes in {var}", (var,)
    )


def slope_rows(design: Any, grid: ReferenceGrid, var: str, delta: float | None = None) -> sp.csr_array:
    """Derivative of the design rows (m, p_full) in `var` at the grid points."""
    values, _ = design.used_column(var)
    spread = float(np.ptp(values)) or max(1.0, abs(float(values[0])))

    def rows(shift: float) -> sp.csr_array:
        shifted = {k: tuple(x + shift for x in v) if k == var else v for k, v in grid.values.items()}
        return sp.csr_array(design.fixed_matrix(grid_table(shifted, grid.factors)))

    if delta is not None:
        if not np.isfinite(delta) or delta == 0.0:
            raise OptionError(f"delta={delta!r} must be a finite number other than 0")
        return sp.csr_array((rows(delta) - grid.X) / delta)
    h = SLOPE_STEP * spread
    up, down = rows(h), rows(-h)
    wide = (up - down) / (2.0 * h)
    bend = abs(up + down - 2.0 * grid.X)
    size = abs(up).max() + abs(down).max()
    if bend.nnz == 0 or bend.max() <= 1e-12 * size:
        return sp.csr_array(linear_slopes(wide, spread))
    narrow = (rows(0.5 * h) - rows(-0.5 * h)) / h
    return sp.csr_array((4.0 * narrow - wide) / 3.0)


def linear_slopes(slopes: sp.csr_array, spread: float) -> sp.csr_array:
    """Slopes with the rounding of the difference removed: whole numbers where they are within 1e-9 of one."""
    out = slopes.copy()
    near = np.round(out.data)
    out.data = np.where(np.abs(out.data - near) < 1e-9, near, out.data)
    out.eliminate_zeros()
    return out


def table_of_means(
    fit: Any,
    grid: ReferenceGrid,
    specs: MeanSpecs,
    weights: Any,
    ddf: str,
    information: str,
    level: float,
    shift: float,
    title: str,
    trend: tuple[str, ...] = (),
) -> EmmeansTable:
    """Average the grid's rows and wrap their linear functions."""
    check_level(level)
    specs = with_groups(specs, grid)
    W = averaging_matrix(grid, specs.variables, weights)
    labels = mean_labels(grid, specs)
    if grid.nesting is not None:
        existing = existing_means(grid, specs.variables)
        W, labels = W[existing], labels.iloc[existing].reset_index(drop=True)
    K = sp.csr_array(W @ grid.X)
    undefined = np.diff(W.indptr) == 0
    group = group_codes(labels, specs.by)
    remarks = mean_remarks(fit.design, grid, specs, weights, trend, shift)
    functions = fit.linear_functions(K, ddf=ddf, information=information)
    return EmmeansTable(
        labels=labels, functions=functions, K=K, weights=None, shift=np.full(K.shape[0], shift),
        undefined=undefined, by=specs.by, kind="prediction", n_means=int(np.max(np.bincount(group))),
        adjust_asked="none", level=level, title=title, remarks=remarks,
        scale=None if trend else response_scale(fit.design.formula.response), group=group,
    )  # fmt: skip


def with_groups(specs: MeanSpecs, grid: ReferenceGrid) -> MeanSpecs:
    """The specs with the groups of nested factors: a level is named together with where it belongs."""
    if grid.nesting is None:
        return specs
    by = grid.nesting.with_groups(specs.by)
    main = grid.nesting.with_groups([name for name in specs.variables if name not in specs.by])
    return MeanSpecs((*(name for name in main if name not in by), *by), by)


def existing_means(grid: ReferenceGrid, variables: Sequence[str]) -> np.ndarray:
    """Rows of the averaging matrix for combinations of `variables` that exist under the nesting."""
    return np.flatnonzero(np.diff(averaging_matrix(grid, variables, "equal").indptr))


def mean_labels(grid: ReferenceGrid, specs: MeanSpecs) -> pd.DataFrame:
    """Label columns of the means; factors as text, covariates as numbers."""
    if not specs.variables:
        return pd.DataFrame({"1": ["overall"]})
    return grid.labels(specs.variables)


def mean_remarks(
    design: Any, grid: ReferenceGrid, specs: MeanSpecs, weights: Any, trend: tuple[str, ...], shift: float
) -> tuple[str, ...]:
    """Notes on averaging, covariates, offset and interactions."""
    notes = []
    over = averaged_over(grid, specs.variables)
    if over:
        how = f"{weights} weights" if isinstance(weights, str) else "the weights given"
        notes.append(f"Averaged over {', '.join(over)} with {how}")
    held = [
        f"{name} = {values[0]:.6g}"
        for name, values in grid.values.items()
        if name not in grid.factors and len(values) == 1 and name not in specs.variables and name not in trend
    ]
    if held:
        notes.append(f"Covariates held at {', '.join(held)}")
    if shift:
        notes.append(f"The mean offset {shift:.6g} is included")
    if grid.nesting is not None:
        notes.extend(grid.nesting.words())
    shown = {*specs.variables, *trend}
    nested = () if grid.nesting is None else grid.nesting.groups
    hit = [t.label for t in design.terms if shown < set(t.variables).difference(nested)] if shown else []
    if hit and over:
        notes.append(
            f"Averages over the interaction {', '.join(hit)}: look at the means within its cells too"
        )
    return tuple(notes)
