#!/usr/bin/env python3
"""Set up what the project needs: system libraries, .venv, the package with its extras.

    python3 tools/bootstrap.py         for everything: tests, linters, clusters
    python3 tools/bootstrap.py demo    for the demonstration alone; the rest can be added later
    python3 tools/bootstrap.py docs    for the documentation site

Runs on a bare Python 3.11 with nothing but the standard library. When nothing changed since the last
run it returns at once (a stamp in .venv holds the digest of what it depends on, and the extras that are
there).
"""

from __future__ import annotations

import ctypes.util
import hashlib
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
STAMP = VENV / ".fastlmm-setup"
# Extras of the package by what is asked for.
EXTRAS = {
    "demo": ("plots",),
    "docs": ("plots", "batch", "docs"),
    "everything": ("plots", "batch", "sklearn", "test", "dev"),
}
MINIMUM_PYTHON = (3, 11)

# What each missing piece is called on Debian and Ubuntu.
APT = {
    "a C compiler": ("gcc", "libc6-dev"),
    "a C++ compiler": ("g++",),  # scikit-sparse 0.5 has C++ sources
    "the Python headers": ("python3-dev",),
    "the venv module": ("python3-venv",),
    "SuiteSparse": ("libsuitesparse-dev",),
    "OpenBLAS": ("libopenblas0-pthread",),
}
# Without it there is no environment. The others are for scikit-sparse, without which everything works but
# METIS orders and factorization="cholmod".
REQUIRED = frozenset({"the venv module"})

ADVICE = """\
fastlmm_core: cannot go on without {missing}.
{reason}
Install what the system lacks, then run the same command again:
  Debian/Ubuntu  sudo apt-get install gcc g++ libc6-dev python3-dev python3-venv \\
                                      libsuitesparse-dev libopenblas0-pthread
  Fedora         sudo dnf install gcc gcc-c++ python3-devel suitesparse-devel openblas-threads
  macOS          xcode-select --install && brew install python@3.11 suite-sparse
  conda          conda install -c conda-forge python=3.11 c-compiler cxx-compiler suitesparse libopenblas
"""
WITHOUT = (
    "scikit-sparse is left out, without which everything works but METIS and factorization='cholmod' "
    "(docs/installing.md)"
)


class SetupError(Exception):
    """The set-up cannot go on; the message is all that the user needs to see."""


def say(text: str) -> None:
    print(f"[set-up] {text}", flush=True)


# ------------------------------------------------------------------ what is there ----


def include_dirs(environ: Mapping[str, str] = os.environ) -> list[Path]:
    """Folders that may hold SuiteSparse headers, the user's own choice first."""
    prefixes = [environ.get("CONDA_PREFIX"), environ.get("HOMEBREW_PREFIX")]
    prefixes += ["/usr/local", "/opt/homebrew", "/opt/local", "/usr"]
    chosen = [environ["SUITESPARSE_INCLUDE_DIR"]] if environ.get("SUITESPARSE_INCLUDE_DIR") else []
    bases = [Path(p) / "include" for p in prefixes if p]
    return [Path(c) for c in chosen] + [d for b in bases for d in (b / "suitesparse", b)]


def suitesparse_version(folders: Iterable[Path]) -> tuple[int, int] | None:
    """(major, minor) of the first SuiteSparse with headers, CHOLMOD's included, in one of the folders."""
    for folder in folders:
        config = folder / "SuiteSparse_config.h"
        if not (config.is_file() and (folder / "cholmod.h").is_file()):
            continue
        text = config.read_text(errors="replace")
        parts = [re.search(rf"#define\s+SUITESPARSE_{p}_VERSION\s+(\d+)", text) for p in ("MAIN", "SUB")]
        if parts[0] and parts[1]:
            return int(parts[0].group(1)), int(parts[1].group(1))
    return None


def scikit_sparse_requirement(version: tuple[int, int]) -> str:
    """The scikit-sparse that builds on this SuiteSparse: 0.5 needs 7.4, 0.4.16 is the last before it."""
    return "scikit-sparse>=0.5,<0.6" if version >= (7, 4) else "scikit-sparse==0.4.16"


# Variable that names the compiler, its usual names, and a program: that it starts is not enough, as the
# headers and the library of its language are packages of their own.
C_PROBE = (
    "CC", ("cc", "gcc", "clang"), "probe.c",
    "#include <stdlib.h>\nint main(void) { return EXIT_SUCCESS; }\n",
)  # fmt: skip
CXX_PROBE = (
    "CXX", ("c++", "g++", "clang++"), "probe.cpp",
    "#include <vector>\nint main() { return (int) std::vector<int>().size(); }\n",
)  # fmt: skip


