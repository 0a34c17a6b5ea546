"""Joint tests of main effects and interactions through contrasts of marginal means."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp
from numpy.typing import NDArray

from fastlmm_core.errors import DataError, OptionError, nearest_names
from fastlmm_core.inference.linear_functions import NO_ERROR, NO_VARIANCE
from fastlmm_core.inference.row_spaces import estimable_part
from fastlmm_core.means.confounded_effects import confounded_rows, grid_comparisons
from fastlmm_core.means.mean_specs import MeanSpecs, plain_name
from fastlmm_core.means.reference_grid import ReferenceGrid, averaging_matrix, grid_codes, reference_grid
from fastlmm_core.means.table_labels import group_rows
from fastlmm_core.multiplicity.adjustments import f_tail

Floats = NDArray[np.floating]

PART = "part"
CONFOUNDED = "(confounded)"


@dataclass(frozen=True)
class JointTest:
    """F test of one effect, in one `by` group.

    Attributes
    ----------
    term : str
        "V:N".
    by_values : tuple
        Values of the `by` variables.
    df_num, df_den, F, p : float
    status : str
        "ok", "part" when only a part of the effect is estimable and was tested, or why there is no test.
    """

    term: str
    by_values: tuple[Any, ...]
    df_num: int
    df_den: float
    F: float
    p: float
    status: str


def joint_tests(
    fit: Any,
    by: str | Sequence[str] | None = None,
    at: Mapping[str, Any] | None = None,
    weights: Any = "equal",
    ddf: str = "kenward-roger",
    information: str = "expected",
    scaled: bool = True,
) -> pd.DataFrame:
    """Test every main effect and interaction of the fixed part, within each group of `by`.

    The test of an effect is that all its interaction contrasts among the marginal means are zero. Covariates
    enter with two values, one below and one above their mean, so that their slopes are tested.

    Parameters
    ----------
    fit : LMMFit
    by : str or sequence of str, optional
        Variables at whose values the others are tested (simple effects).
    at : mapping, optional
        Values for the reference grid.
    weights : str or array_like
        As of `emmeans`.
    ddf, information : str
        As of `emmeans`.
    scaled : bool
        True: the F of `LinearFunctions.f_test` (with Kenward-Roger's scaling and df). False: the Wald F with
        the smallest df of the orthonormalised contrasts, the figure of R's emmeans::joint_tests.

    Returns
    -------
    DataFrame
        term, the `by` columns, df_num, df_den, F, p, status; "part" marks effects that are only partly
        estimable. With empty cells a row "(confounded)" tests the comparisons that belong to no single
        effect.

    Raises
    ------
    OptionError
        When there is nothing to test, or `by` names an unknown variable.
    """
    design = fit.design
    names = [plain_name(str(name)) for name in ([by] if isinstance(by, str) else by or [])]
    for name in names:
        if name not in design.variables:
            raise OptionError(f"by: '{name}' is not in the fixed part{nearest_names(name, design.variables)}")
    slopes = slope_values(design, names)
    about = [name for name in slopes if name not in (at or {})]
    grid = reference_grid(design, {**slopes, **(at or {})}, plain=names, about=about)
    tests: list[JointTest] = []
    tested: dict[tuple[Any, ...], list[Floats]] = {}
    for effect in testable_effects(design, grid, names):
        for by_values, L in effect_rows(grid, effect, names, weights):
            rows, lost = estimable_part(L.toarray(), design.null_basis)
            if not len(rows):
                continue
            test = one_test(fit, rows, ":".join(effect), by_values, ddf, information, scaled)
            tests.append(replace(test, status=PART) if lost and test.status == "ok" else test)
            tested.setdefault(by_values, []).append(rows)
    if design.null_basis is not None:
        for by_values, parts in tested.items():
            here = dict(zip(names, by_values, strict=True))
            left = confounded_test(fit, grid, here, np.vstack(parts), ddf, information, scaled)
            tests += [left] if left is not None else []
    if not tests:
        raise OptionError("there is no effect to test: the fixed part has no variable besides those of `by`")
    return tests_frame(tests, names)


def slope_values(design: Any, by: Sequence[str]) -> dict[str, tuple[float, ...]]:
    """Two values around the mean for each covariate, one unit to either side, and all of one with levels.

    The ends of the data instead where a function of it has no value so far from the mean, as log(x) of a
    share, or is the same on both sides, as I(x > 70).
    """
    tested = {name for term in design.terms for name in term.variables}
    return {
        name: v.points or values_that_differ(design, name, (v.mean - 1.0, v.mean + 1.0))
        for name, v in design.variables.items()
        if v.kind != "factor" and name not in by and name in tested
    }


def values_that_differ(design: Any, name: str, values: tuple[float, float]) -> tuple[float, float]:
    """The values of a covariate, or the ends of its data where functions of it do not tell them apart."""
    atoms = design.coding.atoms.items()
    if all(text == name or name not in atom.columns_read for text, atom in atoms):
        return values
    try:
        grid = reference_grid(design, {name: values})
        second = dict(zip(grid.values, grid_codes(grid.shape()), strict=True))[name] == 1
        if abs(grid.X[second] - grid.X[~second]).sum() > 0.0:
            return values
    except DataError:
        pass
    used = design.used_column(name)[0]
    return float(np.min(used)), float(np.max(used))


def testable_effects(design: Any, grid: ReferenceGrid, by: Sequence[str]) -> list[tuple[str, ...]]:
    """Sets of variables that occur together in a term, by order, then by position."""
    names = [name for name, values in grid.values.items() if name not in by and len(values) > 1]
    nested = grid.nesting.groups if grid.nesting is not None else {}
    terms = [{g for name in t.variables for g in (name, *nested.get(name, ()))} for t in design.terms]
    highest = max((len(term) for term in terms), default=0)
    return [
        effect
        for order in range(1, highest + 1)
        for effect in combinations(names, order)
        if any(term >= set(effect) for term in terms) and with_its_groups(grid, effect, by)
    ]


def with_its_groups(grid: ReferenceGrid, effect: tuple[str, ...], by: Sequence[str]) -> bool:
    """Whether the groups of every nested factor of the effect are in it or held fixed by `by`."""
    if grid.nesting is None:
        return True
    return all(set(grid.nesting.groups.get(name, ())) <= {*effect, *by} for name in effect)


def effect_rows(
    grid: ReferenceGrid, effect: tuple[str, ...], by: Sequence[str], weights: Any
) -> list[tuple[tuple[Any, ...], sp.csr_array]]:
    """Coefficients of the interaction contrasts of `effect` in each `by` group."""
    specs = MeanSpecs((*effect, *by), tuple(by))
    K = sp.csr_array(averaging_matrix(grid, specs.variables, weights) @ grid.X)
    labels = grid.labels(specs.variables)
    _, members = group_rows(labels, by)
    out = []
    for rows in members:
        here = {name: labels[name].iloc[rows[0]] for name in by}
        at = {name: grid.values[name].index(value) for name, value in here.items()}
        C = interaction_contrasts(grid, effect, at)
        out.append((tuple(here.values()), sp.csr_array(C @ K[rows])))
    return out


def interaction_contrasts(
    grid: ReferenceGrid, effect: tuple[str, ...], at: Mapping[str, int]
) -> sp.csr_array:
    """Products of successive differences over the factors of an effect, its first factor varying fastest.

    A nested factor is compared within its groups, so that these are only enumerated; `at` has the levels of
    those that are held fixed.
    """
    groups = grid.nesting.groups if grid.nesting is not None else {}
    around = {group for name in effect for group in groups.get(name, ())}
    held = [name for name in effect if name in around]
    codes = dict(zip(effect, grid_codes([len(grid.values[name]) for name in effect]), strict=True))
    blocks = []
    for combination in np.ndindex(*(len(grid.values[name]) for name in held)):
        inside = np.ones(next(iter(codes.values())).size, dtype=bool)
        for name, level in zip(held, combination, strict=True):
            inside &= codes[name] == level
        C = sp.csr_array(np.ones((1, 1)))
        for name in effect:
            if name in held:
                continue
            levels: NDArray[np.integer] = np.arange(len(grid.values[name]))
            if name in groups:
                levels = levels_within(grid, name, {**at, **dict(zip(held, combination, strict=True))})
                inside &= np.isin(codes[name], levels)
            C = sp.csr_array(sp.kron(np.diff(np.eye(levels.size), axis=0), C))
        rows = np.flatnonzero(inside)
        pick = sp.csr_array((np.ones(rows.size), (np.arange(rows.size), rows)), (rows.size, inside.size))
        blocks.append(sp.csr_array(C @ pick))
    return sp.csr_array(sp.vstack(blocks))


def levels_within(grid: ReferenceGrid, name: str, held: Mapping[str, int]) -> NDArray[np.integer]:
    """Levels of a nested factor that occur at these levels of its groups."""
    codes = dict(zip(grid.values, grid_codes(grid.shape()), strict=True))
    here = grid.counts > 0
    for group, level in held.items():
        if grid.nesting is not None and group in grid.nesting.groups[name]:
            here = here & (codes[group] == level)
    return np.unique(codes[name][here])


def one_test(
    fit: Any,
    rows: Floats,
    term: str,
    by_values: tuple[Any, ...],
    ddf: str,
    information: str,
    scaled: bool,
) -> JointTest:
    """F test that the estimable functions rows @ beta are zero."""
    functions = fit.linear_functions(rows, ddf=ddf, information=information)
    estimable = bool(functions.estimable.all())
    cov = functions.cov if estimable else np.zeros((0, 0))  # single variances are read from it
    if functions.without_variance or not estimable:
        status = NO_VARIANCE if functions.without_variance else NO_ERROR
        return JointTest(term, by_values, len(rows), np.nan, np.nan, np.nan, status)
    if scaled:
        test = functions.f_test()
        return JointTest(term, by_values, test.df_num, test.df_den, test.F, test.p, "ok")
    z = np.asarray(functions.estimate)
    F = float(z @ np.linalg.solve(cov, z)) / len(rows)
    df_den = float(np.min(functions.df()))
    p = float(f_tail(np.array(F), np.array(len(rows)), np.array(df_den)))
    return JointTest(term, by_values, len(rows), df_den, F, p, "ok")


def confounded_test(
    fit: Any,
    grid: ReferenceGrid,
    here: Mapping[str, Any],
    tested: Floats,
    ddf: str,
    information: str,
    scaled: bool,
) -> JointTest | None:
    """Test of what the effects leave over of all comparisons in the `by` group `here`; None when nothing."""
    at = {name: grid.values[name].index(value) for name, value in here.items()}
    everything = grid_comparisons(grid, fit.design.null_basis, at)
    if not everything.size:
        return None
    rows = confounded_rows(fit, everything, tested, ddf, information)
    if not len(rows):
        return None
    test = one_test(fit, rows, CONFOUNDED, tuple(here.values()), ddf, information, scaled)
    if scaled or test.status != "ok":
        return test
    whole = fit.linear_functions(everything, ddf=ddf, information=information)
    df_den = float(np.min(whole.df()))
    p = float(f_tail(np.array(test.F), np.array(test.df_num), np.array(df_den)))
    return replace(test, df_den=df_den, p=p)


def tests_frame(tests: Sequence[JointTest], by: Sequence[str]) -> pd.DataFrame:
    """One row per test."""
    frame = pd.DataFrame({"term": [test.term for test in tests]})
    for i, name in enumerate(by):
        frame[name] = [test.by_values[i] for test in tests]
    for column in ("df_num", "df_den", "F", "p", "status"):
        frame[column] = [getattr(test, column) for test in tests]
    return frame
