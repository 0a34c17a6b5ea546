"""A process that this one has started, and the socket to it.

It runs a function of the package in an interpreter of its own. The standard library's pools start processes
by importing the caller's script once more, which a script without ``if __name__ == "__main__"`` does not
survive.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from fastlmm_core.errors import ServiceError
from fastlmm_core.processes.frames import receive_frame, send_frame

READY = b"ready"
SECONDS_TO_START = 300.0  # kernels are compiled once on a machine
# This package and no other, and nothing that lies in the folder the process was started in (-P).
HOME = str(Path(__file__).resolve().parents[2])
START = (
    "import sys; sys.path.insert(0, {home!r}); import fastlmm_core; sys.path.pop(0); "
    "from {module} import {function}; {function}()"
)


def can_start() -> bool:
    """Whether this system hands a socket over to a new interpreter, and there is one to start."""
    return os.name == "posix" and bool(sys.executable)


class Child:
    """One process and the socket to it.

    Parameters
    ----------
    entry : str
        ``"fastlmm_core.service.worker:serve_channel"``: the function that it runs.
    arguments : sequence of str
        Its ``sys.argv[2:]``; the number of the socket is ``sys.argv[1]``.
    environment : dict of str to str
        Variables that it has beside those of this process, which go before.

    Raises
    ------
    ServiceError
        When the system has no room for it.
    """

    def __init__(self, entry: str, *arguments: str, environment: Mapping[str, str] | None = None) -> None:
        module, function = entry.split(":")
        code = START.format(home=HOME, module=module, function=function)
        try:
            ours, theirs = socket.socketpair()
        except OSError as error:
            raise ServiceError(f"a worker did not start: {error.strerror or error}") from error
        try:
            with theirs:
                self.process = subprocess.Popen(
                    [sys.executable, "-P", "-c", code, str(theirs.fileno()), *arguments],
                    pass_fds=(theirs.fileno(),), env={**(environment or {}), **os.environ},
                    stdin=subprocess.DEVNULL,
                )  # fmt: skip
        except OSError as error:
            ours.close()
            raise ServiceError(f"a worker did not start: {error.strerror or error}") from error
        self._channel = ours
        self._ready = False

    def ask(self, body: bytes, deadline: float | None = None) -> bytes | None:
        """Its answer; None when it has ended instead.

        Raises
        ------
        TimeoutError
            When the answer is not there before the deadline (``time.monotonic``).
        """
        try:
            send_frame(self._channel, body, deadline)
            return receive_frame(self._channel, deadline)
        except TimeoutError:
            raise
        except OSError:
            return None

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
            raise ServiceError(f"a worker did not start{self.reason()}")

    def reason(self) -> str:
        """Why it has ended, to be put behind a sentence."""
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


def answer_parent(load: Callable[[], Callable[[bytes], bytes]]) -> None:
    """In a child: `load` what answers, then answer what comes until the other side closes the socket."""
    channel = inherited_channel()
    answer = load()
    try:
        send_frame(channel, READY)
        body = receive_frame(channel)
        while body is not None:
            said = answer(body)
            send_frame(channel, said)
            body = receive_frame(channel)
    except ConnectionError:  # whoever started us is gone
        pass


def inherited_channel() -> socket.socket:
    """The socket to whoever started this process, which ends with that one, and leaves signals to it."""
    for number in (signal.SIGINT, signal.SIGTERM):  # sent to the whole group; whoever started us decides
        signal.signal(number, signal.SIG_IGN)
    channel = socket.socket(fileno=int(sys.argv[1]))
    os.dup2(2, 1)  # what a library prints is no answer
    threading.Thread(target=_end_with, args=(channel,), daemon=True).start()
    return channel


def _end_with(channel: socket.socket) -> None:
    """End this process when the other one is gone, also in the middle of a fit that nobody waits for."""
    watch = select.poll()
    watch.register(channel, 0)  # nothing but that the other side has closed
    watch.poll()
    os._exit(0)
