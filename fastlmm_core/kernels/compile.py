"""The one decorator every kernel carries."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numba import njit

# Kernels are written in scalar loops: array expressions, slices assigned to and np.linalg calls multiply the
# compile time of everything that calls them.
# nogil: batches run kernels on threads.  error_model="numpy": a zero pivot gives inf/nan that the caller
# tests once, instead of a branch and an exception in every division.  No fastmath: sums keep their order.
kernel: Callable[[Callable[..., Any]], Any] = njit(cache=True, nogil=True, error_model="numpy")


@kernel
def fill_integers(n, value):
    """Array (n,) int64 filled with `value`."""
    out = np.empty(n, np.int64)
    for i in range(n):
        out[i] = value
    return out
