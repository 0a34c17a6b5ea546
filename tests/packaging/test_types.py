"""What a type checker sees of the public names in a user's file."""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import fastlmm_core

PACKAGE = Path(fastlmm_core.__file__).parent
# Every public name, and what a checker has to reveal for it.
PREAMBLE = """
import numpy as np
import pandas as pd
import fastlmm_core as fl
from fastlmm_core import (
    Covariance, Markers, Pedigree, SparseInverse, compare, fit_batch, fit_group, lmm, load, prepare, run,
    single_step,
)

data = pd.DataFrame({"y": [1.0], "g": ["a"]})
fit = lmm("y ~ 1 + (1|g)", data)
means = fit.emmeans("g")
batch = fit_batch(data, "y ~ 1 + (1|g)", by="g")
"""
REVEALED = {
    "fit": "LMMFit",
    "prepare('y ~ 1 + (1|g)', data)": "Prepared",
    "prepare('y ~ 1 + (1|g)', data).fit()": "LMMFit",
    "means": "EmmeansTable",
    "means.contrast('pairwise')": "ContrastTable",
    "means.to_frame()": "DataFrame",
    "fit.vpredict('V1/(V1+V2)')": "VarianceFunction",
    "fit.blups()": "DataFrame",
    "fit.variance_components": "DataFrame",
    "fit.fixed_effects()": "DataFrame",
    "fit.anova()": "DataFrame",
    "fit.summary()": "Summary",
    "fit.criterion": "float",
    "batch": "BatchResult",
    "batch.fits": "DataFrame",
    "fit_group(data, batch.plan)": "dict[",
    "run({'formula': 'y ~ 1 + (1|g)'})": "dict",
    "load('fit.zip')": "LMMFit",
    "compare(fit, fit)": "DataFrame",
    "Pedigree(data)": "Pedigree",
    "Markers(data)": "Markers",
    "Covariance": "Covariance",
    "SparseInverse": "SparseInverse",
    "single_step": "SparseInverse",
    "fl.datasets.load('sleepstudy')": "DataFrame",
    "fl.errors.DataError('x')": "DataError",
    "fl.__version__": "str",
}


def revealed_by_mypy(path, folder):
    """What mypy --strict says of each `reveal_type`, and everything it said."""
    command = [sys.executable, "-m", "mypy", "--strict", "--ignore-missing-imports",
               "--follow-imports=silent", "--cache-dir", str(folder / "cache"), str(path)]  # fmt: skip
    environment = {"MYPYPATH": str(PACKAGE.parent), "PATH": "/usr/bin:/bin"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=folder)
    return [line for line in done.stdout.splitlines() if "Revealed type" in line], done.stdout


def revealed_by_pyright(path, folder):
    """The same of pyright, where it is installed."""
    command = [shutil.which("pyright") or "", "--pythonpath", sys.executable, str(path)]
    environment = {**os.environ, "PYTHONPATH": str(PACKAGE.parent)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=folder)
    return [line for line in done.stdout.splitlines() if "Type of " in line], done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("checker", ["mypy", "pyright"])
def test_a_users_file_is_typed(checker, tmp_path):
    if checker == "mypy":
        pytest.importorskip("mypy")
    elif shutil.which("pyright") is None:
        pytest.skip("pyright is not installed")
    path = tmp_path / "analysis.py"
    path.write_text(PREAMBLE + "".join(f"reveal_type({text})\n" for text in REVEALED), encoding="utf-8")
    revealed, said = (revealed_by_mypy if checker == "mypy" else revealed_by_pyright)(path, tmp_path)
    assert len(revealed) == len(REVEALED), said
    for line, (text, name) in zip(revealed, REVEALED.items(), strict=True):
        assert name in line, f"{text}: {line}"
        assert 'is "Any"' not in line, f"{text}: {line}"
    assert "error:" not in said, said


def test_checkers_see_every_public_name():
    tree = ast.parse((PACKAGE / "__init__.py").read_text(encoding="utf-8"))
    block = next(node for node in tree.body if isinstance(node, ast.If))
    names = {alias.asname or alias.name for node in block.body for alias in node.names}
    assert names == set(fastlmm_core.__all__) - {"__version__"}