def compiles(variable: str, names: Iterable[str], file: str, program: str) -> bool:
    """Whether a program of the language compiles and links."""
    found = (shutil.which(name) for name in names)
    compiler = os.environ.get(variable, "").split() or [path for path in found if path][:1]
    if not compiler:
        return False
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / file
        source.write_text(program)
        try:
            done = subprocess.run([*compiler, source, "-o", source.with_suffix("")], capture_output=True)
        except OSError:
            return False
    return done.returncode == 0


def missing_pieces() -> list[str]:
    """Names (keys of APT) of what the system lacks."""
    present = {
        "a C compiler": compiles(*C_PROBE),
        "a C++ compiler": compiles(*CXX_PROBE),
        "the Python headers": Path(sysconfig.get_path("include"), "Python.h").is_file(),
        "the venv module": bool(importlib.util.find_spec("venv") and importlib.util.find_spec("ensurepip")),
        "SuiteSparse": suitesparse_version(include_dirs()) is not None,
        "OpenBLAS": sys.platform == "darwin" or has_openblas(),
    }
    return [name for name in APT if not present[name]]


def has_openblas() -> bool:
    if os.environ.get("CONDA_PREFIX") and list(Path(os.environ["CONDA_PREFIX"], "lib").glob("libopenblas*")):
        return True
    # find_library needs a compiler or ldconfig; the glob also sees Debian's alternative without either.
    debian = Path("/usr/lib").glob("*/openblas-*/libblas.so*")
    return bool(ctypes.util.find_library("openblas") or any(debian))


# ------------------------------------------------------------------ making it so ----


