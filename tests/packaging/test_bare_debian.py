"""The script that tries the README on a bare Debian: what it passes on and copies, how it ends."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
from argparse import Namespace
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def script():
    spec = importlib.util.spec_from_file_location("bare_debian", ROOT / "tools" / "bare_debian.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_it_needs_root_and_debootstrap(script, monkeypatch, capsys):
    monkeypatch.setattr(script.shutil, "which", lambda name: None)
    monkeypatch.setattr(sys, "argv", ["bare_debian.py"])
    assert script.main() == 2
    assert "apt-get install debootstrap" in capsys.readouterr().err


def test_settings_of_indexes_are_passed_on_and_nothing_else(script, monkeypatch):
    monkeypatch.setenv("PIP_INDEX_URL", "https://index.example/simple")
    monkeypatch.setenv("https_proxy", "http://proxy.example:3128")
    monkeypatch.setenv("PYTHONPATH", "/somewhere")
    passed = script.environment()
    assert passed["PIP_INDEX_URL"] == "https://index.example/simple"
    assert passed["https_proxy"] == "http://proxy.example:3128"
    assert "PYTHONPATH" not in passed and passed["HOME"] == "/root"


@pytest.mark.parametrize("status", [0, 3])
def test_a_machine_is_removed_whatever_its_commands_do(script, monkeypatch, tmp_path, status):
    asked = []
    monkeypatch.setattr(script, "make_machine", lambda suite, folder, mirror: asked.append(suite))
    monkeypatch.setattr(script, "copy_project", lambda folder: None)
    monkeypatch.setattr(script, "run_inside", lambda folder, command: asked.append(command) or status)
    options = Namespace(mirror=None, folder=str(tmp_path), keep=False, snapshot=False)
    failed = script.try_suite("trixie", ["make demo", "make test"], options)
    assert asked == ["trixie", "make demo", "make test"] and failed == (2 if status else 0)
    assert not list(tmp_path.iterdir())


def test_the_working_tree_is_copied_as_git_sees_it(script, tmp_path):
    listed = ["git", "rev-parse"]
    if not shutil.which("git") or subprocess.run(listed, cwd=ROOT, capture_output=True).returncode:
        pytest.skip("not a clone")
    script.copy_project(tmp_path)
    copied = tmp_path / script.PROJECT
    assert (copied / "Makefile").is_file() and (copied / "fastlmm_core" / "api.py").is_file()
    assert not (copied / ".git").exists() and not list(copied.rglob("__pycache__"))


def test_a_suite_younger_than_debootstrap_is_made_by_the_newest_script(script, monkeypatch, tmp_path):
    asked = []

    def run(command, **options):
        asked.append(command)
        return subprocess.CompletedProcess(command, 0, "", "")

    (tmp_path / "trixie").touch()
    monkeypatch.setattr(script, "SCRIPTS", tmp_path)
    monkeypatch.setattr(script.subprocess, "run", run)
    script.make_machine("trixie", tmp_path / "machine", None)
    script.make_machine("forky", tmp_path / "machine", None)
    assert asked[0][-2:] == ["trixie", str(tmp_path / "machine")]
    assert asked[1][-4:] == ["forky", str(tmp_path / "machine"), script.MIRROR, str(tmp_path / "sid")]
