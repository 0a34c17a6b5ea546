"""Estimated marginal means and slopes of a fitted model (Searle, Speed & Milliken 1980, Am. Stat. 34:216)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from fastlmm_core.design.values.columns import Column
from fastlmm_core.design.values.numeric_values import evaluate_numbers
from fastlmm_core.design.values.table import Table
from fastlmm_core.errors import FormulaError, OptionError, check_level, check_option, nearest_names
from fastlmm_core.formula.expressions import Name, Node
from fastlmm_core.formula.functions import bind_constants, columns_read
from fastlmm_core.formula.parsing import parse_expression
from fastlmm_core.means.codes import code_note, looks_like_codes
from fastlmm_core.means.grid_options import (
    counterfactual_grid,
    covariate_points,
    names_of,
    nuisance_grid,
    submodel_rows,
)
from fastlmm_core.means.mean_rows import rows_of_means
from fastlmm_core.means.mean_specs import MeanSpecs, columns_of_specs, parse_specs, plain_name
from fastlmm_core.means.mean_tables import EmmeansTable
from fastlmm_core.means.reference_grid import (
    ReferenceGrid,
    averaged_over,
    check_names,
    grid_at,
    grid_codes,
    grid_table,
    reference_grid,
)
from fastlmm_core.means.response_scale import ResponseScale, response_scale

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
    cov_keep: Any = (),
    cov_reduce: Any = None,
    nuisance: str | Sequence[str] = (),
    wt_nuis: str = "equal",
    counterfactuals: str | Sequence[str] = (),
    submodel: str | None = None,
) -> EmmeansTable:
    """Marginal means: predictions on the grid of all factor levels, averaged over what `specs` leaves out.

    Covariates are held at their mean over the rows used (also one with two values only) unless `at` says
    otherwise; rows and columns beside ``at(env):ps(row, col)`` at those of the plots of each environment.
    The offset of the formula at these values is part of the means, as is the mean of one that was given
    beside it.

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
    cov_keep : str, sequence of str or int
        Covariates that keep all their values in the grid, as a 0/1 covariate; k keeps those with at most k.
    cov_reduce : str, callable, bool or mapping of these by covariate
        What becomes of the other covariates: "mean" (the default), "median", "min", "max", "range", a
        function; False keeps all values.
    nuisance : str or sequence of str
        Factors that interact with nothing and are averaged over without a grid of their combinations, with
        weights `wt_nuis`: "equal" or "proportional".
    counterfactuals : str or sequence of str
        Factors that are set to each of their levels in all rows of the data: means of these predictions.
    submodel : str, optional
        "minimal", "type2" or "~ a + b": means of a part of the model, fitted to its predictions.

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
    design = fit.design
    wanted = columns_of_specs(parse_specs(specs, by), design)
    at, kept = covariate_points(design, grid_at(design, at), cov_reduce, cov_keep)
    aside = names_of("nuisance", nuisance, design)
    set_to = names_of("counterfactuals", counterfactuals, design)
    check_option("wt_nuis", wt_nuis, ("equal", "proportional"))
    notes: tuple[str, ...] = ()
    if set_to and aside:
        raise OptionError("counterfactuals are averaged over the rows of the data, with no grid from which "
                          "nuisance factors could be left out: give one of the two")  # fmt: skip
    if set_to:
        grid = counterfactual_grid(design, set_to, at)
        notes = (f"Averaged over the {design.n} rows of the data, each with every {' and '.join(set_to)}",)
    elif aside:
        grid, averaged = nuisance_grid(design, at, aside, wanted, wt_nuis)
        if averaged:
            notes = (f"Averaged over the nuisance factors {', '.join(averaged)} with {wt_nuis} weights",)
        left = [name for name in aside if name not in averaged]
        if left:
            notes += (f"No nuisance factors, as they interact: {', '.join(left)}; weights= is for these",)
    else:
        grid = reference_grid(design, at, kept, wanted.variables)
    check_names(grid, wanted.variables, design)
    if submodel is not None:
        grid = replace(grid, X=submodel_rows(design, grid.X, submodel, wanted))
        notes = (*notes, f"Of the submodel {submodel}")
    table = table_of_means(fit, grid, wanted, weights, ddf, information, level, "Estimated marginal means")
    return replace(table, remarks=(*table.remarks, *notes)) if notes else table


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

    The offset of the formula is part of the prediction. Where the design rows are linear in `var` the slope
    is exact; elsewhere it is a central difference with one Richardson step, taken at the covariate's mean or
    at its values in `at`.

    Parameters
    ----------
    var : str
        Numeric variable of the fixed part, or a function of one that can be undone: ``"log(x)"``.
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
        When `var` is unknown, a factor, or flat at all points; otherwise as `emmeans`.
    """
    design = fit.design
    covariate = slope_covariate(design, var)
    wanted = columns_of_specs(parse_specs(specs, by), design)
    grid = reference_grid(design, at, plain=wanted.variables)
    check_names(grid, wanted.variables, design)
    X, offset = slope_rows(design, grid, covariate, delta)
    if not abs(X).sum() and (offset is None or not np.any(offset)):
        raise OptionError(f"the prediction is flat in '{var}' at these values, as where it enters as a step "
                          f"like I({covariate.column} > 70); compare means at two values in at=")
    slopes = replace(grid, X=X, offset=offset)
    return table_of_means(
        fit, slopes, wanted, weights, ddf, information, level, f"Slopes in {var}", (covariate.column,)
    )


@dataclass(frozen=True)
class SlopeCovariate:
    """What slopes are taken in: a numeric column, or a monotone function of one such as ``log(x)``.

    Attributes
    ----------
    column : str
    node : Node or None
        The function; None for the column itself.
    scale : ResponseScale or None
        Its inverse.
    """

    column: str
    node: Node | None
    scale: ResponseScale | None

    def of(self, x: Floats) -> Floats:
        """The function at x (k,)."""
        if self.node is None:
            return x
        table = Table.of({self.column: Column(self.column, x, None)}, x.size)
        return evaluate_numbers(self.node, table, {}).on_rows(None)[:, 0]

    def shifted(self, x: Sequence[float], step: float) -> tuple[float, ...]:
        """The values of the column where the function is larger by `step`."""
        values = np.asarray(x, dtype=np.float64)
        if self.scale is None:
            return tuple((values + step).tolist())
        return tuple(self.scale.back(self.of(values) + step).tolist())


def slope_covariate(design: Any, var: str) -> SlopeCovariate:
    """The column or function that `var` names.

    Raises
    ------
    OptionError
        When the column is unknown or a factor, or the function has no inverse.
    """
    column, node = plain_name(var), None
    if column not in design.variables:
        try:
            node = bind_constants(parse_expression(var), design.variables)
        except FormulaError:
            node = None
        read = {name.name for name in columns_read(node)} if node is not None else set()
        if node is None or isinstance(node, Name) or len(read) != 1 or not read <= set(design.variables):
            raise OptionError(f"var='{var}' is not in the fixed part{nearest_names(var, design.variables)}")
        (column,) = read
    if design.variables[column].kind == "factor":
        raise OptionError(f"var='{var}' is a factor; slopes are for numeric variables")
    scale = response_scale(node)
    if node is not None and scale is None:
        raise OptionError(f"var='{var}' cannot be solved for '{column}'; allowed: a column, or a function "
                          "that can be undone, such as log(x) or sqrt(x)")  # fmt: skip
    return SlopeCovariate(column, node, scale)


def slope_rows(
    design: Any, grid: ReferenceGrid, covariate: SlopeCovariate, delta: float | None = None
) -> tuple[sp.csr_array, Floats | None]:
    """Derivative of the design rows (m, p_full) and of the offset (m,) at the grid points."""
    name = covariate.column

    def rows(values: Sequence[float]) -> sp.csr_array:
        table = grid_table({**grid.values, name: tuple(values)}, grid.factors, grid.positions)
        X, offset = design.fixed_matrix(table), design.offset_at(table)
        return sp.csr_array(X if offset is None else sp.hstack([X, sp.csr_array(offset[:, None])]))

    slopes = difference_quotients(rows, covariate, grid, design.used_column(name)[0], delta)
    if grid.offset is None:
        return slopes, None
    return sp.csr_array(slopes[:, :-1]), slopes[:, [-1]].toarray()[:, 0]


def difference_quotients(
    rows: Callable[[Sequence[float]], sp.csr_array], covariate: SlopeCovariate, grid: ReferenceGrid,
    used: Floats, delta: float | None,
) -> sp.csr_array:  # fmt: skip
    """Slopes of rows(values of the covariate) at the grid's values; see `emtrends` for `delta`."""
    here = grid.values[covariate.column]
    if delta is not None:
        if not np.isfinite(delta) or delta == 0.0:
            raise OptionError(f"delta={delta!r} must be a finite number other than 0")
        ahead = np.asarray(here, dtype=np.float64) + delta
        step = covariate.of(ahead) - covariate.of(np.asarray(here, dtype=np.float64))
        place = dict(zip(grid.values, grid_codes(grid.shape()), strict=True))[covariate.column]
        return sp.csr_array(sp.diags_array(1.0 / step[place]) @ (rows(ahead.tolist()) - rows(here)))
    values = covariate.of(used)
    spread = float(np.ptp(values)) or max(1.0, abs(float(values[0])))
    h = SLOPE_STEP * spread
    middle, up, down = rows(here), rows(covariate.shifted(here, h)), rows(covariate.shifted(here, -h))
    wide = (up - down) / (2.0 * h)
    bend = abs(up + down - 2.0 * middle)
    size = abs(up).max() + abs(down).max()
    if bend.nnz == 0 or bend.max() <= 1e-12 * size:
        return sp.csr_array(linear_slopes(wide))
    near = rows(covariate.shifted(here, 0.5 * h)), rows(covariate.shifted(here, -0.5 * h))
    return sp.csr_array((4.0 * ((near[0] - near[1]) / h) - wide) / 3.0)


