"""Compiled kernels do not outlive the sources of the kernels they call."""

import os

import numba
import numpy as np
import pytest

from fastlmm_core.kernels.compile import drop_stale_cache, kernel


def test_a_changed_source_drops_every_cached_kernel(tmp_path):
    source = tmp_path / "kernel.py"
    source.write_text("a = 1\n")
    cache = tmp_path / "__pycache__"
    cache.mkdir()
    compiled = [cache / "kernel.f-1.py311.nbi", cache / "kernel.f-1.py311.1.nbc"]

    def compile_all():
        for path in compiled:
            path.write_text("")

    compile_all()
    assert drop_stale_cache(tmp_path)
    assert not any(path.exists() for path in compiled)
    compile_all()
    assert not drop_stale_cache(tmp_path)
    assert all(path.exists() for path in compiled)
    os.utime(source, ns=(1, 1))
    assert drop_stale_cache(tmp_path)
    assert not any(path.exists() for path in compiled)


def test_a_folder_that_cannot_be_written_is_left_alone(tmp_path):
    assert not drop_stale_cache(tmp_path / "absent")


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
