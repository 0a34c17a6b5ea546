"""The same kernel tests with NUMBA_DISABLE_JIT=1: what Python computes is what the compiled code computes.

Every index is checked (`checked_arrays`). `make coverage` runs more tests so, with all kernels among them.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parents[1]


@pytest.mark.slow
@pytest.mark.compiled
def test_kernels_uncompiled():
    environment = {**os.environ, "NUMBA_DISABLE_JIT": "1", "PYTHONPATH": f"{TESTS.parent}{os.pathsep}{TESTS}"}
    environment.pop("PYTEST_ADDOPTS", None)
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "checked_arrays", "-p", "no:cacheprovider",
         "-p", "no:xdist", "-m", "not compiled", "tests/kernels", "tests/batch/test_trial_kernels.py",
         "tests/batch/test_compiled_pieces.py"],
        capture_output=True, text=True, env=environment, cwd=TESTS.parent, timeout=300, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stdout[-3000:] + run.stderr[-1000:]
    assert "passed" in run.stdout and "kernels were entered" in run.stdout
