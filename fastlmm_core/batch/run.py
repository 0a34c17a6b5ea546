"""`fit_batch`: the same model for every trial of a source."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from fastlmm_core.batch.coded import code_trials
from fastlmm_core.batch.group import fit_run
from fastlmm_core.batch.plan import make_plan
from fastlmm_core.batch.result import BatchResult
from fastlmm_core.batch.tables import join_tables
from fastlmm_core.batch.trials import collect_trials, unit_runs
from fastlmm_core.errors import OptionError
from fastlmm_core.reading import read_table



def fit_batch(
    source: Any, formula: str, *, by: str | Sequence[str] | None, traits: str | Sequence[str] | None = None,
    reml: bool = True, weights: str | None = None, fixed: bool = True, emmeans: str | Sequence[str] | None = None,
    contrasts: str | Mapping[str, Sequence[float]] | None = None, ref: str | None = None, adjust: str | None = None,
    blups: bool | str | Sequence[str] | None = None, ddf: str | None = None, information: str = "expected",
    level: float = 0.95, workers: int | None = None,
) -> BatchResult:  # fmt: skip
    """Fit one model to every trial and trait of a table.

    Parameters
    ----------
    source : table or path
        pandas, polars, pyarrow or Dask table, or a path: CSV, Parquet file, or folder of Parquet files.
    formula : str
        lme4 notation, for example ``"yield ~ gen + rep + (1|rep:block)"``.
    by : str or sequence of str or None
        Columns that name a trial; None takes the whole table as one.
    """
    began = time.perf_counter()
    plan = make_plan(
        formula, by=by, traits=traits, reml=reml, weights=weights, fixed=fixed, emmeans=emmeans, contrasts=contrasts,
        ref=ref, adjust=adjust, blups=blups, ddf=ddf, information=information, level=level,
    )  # fmt: skip
    frame = read_table(source) if isinstance(source, (str, Path)) else source
    table = collect_trials(frame, plan)
    threads = (os.cpu_count() or 1) if workers is None else workers
    if threads < 1:
        raise OptionError(f"workers={workers!r} must be a positive number")
    coded = code_trials(table)
    with ThreadPoolExecutor(threads) as pool:
        pieces = list(pool.map(lambda run: fit_run(table, coded, *run), unit_runs(table)))
    tables = join_tables(pieces, plan)
    return BatchResult(plan, time.perf_counter() - began, None, tables)
