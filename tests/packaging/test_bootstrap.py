"""The set-up picks the right scikit-sparse and says in one message what a system lacks."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import tomllib
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def bootstrap() -> ModuleType:
    spec = importlib.util.spec_from_file_location("bootstrap", ROOT / "tools" / "bootstrap.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def headers(folder: Path, major: int, minor: int) -> Path:
    folder.mkdir(parents=True)
    (folder / "cholmod.h").touch()
    (folder / "SuiteSparse_config.h").write_text(
        f"#define SUITESPARSE_MAIN_VERSION    {major}\n#define SUITESPARSE_SUB_VERSION {minor}\n"
    )
    return folder


@pytest.mark.parametrize(
    "version, requirement",
    [
        ((5, 12), "scikit-sparse==0.4.16"),
        ((7, 3), "scikit-sparse==0.4.16"),
        ((7, 4), "scikit-sparse>=0.5,<0.6"),
        ((7, 10), "scikit-sparse>=0.5,<0.6"),
        ((8, 0), "scikit-sparse>=0.5,<0.6"),
    ],
)
def test_scikit_sparse_follows_the_installed_suitesparse(bootstrap, tmp_path, version, requirement):
    found = bootstrap.suitesparse_version([tmp_path / "none", headers(tmp_path / "suitesparse", *version)])
    assert found == version
    assert bootstrap.scikit_sparse_requirement(found) == requirement


def test_suitesparse_without_cholmod_does_not_count(bootstrap, tmp_path):
    folder = headers(tmp_path / "suitesparse", 7, 6)
    (folder / "cholmod.h").unlink()
    assert bootstrap.suitesparse_version([folder]) is None


def test_headers_the_user_names_are_looked_at_first(bootstrap, tmp_path):
    folder = headers(tmp_path / "own" / "include" / "suitesparse", 7, 8)
    environ = {"SUITESPARSE_INCLUDE_DIR": str(folder)}
    assert bootstrap.suitesparse_version(bootstrap.include_dirs(environ)) == (7, 8)


def test_build_is_told_of_headers_outside_usr(bootstrap, tmp_path):
    folder = headers(tmp_path / "conda" / "include" / "suitesparse", 7, 8)
    environ = bootstrap.suitesparse_environ({"CONDA_PREFIX": str(tmp_path / "conda")})
    assert environ["SUITESPARSE_INCLUDE_DIR"] == str(folder)
    assert environ["SUITESPARSE_LIBRARY_DIR"] == str(tmp_path / "conda" / "lib")


def test_what_is_needed_and_missing_ends_in_one_message_for_every_system(bootstrap, monkeypatch, capsys):
    monkeypatch.setattr(bootstrap, "missing_pieces", lambda: ["the venv module"])
    monkeypatch.setattr(bootstrap, "up_to_date", lambda extras: False)
    monkeypatch.setattr(bootstrap.shutil, "which", lambda name: None)
    assert bootstrap.main() == 1
    message = capsys.readouterr().err
    assert "without the venv module" in message
    for words in ("Debian/Ubuntu  sudo apt-get install", "Fedora         sudo dnf", "macOS ", "conda "):
        assert words in message
    assert "Traceback" not in message


@pytest.mark.parametrize("piece", ["SuiteSparse", "a C compiler", "a C++ compiler", "the Python headers"])
def test_without_what_scikit_sparse_is_built_from_it_is_left_out(bootstrap, monkeypatch, capsys, piece):
    monkeypatch.setattr(bootstrap, "missing_pieces", lambda: [piece])
    monkeypatch.setattr(bootstrap.shutil, "which", lambda name: None)
    commands = []
    monkeypatch.setattr(bootstrap, "run", lambda command, *rest: commands.append(" ".join(command)))
    monkeypatch.setattr(bootstrap, "compile_bytecode", lambda python: None)
    bootstrap.install(Path("python"), bootstrap.system_packages(), ("plots",))
    assert len(commands) == 1 and commands[0].endswith("--editable .[plots]")
    said = capsys.readouterr().out
    assert f"not found: {piece}." in said and "scikit-sparse is left out" in said


def test_a_scikit_sparse_that_does_not_build_is_left_out(bootstrap, monkeypatch, capsys):
    commands = []

    def run(command, what, environ=None):
        commands.append(" ".join(command))
        if what == "building scikit-sparse":
            raise bootstrap.SetupError("gcc: no")

    monkeypatch.setattr(bootstrap, "run", run)
    monkeypatch.setattr(bootstrap, "compile_bytecode", lambda python: None)
    bootstrap.install(Path("python"), (5, 12), ("plots",))
    assert "scikit-sparse==0.4.16" in commands[1] and "uninstall" in commands[2]
    said = capsys.readouterr().out
    assert "gcc: no" in said and "scikit-sparse is left out" in said


def test_bytecode_is_written_where_processes_are_told_not_to(bootstrap, monkeypatch, tmp_path):
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    monkeypatch.setattr(bootstrap, "ROOT", tmp_path)
    monkeypatch.setattr(bootstrap, "VENV", tmp_path / ".venv")
    installed = tmp_path / ".venv" / "lib" / "package"
    folders = [installed, installed / "tests", tmp_path / "fastlmm_core"]
    for folder in folders:
        folder.mkdir(parents=True)
        (folder / "one.py").write_text("a = 1\n")
    bootstrap.compile_bytecode(Path(sys.executable))
    assert [len(list(folder.glob("__pycache__/one.*.pyc"))) for folder in folders] == [1, 0, 1]


def test_the_demonstration_has_no_linters_and_no_cluster(bootstrap):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    listed = {
        name: " ".join(requirement for extra in chosen for requirement in extras[extra])
        for name, chosen in bootstrap.EXTRAS.items()
    }
    for package in ("ruff", "mypy", "dask", "pytest", "pyarrow", "polars", "hypothesis"):
        assert package in listed["everything"]
        assert package not in listed["demo"]
    assert "matplotlib" in listed["demo"]


def test_what_is_there_is_not_set_up_again(bootstrap, monkeypatch, tmp_path):
    monkeypatch.setattr(bootstrap, "VENV", tmp_path)
    monkeypatch.setattr(bootstrap, "STAMP", tmp_path / "stamp")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "fastlmm").touch()
    monkeypatch.setattr(bootstrap, "system_packages", lambda: None)
    monkeypatch.setattr(bootstrap, "environment", lambda: tmp_path / "bin" / "python")
    installed = []
    monkeypatch.setattr(bootstrap, "install", lambda python, version, extras: installed.append(extras))
    for wanted in ("demo", "demo", "everything", "everything", "demo", "docs", "everything", "docs"):
        assert bootstrap.main(wanted) == 0
    assert installed == [bootstrap.EXTRAS[name] for name in ("demo", "everything", "docs")]
    (tmp_path / "stamp").write_text("something else")
    assert not bootstrap.up_to_date(bootstrap.EXTRAS["demo"])


def test_what_is_not_known_is_refused(bootstrap, capsys):
    assert bootstrap.main("all") == 2
    assert "demo, docs, everything, not 'all'" in capsys.readouterr().err


def test_advice_names_what_apt_would_install(bootstrap):
    """Every package of the list stands in the advice, so that doing by hand gives the same machine."""
    debian = bootstrap.ADVICE[bootstrap.ADVICE.index("Debian") : bootstrap.ADVICE.index("Fedora")].split()
    assert set(debian) >= {package for packages in bootstrap.APT.values() for package in packages}


@pytest.mark.parametrize("probe", ["C_PROBE", "CXX_PROBE"])
def test_compiler_counts_where_it_makes_a_program(bootstrap, monkeypatch, tmp_path, probe):
    variable, *_ = getattr(bootstrap, probe)
    monkeypatch.delenv(variable, raising=False)
    assert bootstrap.compiles(*getattr(bootstrap, probe))
    headerless = tmp_path / "compiler"  # starts and fails, as one without the headers of its language
    headerless.write_text("#!/bin/sh\nexit 1\n")
    headerless.chmod(0o755)
    for compiler in (str(headerless), "no-such-compiler"):
        monkeypatch.setenv(variable, compiler)
        assert not bootstrap.compiles(*getattr(bootstrap, probe))


def test_missing_openblas_alone_does_not_stop_the_set_up(bootstrap, monkeypatch, capsys):
    monkeypatch.setattr(bootstrap, "missing_pieces", lambda: ["OpenBLAS"])
    monkeypatch.setattr(bootstrap, "suitesparse_version", lambda folders: (5, 12))
    monkeypatch.setattr(bootstrap.shutil, "which", lambda name: None)
    assert bootstrap.system_packages() == (5, 12)
    assert "slower" in capsys.readouterr().out


def test_failed_command_reports_the_end_of_its_output(bootstrap):
    with pytest.raises(bootstrap.SetupError, match=r"the last words\n\nfastlmm_core: trying failed"):
        bootstrap.run([sys.executable, "-c", "print('the last words'); raise SystemExit(3)"], "trying")


def test_stamp_changes_with_the_suitesparse(bootstrap, monkeypatch):
    before = bootstrap.digest()
    assert before == bootstrap.digest()
    monkeypatch.setattr(bootstrap, "suitesparse_version", lambda folders: (9, 9))
    assert before != bootstrap.digest()


def test_set_up_runs_on_the_standard_library_alone():
    code = "import runpy, sys; runpy.run_path(sys.argv[1], run_name='bootstrap')"
    command = [sys.executable, "-I", "-S", "-c", code, str(ROOT / "tools" / "bootstrap.py")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
