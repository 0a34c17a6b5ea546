"""A batch as independent jobs, and the engines that run them: threads, or the workers of a Dask cluster."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits

from fastlmm_core.batch.coded import code_trials
from fastlmm_core.batch.group import fit_run, fit_trials
from fastlmm_core.batch.plan import BatchPlan
from fastlmm_core.batch.progress import Progress, logger
from fastlmm_core.batch.sources import DatasetPiece
from fastlmm_core.batch.stopping import new_stop
from fastlmm_core.batch.store import PartStore
from fastlmm_core.batch.tables import TableParts
from fastlmm_core.batch.trials import TrialTable, collect_trials, unit_runs
from fastlmm_core.errors import (
    ClusterError,
    DependencyError,
    FastLMMError,
    MemoryExhaustedError,
    OptionError,
)

ENGINES = "allowed: 'local' or a dask.distributed Client"
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
    """Run jobs on threads, few at a time to bound memory; rows by job when nothing is written."""
    rows: dict[int, TableParts] = {}
    stop = new_stop()
    with ThreadPoolExecutor(workers) as pool:
        try:
            for number, (mark, result) in in_turn(
                pool, lambda job: deliver(job.work(stop), job.number, store), jobs, 2 * workers
            ):
                progress.add(mark)
                if result is not None:
                    rows[number] = result
        finally:  # after an interrupt or an error the threads end with the unit they are at
            stop[0] = 1
    return rows


def deliver(rows: TableParts, number: int, store: PartStore | None) -> Outcome:
    """Write the rows of a job where there is a folder, else hand them on."""
    return (rows.outcomes(), rows) if store is None else (store.write(number, rows), None)


def in_turn(
    pool: ThreadPoolExecutor, work: Callable[[Job], Outcome], jobs: list[Job], ahead: int
) -> Iterator[tuple[int, Outcome]]:
    """(job number, outcome) as they come, at most `ahead` handed out; the first error stops the rest."""
    waiting: dict[Future[Outcome], int] = {}
    rest = iter(jobs)
    try:
        while True:
            for job in rest:
                waiting[pool.submit(work, job)] = job.number
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
    """Threads to use.

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


def run_remote(
    piece: DatasetPiece | pd.DataFrame, number: int, plan: BatchPlan, folder: tuple[Path, str] | None
) -> Outcome:
    """One job on a worker of a cluster: read or take the rows, fit, write the part.

    Parameters
    ----------
    folder : (path, str) or None
        Where the results go, and the fingerprint of the data.
    """
    one_blas_thread()
    store = None if folder is None else PartStore(folder[0], plan, folder[1])
    frame = piece.load() if isinstance(piece, DatasetPiece) else piece
    if len(frame):
        rows = fit_trials(collect_trials(frame, plan))
    else:  # a partition that no trial has fallen into
        rows = TableParts(plan, frame[list(plan.by)])
    return deliver(rows, number, store)


def run_dask(
    client: Any, pieces: list[tuple[int, Any]], plan: BatchPlan, store: PartStore | None, progress: Progress
) -> dict[int, TableParts]:
    """Run jobs on a dask.distributed client, a few for each worker thread ahead; Dask repeats lost ones.

    Results are written by the workers when there is a folder (which all of them have to see).  `pieces` is
    emptied, so that the workers can forget those that are done.
    """
    from distributed import as_completed

    folder = (store.folder.resolve(), store.source) if store else None
    # relationships may be large: once for each worker then, not once for each part
    sent = client.scatter(plan, broadcast=True, hash=False) if plan.structures.relationships else plan
    rows: dict[int, TableParts] = {}
    numbers: dict[str, int] = {}

    def submit() -> Any:
        if not pieces:
            return None
        number, piece = pieces.pop(0)
        future = client.submit(run_remote, piece, number, sent, folder, pure=False, retries=2)
        numbers[future.key] = number
        return future

    with cluster_words(store):
        ahead = 3 * max(1, sum(client.nthreads().values()))
        first = [future for future in (submit() for _ in range(ahead)) if future is not None]
        waiting = as_completed(first)
        for future in waiting:
            mark, result = future.result()
            progress.add(mark)
            if result is not None:
                rows[numbers[future.key]] = result
            future.release()
            following = submit()
            if following is not None:
                waiting.add(following)
    return rows


@contextmanager
def cluster_words(store: PartStore | None) -> Iterator[None]:
    """What ends the work of a cluster, as an error of ours that says how to go on."""
    from concurrent.futures import CancelledError

    from distributed import KilledWorker

    how = "run the same call again" + (", which goes on from what is done" if store else "")
    try:
        yield
    except FastLMMError:
        raise
    except KilledWorker as err:
        raise MemoryExhaustedError(
            "a worker of the cluster ended again and again on one part, most often for want of memory; "
            f"give the workers more, then {how}"
        ) from err
    except MemoryError as err:
        raise MemoryExhaustedError(
            f"a worker of the cluster has too little memory for its part; give the workers more, then {how}"
        ) from err
    except (CancelledError, OSError, TimeoutError, asyncio.CancelledError) as err:
        raise ClusterError(
            f"the connection to the Dask scheduler is lost; start the cluster anew, then {how}"
        ) from err


def is_client(engine: Any) -> bool:
    """Whether `engine` is a dask.distributed client.

    Raises
    ------
    OptionError
        For anything else than a client or "local".
    """
    if isinstance(engine, str):
        if engine != "local":
            raise OptionError(f"engine={engine!r} is not known; {ENGINES}")
        return False
    if hasattr(engine, "submit") and hasattr(engine, "nthreads"):
        return True
    raise OptionError(f"engine of type {type(engine).__name__} is not known; {ENGINES}")


def connect(address: str) -> Any:
    """A client of the scheduler at an address.

    Raises
    ------
    DependencyError
        Without dask.distributed.
    OptionError
        When nobody answers.
    """
    try:
        from distributed import Client
    except ImportError as err:
        raise DependencyError(
            "a cluster needs dask.distributed: pip install 'fastlmm_core[batch]'"
        ) from err
    try:
        return Client(address, timeout=20)
    except (OSError, ValueError) as err:
        raise OptionError(f"no Dask scheduler answers at {address}") from err


@cache
def one_blas_thread() -> None:
    """Hold the BLAS libraries of this process at one thread; the parallelism is over trials."""
    threadpool_limits(1, user_api="blas")
    logger.debug("one BLAS thread")