def linear_slopes(slopes: sp.csr_array) -> sp.csr_array:
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
    title: str,
    trend: tuple[str, ...] = (),
) -> EmmeansTable:
    """Average the grid's rows and wrap their linear functions."""
    check_level(level)
    found = rows_of_means(grid, specs, weights)
    remarks = mean_remarks(fit.design, grid, found.specs, weights, trend)
    functions = fit.linear_functions(found.K, ddf=ddf, information=information)
    return found.table(functions, level, title, remarks, None if trend else fit.design.formula.response)


def mean_remarks(
    design: Any, grid: ReferenceGrid, specs: MeanSpecs, weights: Any, trend: tuple[str, ...]
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
        and (grid.positions is None or name not in grid.positions.shifts)
    ]
    if held:
        notes.append(f"Covariates held at {', '.join(held)}")
    if grid.positions is not None:
        names = " and ".join(grid.positions.shifts)
        notes.append(f"In the middle of the plots of each {grid.positions.by}, by the mean of their {names}")
    if grid.offset is not None and grid.offset.any() and not trend:
        low, high = float(np.min(grid.offset)), float(np.max(grid.offset))
        size = f"{low:.6g}" if low == high else f"{low:.6g} to {high:.6g}"
        notes.append(f"The offset {size} is included")
    notes += [code_note(design, name) for name in specs.variables if looks_like_codes(design, name)]
    if grid.nesting is not None:
        notes.extend(grid.nesting.words())
    notes += numbered_within(design, grid, over)
    shown = {*specs.variables, *trend}
    nested = () if grid.nesting is None else grid.nesting.groups
    hit = [t.label for t in design.terms if shown < set(t.variables).difference(nested)] if shown else []
    if hit and over:
        notes.append(
            f"Averages over the interaction {', '.join(hit)}: look at the means within its cells too"
        )
    return tuple(notes)


def numbered_within(design: Any, grid: ReferenceGrid, over: Sequence[str]) -> list[str]:
    """Notes on factors averaged over that stand in `a/b` as nested, but whose labels return in each group.

    The data cannot tell plot 1 of two blocks from one treatment in both; without all of them in each group,
    the mean of a group lacks cells.
    """
    notes = []
    for name in over if design.null_basis is not None else ():
        terms = [set(t.variables) for t in design.terms if name in t.variables]
        around = sorted(set.intersection(*terms) - {name}) if terms else []
        if not around or any(n not in grid.factors for n in (name, *around)):
            continue
        codes = [design.used_column(n) for n in (name, *around)]
        cells = np.unique(np.array([c for c, _ in codes]), axis=1).shape[1]
        if cells < np.prod([len(levels) for _, levels in codes]) and cells > len(codes[0][1]):
            group = ", ".join(around)
            notes.append(
                f"Not all levels of '{name}' have rows in each {group}; if they are others in each, name "
                f"them so ({group} and {name} in one column): means are then taken within the groups"
            )
    return notes
