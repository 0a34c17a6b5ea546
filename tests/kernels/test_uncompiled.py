"""The same kernel tests with NUMBA_DISABLE_JIT=1: what Python computes is what the compiled code computes."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent


@pytest.mark.skipif(os.environ.get("NUMBA_DISABLE_JIT", "0") != "0", reason="this is the uncompiled run")
def test_kernels_uncompiled():
    environment = {**os.environ, "NUMBA_DISABLE_JIT": "1", "PYTHONPATH": str(HERE.parents[1])}
    environment.pop("PYTEST_ADDOPTS", None)
    files = sorted(str(f) for f in HERE.glob("test_*.py") if f.name != Path(__file__).name)
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", *files],
        capture_output=True, text=True, env=environment, cwd=HERE.parents[1], timeout=300, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stdout[-3000:] + run.stderr[-1000:]
    assert "passed" in run.stdout
