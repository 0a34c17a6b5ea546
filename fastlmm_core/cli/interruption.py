"""Ctrl-C ends a command with status 130 and one line, whatever it is doing."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable

INTERRUPTED = 130  # as shells report Ctrl-C


def say_stopped(words: str) -> None:
    """One line on standard error; on a terminal below the ^C, or below a bar."""
    start = "\n" if sys.stderr.isatty() else ""
    os.write(2, f"{start}fastlmm: {words}\n".encode())


def leave_on_interrupt(words: Callable[[], str]) -> None:
    """From now on the first Ctrl-C ends this process; for a process that is this command and nothing else.

    Python raises KeyboardInterrupt between two of its own instructions: not while compiled code runs, and in
    imports and callbacks it comes out as another error, or is dropped with a traceback. So nothing is raised:
    the signal wakes a thread, which says what there is to say and ends the process. Files are only ever put
    in place whole, so there is nothing to tidy.

    Parameters
    ----------
    words : callable
        What to say.
    """
    ours = threading.current_thread() is threading.main_thread()
    if not ours or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        return  # ignored, as under nohup, or somebody else's
    import socket  # only where a command runs: --version and --help have ended before

    receiver, sender = socket.socketpair()
    sender.setblocking(False)
    signal.set_wakeup_fd(sender.fileno(), warn_on_full_buffer=False)

    def wait() -> None:
        while signal.SIGINT not in receiver.recv(1):
            pass
        say_stopped(words())
        os._exit(INTERRUPTED)

    threading.Thread(target=wait, name="interruption", daemon=True).start()
    signal.signal(signal.SIGINT, lambda number, frame: sender.fileno())  # keeps the socket, does nothing
