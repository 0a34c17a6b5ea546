"""The R package, where R and the packages that it is compared with are there: beside lme4 in one session."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "clients" / "r"


def has(*packages: str) -> bool:
    """Whether R is there with these packages."""
    if shutil.which("Rscript") is None:
        return False
    wanted = " && ".join(f'requireNamespace("{name}", quietly = TRUE)' for name in packages)
    return (
        subprocess.run(["Rscript", "-e", f"quit(status = !({wanted}))"], capture_output=True).returncode == 0
    )


pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not has("jsonlite"), reason="R with jsonlite is not installed"),
]


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    """Variables with which R finds the package, installed anew, and this library."""
    folder = tmp_path_factory.mktemp("library")
    shutil.copytree(PACKAGE, folder / "source")
    command = ["R", "CMD", "INSTALL", f"--library={folder}", str(folder / "source")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    serve = folder / "fastlmm-here"
    serve.write_text(f"#!/bin/sh\ncd '{ROOT}' && exec '{sys.executable}' -m fastlmm_core.cli \"$@\"\n")
    serve.chmod(0o755)
    return {**os.environ, "R_LIBS": str(folder), "FASTLMM_COMMAND": str(serve)}


def run_r(environment, name: str) -> str:
    script = PACKAGE / "tests" / name
    done = subprocess.run(
        ["Rscript", str(script), str(ROOT / "data")],
        capture_output=True,
        text=True,
        env=environment,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout[-1500:] + done.stderr[-1500:]
    return done.stdout


@pytest.mark.skipif(
    not has("emmeans", "estimability", "lme4", "nlme", "pbkrtest"), reason="a suggested package is missing"
)
def test_r_cmd_check_finds_nothing(environment, tmp_path):
    """Code, help pages against code, and their examples, which run."""
    environment = {**environment, "_R_CHECK_SYSTEM_CLOCK_": "0"}  # it would ask a server for the time
    version = re.search(r"(?m)^Version: (.+)$", (PACKAGE / "DESCRIPTION").read_text())[1]
    package = f"fastlmm_{version}.tar.gz"
    for command in (["build", str(PACKAGE)], ["check", "--no-manual", "--no-tests", package]):
        done = subprocess.run(
            ["R", "CMD", *command], capture_output=True, text=True, env=environment, cwd=tmp_path, timeout=600
        )
        assert done.returncode == 0, done.stdout[-1500:] + done.stderr[-1500:]
    log = (tmp_path / "fastlmm.Rcheck" / "00check.log").read_text()
    assert log.rstrip().endswith("Status: OK"), log
    examples = (tmp_path / "fastlmm.Rcheck" / "fastlmm-Ex.Rout").read_text()
    assert "kenward-roger df" in examples  # they were not passed over


def test_a_session_by_itself(environment):
    assert run_r(environment, "test_session.R").rstrip().endswith("done")


@pytest.mark.skipif(
    not has("lme4", "pbkrtest", "emmeans"), reason="lme4, pbkrtest, emmeans are not installed"
)
def test_the_same_figures_as_lme4_pbkrtest_and_emmeans(environment):
    told = run_r(environment, "test_against_lme4.R")
    assert told.rstrip().endswith("done")  # every comparison before is a line with its largest difference
