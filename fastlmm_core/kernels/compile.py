"""The one decorator every kernel carries."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba
import numpy as np


def drop_stale_cache(folder: Path) -> bool:
    """Delete the compiled kernels beside the sources in `folder` when any source has changed since.

    Numba renews the cache of a kernel when its own file changes, but a kernel also holds the code of those it
    calls in other files.  The state of all sources is kept in a stamp beside the cache.

    Returns
    -------
    bool
        Whether something was stale.  A folder that cannot be written has no cache either, and is left alone.
    """
    cache = folder / "__pycache__"
    state = sorted((path.name, path.stat().st_mtime_ns, path.stat().st_size) for path in folder.glob("*.py"))
    digest = hashlib.sha256(repr(state).encode()).hexdigest()
    stamp = cache / "kernels.stamp"
    try:
        if stamp.exists() and stamp.read_text() == digest:
            return False
        for path in cache.glob("*.nb[ci]"):
            path.unlink(missing_ok=True)
        cache.mkdir(exist_ok=True)
        stamp.write_text(digest)
    except OSError:
        return False
    return True


def compiled_before(function: Any) -> bool:
    """Whether Numba's cache on disk holds a compiled version of a kernel."""
    try:
        folder = Path(function._cache.cache_path)
    except AttributeError:  # not compiled at all, or by a Numba without this attribute
        return True
    module = function.py_func.__module__.rpartition(".")[2]
    return any(folder.glob(f"{module}.{function.py_func.__qualname__}-*.nbi"))


drop_stale_cache(Path(__file__).parent)

# Kernels are written in scalar loops: array expressions, slices assigned to and np.linalg calls multiply the
# compile time of everything that calls them.
# nogil: batches run kernels on threads.  error_model="numpy": a zero pivot gives inf/nan that the caller
# tests once, instead of a branch and an exception in every division.  No fastmath: sums keep their order.
# No wrapper for C callers, which nobody calls: a twentieth of the compile time.
OPTIONS: dict[str, Any] = {"cache": True, "nogil": True, "error_model": "numpy", "no_cfunc_wrapper": True}


# ``callees`` rests on Numba's internals and was tried on this version; on others kernels are compiled the
# usual way, with the same results, only longer.
CALLEES_TRIED_ON = (0, 68)


def kernel(function: Callable[..., Any]) -> Any:
    """Compile a function for Python and for other kernels."""
    if numba.version_info[:2] != CALLEES_TRIED_ON:
        return numba.njit(**OPTIONS)(function)
    from fastlmm_core.kernels.callees import with_callee

    return with_callee(function, OPTIONS)


@kernel
def fill_integers(n, value):
    """Array (n,) int64 filled with `value`."""
    out = np.empty(n, np.int64)
    for i in range(n):
        out[i] = value
    return out
