"""Trials in, tables out: the function that every engine maps over pieces of the data."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastlmm_core.batch.ordinary import fit_units
from fastlmm_core.batch.plan import BatchPlan
from fastlmm_core.batch.tables import TableParts, Tables
from fastlmm_core.batch.trials import TrialTable, collect_trials


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
        The tables ``plan.tables``, each with the key columns and `trait` in front.  `fits` has one row for every
        trial and trait, also where nothing could be fitted.

    Raises
    ------
    DataError
        When a column of the plan is missing.
    """
    return fit_trials(collect_trials(table, plan))


def fit_trials(table: TrialTable) -> Tables:
    """The tables of all units of a table of trials."""
    parts = TableParts()
    fit_units(table, np.arange(table.n_units), parts)
    return parts.finish(table.plan, table.keys)
