"""How a batch that is interrupted ends the work of its threads: a flag that compiled code reads, too."""

from __future__ import annotations

from concurrent.futures import CancelledError

import numpy as np


def new_stop() -> np.ndarray:
    """A flag (1,) uint8 that is down: 1 says that nobody wants the rest."""
    return np.zeros(1, np.uint8)


def check_wanted(stop: np.ndarray) -> None:
    """Leave the work where nobody wants it any more: what there is of it is not to be written.

    Raises
    ------
    CancelledError
    """
    if stop[0]:
        raise CancelledError("the batch was stopped")
