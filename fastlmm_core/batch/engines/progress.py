"""Progress of a batch: a bar on a terminal, silence elsewhere, and a log for both."""

from __future__ import annotations

import logging
import threading
from types import TracebackType
from typing import Any

from fastlmm_core.progress_bar import terminal_bar

logger = logging.getLogger("fastlmm_core.batch")


class Progress:
    """Counts units as they are done; use as a context.

    Parameters
    ----------
    total : int or None
        Units in all, None when not known.
    wanted : bool
        Show a bar, if standard error is a terminal and tqdm is installed.
    """

    def __init__(self, total: int | None, wanted: bool):
        self.total = total
        self.done = 0
        self.failed = 0
        self._bar = terminal_bar(total, wanted, logger, unit="fit", smoothing=0.1)
        self._lock = threading.Lock()

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.close()

    def add(self, mark: dict[str, Any]) -> None:
        """A part is done: its `units` and how many `failed`."""
        with self._lock:
            self.done += mark["units"]
            self.failed += mark["failed"]
            logger.debug("%d fits done, %d with problems", self.done, self.failed)
            if self._bar is not None:
                self._bar.set_postfix(failed=self.failed, refresh=False)
                self._bar.update(mark["units"])
