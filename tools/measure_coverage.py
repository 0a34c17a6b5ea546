#!/usr/bin/env python3
"""Lines that the tests run: `make coverage`.

Two runs are put together. The whole suite, with compiled kernels, of which coverage.py sees nothing; and the
tests of the kernels with NUMBA_DISABLE_JIT=1, where they are Python like the rest. The second runs on arrays
that refuse every index outside of them (tests/checked_arrays.py), and fails when a kernel is never entered.
The report fails below `fail_under` of pyproject.toml.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
COVERAGE = [sys.executable, "-m", "coverage"]

# Small enough for Python, and every kernel among them; tests marked `compiled` are left out.
UNCOMPILED = (
    "tests/kernels",
    "tests/linalg/test_definite.py",
    "tests/linalg/test_factor_contract.py",
    "tests/linalg/test_supernodal.py",
    "tests/linalg/test_sparse_fronts.py::test_everything_of_a_factor_is_that_of_a_dense_matrix",
    "tests/linalg/test_threads.py",
    "tests/structures/relationships/test_pedigree.py",
    "tests/structures/relationships/test_wrong_pedigrees.py",
    "tests/structures/test_one_file.py::test_lmm_finds_the_optimum_of_the_definition",
    "tests/structures/test_one_file.py::test_kenward_roger_means",
    "tests/structures/test_one_file.py::test_it_may_be_the_residual_of_subjects",
    "tests/reml/test_first_fits.py",
    "tests/batch/test_trial_kernels.py",
    "tests/batch/test_compiled_pieces.py",
    "tests/intervals/test_bootstrap_of_a_fit.py::test_compiled_refits_are_those_of_lmm",
    "tests/multiplicity/test_tails_uncompiled.py",
)


def run_tests(arguments: list[str], environment: dict[str, str]) -> int:
    """Status of pytest under coverage.py."""
    variables = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", **environment}
    command = [*COVERAGE, "run", "-m", "pytest", "-q", *arguments]
    return subprocess.run(command, cwd=ROOT, env=variables).returncode


def run_uncompiled() -> int:
    """Status of the run without the compiler; 1 also when a kernel was never entered."""
    arguments = ["-p", "checked_arrays", "-p", "no:cacheprovider", "-m", "not compiled", *UNCOMPILED]
    path = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    return run_tests(arguments, {"NUMBA_DISABLE_JIT": "1", "PYTHONPATH": path, "FASTLMM_EVERY_KERNEL": "1"})


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--workers", default="2", help="processes of the compiled run")
    parser.add_argument("--kernels", action="store_true", help="the uncompiled run alone, kernels only")
    asked = parser.parse_args()
    subprocess.run([*COVERAGE, "erase"], cwd=ROOT, check=True)
    failed = run_uncompiled() != 0
    if not asked.kernels:
        failed = run_tests(["-n", asked.workers], {}) != 0 or failed
    subprocess.run([*COVERAGE, "combine", "--quiet"], cwd=ROOT, check=True)
    only = ["--include=*/kernels/*,*_kernels.py"] if asked.kernels else []
    return subprocess.run([*COVERAGE, "report", *only], cwd=ROOT).returncode or int(failed)


if __name__ == "__main__":
    sys.exit(main())
