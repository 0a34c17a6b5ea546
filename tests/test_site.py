"""What the documentation site is made of, as far as it can be told without Sphinx; `make docs` builds it."""

import re
import runpy
import sys
from pathlib import Path

import pytest

import fastlmm_core
from fastlmm_core import plots

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = sorted((ROOT / "docs" / "gallery").glob("*.py"))
sys.path.insert(0, str(ROOT / "tools"))

from build_site import REFERENCE, named  # noqa: E402


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_examples_of_the_gallery_draw_one_figure(path):
    pyplot = pytest.importorskip("matplotlib.pyplot")
    pyplot.switch_backend("Agg")
    pyplot.close("all")
    runpy.run_path(str(path))
    assert len(pyplot.get_fignums()) == 1
    pyplot.close("all")


def test_every_figure_is_in_the_gallery():
    code = "\n".join(path.read_text(encoding="utf-8") for path in EXAMPLES)
    drawn = set(re.findall(r"plots\.(plot_\w+)\(", code))
    assert drawn == {name for name in plots.__all__ if name.startswith("plot_")}


def test_every_public_name_is_in_the_reference():
    listed = {path.rpartition(".")[2] for _, paths in REFERENCE.values() for path in paths}
    assert set(fastlmm_core.__all__) - {"__version__"} <= listed
    for _, paths in REFERENCE.values():
        for path in paths:
            assert named(path).__name__.endswith(path.rpartition(".")[2]), path


def test_every_page_is_on_the_site():
    listed = " ".join(page.read_text(encoding="utf-8") for page in (ROOT / "tools" / "site").glob("*.md"))
    named = set(listed.split())
    for page in (ROOT / "docs").rglob("*.md"):
        assert page.relative_to(ROOT).with_suffix("").as_posix() in named, page