def run(command: list[str], what: str, environ: Mapping[str, str] | None = None) -> None:
    """Run quietly; on failure raise with the end of what the command said."""
    done = subprocess.run(
        command,
        cwd=ROOT,
        env=environ,
        text=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    if done.returncode:
        tail = "\n".join(done.stdout.strip().splitlines()[-25:])
        raise SetupError(f"{tail}\n\nfastlmm_core: {what} failed (the end of its output is above).")


def apt_install(pieces: list[str]) -> str | None:
    """Install the Debian packages of the pieces; the reason when that is not possible, else None."""
    if not shutil.which("apt-get"):
        return "This is not a Debian or Ubuntu system, so the set-up does not install system packages."
    prefix: list[str] = []
    if os.geteuid() != 0:
        if not shutil.which("sudo"):
            return "Installing system packages needs root, and there is no sudo."
        interactive = sys.stdin is not None and sys.stdin.isatty() and not os.environ.get("CI")
        # Ask for the password here, where the user sees the question; afterwards sudo must not ask.
        ask = ["sudo", "-v"] if interactive else ["sudo", "-n", "true"]
        if subprocess.run(ask, stderr=None if interactive else subprocess.DEVNULL).returncode:
            return "Installing system packages needs root, and sudo did not allow it."
        prefix = ["sudo", "-n"]
    packages = [p for piece in pieces for p in APT[piece]]
    say(f"installing {' '.join(packages)}")
    apt = [*prefix, "env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-q", "-y"]
    try:
        run([*apt, "update"], "apt-get update")
        run([*apt, "install", "--no-install-recommends", *packages], "apt-get install")
    except SetupError as error:
        return str(error)
    return None


def system_packages() -> tuple[int, int] | None:
    """Install what the system lacks; SuiteSparse's version, None where scikit-sparse cannot be built.

    Raises with advice where there cannot be an environment.
    """
    missing = missing_pieces()
    reason: str | None = None
    if missing:
        reason = apt_install(missing)
        missing = missing_pieces()
    blocking = [m for m in missing if m in REQUIRED]
    if blocking:
        if reason is None:
            reason = f"They are still not found by {sys.executable} after installing the system's packages."
        raise SetupError(ADVICE.format(missing=" and ".join(blocking), reason=reason))
    if set(missing) - {"OpenBLAS"}:
        say(f"not found: {', '.join(missing)}. {reason or ''}".rstrip())
        say(WITHOUT)
        return None
    if "OpenBLAS" in missing:
        say("no OpenBLAS found: factorization='cholmod' works without, but is several times slower")
    return suitesparse_version(include_dirs())


def environment() -> Path:
    """The interpreter of .venv, made (again) when it is missing or broken."""
    python = VENV / "bin" / "python"
    probe = [str(python), "-m", "pip", "--version"]
    if not python.exists() or subprocess.run(probe, capture_output=True).returncode:
        say(f"making {VENV.name} with Python {sys.version.split()[0]}")
        run([sys.executable, "-m", "venv", "--clear", str(VENV)], "making the virtual environment")
    return python


def suitesparse_environ(environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The environment with SuiteSparse's folders named where the build would not look by itself."""
    out = dict(environ)
    out.setdefault("PIP_DISABLE_PIP_VERSION_CHECK", "1")
    for folder in include_dirs(environ):
        if suitesparse_version([folder]):
            prefix = folder.parent.parent if folder.name == "suitesparse" else folder.parent
            if prefix != Path("/usr"):
                out.setdefault("SUITESPARSE_INCLUDE_DIR", str(folder))
                out.setdefault("SUITESPARSE_LIBRARY_DIR", str(prefix / "lib"))
            break
    return out


def install(python: Path, version: tuple[int, int] | None, extras: tuple[str, ...]) -> None:
    """The package with its extras, editable, and scikit-sparse in the version that fits."""
    pip = [str(python), "-m", "pip", "install", "--quiet", "--no-compile"]
    say(f"installing fastlmm_core with its extras ({', '.join(extras)})")
    run([*pip, "--editable", f".[{','.join(extras)}]"], "installing fastlmm_core", suitesparse_environ())
    if version is not None:
        install_scikit_sparse(python, pip, version)
    compile_bytecode(python)


def compile_bytecode(python: Path) -> None:
    """Compile what is installed; not by pip, which would compile the tests of every package too, 70 MB.

    The sources of this project too: where PYTHONDONTWRITEBYTECODE is set, as in images, every process would
    read all of them again, half a second each time.
    """
    folders = [str(VENV / "lib"), str(ROOT / "fastlmm_core")]
    command = [str(python), "-m", "compileall", "-q", "-j", "0", "-x", r"[/\\]tests[/\\]", *folders]
    subprocess.run(command, capture_output=True)  # a file that does not compile is not ours


def install_scikit_sparse(python: Path, pip: list[str], version: tuple[int, int]) -> None:
    """The scikit-sparse that fits SuiteSparse; left out where it does not build or load."""
    say(f"SuiteSparse {version[0]}.{version[1]}: {scikit_sparse_requirement(version)}")
    try:
        run([*pip, scikit_sparse_requirement(version)], "building scikit-sparse", suitesparse_environ())
        run([str(python), "-c", "import sksparse.cholmod"], "loading scikit-sparse")
    except SetupError as error:
        say(str(error))
        say(WITHOUT)
        run([str(python), "-m", "pip", "uninstall", "--quiet", "--yes", "scikit-sparse"], "leaving it out")


def digest() -> str:
    """What the state of .venv depends on."""
    parts = [(ROOT / "pyproject.toml").read_bytes(), Path(__file__).read_bytes(), str(ROOT).encode()]
    parts += [sys.version.encode(), str(suitesparse_version(include_dirs())).encode()]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()


def extras_there() -> set[str]:
    """Extras that .venv has of what the project asks for today."""
    if not (STAMP.is_file() and (VENV / "bin" / "fastlmm").exists()):
        return set()
    then, *there = STAMP.read_text().split()
    return set(there) if then == digest() else set()


def up_to_date(extras: tuple[str, ...]) -> bool:
    """Whether .venv has these extras, and nothing changed since."""
    return set(extras) <= extras_there()


def main(wanted: str = "everything") -> int:
    if wanted not in EXTRAS:
        print(f"bootstrap.py sets up {', '.join(EXTRAS)}, not '{wanted}'.", file=sys.stderr)
        return 2
    if sys.version_info < MINIMUM_PYTHON:
        found = f"{sys.executable} is {sys.version.split()[0]}"
        print(f"fastlmm_core needs Python 3.11 or later; {found}.", file=sys.stderr)
        print("Name another one: make PYTHON=python3.11 demo", file=sys.stderr)
        return 1
    extras = EXTRAS[wanted]
    if up_to_date(extras):
        return 0
    try:
        version = system_packages()
        install(environment(), version, extras)
        STAMP.write_text(" ".join((digest(), *sorted({*extras, *extras_there()}))))
    except SetupError as error:
        print(error, file=sys.stderr)
        return 1
    say("ready")
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:2]))
