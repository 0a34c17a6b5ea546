"""What a type checker sees of the public names in a user's file."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import fastlmm_core

PACKAGE = Path(fastlmm_core.__file__).parent
USER_FILE = """
import pandas as pd
from fastlmm_core import Pedigree, compare, lmm

data = pd.DataFrame({"y": [1.0], "g": ["a"]})
fit = lmm("y ~ 1 + (1|g)", data)
reveal_type(fit)
reveal_type(fit.emmeans("g"))
reveal_type(fit.vpredict("V1/(V1+V2)"))
reveal_type(Pedigree(data))
reveal_type(compare(fit, fit))
"""
REVEALED = ("LMMFit", "EmmeansTable", "VarianceFunction", "Pedigree", "DataFrame")


def test_a_users_file_is_typed(tmp_path):
    pytest.importorskip("mypy")
    path = tmp_path / "analysis.py"
    path.write_text(USER_FILE, encoding="utf-8")
    command = [sys.executable, "-m", "mypy", "--strict", "--ignore-missing-imports",
               "--follow-imports=silent", "--cache-dir", str(tmp_path / "cache"), str(path)]  # fmt: skip
    environment = {"MYPYPATH": str(PACKAGE.parent), "PATH": "/usr/bin:/bin"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path)
    said = done.stdout
    revealed = [line for line in said.splitlines() if "Revealed type" in line]
    assert len(revealed) == len(REVEALED), said
    for line, name in zip(revealed, REVEALED, strict=True):
        assert name in line and "Any" not in line, said


def test_checkers_see_every_public_name():
    tree = ast.parse((PACKAGE / "__init__.py").read_text(encoding="utf-8"))
    block = next(node for node in tree.body if isinstance(node, ast.If))
    names = {alias.asname or alias.name for node in block.body for alias in node.names}
    assert names == set(fastlmm_core.__all__) - {"__version__"}
