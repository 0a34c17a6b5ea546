"""Kernels run uncompiled on arrays that refuse what compiled code would do silently: a pytest plugin.

    NUMBA_DISABLE_JIT=1 PYTHONPATH=tests python -m pytest -p checked_arrays -m "not compiled" tests/kernels

Compiled kernels check no index, and NumPy only the upper end: an index of -1 reads the last entry in both, a
slice beyond the end is cut off in both, and `np.empty` holds whatever was there. Inside a kernel, arrays of
this run refuse negative indices and slices that leave the array, and new ones are filled with NaN or the
smallest integer, so that an entry that is read before it is written shows in the figures or is no index.
(Numba's own NUMBA_BOUNDSCHECK lets negative indices and slices through, as NumPy does.)

The closing lines name the kernels that no test of the run has entered; with FASTLMM_EVERY_KERNEL=1 the run
fails when there is one.
"""

from __future__ import annotations

import functools
import importlib
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba
import numpy as np

from fastlmm_core.kernels import compile as compiling

inside = threading.local()  # `kernel`: whether this thread is in one
entered: dict[str, bool] = {}  # every kernel: whether it has run


class CheckedArray(np.ndarray):
    """An array whose indices lie in it; slices and views of it are checked too."""

    def __getitem__(self, key: Any) -> Any:
        check(key, self.shape)
        return super().__getitem__(key)

    def __setitem__(self, key: Any, value: Any) -> None:
        check(key, self.shape)
        super().__setitem__(key, value)


def check(key: Any, shape: tuple[int, ...]) -> None:
    """Raise IndexError where NumPy would not: an index below zero, a slice that leaves its axis."""
    parts = key if type(key) is tuple else (key,)
    for axis, part in enumerate(parts):
        if type(part) is slice:
            for end in (part.start, part.stop):
                if end is not None and not 0 <= end <= shape[axis]:
                    raise IndexError(f"slice {part.start}:{part.stop} of an axis of size {shape[axis]}")
        elif isinstance(part, np.ndarray):
            if part.dtype.kind == "i" and part.size and part.min() < 0:
                raise IndexError(f"negative indices of an axis of size {shape[axis]}")
        elif part < 0:
            raise IndexError(f"index {part} of an axis of size {shape[axis]}")


class CheckedNumPy:
    """NumPy as a kernel sees it: the arrays it makes are checked ones."""

    def __getattr__(self, name: str) -> Any:
        found = getattr(np, name)
        if name not in ("empty", "zeros", "ones", "array", "arange") or not getattr(inside, "kernel", False):
            return found
        return functools.partial(make, found)


def make(function: Callable[..., np.ndarray], *arguments: Any, **options: Any) -> CheckedArray:
    array = function(*arguments, **options)
    if function is np.empty:
        array.fill(np.iinfo(array.dtype).min if array.dtype.kind in "iu" else np.nan)
    return array.view(CheckedArray)


def viewed(value: Any, kind: type[np.ndarray]) -> Any:
    """Arrays, also in tuples and named tuples, as views of a kind."""
    if isinstance(value, np.ndarray):
        return value.view(kind)
    if isinstance(value, tuple):
        parts = [viewed(part, kind) for part in value]
        return value._make(parts) if hasattr(value, "_make") else tuple(parts)
    return value


def checked(function: Callable[..., Any]) -> Callable[..., Any]:
    """A kernel that runs on checked arrays; its callers in Python see plain ones."""
    function.__globals__["np"] = CheckedNumPy()
    name = f"{function.__module__}.{function.__qualname__}"
    entered[name] = False

    @functools.wraps(function)
    def run(*arguments: Any) -> Any:
        entered[name] = True
        if getattr(inside, "kernel", False):
            return function(*arguments)
        inside.kernel = True
        try:
            with np.errstate(all="ignore"):  # as compiled: inf and nan, integers that wrap
                return viewed(function(*viewed(arguments, CheckedArray)), np.ndarray)
        finally:
            inside.kernel = False

    return run


def njit(*functions: Callable[..., Any], **options: Any) -> Any:
    return checked(functions[0]) if functions else checked


if os.environ.get("NUMBA_DISABLE_JIT", "0") == "0":
    raise RuntimeError("the plugin checked_arrays is for NUMBA_DISABLE_JIT=1")
# Before any module with kernels is imported: they take the decorator from here.
compiling.kernel = checked
compiling.fill_integers = checked(compiling.fill_integers)
numba.njit = njit


def import_kernels() -> None:
    """Load every module that has kernels, so that none is missing among those that can be entered."""
    package = Path(compiling.__file__).parents[1]
    for path in sorted(package.rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        if path.name not in ("compile.py", "callees.py") and ("@kernel" in text or "@njit" in text):
            importlib.import_module(
                ".".join(("fastlmm_core", *path.relative_to(package).with_suffix("").parts))
            )


def never_entered() -> list[str]:
    return sorted(name for name, ran in entered.items() if not ran and name.startswith("fastlmm_core."))


def pytest_sessionstart() -> None:
    import_kernels()


def pytest_sessionfinish(session: Any) -> None:
    if os.environ.get("FASTLMM_EVERY_KERNEL") and session.exitstatus == 0 and never_entered():
        session.exitstatus = 1


def pytest_terminal_summary(terminalreporter: Any) -> None:
    missing = never_entered()
    terminalreporter.write_line(f"{len(entered) - len(missing)} of {len(entered)} kernels were entered")
    for name in missing:
        terminalreporter.write_line(f"never entered: {name}")
