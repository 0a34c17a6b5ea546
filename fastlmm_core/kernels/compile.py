"""The one decorator every kernel carries."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba
import numpy as np

from fastlmm_core.compiling import watch_compilation
from fastlmm_core.kernels.caching import drop_stale_cache, keep_compiled

drop_stale_cache(Path(__file__).parent)
watch_compilation()

# Kernels are written in scalar loops: array expressions, slices assigned to and np.linalg calls multiply the
# compile time of everything that calls them.
# nogil: batches run kernels on threads.  error_model="numpy": a zero pivot gives inf/nan that the caller
# tests once, instead of a branch and an exception in every division.  No fastmath: sums keep their order.
# No wrapper for C callers, which nobody calls: a twentieth of the compile time.
OPTIONS: dict[str, Any] = {"nogil": True, "error_model": "numpy", "no_cfunc_wrapper": True}


# ``callees`` rests on Numba's internals and was tried on this version; on others kernels are compiled the
# usual way, with the same results, only longer.
CALLEES_TRIED_ON = (0, 68)


def kernel(function: Callable[..., Any]) -> Any:
    """Compile a function for Python and for other kernels."""
    if numba.version_info[:2] != CALLEES_TRIED_ON:
        return keep_compiled(numba.njit(**OPTIONS)(function))
    from fastlmm_core.kernels.callees import with_callee

    return keep_compiled(with_callee(function, OPTIONS))


@kernel
def fill_integers(n, value):
    """Array (n,) int64 filled with `value`."""
    out = np.empty(n, np.int64)
    for i in range(n):
        out[i] = value
    return out
