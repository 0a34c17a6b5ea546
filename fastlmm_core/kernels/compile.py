"""The one decorator every kernel carries."""

from __future__ import annotations

from numba import njit

# nogil: batches run kernels on threads.  error_model="numpy": a zero pivot gives inf/nan that the caller
# tests once, instead of a branch and an exception in every division.  No fastmath: sums keep their order.
kernel = njit(cache=True, nogil=True, error_model="numpy")
