"""`fastlmm compile`: what it leaves behind serves the next process."""

import os
import subprocess
import sys

import pytest

from fastlmm_core import compiling
from fastlmm_core.cli import compile as command
from fastlmm_core.cli import main

pytestmark = pytest.mark.compiled
FITS = """
import fastlmm_core as fl
fit = fl.lmm("yield ~ gen + (1|loc)", fl.datasets.load("cochran_bib"))
fit.summary()
fit.blups()
fit.emmeans("gen").contrast("pairwise", adjust="tukey").to_frame()
"""


@pytest.mark.slow
def test_what_was_compiled_is_loaded(capsys):
    assert main(["compile"]) == 0
    assert "kernels are compiled in" in capsys.readouterr().out
    environ = {name: value for name, value in os.environ.items() if name != compiling.QUIET}
    done = subprocess.run([sys.executable, "-c", FITS], env=environ, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_without_a_folder_it_says_what_to_do(monkeypatch, capsys):
    monkeypatch.setattr(command.factorize._cache, "kept", False)
    assert main(["compile"]) == 2
    assert "NUMBA_CACHE_DIR" in capsys.readouterr().err
