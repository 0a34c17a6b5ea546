"""Parts of a batch that go to another process: whole trials, or where the rows of them are."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Protocol

import pandas as pd
from threadpoolctl import threadpool_limits

from fastlmm_core.batch.compiled.coded import code_trials
from fastlmm_core.batch.engines.jobs import Outcome, deliver
from fastlmm_core.batch.engines.progress import logger
from fastlmm_core.batch.engines.stopping import new_stop
from fastlmm_core.batch.folder.store import PartStore
from fastlmm_core.batch.group import fit_run, fit_trials
from fastlmm_core.batch.plan import BatchPlan
from fastlmm_core.batch.sources import DatasetPiece
from fastlmm_core.batch.tables import TableParts
from fastlmm_core.batch.trials import TrialTable, collect_trials, unit_runs


@dataclass(frozen=True)
class TablePiece:
    """A run of units with their trials, as they were read.

    Attributes
    ----------
    table : TrialTable
        Without the structures of its plan, which may be large.
    first, last : int
        Units of the run among those of these trials, the last not included: the traits of one trial may be
        divided among runs.
    """

    table: TrialTable
    first: int
    last: int


Piece = DatasetPiece | TablePiece | pd.DataFrame


class Pieces(Protocol):
    """The pieces of a source by number."""

    def __len__(self) -> int: ...

    def __getitem__(self, number: int, /) -> Any: ...


class TablePieces:
    """A table in memory, cut as for threads: each engine goes on from what another one did.

    A piece is made when it is asked for.
    """

    def __init__(self, table: TrialTable) -> None:
        self._table = table
        self._runs = unit_runs(table)

    def __len__(self) -> int:
        return len(self._runs)

    def __getitem__(self, number: int, /) -> TablePiece:
        first, last = self._runs[number]
        traits = len(self._table.plan.labels)
        low, high = first // traits, (last - 1) // traits + 1
        return TablePiece(self._table.between(low, high), first - low * traits, last - low * traits)


def fit_piece(piece: Piece, number: int, plan: BatchPlan, folder: tuple[Path, str] | None) -> Outcome:
    """One job in another process: read or take the rows, fit, write the part.

    Parameters
    ----------
    folder : (path, str) or None
        Where the results go, and the fingerprint of the data.
    """
    one_blas_thread()
    store = None if folder is None else PartStore(folder[0], plan, folder[1])
    return deliver(rows_of(piece, plan), number, store)


def rows_of(piece: Piece, plan: BatchPlan) -> TableParts:
    """The rows of all units of a piece."""
    if isinstance(piece, TablePiece):
        table = piece.table.of_plan(plan)
        return fit_run(table, code_trials(table), piece.first, piece.last, new_stop())
    frame = piece.load() if isinstance(piece, DatasetPiece) else piece
    if len(frame):
        return fit_trials(collect_trials(frame, plan))
    return TableParts(plan, frame[list(plan.by)])  # a partition that no trial has fallen into


@cache
def one_blas_thread() -> None:
    """Hold the BLAS libraries of this process at one thread; the parallelism is over trials."""
    threadpool_limits(1, user_api="blas")
    logger.debug("one BLAS thread")
