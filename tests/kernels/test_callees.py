"""Kernels that kernels call are taken in by their callers and still work from Python."""

from __future__ import annotations

import numpy as np
import pytest
from numba import config

from fastlmm_core.kernels.callees import CalleeLibrary, with_callee

pytestmark = pytest.mark.skipif(bool(config.DISABLE_JIT), reason="what is compiled, and how often")
OPTIONS = {"nogil": True, "error_model": "numpy"}


def build():
    """A diamond of calls: `top` calls `left` and `right`, both of which call `base`."""

    def base(x):
        out = np.empty(x.size)
        for i in range(x.size):
            out[i] = 1.0 / x[i]
        return out

    base = with_callee(base, OPTIONS)

    def left(x):
        return base(x).sum(), x.size

    def right(x, pair):
        return base(x)[0] + pair[0]

    left, right = with_callee(left, OPTIONS), with_callee(right, OPTIONS)

    def top(x):
        return right(x, left(x))

    return with_callee(top, OPTIONS), left, right, base


def test_callees_are_linked_into_the_kernel_called_from_python():
    top, left, right, base = build()
    x = np.array([1.0, 2.0, 4.0])
    assert top(x) == 2.75
    assert [len(kernel.signatures) for kernel in (top, left, right, base)] == [1, 0, 0, 0]
    (compiled,) = top.overloads.values()
    assert not isinstance(compiled.library, CalleeLibrary)
    libraries = set(compiled.library._linking_libraries)
    assert len(libraries) == len({library.name for library in libraries})  # each callee was lowered once


def test_a_callee_runs_from_python_and_with_other_types():
    top, left, _, base = build()
    assert top(np.array([2.0, 2.0])) == 1.5
    np.testing.assert_array_equal(base(np.array([2.0, 0.0])), [0.5, np.inf])
    assert left(np.array([2, 4]))[0] == 0.75
    assert top(np.array([2, 4])) == 1.25
    assert len(base.signatures) == 1 and len(top.signatures) == 2
