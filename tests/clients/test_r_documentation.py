"""Everything that the R package gives has a help page, and the pages say what it takes and returns."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[2] / "clients" / "r"
NAMESPACE = re.sub(r"#.*", "", (PACKAGE / "NAMESPACE").read_text())
PAGES = sorted((PACKAGE / "man").glob("*.Rd"))
ALIASES = {alias for page in PAGES for alias in re.findall(r"\\alias\{(.+?)\}", page.read_text())}
EXPORTS = [
    name.strip() for listed in re.findall(r"export\((.*?)\)", NAMESPACE, re.S) for name in listed.split(",")
]
METHODS = [
    f"{generic.rpartition('::')[2]}.{kind}"
    for generic, kind in re.findall(r"S3method\(([\w.:]+), ([\w.]+)\)", NAMESPACE)
]


def test_there_is_something_to_document():
    assert len(EXPORTS) > 5 and len(METHODS) > 30 and len(PAGES) > 5


@pytest.mark.parametrize("name", [*EXPORTS, *METHODS])
def test_every_export_and_method_has_a_page(name):
    assert name in ALIASES


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_says_what_is_taken_and_returned(page):
    text = page.read_text()
    for part in ("title", "description", "usage", "value", "references", "examples"):
        assert f"\\{part}{{" in text, f"{page.name} has no \\{part}"
    assert text.isascii()  # pages in other encodings need to say so
    assert max(map(len, text.splitlines())) <= 132


def test_no_page_stands_for_what_is_gone():
    known = {*EXPORTS, *METHODS, "fastlmm-package", "emmeans-support"}
    assert known >= ALIASES
