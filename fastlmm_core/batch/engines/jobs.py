"""A batch as independent jobs, and the threads of this process that run them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastlmm_core.batch.compiled.coded import code_trials
from fastlmm_core.batch.engines.progress import Progress
from fastlmm_core.batch.engines.stopping import new_stop
from fastlmm_core.batch.folder.store import PartStore
from fastlmm_core.batch.group import fit_run, fit_trials
from fastlmm_core.batch.plan import BatchPlan
from fastlmm_core.batch.sources import DatasetPiece
from fastlmm_core.batch.tables import TableParts
from fastlmm_core.batch.trials import TrialTable, collect_trials, unit_runs
from fastlmm_core.errors import OptionError

Outcome = tuple[dict[str, Any], TableParts | None]  # mark, and the rows when they are not written


@dataclass(frozen=True)
class Job:
    """A part of a batch: its number and what gives its rows, until the flag it takes says stop."""

    number: int
    work: Callable[[np.ndarray], TableParts]


def table_jobs(table: TrialTable) -> list[Job]:
    """Jobs on a table in memory, coded once for all of them."""
    coded = code_trials(table)

    def job(run: tuple[int, int]) -> Callable[[np.ndarray], TableParts]:
        return lambda stop: fit_run(table, coded, *run, stop)

    return [Job(k, job(run)) for k, run in enumerate(unit_runs(table))]


def dataset_jobs(pieces: list[DatasetPiece], plan: BatchPlan) -> list[Job]:
    """Jobs on the pieces of a dataset."""

    def job(piece: DatasetPiece) -> Callable[[np.ndarray], TableParts]:
        return lambda stop: fit_trials(collect_trials(piece.load(), plan), stop)

    return [Job(k, job(piece)) for k, piece in enumerate(pieces)]


def run_threads(
    jobs: list[Job], workers: int, store: PartStore | None, progress: Progress
) -> dict[int, TableParts]:
    """Run jobs on threads; rows by job when nothing is written."""
    stop = new_stop()

    def call(job: Job) -> Callable[[], Outcome]:
        return lambda: deliver(job.work(stop), job.number, store)

    def end() -> None:  # after an interrupt or an error the threads end with the unit they are at
        stop[0] = 1

    return collect_rows([(job.number, call(job)) for job in jobs], workers, progress, end)


Call = tuple[int, Callable[[], Outcome]]  # number of the job, and what does it


def collect_rows(
    calls: list[Call], workers: int, progress: Progress, end: Callable[[], None]
) -> dict[int, TableParts]:
    """Make calls on threads, few at a time to bound memory; rows by number where they are handed on.

    `end` is called when nobody wants the rest, at the latest when all is done.
    """
    rows: dict[int, TableParts] = {}
    with ThreadPoolExecutor(workers) as pool:
        try:
            for number, (mark, result) in in_turn(pool, calls, 2 * workers):
                progress.add(mark)
                if result is not None:
                    rows[number] = result
        finally:
            end()
    return rows


def deliver(rows: TableParts, number: int, store: PartStore | None) -> Outcome:
    """Write the rows of a job where there is a folder, else hand them on."""
    return (rows.outcomes(), rows) if store is None else (store.write(number, rows), None)


def in_turn(pool: ThreadPoolExecutor, calls: list[Call], ahead: int) -> Iterator[tuple[int, Outcome]]:
    """(job number, outcome) as they come, at most `ahead` handed out; the first error stops the rest."""
    waiting: dict[Future[Outcome], int] = {}
    rest = iter(calls)
    try:
        while True:
            for number, call in rest:
                waiting[pool.submit(call)] = number
                if len(waiting) >= ahead:
                    break
            if not waiting:
                return
            finished, _ = wait(waiting, return_when=FIRST_COMPLETED)
            for future in finished:
                yield waiting.pop(future), future.result()
    finally:
        for future in waiting:
            future.cancel()


def worker_count(workers: int | None) -> int:
    """Threads or processes to use.

    Raises
    ------
    OptionError
        For a number below one.
    """
    if workers is None:
        return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if not isinstance(workers, int) or isinstance(workers, bool) or workers < 1:
        raise OptionError(f"workers={workers!r} must be a positive number")
    return workers
