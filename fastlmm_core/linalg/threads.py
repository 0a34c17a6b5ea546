"""Threads of the BLAS while fronts are eliminated and inverted.

OpenBLAS divides every product of moderate size among all cores and lets the threads wait for each other in
a loop.  On the many small fronts of mixed model equations, and beside other work, that multiplies the time
of a fit: two threads on a busy machine of two cores took 0.6 to 1.7 s for a model of 4,000 plots and 42 to
45 s for one of 60,000, where one thread took 0.1 and 13 s.  So BLAS runs with one thread here.  Large fronts
get as many as the user has asked for by one of the environment variables below; without any, one.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

from threadpoolctl import ThreadpoolController

ASKED_BY = ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "BLIS_NUM_THREADS", "OMP_NUM_THREADS")


@lru_cache(maxsize=1)
def _libraries() -> list[Any]:
    """Controllers of every BLAS this process has loaded; SciPy's, which the kernels call, is among them."""
    import scipy.linalg.cython_blas  # noqa: F401 - loads it

    return ThreadpoolController().select(user_api="blas").lib_controllers


class BlasThreads:
    """Thread counts of all BLAS libraries, set to one while any fit of this process needs it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._users = 0  # threads of this process that are in `single`
        self._within = threading.local()
        self._counts: dict[str, int] = {}  # by the file of the library

    @contextmanager
    def single(self) -> Iterator[None]:
        """One thread in the body; what was set before comes back with the last body that ends.

        Inside another body of the same thread there is nothing to do: a small fit asks some hundred times.
        """
        if getattr(self._within, "single", False):
            yield
            return
        with self._lock:
            if self._users == 0:
                self._counts = _threads_now()
                self._set(dict.fromkeys(self._counts, 1))
            self._users += 1
        self._within.single = True
        try:
            yield
        finally:
            self._within.single = False
            with self._lock:
                self._users -= 1
                if self._users == 0:
                    self._set(self._counts)

    @contextmanager
    def asked(self) -> Iterator[None]:
        """Inside `single`: the threads the user has asked for, unless another fit is running too."""
        with self._lock:
            alone = self._users == 1 and self.granted() > 1
            if alone:
                self._set(self._counts)
        try:
            yield
        finally:
            if alone:
                with self._lock:
                    self._set(dict.fromkeys(self._counts, 1))

    def granted(self) -> int:
        """Threads that large fronts may use."""
        if not any(os.environ.get(name) for name in ASKED_BY):
            return 1
        counts = self._counts if self._users else _threads_now()
        return max(counts.values(), default=1)

    def find_libraries(self) -> None:
        """Take in a BLAS that was loaded since the last look; it has one thread while a fit is running."""
        with self._lock:
            _libraries.cache_clear()
            if self._users:
                self._counts = _threads_now() | self._counts
                self._set(dict.fromkeys(self._counts, 1))

    @staticmethod
    def _set(counts: dict[str, int]) -> None:
        for library in _libraries():
            count = counts[library.filepath]
            if library.num_threads != count:
                library.set_num_threads(count)


def _threads_now() -> dict[str, int]:
    return {library.filepath: library.num_threads for library in _libraries()}


blas_threads = BlasThreads()
