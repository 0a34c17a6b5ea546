"""Where compiled kernels are kept, which are out of date, and the word while they are compiled."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from fastlmm_core import compiling
from fastlmm_core.kernels.caching import digest_sources, drop_stale_cache

ROOT = Path(__file__).resolve().parents[2]
# A kernel that calls another, in files of their own beside the library's decorator.
CALLER = """
from fastlmm_core.kernels.compile import kernel
from fastlmm_core.kernels.callee_file import add_one

@kernel
def add_two(x):
    return add_one(add_one(x))
"""
CALLEE = """
from fastlmm_core.kernels.compile import kernel

@kernel
def add_one(x):
    return x + {step}
"""
# Nobody can write where Numba would keep anything.
UNWRITABLE = """
import tempfile

def refuse(*arguments, **options):
    raise PermissionError("read-only")

tempfile.TemporaryFile = refuse
"""
RUN = """
from fastlmm_core.kernels.caller_file import add_two
print(add_two(0), sum(add_two.stats.cache_hits.values()))
"""


@pytest.fixture
def copy(tmp_path):
    """The library in a folder of its own, with nothing compiled; where to import it from."""
    for name in ("fastlmm_core", "data"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    write_kernels(tmp_path, step=1)
    return tmp_path


def write_kernels(folder, step):
    kernels = folder / "fastlmm_core" / "kernels"
    (kernels / "callee_file.py").write_text(CALLEE.format(step=step))
    (kernels / "caller_file.py").write_text(CALLER)


def python(code, **environ):
    """Standard output and error of a process with a clean environment of its own; bytecode is kept."""
    left_out = (compiling.QUIET, "NUMBA_CACHE_DIR", "PYTHONDONTWRITEBYTECODE")
    clean = {k: v for k, v in os.environ.items() if k not in left_out}
    done = subprocess.run(
        [sys.executable, "-c", code], env=clean | environ, cwd=environ["PYTHONPATH"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout, done.stderr


def test_a_changed_source_drops_every_cached_kernel(tmp_path):
    source = tmp_path / "kernel.py"
    source.write_text("a = 1\n")
    cache = tmp_path / "__pycache__"
    cache.mkdir()
    compiled = [cache / "kernel.f-1.py311.nbi", cache / "kernel.f-1.py311.1.nbc"]

    def compile_all():
        digest_sources.cache_clear()
        for path in compiled:
            path.write_text("")

    compile_all()
    assert drop_stale_cache(tmp_path)
    assert not any(path.exists() for path in compiled)
    compile_all()
    assert not drop_stale_cache(tmp_path)
    os.utime(source, ns=(1, 1))
    compile_all()
    assert not drop_stale_cache(tmp_path), "a touched file is the same"
    copy = tmp_path / "copy"
    shutil.copytree(tmp_path, copy)
    assert not drop_stale_cache(copy), "so is a copied one"
    source.write_text("a = 2\n")
    compile_all()
    assert drop_stale_cache(tmp_path)
    assert not any(path.exists() for path in compiled)


def test_a_folder_that_cannot_be_written_is_left_alone(tmp_path):
    assert not drop_stale_cache(tmp_path / "absent")


@pytest.mark.compiled
def test_what_is_kept_elsewhere_knows_the_kernels_it_calls(copy):
    """In a folder that the user names, too, a kernel is compiled anew when one that it calls has changed."""
    places = {"PYTHONPATH": str(copy), "NUMBA_CACHE_DIR": str(copy / "kept")}
    assert python(RUN, **places)[0].split() == ["2", "0"]
    assert python(RUN, **places)[0].split() == ["2", "1"]
    write_kernels(copy, step=5)
    assert python(RUN, **places)[0].split() == ["10", "0"]


@pytest.mark.compiled
def test_a_notice_once_where_kernels_are_compiled_and_none_where_they_are_loaded(copy):
    where = {"PYTHONPATH": str(copy)}
    assert python(RUN, **where) == ("2 0\n", compiling.NOTICE + "\n")
    assert python(RUN, **where) == ("2 1\n", "")


@pytest.mark.compiled
def test_a_read_only_installation(copy):
    """Without a home it works, and says how to give it a place; what was compiled before is loaded."""
    where = {"PYTHONPATH": str(copy)}
    assert python(UNWRITABLE + RUN, **where) == ("2 0\n", compiling.NOT_KEPT + "\n")
    assert not list(copy.rglob("*.nbi"))
    assert python(UNWRITABLE + RUN, **where, **{compiling.QUIET: "1"}) == ("2 0\n", "")
    python(RUN, **where)  # by somebody who can write
    assert python(UNWRITABLE + RUN, **where) == ("2 1\n", "")
