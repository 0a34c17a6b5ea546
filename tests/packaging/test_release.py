"""A release says one version everywhere, and the conda recipe what pyproject.toml says."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import fastlmm_core

ROOT = Path(__file__).resolve().parents[2]
RECIPE = (ROOT / "tools/conda/recipe.yaml").read_text()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


@pytest.mark.parametrize(
    ("file", "pattern"),
    [
        ("CITATION.cff", r"^version: (\S+)$"),
        ("clients/r/DESCRIPTION", r"^Version: (\S+)$"),
        ("tools/conda/recipe.yaml", r'^  version: "(\S+)"$'),
        ("CHANGELOG.md", r"^## \[(\S+)\] - \d{4}-\d\d-\d\d$"),
    ],
)
def test_the_version_is_the_same_in_every_file(file, pattern):
    found = re.findall(pattern, (ROOT / file).read_text(), flags=re.MULTILINE)
    assert found and found[0] == fastlmm_core.__version__


def test_there_are_notes_for_the_tag():
    notes = ROOT / f"docs/releases/{fastlmm_core.__version__}.md"
    assert notes.read_text().startswith(f"# fastlmm_core {fastlmm_core.__version__}\n")


def listed(key: str) -> list[str]:
    """The items of a list of the recipe, without comments."""
    block = re.search(rf"^  {key}:\n((?:    .*\n)+)", RECIPE, flags=re.MULTILINE)
    assert block is not None
    return [line.strip()[2:] for line in block.group(1).splitlines() if line.strip().startswith("- ")]


def test_the_conda_package_depends_on_what_the_wheel_does_and_on_cholmod():
    wanted = [*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["cholmod"]]
    expected = {"python": PROJECT["requires-python"]}
    expected |= {own.name: str(own.specifier) for own in map(Requirement, wanted)}
    found = dict(line.split(" ", 1) for line in listed("run"))
    ordered = {name: set(value.split(",")) for name, value in found.items()}
    assert ordered == {name: set(value.split(",")) for name, value in expected.items()}


def test_the_conda_package_has_the_command():
    (command,) = PROJECT["scripts"].items()
    assert " = ".join(command) in RECIPE
