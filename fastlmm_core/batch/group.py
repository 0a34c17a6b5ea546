"""Trials in, tables out: the function that every engine maps over pieces of the data."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from fastlmm_core.batch.choosing import choose_models
from fastlmm_core.batch.compiled.coded import CodedTrials, code_trials
from fastlmm_core.batch.compiled.runs import UnitArrays, run_units
from fastlmm_core.batch.compiled.tables import add_unit_tables
from fastlmm_core.batch.engines.stopping import new_stop
from fastlmm_core.batch.one_by_one import fit_units
from fastlmm_core.batch.plan import BatchPlan
from fastlmm_core.batch.tables import TableParts, Tables
from fastlmm_core.batch.trials import TrialTable, collect_trials, unit_runs
from fastlmm_core.design.inputs import LARGEST_VALUE
from fastlmm_core.gate import public
from fastlmm_core.kernels.outcomes import BAD_VALUES, OK
from fastlmm_core.kernels.trials.arrays import STATUS
from fastlmm_core.reml.equations import LARGEST_WEIGHT

# Of the mean square of a response: a residual variance below it is rounding, and so is all else.
ROUNDING = 1e-15


@public()
def fit_group(table: Any, plan: BatchPlan) -> Tables:
    """Fit all trials of a table.

    Runs in the calling thread and keeps no state, so that Spark's ``applyInPandas``, Ray or any other system
    can map it over groups of whole trials (docs/batch.md).

    Parameters
    ----------
    table : pandas, polars or pyarrow table, or dict of columns
        Whole trials; columns that the plan does not need are ignored.
    plan : BatchPlan
        From `make_plan`.

    Returns
    -------
    dict of str to DataFrame
        The tables ``plan.tables``, each with the key columns and `trait` in front.  `fits` has one row for
        every trial and trait, also where nothing could be fitted.

    Raises
    ------
    DataError
        When a column of the plan is missing.

    Examples
    --------
    >>> from fastlmm_core import datasets, fit_group
    >>> from fastlmm_core.batch.plan import make_plan
    >>> plan = make_plan("~ gen + (1|rep:block)", by="trial", traits="yield")
    >>> fit_group(datasets.load("trials").query("trial == 'T1'"), plan)["fits"]["status"].tolist()
    ['ok']
    """
    return fit_trials(collect_trials(table, plan)).join()


def fit_trials(table: TrialTable, stop: np.ndarray | None = None) -> TableParts:
    """The rows of all units of a table of trials; `stop` as for `fit_run`."""
    stop = new_stop() if stop is None else stop
    coded = code_trials(table)
    parts = TableParts(table.plan, table.keys)
    for run in unit_runs(table):
        parts.extend(fit_run(table, coded, *run, stop))
    return parts


def fit_run(
    table: TrialTable, coded: CodedTrials | None, first: int, last: int, stop: np.ndarray
) -> TableParts:
    """The rows of the units first:last: compiled where possible, one by one where not.

    Raises
    ------
    CancelledError
        Soon after `stop` (see ``batch.engines.stopping``) has turned to 1.
    """
    if table.models:
        return fit_models(table, first, last, stop)
    parts = TableParts(table.plan, table.keys)
    left = np.arange(first, last)
    if coded is not None:
        began = time.perf_counter()
        arrays = run_units(table, coded, first, last, stop)
        leave_rounding(table, coded, arrays)
        good = np.flatnonzero(arrays.status == OK)
        add_unit_tables(table, coded, arrays, good, time.perf_counter() - began, parts)
        left = left[arrays.status != OK]
    if left.size:
        fit_units(table, left, parts, stop)
    return parts


def fit_models(table: TrialTable, first: int, last: int, stop: np.ndarray) -> TableParts:
    """The rows of the units first:last, each with the model that its trial gets."""

    def fit_alone(k: int, trials: np.ndarray) -> TableParts:
        return fit_trials(table.models[k].take(trials), stop)

    return choose_models(table, np.arange(first, last), fit_alone)


def leave_rounding(table: TrialTable, coded: CodedTrials, arrays: UnitArrays) -> None:
    """Mark units whose figures are rounding for the general path, which says so.

    They have no residual variance, weights far from 1, or covariates whose squares are no numbers.
    """
    traits = len(table.plan.labels)
    trials, trait = np.divmod(arrays.units, traits)
    first, last = int(trials[0]), int(trials[-1]) + 1
    lo, hi = int(table.ptr[first]), int(table.ptr[last])
    with np.errstate(over="ignore", under="ignore"):  # the kernel has left such units already
        squares = np.nan_to_num(coded.y[:, lo:hi]) ** 2
    totals = np.add.reduceat(squares, table.ptr[first:last] - lo, axis=1)
    mean_squares = totals[trait, trials - first] / np.maximum(arrays.n, 1)
    weights = coded.weights[lo:hi]
    logs = np.log(np.where((weights > 0.0) & np.isfinite(weights), weights, 1.0))
    sizes = np.add.reduceat(logs, table.ptr[first:last] - lo)
    sizes = sizes[trials - first] / np.diff(table.ptr)[trials]
    strange = (arrays.status == OK) & ~(np.abs(sizes) <= np.log(LARGEST_WEIGHT)) & (arrays.n_terms > 0)
    if len(coded.numbers):
        numbers = np.where(coded.ok[lo:hi], np.nan_to_num(np.abs(coded.numbers[:, lo:hi])), 0.0)
        largest = np.maximum.reduceat(numbers, table.ptr[first:last] - lo, axis=1)
        outside = (largest > LARGEST_VALUE) | ((largest > 0.0) & (largest < 1.0 / LARGEST_VALUE))
        strange |= np.any(outside, axis=0)[trials - first]
    arrays.results.integers[strange, STATUS] = BAD_VALUES
    perfect = (arrays.status == OK) & (arrays.results.figures[:, 1] <= ROUNDING * mean_squares)
    arrays.results.integers[perfect, STATUS] = BAD_VALUES
