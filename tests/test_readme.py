"""README's code runs, and prints what README says it prints."""

import contextlib
import io
import re
import shlex
from pathlib import Path

import pytest

from fastlmm_core.cli import main

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.M | re.S)


def blocks(kind):
    """(code, printed) of each fenced block of a kind; printed is the ``text`` block after it, or None."""
    text = README.read_text(encoding="utf-8")
    found = list(FENCE.finditer(text))
    out = []
    for block, following in zip(found, [*found[1:], None], strict=True):
        if block[1] == kind:
            adjacent = following is not None and following[1] == "text"
            adjacent = adjacent and not text[block.end() : following.start()].strip()
            out.append((block[2], following[2] if adjacent else None))
    return out


@pytest.fixture(autouse=True)
def in_a_copy_of_the_checkout(tmp_path, monkeypatch):
    """Run where `data/` is beside, as in a clone, and leave nothing behind in it."""
    (tmp_path / "data").symlink_to(ROOT / "data")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "Agg")


def without_line_ends(text):
    return [line.rstrip() for line in text.rstrip().splitlines()]


def test_python_blocks_print_what_is_shown():
    names: dict[str, object] = {}
    shown = 0
    for code, printed in blocks("python"):
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            exec(compile(code, "README.md", "exec"), names)
        if printed is not None:
            shown += 1
            assert without_line_ends(out.getvalue()) == without_line_ends(printed)
    assert shown >= 1


def test_fastlmm_commands_run(capsys):
    commands = [
        shlex.split(line)[1:]
        for code, _ in blocks("sh")
        for line in code.splitlines()
        if line.startswith("fastlmm ")
    ]
    assert commands
    for command in commands:
        assert main(command) == 0, command
        assert capsys.readouterr().out


def test_make_targets_and_links_exist():
    text = README.read_text(encoding="utf-8")
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"^make (\w+)", text, re.M):
        assert re.search(rf"^{target}:", makefile, re.M), target
    for link in re.findall(r"\]\(((?!https?:)[^)#]+)\)", text):
        assert (ROOT / link).exists(), link
