"""What may stand in place of the plain reference grid: kept covariates, nuisance factors, counterfactuals,
submodels (names and meaning as in R's emmeans)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from fastlmm_core.design.values.columns import Column
from fastlmm_core.design.values.table import Table
from fastlmm_core.errors import OptionError, check_option, name_list, nearest_names
from fastlmm_core.means.mean_specs import MeanSpecs, plain_name
from fastlmm_core.means.reference_grid import (
    ReferenceGrid,
    cell_counts,
    factor_values,
    grid_codes,
    grid_table,
    grid_values,
    nesting_of,
    reference_grid,
)

Floats = NDArray[np.floating]
Reduce = Callable[[Floats], Any]

REDUCTIONS: dict[str, Reduce] = {
    "mean": np.mean, "median": np.median, "min": np.min, "max": np.max,
    "range": lambda x: [np.min(x), np.max(x)],
}  # fmt: skip
MOST_VALUES = 1000


def names_of(option: str, given: Any, design: Any) -> tuple[str, ...]:
    """One name of a variable of the fixed part, or several.

    Raises
    ------
    OptionError
        For an unknown one.
    """
    names = tuple(plain_name(str(n)) for n in ([given] if isinstance(given, str) else given or ()))
    for name in names:
        if name not in design.variables:
            raise OptionError(f"{option}: '{name}' is not a variable of the fixed part"
                              f"{nearest_names(name, design.variables)}")  # fmt: skip
    return names


def covariate_points(
    design: Any, at: Mapping[str, Any] | None, cov_reduce: Any, cov_keep: Any
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """`at` with the values of covariates that are kept or reduced by something else than their mean, and the
    names of those kept.

    Parameters
    ----------
    design : Design
    at : mapping or None
        Values given by name; they come first.
    cov_reduce : None, bool, str, callable or mapping of these by covariate
        False keeps all values; "mean", "median", "min", "max", "range" or a function gives some.
    cov_keep : str, sequence of str or int
        Covariates that keep all their values; a number k keeps those with at most k.

    Raises
    ------
    OptionError
        For an unknown covariate or reduction, or too many values.
    """
    points = {plain_name(str(name)): value for name, value in (at or {}).items()}
    covariates = [name for name, v in design.variables.items() if v.kind != "factor" and name not in points]
    values = {name: np.unique(design.used_column(name)[0]) for name in covariates}
    if isinstance(cov_keep, (int, np.integer)) and not isinstance(cov_keep, bool):
        kept = [name for name in covariates if values[name].size <= cov_keep]
    else:
        kept = [name for name in names_of("cov_keep", cov_keep, design) if name in values]
    if isinstance(cov_reduce, str):  # also where no covariate is left to reduce
        check_option("cov_reduce", cov_reduce, REDUCTIONS)
    by_name = isinstance(cov_reduce, Mapping)
    if by_name:
        named = names_of("cov_reduce", list(cov_reduce), design)
        if factors := [name for name in named if design.variables[name].kind == "factor"]:
            raise OptionError(f"cov_reduce: {name_list(factors)} has levels, not a mean; say which in at=")
    for name in covariates:
        how = cov_reduce.get(name) if by_name else cov_reduce
        if name in kept or how is False:
            if (count := values[name].size) > MOST_VALUES:
                raise OptionError(f"'{name}' has {count} values; a grid keeps up to {MOST_VALUES}")
            points[name] = values[name].tolist()
            kept = [*kept, *([] if name in kept else [name])]
        elif how is not None and how is not True:
            points[name] = reduced(name, design.used_column(name)[0], how)
    return points, tuple(kept)


def reduced(name: str, x: Floats, how: Any) -> list[float]:
    """The values that a reduction leaves of a covariate."""
    if isinstance(how, str):
        how = REDUCTIONS[check_option("cov_reduce", how, REDUCTIONS)]
    if not callable(how):
        raise OptionError(f"cov_reduce of '{name}' must be a function, True, False, or one of "
                          f"{name_list(REDUCTIONS)}")  # fmt: skip
    try:
        found = np.atleast_1d(np.asarray(how(np.array(x)), dtype=np.float64))
    except Exception as error:
        raise OptionError(f"cov_reduce of '{name}' failed: {type(error).__name__}") from None
    if found.ndim != 1 or not 0 < found.size <= MOST_VALUES or not np.isfinite(found).all():
        raise OptionError(f"cov_reduce of '{name}' must give finite numbers, at most {MOST_VALUES}")
    return found.tolist()


def nuisance_grid(
    design: Any, at: Mapping[str, Any], nuisance: Sequence[str], specs: MeanSpecs, weights: str
) -> tuple[ReferenceGrid, tuple[str, ...]]:
    """The grid without the nuisance factors, over whose levels its rows are averaged; and which these are.

    A factor that interacts with another variable stays in the grid. Without interactions a row is the row at
    the first levels plus, for each factor, what its other levels change on average.
    """
    check_option("wt_nuis", weights, ("equal", "proportional"))
    wrong = [n for n in nuisance if n in specs.variables or design.variables[n].kind != "factor"]
    if wrong:
        raise OptionError(f"nuisance: {name_list(wrong)} must be factors that the specs do not name")
    alone = tuple(
        name for name in nuisance
        if all(set(term.variables) == {name} for term in design.terms if name in term.variables)
    )  # fmt: skip
    chosen = {n: factor_values(n, design.variables[n].levels, at.get(n)) for n in alone}
    first = {name: levels[0] for name, levels in chosen.items()}
    grid = reference_grid(design, {**at, **first}, plain=specs.variables)
    X, offset = sp.csr_array(grid.X), grid.offset
    for name, levels in chosen.items():
        codes, occurring = design.used_column(name)
        counts = dict(zip(occurring, np.bincount(codes, minlength=len(occurring)), strict=True))
        share = np.array([1.0 if weights == "equal" else float(counts[level]) for level in levels])
        for level, part in zip(levels[1:], (share / share.sum())[1:].tolist(), strict=True):
            table = grid_table({**grid.values, name: (level,)}, grid.factors, grid.positions)
            X = sp.csr_array(X + part * (sp.csr_array(design.fixed_matrix(table)) - grid.X))
    rest = {name: v for name, v in grid.values.items() if name not in alone}
    nesting = nesting_of(design, rest, grid.factors)
    counts_left = cell_counts(design, rest, grid.factors)
    return replace(grid, values=rest, X=X, offset=offset, counts=counts_left, nesting=nesting), alone


def counterfactual_grid(design: Any, names: Sequence[str], at: Mapping[str, Any]) -> ReferenceGrid:
    """Grid of the levels of `names`; a row is the mean over the data with these levels everywhere."""
    wrong = [name for name in names if design.variables[name].kind != "factor"]
    if wrong or not names:
        raise OptionError(f"counterfactuals: {name_list(wrong) or 'nothing'} cannot be set; name factors")
    plain = grid_values(design, at)
    values = {name: plain[name] for name in names}
    codes = dict(zip(values, grid_codes([len(v) for v in values.values()]), strict=True))
    observed = {name: used_as_column(design, name) for name in design.variables}
    for name in at:
        if name in names:
            continue
        if len(plain[name]) > 1:
            raise OptionError(f"'{name}' has {len(plain[name])} values; beside counterfactuals, which "
                              "average over the rows of the data, a variable that is not set has one, in at=")
        observed[name] = constant_column(name, plain[name][0], design)
    rows, offsets = [], []
    for point in range(next(iter(codes.values())).size):
        chosen = {name: constant_column(name, values[name][codes[name][point]], design) for name in names}
        table = Table.of({**observed, **chosen}, design.n)
        rows.append(sp.csr_array(sp.csr_array(design.fixed_matrix(table)).sum(axis=0)[None, :] / design.n))
        offset = design.offset_at(table)
        offsets.append(None if offset is None else float(offset.mean()))
    X = sp.csr_array(sp.vstack(rows))
    factors = frozenset(names)
    return ReferenceGrid(
        values, factors, cell_counts(design, values, factors), X, None,
        None if offsets[0] is None else np.array(offsets, dtype=np.float64),
    )  # fmt: skip


def used_as_column(design: Any, name: str) -> Column:
    """A variable of the fixed part on the rows used."""
    values, levels = design.used_column(name)
    return Column(name, values, levels)


def constant_column(name: str, value: Any, design: Any) -> Column:
    """A variable with one value in all rows used."""
    if design.variables[name].kind == "factor":
        return Column(name, np.zeros(design.n, dtype=np.int32), (str(value),))
    return Column(name, np.full(design.n, float(value)), None)


def submodel_rows(design: Any, X: Any, submodel: str, specs: MeanSpecs) -> sp.csr_array:
    """Rows (m, p_full) that give the estimates of a submodel fitted to the predictions of the model.

    With X1 the columns of the submodel, its coefficients are (X1'WX1)^- X1'WX b; rows at X1's columns become
    functions of b. "minimal" is the submodel of the variables of the specs; "type2" takes their columns as
    they are left by all terms that do not contain them, for contrasts only.

    Raises
    ------
    OptionError
        When the submodel has terms that the model does not have.
    """
    columns, others = submodel_columns(design, submodel, specs)
    root = np.ones(design.n) if design.weights is None else np.sqrt(design.weights)
    full = sp.csr_array(design._X_full).toarray() * root[:, None]
    X1 = full[:, columns]
    if others.size:
        X0 = full[:, others]
        X1 = X1 - X0 @ np.linalg.lstsq(X0, X1, rcond=1e-10)[0]
    projection = np.linalg.pinv(X1, rcond=1e-10) @ full
    return sp.csr_array(sp.csr_array(X)[:, columns].toarray() @ projection)


def submodel_columns(
    design: Any, submodel: str, specs: MeanSpecs
) -> tuple[NDArray[np.integer], NDArray[np.integer]]:
    """Columns of the submodel, and those that are taken out of them first."""
    from fastlmm_core.formula.parsing import parse_formula

    intercept = np.arange(int(design.has_intercept))
    wanted = set(specs.variables)
    inside = [t for t in design.terms if set(t.variables) <= wanted]
    if submodel in ("minimal", "type2"):
        own = [t.columns for t in inside]
        if submodel == "minimal":
            return np.concatenate([intercept, *own]).astype(int), np.empty(0, dtype=int)
        top = [t for t in inside if set(t.variables) == wanted]
        rest = [t.columns for t in design.terms if not wanted <= set(t.variables)]
        kept = np.concatenate([t.columns for t in top]).astype(int) if top else np.empty(0, dtype=int)
        return kept, np.concatenate([intercept, *rest]).astype(int)
    if not isinstance(submodel, str) or "~" not in submodel:
        raise OptionError("submodel must be 'minimal', 'type2', or a formula's right side, '~ a + b'")
    parsed = parse_formula(submodel[submodel.index("~") :])
    known = {frozenset(t.label.split(":")): t.columns for t in design.terms}
    found = [intercept] if parsed.fixed.intercept else []
    for term in parsed.fixed.terms:
        labels = frozenset(text.replace("`", "") for text in term)
        if labels not in known:
            label = ":".join(term)
            raise OptionError(f"submodel: the model has no term '{label}'"
                              f"{nearest_names(label, (t.label for t in design.terms))}")  # fmt: skip
        found.append(known[labels])
    return np.concatenate(found).astype(int), np.empty(0, dtype=int)
