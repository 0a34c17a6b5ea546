"""The decorator of the kernels."""

import numba
import numpy as np
import pytest

from fastlmm_core.kernels.compile import kernel


@pytest.mark.compiled
def test_other_versions_of_numba_compile_the_usual_way(monkeypatch):
    monkeypatch.setattr(numba, "version_info", (0, 60, 0))
    made = []
    monkeypatch.setattr(numba, "njit", lambda **options: lambda function: made.append(options) or function)

    def double(x):
        return 2 * x

    assert kernel(double) is double
    assert made[0]["error_model"] == "numpy"
    monkeypatch.undo()
    assert kernel(double)(np.float64(2.0)) == 4.0
