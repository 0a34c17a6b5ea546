"""A wheel built from the checkout works by itself, in a fresh environment and away from the checkout."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def run(command: list, cwd: Path, **environ: str) -> str:
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "COV_", "PYTEST_"))}
    words = [str(c) for c in command]
    streams = {"text": True, "capture_output": True, "stdin": subprocess.DEVNULL}
    done = subprocess.run(words, cwd=cwd, env=clean | environ, **streams)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    pip_wheel = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation"]
    run([*pip_wheel, "-w", folder, ROOT], folder)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def fresh(wheel, tmp_path_factory) -> Path:
    """A new environment with the wheel; its dependencies are borrowed from the running environment.

    The borrowed folder is put on the path by a .pth line, and .pth files inside such a folder are not read:
    the editable installation of the running environment stays out of sight.
    """
    folder = tmp_path_factory.mktemp("fresh")
    run([sys.executable, "-m", "venv", "--without-pip", folder], folder)
    pip = [sys.executable, "-m", "pip", "--python", folder / "bin" / "python"]
    run([*pip, "install", "-q", "--no-deps", "--no-index", wheel], folder)
    (site,) = folder.glob("lib/python*/site-packages")
    borrowed = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    (site / "borrowed_dependencies.pth").write_text("\n".join(sorted(borrowed)) + "\n")
    return folder


def test_every_example_table_travels_in_the_wheel(wheel):
    inside = set(zipfile.ZipFile(wheel).namelist())
    tables = [p.name for p in (ROOT / "data").iterdir() if p.is_file()]
    assert "cochran_bib.csv" in tables
    assert {f"fastlmm_core/data/{name}" for name in tables} <= inside
    assert {"fastlmm_core/py.typed", "fastlmm_core/cli/__init__.py"} <= inside


def test_nothing_but_the_package_is_in_the_wheel(wheel):
    top = {name.split("/")[0] for name in zipfile.ZipFile(wheel).namelist()}
    assert {t for t in top if not t.endswith(".dist-info")} == {"fastlmm_core"}


def test_the_fresh_environment_imports_its_own_copy(fresh, tmp_path):
    code = "import fastlmm_core; print(fastlmm_core.__file__)"
    where = run([fresh / "bin" / "python", "-c", code], tmp_path)
    assert Path(where.strip()).is_relative_to(fresh)


def test_version_is_the_same_everywhere(fresh, wheel, tmp_path):
    said = run([fresh / "bin" / "fastlmm", "--version"], tmp_path)
    version = wheel.name.split("-")[1]
    assert version in said.split()


def test_demo_runs_from_the_wheel_outside_the_checkout(fresh, tmp_path):
    """With the kernels of the running environment, as an image carries them beside its sources.

    They are known by what the sources say; what has not been compiled before is compiled here.
    """
    (own,) = fresh.glob("lib/python*/site-packages/fastlmm_core/kernels")
    sources = ROOT / "fastlmm_core" / "kernels"
    for compiled in sources.rglob("__pycache__"):
        shutil.copytree(compiled, own / compiled.relative_to(sources), dirs_exist_ok=True)
    out = run([fresh / "bin" / "fastlmm", "demo"], tmp_path, MPLBACKEND="Agg", COLUMNS="120")
    assert "253.6" in out, "the REML criterion of the incomplete blocks"
    assert str(ROOT) not in out
