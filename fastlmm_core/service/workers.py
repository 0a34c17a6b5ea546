"""The processes that answer: started, given requests, stopped when one takes too long, and replaced."""

from __future__ import annotations

import os
import queue
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

from ..errors import ServiceError, TimeLimitError
from .answers import Answer
from .frames import receive_frame, send_frame
from .worker import READY, WorkerOptions

SECONDS_TO_START = 300.0  # kernels are compiled once on a machine
# This package and no other, and nothing that lies in the folder the service was started in (-P).
HOME = str(Path(__file__).resolve().parents[2])
START = (
    f"import sys; sys.path.insert(0, {HOME!r}); import fastlmm_core; sys.path.pop(0); "
    "from fastlmm_core.service.worker import serve_channel; serve_channel()"
)


class Worker:
    """One process and the socket to it."""

    def __init__(self, options: WorkerOptions, threads: int | None) -> None:
        ours, theirs = socket.socketpair()
        environment = dict(os.environ)
        if threads is not None:
            environment.setdefault("OPENBLAS_NUM_THREADS", str(threads))
        with theirs:
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-c", START, str(theirs.fileno()), options.text()],
                pass_fds=(theirs.fileno(),), env=environment, stdin=subprocess.DEVNULL,
            )  # fmt: skip
        self._channel = ours
        self._ready = False

    def ask(self, body: bytes, seconds: float | None) -> Answer:
        """The answer to a request.

        Raises
        ------
        TimeLimitError, ServiceError
            After either, this worker is of no further use.
        """
        self.wait_until_ready()
        deadline = None if seconds is None else time.monotonic() + seconds
        try:
            send_frame(self._channel, body, deadline)
            answer = receive_frame(self._channel, deadline)
        except TimeoutError:
            raise TimeLimitError(
                f"the request took longer than {seconds:g} seconds and was stopped (--seconds)"
            ) from None
        except OSError:
            answer = None
        if answer is None:
            raise ServiceError(f"the process that worked on the request ended{self._reason()}")
        return Answer.of(answer)

    def wait_until_ready(self) -> None:
        """Wait until it has loaded everything.

        Raises
        ------
        ServiceError
            When it ends instead.
        """
        if self._ready:
            return
        try:
            self._ready = receive_frame(self._channel, time.monotonic() + SECONDS_TO_START) == READY
        except (TimeoutError, OSError):
            pass
        if not self._ready:
            raise ServiceError(f"a worker did not start{self._reason()}")

    def _reason(self) -> str:
        try:
            status = self.process.wait(timeout=1.0)
        except subprocess.TimeoutExpired:
            return ""
        return f" by signal {-status}; was the memory exhausted?" if status < 0 else f" with status {status}"

    def stop(self) -> None:
        """End the process, in the middle of whatever it does."""
        self._channel.close()
        self.process.kill()
        self.process.wait()

    def leave(self) -> None:
        """Let an idle process end by itself."""
        self._channel.close()
        try:
            self.process.wait(timeout=5.0)
        except subprocess.TimeoutExpired:
            self.stop()


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
        # the one used last is taken first: its memory is warm, and what fits it keeps are known to one alone
        self._idle: queue.LifoQueue[Worker] = queue.LifoQueue()
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
        """The answer to a request by the next worker that is idle.

        Raises
        ------
        ServiceError
            When none is idle within `patience` seconds, or the worker ends.
        TimeLimitError
        """
        try:
            worker = self._idle.get(timeout=patience)
        except queue.Empty:
            raise ServiceError("all workers are busy; try again later") from None
        try:
            answer = worker.ask(body, self.seconds)
        except BaseException:
            with self._lock:
                self._all.discard(worker)
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
        while True:
            try:
                worker = self._idle.get_nowait()
            except queue.Empty:
                break
            worker.leave()
            self._all.discard(worker)
        for worker in self._all:
            worker.stop()
        self._all.clear()
