"""Processes of this machine as the engine of a batch, for fits that the interpreter drives.

Threads share one interpreter: two of them do the work of one, or of one and a half where fits are large. A
process of its own costs the start of an interpreter and its libraries, some seconds of one core.
"""

from __future__ import annotations

import pickle
import queue
from collections.abc import Callable
from pathlib import Path

from fastlmm_core.batch.compiled.compilable import may_compile
from fastlmm_core.batch.engines.jobs import Outcome, collect_rows
from fastlmm_core.batch.engines.pieces import Pieces, fit_piece
from fastlmm_core.batch.engines.progress import Progress
from fastlmm_core.batch.folder.store import PartStore
from fastlmm_core.batch.plan import BatchPlan
from fastlmm_core.batch.tables import TableParts
from fastlmm_core.errors import MemoryExhaustedError, OptionError, ServiceError, name_list
from fastlmm_core.linalg.memory import available_memory
from fastlmm_core.processes.child import Child, answer_parent, can_start
from fastlmm_core.structures.registry import is_own

ENGINES = ("local", "threads", "processes")
ENTRY = "fastlmm_core.batch.engines.processes:serve_pieces"
# Seconds of work for one core from which on processes are worth their start.
WORTH_STARTING = 20.0
# Bytes of one: 350 MB for interpreter, libraries and kernels, and its fits.
ROOM = 600_000_000
FEWER = (
    "fewer of them (workers=) need less memory, and the same call goes on from what is in its folder (out=)"
)


def process_count(plan: BatchPlan, engine: str, workers: int, seconds: float) -> int:
    """Processes for the rest of a batch, `seconds` of work as far as its beginning tells; 0 for threads.

    Raises
    ------
    OptionError
        When processes are asked for that there cannot be.
    """
    foreign = foreign_structures(plan)
    if engine == "processes":
        if not can_start():
            raise OptionError("engine='processes' needs a POSIX system with a Python to start; use 'threads'")
        if foreign:
            names = name_list(foreign)
            raise OptionError(f"processes do not know the structure {names}, registered here; use 'threads'")
        return workers
    if engine == "threads" or not can_start() or foreign or may_compile(plan) or seconds <= WORTH_STARTING:
        return 0
    roomy = min(workers, available_memory() // ROOM)
    return roomy if roomy > 1 else 0


def foreign_structures(plan: BatchPlan) -> list[str]:
    """Structures of a plan that were registered by the caller, in this process alone."""
    names: set[str | None] = set()
    for own in plan.models:
        names |= {part.structure for part in own.parsed.random}
        names.add(own.structures.parsed.structure)
    return sorted(name for name in names if name and not is_own(name))


def run_processes(
    pieces: Pieces, numbers: list[int], plan: BatchPlan, workers: int, store: PartStore | None,
    progress: Progress,
) -> dict[int, TableParts]:  # fmt: skip
    """Run the pieces of these numbers on processes of this machine; rows by number when nothing is written.

    Raises
    ------
    ServiceError
        When a process does not start; nothing is done then.
    MemoryExhaustedError
        When a process ends in the middle of its work.
    """
    if not numbers:
        return {}
    folder = (store.folder.resolve(), store.source) if store else None
    children: list[Child] = []
    idle: queue.SimpleQueue[Child] = queue.SimpleQueue()

    def end() -> None:
        for child in children:
            child.stop()

    def call(number: int) -> Callable[[], Outcome]:
        def ask() -> Outcome:
            child = idle.get()
            try:
                answer = child.ask(pickle.dumps((number, pieces[number])))
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
        start_children(children, min(workers, len(numbers)), pickle.dumps((plan, folder)))
    except BaseException:
        end()
        raise
    for child in children:
        idle.put(child)
    return collect_rows([(number, call(number)) for number in numbers], len(children), progress, end)


def start_children(children: list[Child], count: int, told: bytes) -> None:
    """Add so many to the `children` and tell each of them plan and folder.

    Raises
    ------
    ServiceError
        When one of them does not start, or does not understand.
    """
    threads = dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"), "1")
    for _ in range(count):
        children.append(Child(ENTRY, environment=threads))
    for child in children:
        child.wait_until_ready()
        if child.ask(told) is None:
            raise ServiceError(f"a worker did not take the plan{child.reason()}")


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
