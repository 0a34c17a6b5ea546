"""`fit_batch`: the same model for every trial of a source."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastlmm_core.batch.candidates import CHOICES
from fastlmm_core.batch.codes import code_notes
from fastlmm_core.batch.compiled.compilable import may_compile
from fastlmm_core.batch.engines.cluster import is_client, run_dask
from fastlmm_core.batch.engines.jobs import Job, dataset_jobs, run_threads, table_jobs, worker_count
from fastlmm_core.batch.engines.pieces import Pieces, TablePieces
from fastlmm_core.batch.engines.processes import process_count, run_processes
from fastlmm_core.batch.engines.progress import Progress, logger
from fastlmm_core.batch.folder.fingerprints import table_fingerprint
from fastlmm_core.batch.folder.store import PartStore, read_marks, version_notes
from fastlmm_core.batch.level_orders import order_notes
from fastlmm_core.batch.plan import BatchPlan, make_plan
from fastlmm_core.batch.result import BatchResult
from fastlmm_core.batch.sources import (
    check_apart,
    column_names,
    cut_dataset,
    dask_fingerprint,
    dataset_fingerprint,
    is_dask,
    is_dataset,
    read_source,
    scatter_trials,
)
from fastlmm_core.batch.spelling import spelling_notes
from fastlmm_core.batch.tables import TableParts, join_parts
from fastlmm_core.batch.trials import collect_trials
from fastlmm_core.errors import DataError, ServiceError
from fastlmm_core.gate import public
from fastlmm_core.inference.linear_functions import DDF_METHODS
from fastlmm_core.limits import Limits
from fastlmm_core.options import (
    ANY,
    LEVEL,
    NAME,
    NAMES,
    SCALAR,
    SWITCH,
    TEXT,
    either,
    one_of,
    optional,
    table_of,
    whole,
)
from fastlmm_core.reading import ReadOptions, notes_of, read_options
from fastlmm_core.reml.information import KINDS


@public(
    reml=SWITCH, weights=optional(TEXT), fixed=SWITCH, ref=optional(SCALAR), adjust=optional(TEXT),
    ddf=optional(one_of(DDF_METHODS)), information=optional(one_of(KINDS)), level=LEVEL,
    workers=optional(whole(1)), resume=SWITCH, progress=SWITCH, residual=TEXT,
    fixed_parameters=optional(table_of(ANY)), start=optional(table_of(ANY)), covariances=SWITCH,
    genotypes=optional(NAME), trends=SWITCH,
    field_trend=optional(TEXT), choose=one_of(CHOICES), formula_column=optional(NAME),
    plots=either(SWITCH, NAMES),
)  # fmt: skip
def fit_batch(
    source: Any, formula: str | Sequence[str] | Mapping[str, Any], *, by: str | Sequence[str] | None,
    traits: str | Sequence[str] | None = None,
    reml: bool = True, weights: str | None = None, fixed: bool = True,
    emmeans: str | Sequence[str] | None = None, contrasts: str | Mapping[str, Sequence[float]] | None = None,
    ref: str | None = None, adjust: str | None = None, blups: bool | str | Sequence[str] | None = None,
    ddf: str | None = None, information: str | None = None, level: float = 0.95, engine: Any = "local",
    workers: int | None = None, out: str | Path | None = None, resume: bool = True, progress: bool = True,
    limits: Limits | Mapping[str, int | str] | None = None,
    factors: str | Sequence[str] | None = None, sep: str | None = None, decimal: str | None = None,
    encoding: str | None = None, na_values: Any = None, sheet: str | int | None = None,
    skip: int | None = None, residual: str = "units", relationships: Mapping[str, Any] | None = None,
    fixed_parameters: Mapping[str, Any] | None = None, start: Mapping[str, Any] | None = None,
    covariances: bool = False,
    genotypes: str | None = None, field_trend: str | None = None,
    choose: str = "first", formula_column: str | None = None, plots: bool | str | Sequence[str] = False,
    trends: bool = False,
) -> BatchResult:  # fmt: skip
    """Fit one model to every trial and trait of a table.

    Small trials run in compiled code on all cores at once; large ones, and functions that look at several
    rows, such as ``poly``, go through `lmm`'s own path. The figures are those of `lmm` on each trial.

    Parameters
    ----------
    source : table or path
        pandas, polars, pyarrow or Dask table; text file (.csv, .tsv, .txt), spreadsheet or Parquet file;
        folder of text files; folder of Parquet files, which is streamed and may be larger than memory. With a
        client as `engine` the rows of a Dask table stay on its workers.
    formula : str, sequence of str, or mapping
        lme4 notation, for example ``"yield ~ gen + rep + (1|rep:block)"``; the response may be left out when
        `traits` are given. Of several, ``{name: formula}`` or ``{name: {"formula": ..., "residual": ...,
        "field_trend": ...}}``, each trial gets one (`choose`, `formula_column`), and `fits` says which and
        why.
    by : str or sequence of str or None
        Columns that name a trial; None takes the whole table as one.
    traits : str or sequence of str, optional
        Responses that are fitted one by one on the same design; missing values may differ between them.
    reml : bool
    weights : str, optional
        Column of prior weights.
    fixed : bool
        Make the table of fixed effects; without it a batch of mere fits is faster.
    emmeans : str or sequence of str, optional
        Specifications of marginal means, as of ``LMMFit.emmeans``.
    contrasts : str or mapping, optional
        Contrasts of the means: a family, with its control ``"trt.vs.ctrl:CHECK"``, or custom weights
        {label: weights}.
    ref : str, optional
        Control of ``trt.vs.ctrl``.
    adjust : str, optional
        Adjustment of the contrasts; each family has its usual one.
    blups : bool, str or sequence of str, optional
        Grouping factors whose BLUPs (and heritability) are wanted; True for all.
    ddf : str, optional
        Df method of fixed effects, means and contrasts; by default Kenward-Roger for REML, Satterthwaite for
        ML, residual for linear models.
    information : {"expected", "observed", "average"}, optional
        As of ``LMMFit.fixed_effects``; by default the fit's own, "expected" without covariance structures.
    level : float
        Of all intervals.
    engine : {"local", "threads", "processes"} or dask.distributed Client
        ``"local"`` takes threads, and processes of this machine where the interpreter drives the fits
        (structures, ``field_trend``, tables that need a whole fit) and the first of them say that the start
        of other interpreters, some seconds, is repaid.
    workers : int, optional
        Threads or processes of this machine; all cores by default.
    out : path, optional
        Folder for the tables, as Parquet parts that are written when they are done. A second call with the
        same plan and data continues where the first stopped.
    resume : bool
        False refuses a folder that holds results already.
    progress : bool
        Show a bar when standard error is a terminal.
    limits : mapping, optional
        Largest sizes, as of `lmm`.
    factors : str or sequence of str, optional
        Columns that are labels, whatever they look like: 007 and 7 are then two levels.
    sep, decimal, encoding : str, optional
        Of a text file; found by looking at it otherwise (docs/reading.md).
    na_values : str, number, list of these, or mapping, optional
        Further cells that are missing values; ``{"gen": []}`` leaves only the empty one in `gen`, so that
        NA is a label there.
    sheet : str or int, optional
        Sheet of a spreadsheet, by name or number.
    skip : int, optional
        Lines above the header of a text file or spreadsheet.
    residual : str
        Covariance of the residuals, as of `lmm`: ``"units | env"``, ``"ar1(row):ar1(col)"``, ...
    relationships : dict, optional
        What ``vm(gen, A)`` in the formula means by A, as of `lmm`; built once for all trials. Levels without
        data in a trial have their BLUPs there too.
    fixed_parameters : dict, optional
        Variances held at given values in every trial, in the units of the response.
    start : dict, optional
        Variances from which the search of every trial starts, written in the same way, as of `lmm`.
    covariances : bool
        Keep the full covariance of the means of each trial, the table `covariances`, for `second_stage`.
    genotypes : str, optional
        Grouping factor of the genotypes: tables of their values with ranks, of heritabilities by all
        definitions, and of the trials (``LMMFit.genotype_values``, ``heritability``, ``trial_summary``).
    field_trend : str, optional
        Trend over the plots of each trial, ``"ps"`` or ``"ar1"``, as of `lmm`; the segments of a surface
        follow the size of each field.
    choose : {"first", "aic", "bic"}
        Of several formulas: the first that the trial supports, or the best of those by a criterion. A trial
        supports a formula when its row of `fits` is "ok" and all means asked for are estimable. Under REML
        criteria are compared only between formulas with the same fixed part.
    formula_column : str, optional
        Column with the name of each trial's formula.
    plots : bool, str or sequence of str
        Keep every plot with its fitted value and residual, the table `plots`, of which a report draws maps
        (``fastlmm_core.report``). Columns name the plots: their number, row and column of the field, or row,
        column and number; True takes the row and column that the model knows. Plots that stand twice are
        named in the table `trials`.
    trends : bool
        Keep the fitted trend of each trial at all positions of its field, as ``LMMFit.trend``: the table
        `trends`.

    Returns
    -------
    BatchResult

    Raises
    ------
    FormulaError, OptionError, InferenceError, DataError
        What is wrong with the request as a whole. A trial that cannot be fitted is a row of ``fits`` with its
        reason instead.
    MemoryExhaustedError, ServiceError, ClusterError
        When a process or a worker ends, or does not start. What is written to `out` stays.

    Examples
    --------
    >>> from fastlmm_core import datasets, fit_batch
    >>> model = "yield ~ gen + rep + (1|rep:block)"
    >>> batch = fit_batch(datasets.path("trials"), model, by="trial", emmeans="gen", progress=False)
    >>> batch.fits["status"].value_counts().to_dict()
    {'ok': 6, 'data': 1, 'design': 1}
    >>> print(batch.emmeans.head(2)[["trial", "gen", "estimate", "se"]])
    Batch: emmeans
     trial  gen    estimate      se
     T1     CHECK    6.8392  0.3233
     T1     G01      6.2882  0.3186
    """
    began = time.perf_counter()
    plan = make_plan(
        formula, by=by, traits=traits, reml=reml, weights=weights, fixed=fixed, emmeans=emmeans,
        contrasts=contrasts, ref=ref, adjust=adjust, blups=blups, ddf=ddf, information=information,
        level=level, limits=limits, factors=factors, residual=residual, relationships=relationships,
        fixed_parameters=fixed_parameters, start=start, covariances=covariances, genotypes=genotypes,
        field_trend=field_trend, choose=choose, formula_column=formula_column, plots=plots, trends=trends,
    )  # fmt: skip
    options = read_options(
        sep=sep,
        decimal=decimal,
        encoding=encoding,
        na_values=na_values,
        sheet=sheet,
        skip=skip,
        limits=plan.limits,
    )
    return run_plan(
        source, plan, engine=engine, workers=workers, out=out, resume=resume, progress=progress, began=began,
        options=options,
    )  # fmt: skip


def run_plan(
    source: Any, plan: BatchPlan, *, engine: Any = "local", workers: int | None = None,
    out: str | Path | None = None, resume: bool = True, progress: bool = True, began: float | None = None,
    options: ReadOptions | None = None,
) -> BatchResult:  # fmt: skip
    """`fit_batch` for a plan that is made already."""
    began = time.perf_counter() if began is None else began
    threads = worker_count(workers)
    remote = is_client(engine)
    check_apart(source, out)
    source = read_source(source, plan, options or ReadOptions())
    if plan.open_names:
        plan = plan.on_columns(column_names(source))
    if is_dataset(source):
        work = divide_dataset(source, plan)
    elif is_dask(source) and remote:
        work = divide_partitions(source, plan)
    else:
        work = divide_table(source, plan)
    store = None if out is None else PartStore(out, plan, work.fingerprint())
    if store:
        store.open(resume, work.notes)
    with Progress(work.n_units, progress) as bar:
        if remote:
            pieces = work.pieces(engine)
            done = mark_done(bar, store, len(pieces))
            left = [(k, pieces[k]) for k in range(len(pieces)) if k not in done]
            del pieces  # so that the workers can forget those that are done
            rows = run_dask(engine, left, plan, store, bar)
        else:
            rows = run_here(engine, work, plan, threads, store, bar)
    if not bar.done:
        raise DataError("the data have no rows")
    tables = {} if store else join_parts([rows[k] for k in sorted(rows)], plan, work.sorted)
    seconds = time.perf_counter() - began
    logger.info("%d fits, %d with problems, in %.1f s", bar.done, bar.failed, seconds)
    if store:
        notes = work.notes + version_notes(store.folder, read_marks(store.folder))
        return BatchResult(plan, seconds, store.folder, {}, store.read, notes)
    return BatchResult(plan, seconds, None, tables, notes=work.notes)


def run_here(
    engine: str, work: Work, plan: BatchPlan, workers: int, store: PartStore | None, bar: Progress
) -> dict[int, TableParts]:
    """Run the jobs on threads, or on processes where it is asked for or the first job says that it pays."""
    jobs = work.jobs()
    done = mark_done(bar, store, len(jobs))
    left = [job for job in jobs if job.number not in done]
    rows: dict[int, TableParts] = {}
    seconds = 0.0
    if engine == "local" and not may_compile(plan) and workers > 1 and len(left) > 1:
        began = time.perf_counter()
        rows = run_threads(left[:1], 1, store, bar)
        left = left[1:]
        seconds = (time.perf_counter() - began) * len(left)
    count = process_count(plan, engine, workers, seconds)
    if count:
        try:
            numbers = [job.number for job in left]
            return rows | run_processes(work.pieces(None), numbers, plan, count, store, bar)
        except ServiceError as error:  # there is no interpreter to start, or none that has this package
            if engine == "processes":
                raise
            logger.warning("%s; threads go on", error)
    return rows | run_threads(left, workers, store, bar)


@dataclass(frozen=True)
class Work:
    """A source divided into parts, each numbered by its place.

    Attributes
    ----------
    n_units : int or None
        None where only the parts themselves tell.
    fingerprint : callable
        What tells this source from others.
    jobs : callable
        The parts for threads of this process.
    pieces : callable
        The parts for other processes: those of this machine, or the workers of a client.
    sorted : bool
        Whether the order of the parts is that of the trials.
    notes : tuple of str
        What the reader of a file has to say.
    """

    n_units: int | None
    fingerprint: Callable[[], str]
    jobs: Callable[[], list[Job]]
    pieces: Callable[[Any], Pieces]
    sorted: bool = True
    notes: tuple[str, ...] = ()


def divide_dataset(source: Any, plan: BatchPlan) -> Work:
    """The pieces of a dataset, which are read when their turn comes."""
    pieces = cut_dataset(source, plan)
    units = sum(len(piece.keys) for piece in pieces) * len(plan.labels)
    return Work(
        units, lambda: dataset_fingerprint(source, pieces),
        lambda: dataset_jobs(pieces, plan), lambda client: pieces, notes=order_notes(pieces[0].orders),
    )  # fmt: skip


def divide_partitions(source: Any, plan: BatchPlan) -> Work:
    """Partitions of a Dask DataFrame, brought together by trial where its rows are: on the workers."""
    return Work(
        None, lambda: dask_fingerprint(source), list, lambda client: scatter_trials(source, plan, client),
        sorted=False,
    )  # fmt: skip


def divide_table(source: Any, plan: BatchPlan) -> Work:
    """Runs of the units of a table in memory."""
    table = collect_trials(source.compute() if is_dask(source) else source, plan)
    notes = (*notes_of(table.frame), *code_notes(table.frame, plan), *spelling_notes(table.frame, plan))
    return Work(
        table.n_units, lambda: table_fingerprint(table.frame, not may_compile(plan)),
        lambda: table_jobs(table), lambda client: TablePieces(table), notes=notes,
    )  # fmt: skip


def mark_done(bar: Progress, store: PartStore | None, n_parts: int) -> set[int]:
    """Count the parts of an earlier call; returns their numbers."""
    done = store.done(n_parts) if store else {}
    for mark in done.values():
        bar.add(mark)
    if done:
        logger.info("continuing: %d fits were done before", bar.done)
    return set(done)
