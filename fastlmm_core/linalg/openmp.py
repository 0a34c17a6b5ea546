"""CHOLMOD's own threads, switched off while it factorizes.

SuiteSparse 5 opens four OpenMP threads for the assembly of every supernode, whatever OMP_NUM_THREADS says.
On the many small panels of mixed model equations they cost more than they bring (a third of the processor
time of a factorization with 6,000 equations), and beside other fits they oversubscribe the machine.  BLAS
threads are another matter and stay as the user has set them.
"""

from __future__ import annotations

import ctypes
import ctypes.util
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache


@lru_cache(maxsize=1)
def _library() -> ctypes.CDLL | None:
    """GNU's OpenMP runtime, when this process can load it."""
    for name in ("libgomp.so.1", ctypes.util.find_library("gomp")):
        if name:
            try:
                library = ctypes.CDLL(name)
                library.omp_get_max_active_levels.restype = ctypes.c_int
                return library
            except (OSError, AttributeError):
                continue
    return None


@contextmanager
def serial_assembly() -> Iterator[None]:
    """Run the body with OpenMP's parallel regions inactive; without GNU OpenMP nothing changes."""
    library = _library()
    if library is None:
        yield
        return
    before = library.omp_get_max_active_levels()
    library.omp_set_max_active_levels(0)
    try:
        yield
    finally:
        library.omp_set_max_active_levels(before)
