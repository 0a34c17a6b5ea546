"""Processes of this machine as the engine of a batch, for fits that the interpreter drives.

Threads share one interpreter: two of them fit trials with structures no faster than one. A process of its own
costs the start of an interpreter and its libraries, some seconds of one core.
"""

from __future__ import annotations

import pickle
import queue
from collections.abc import Callable, Sequence
from pathlib import Path

from fastlmm_core.batch.coded import may_compile
from fastlmm_core.batch.jobs import Outcome, collect_rows
from fastlmm_core.batch.pieces import Piece, fit_piece
from fastlmm_core.batch.plan import BatchPlan
from fastlmm_core.batch.progress import Progress, logger
from fastlmm_core.batch.store import PartStore
from fastlmm_core.batch.tables import TableParts
from fastlmm_core.errors import MemoryExhaustedError
from fastlmm_core.linalg.memory import available_memory
from fastlmm_core.processes.child import Child, answer_parent, can_start

ENGINES = ("local", "threads", "processes")
ENTRY = "fastlmm_core.batch.processes:serve_pieces"
# Seconds of work for one core from which on processes are worth their start.
WORTH_STARTING = 20.0
# Bytes of one: 350 MB for interpreter, libraries and kernels, and its fits.
ROOM = 600_000_000
FEWER = (
    "fewer of them (workers=) need less memory, and the same call goes on from what is in its folder (out=)"
)


def process_count(plan: BatchPlan, engine: str, workers: int, seconds: float) -> int:
    """Processes for the rest of a batch, `seconds` of work as far as its beginning tells; 0 for threads."""
    if not can_start() or engine == "threads":
        return 0
    if engine == "processes":
        return workers
    if may_compile(plan) or seconds <= WORTH_STARTING:
        return 0
    roomy = min(workers, available_memory() // ROOM)
    return roomy if roomy > 1 else 0


def run_processes(
    pieces: Sequence[tuple[int, Piece]], plan: BatchPlan, workers: int, store: PartStore | None,
    progress: Progress,
) -> dict[int, TableParts]:  # fmt: skip
    """Run numbered pieces on processes of this machine; rows by number when nothing is written.

    Raises
    ------
    ServiceError
        When a process does not start; nothing is done then.
    MemoryExhaustedError
        When a process ends in the middle of its work.
    """
    if not pieces:
        return {}
    folder = (store.folder.resolve(), store.source) if store else None
    logger.debug("%d processes", min(workers, len(pieces)))
    threads = dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"), "1")
    children = [Child(ENTRY, environment=threads) for _ in range(min(workers, len(pieces)))]
    idle: queue.SimpleQueue[Child] = queue.SimpleQueue()

    def end() -> None:
        for child in children:
            child.stop()

    def call(number: int, piece: Piece) -> Callable[[], Outcome]:
        def ask() -> Outcome:
            child = idle.get()
            try:
                answer = child.ask(pickle.dumps((number, piece)))
            finally:
                idle.put(child)
            if answer is None:
                reason = child.reason()
                raise MemoryExhaustedError(f"a process of the batch ended in its work{reason}; {FEWER}")
            done, outcome = pickle.loads(answer)
            if not done:
                raise outcome
            return outcome  # type: ignore[no-any-return]

        return ask

    try:
        told = pickle.dumps((plan, folder))  # what they are told first
        for child in children:
            child.wait_until_ready()
            child.ask(told)
            idle.put(child)
    except BaseException:
        end()
        raise
    return collect_rows([(k, call(k, piece)) for k, piece in pieces], len(children), progress, end)


def serve_pieces() -> None:
    """Fit pieces until the batch closes the socket: the function that a process runs."""

    def load() -> Callable[[bytes], bytes]:
        known: list[tuple[BatchPlan, tuple[Path, str] | None]] = []

        def answer(body: bytes) -> bytes:
            message = pickle.loads(body)
            if not known:
                known.append(message)
                return b""
            (plan, folder), (number, piece) = known[0], message
            try:
                return pickle.dumps((True, fit_piece(piece, number, plan, folder)))
            except Exception as error:
                return pickle.dumps((False, error))

        return answer

    answer_parent(load)
