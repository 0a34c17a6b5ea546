"""The processes that answer: started, given requests, stopped when one takes too long, and replaced."""

from __future__ import annotations

import secrets
import threading
import time
from dataclasses import replace

from fastlmm_core.errors import ServiceError, TimeLimitError
from fastlmm_core.processes.child import Child
from fastlmm_core.service.answers import Answer
from fastlmm_core.service.idle_workers import IdleWorkers
from fastlmm_core.service.worker import WorkerOptions

ENTRY = "fastlmm_core.service.worker:serve_channel"


class Worker(Child):
    """One process that answers requests."""

    def __init__(self, options: WorkerOptions, threads: int | None) -> None:
        self.key = secrets.token_hex(6)
        options = replace(options, key=self.key)
        environment = {} if threads is None else {"OPENBLAS_NUM_THREADS": str(threads)}
        super().__init__(ENTRY, options.text(), environment=environment)

    def answer(self, body: bytes, seconds: float | None) -> Answer:
        """The answer to a request.

        Raises
        ------
        TimeLimitError, ServiceError
            After either, this worker is of no further use.
        """
        self.wait_until_ready()
        try:
            answer = self.ask(body, None if seconds is None else time.monotonic() + seconds)
        except TimeoutError:
            raise TimeLimitError(
                f"the request took longer than {seconds:g} seconds and was stopped (--seconds)"
            ) from None
        if answer is None:
            raise ServiceError(f"the process that worked on the request ended{self.reason()}")
        return Answer.of(answer)


class Workers:
    """A fixed number of workers, each busy with one request or idle.

    Parameters
    ----------
    count : int
    options : WorkerOptions
    seconds : float or None
        Time that one request may take; a worker that takes longer is ended and replaced.
    """

    def __init__(self, count: int, options: WorkerOptions, seconds: float | None) -> None:
        self._options, self.seconds, self.count = options, seconds, count
        # beside others, and where memory is counted, as every thread takes some, a worker has one thread for
        # BLAS; else it has what the machine gives
        self._threads = 1 if count > 1 or options.memory is not None else None
        self._idle: IdleWorkers[Worker] = IdleWorkers()
        self._all: set[Worker] = set()
        self._lock = threading.Lock()
        for _ in range(count):
            self._idle.put(self._started())

    def _started(self) -> Worker:
        worker = Worker(self._options, self._threads)
        with self._lock:
            self._all.add(worker)
        return worker

    def wait_until_ready(self) -> None:
        """Raises ServiceError when a worker does not start."""
        for worker in tuple(self._all):
            worker.wait_until_ready()

    def answer(self, body: bytes, patience: float | None = None) -> Answer:
        """The answer to a request by the next worker that is idle, or by the one that keeps its fit.

        Which one that is the first of them reads in the request: this process parses nothing.

        Raises
        ------
        ServiceError
            When none is idle within `patience` seconds, or the worker ends.
        TimeLimitError
        """
        first = self._answered(body, None, patience)
        assert first is not None
        kept = None if first.keeper is None else self._answered(body, first.keeper, patience)
        return first if kept is None else kept

    def _answered(self, body: bytes, key: str | None, patience: float | None) -> Answer | None:
        """By the worker of this key, None when it has ended; by any without a key."""
        try:
            worker = self._idle.take(key, patience)
        except TimeoutError:
            raise ServiceError("all workers are busy; try again later") from None
        if worker is None:
            return None
        try:
            answer = worker.answer(body, self.seconds)
        except BaseException:
            with self._lock:
                self._all.discard(worker)
            self._idle.drop(worker.key)
            worker.stop()
            worker = self._started()
            raise
        finally:
            self._idle.put(worker)
        return answer

    def processes(self) -> list[int]:
        """Numbers of the processes."""
        with self._lock:
            return sorted(worker.process.pid for worker in self._all)

    def close(self) -> None:
        """End idle workers gently; call when no request is in flight."""
        for worker in self._idle.take_all():
            worker.leave()
            self._all.discard(worker)
        for worker in self._all:
            worker.stop()
        self._all.clear()
