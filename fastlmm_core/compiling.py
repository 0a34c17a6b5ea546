"""A word when kernels are compiled, so that the first run does not look stuck."""

from __future__ import annotations

import functools
import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from numba.core import event

NOTICE = "compiling the numerical kernels once, which takes up to a minute; later runs load them"
NOT_KEPT = (
    "compiling the numerical kernels, up to a minute in every process, as no folder to keep them can be "
    "written; name one in NUMBA_CACHE_DIR"
)
QUIET = "FASTLMM_QUIET"  # environment variable that switches the notice off

logger = logging.getLogger("fastlmm_core.compiling")


class Announcer(event.Listener):
    """Says once that Numba compiles a kernel of this library; one that is loaded is silent."""

    def __init__(self, say: Callable[[str], object]):
        self.say = say
        self.said = False

    def on_start(self, occurred: Any) -> None:
        dispatcher = occurred.data.get("dispatcher")
        function = getattr(dispatcher, "py_func", None)
        if self is not _announcers[-1] or self.said or os.environ.get(QUIET):
            return
        if getattr(function, "__module__", "").startswith("fastlmm_core"):
            self.said = True
            self.say(NOTICE if getattr(dispatcher._cache, "kept", True) else NOT_KEPT)

    def on_end(self, occurred: Any) -> None:
        pass


# The last one speaks.
_announcers: list[Announcer] = []


@functools.cache
def watch_compilation() -> None:
    """From here on the first compilation of a process is logged as a warning, which Python shows."""
    _announcers.insert(0, Announcer(logger.warning))
    event.register("numba:compile", _announcers[0])


@contextmanager
def compilation_notice(say: Callable[[str], object]) -> Iterator[None]:
    """Within the block it is `say` that says so, and not the log."""
    announcer = Announcer(say)
    _announcers.append(announcer)
    try:
        with event.install_listener("numba:compile", announcer):
            yield
    finally:
        _announcers.remove(announcer)
