"""The code of README and of the pages in docs runs, and prints what they say it prints."""

import contextlib
import io
import re
import shlex
from pathlib import Path

import pytest

from fastlmm_core.cli import main
from fastlmm_core.structures import registry

ROOT = Path(__file__).resolve().parent.parent
# Pages whose Python blocks are run, one after the other in the names that those before have left.
PAGES = (
    "README.md",
    "docs/start.md",
    "docs/blocks_fixed_or_random.md",
    "docs/split_plots.md",
    "docs/covariance_structures.md",
    "docs/relationships.md",
    "docs/repeated_measures.md",
    "docs/gxe.md",
    "docs/intervals.md",
    "docs/several_traits.md",
    "docs/field_trials.md",
    "docs/adding_a_structure.md",
    "docs/heritability.md",
    "docs/plots_to_decisions.md",
    "docs/two_stages.md",
    "docs/coming_from.md",
    "docs/batches_on_dask.md",
    "tools/site/index.md",
    "docs/theory/reml.md",
    "docs/theory/inverse_subset.md",
    "docs/theory/kenward_roger.md",
    "docs/theory/structures.md",
    "docs/theory/emmeans.md",
    "docs/saving.md",
    "docs/means.md",
    "docs/kenward_roger.md",
)
FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.M | re.S)


def blocks(kind, page="README.md"):
    """(code, printed) of each fenced block of a kind; printed is the ``text`` block after it, or None."""
    text = (ROOT / page).read_text(encoding="utf-8")
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


@pytest.mark.parametrize("page", PAGES)
def test_python_blocks_print_what_is_shown(page, monkeypatch):
    # structures that a page registers are forgotten after it
    monkeypatch.setattr(registry, "_COEFFICIENTS", dict(registry._COEFFICIENTS))
    names: dict[str, object] = {"__name__": page}
    shown = 0
    for code, printed in blocks("python", page):
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            exec(compile(code, page, "exec"), names)
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


def test_make_targets_exist():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"^make (\w+)", text, re.M):
        assert re.search(rf"^{target}:", makefile, re.M), target


@pytest.mark.parametrize(
    "page", sorted(p.relative_to(ROOT).as_posix() for p in [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
)
def test_links_exist(page):
    path = ROOT / page
    for link in re.findall(r"\]\(((?!https?:)[^)#]+)\)", path.read_text(encoding="utf-8")):
        assert (path.parent / link).exists(), link


def test_paths_in_code_exist():
    """Files of the package that the pages for contributors name are there."""
    for page in ("docs/architecture.md", "docs/adding_a_structure.md", "CONTRIBUTING.md"):
        text = (ROOT / page).read_text(encoding="utf-8")
        named = re.findall(r"`((?:fastlmm_core|tests|tools|benchmarks|docs)/[\w./]+)`", text)
        assert named, page
        for name in named:
            assert (ROOT / name).exists(), f"{page}: {name}"
