"""The command line: version at once, one clear line and status 2 on bad input."""

import json
import subprocess
import sys

import pytest

from fastlmm_core import _version
from fastlmm_core.cli import main, one_line
from fastlmm_core.errors import DataError, FormulaError


def failed(capsys, *arguments):
    """The single line on standard error of a call that must end with status 2."""
    assert main(list(arguments)) == 2
    captured = capsys.readouterr()
    lines = captured.err.strip().splitlines()
    assert len(lines) == 1, captured.err
    assert lines[0].startswith("fastlmm: error: ")
    return lines[0]


def test_version_imports_nothing_heavy():
    code = (
        "import sys\nfrom fastlmm_core.cli import main\n"
        "try:\n    main(['--version'])\nexcept SystemExit as stop:\n    assert stop.code == 0\n"
        "heavy = {'numba', 'matplotlib', 'pandas', 'scipy'} & set(sys.modules)\nassert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"fastlmm {_version.__version__}\n"


def test_argparse_errors_have_status_2(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["fit", "only-a-file.csv"])
    assert stop.value.code == 2


def test_position_in_the_formula_is_told_in_the_line():
    err = FormulaError("a closing parenthesis is missing", "y ~ (1|g", 4)
    assert one_line(err) == "a closing parenthesis is missing (character 5 of 'y ~ (1|g')"
    assert one_line(DataError("two\n  lines")) == "two lines"


def test_bad_requests(tmp_path, capsys):
    missing = failed(capsys, "run", str(tmp_path / "none.json"))
    assert "cannot be read" in missing
    (tmp_path / "r.json").write_text('{"data": ')
    assert "is not JSON" in failed(capsys, "run", str(tmp_path / "r.json"))
    (tmp_path / "r.json").write_text(json.dumps({"data": {"y": [1]}, "formula": "y ~ 1", "methd": "ML"}))
    assert "no key 'methd'; nearest: 'method'" in failed(capsys, "run", str(tmp_path / "r.json"))
