"""Every package that is imported is declared, and what only an extra brings is imported late."""

from __future__ import annotations

import ast
import importlib.util
import re
import sys
import tomllib
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
# import name -> distribution name, where they differ
DISTRIBUTION = {"sksparse": "scikit-sparse", "distributed": "dask", "sklearn": "scikit-learn"}
# accepted as input when the user has them; never needed
OPTIONAL_INPUT = {"polars"}


def names(requirements: list[str]) -> set[str]:
    return {re.match(r"[\w-]+", r).group() for r in requirements}


def imported(tree: ast.AST) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            found.add(node.module.split(".")[0])
    return {DISTRIBUTION.get(n, n) for n in found} - set(sys.stdlib_module_names) - {"fastlmm_core"}


def at_import_time(tree: ast.Module) -> ast.Module:
    """The module without the bodies of functions and of `if TYPE_CHECKING`."""

    class Strip(ast.NodeTransformer):
        def visit_FunctionDef(self, node):
            return None

        visit_AsyncFunctionDef = visit_FunctionDef

        def visit_If(self, node):
            return None if "TYPE_CHECKING" in ast.unparse(node.test) else self.generic_visit(node)

    return Strip().visit(tree)


def modules() -> dict[str, str]:
    return {str(p.relative_to(ROOT)): p.read_text() for p in sorted((ROOT / "fastlmm_core").rglob("*.py"))}


def test_every_import_is_declared():
    extras = PROJECT["optional-dependencies"]
    used = (extras[name] for name in ("plots", "batch", "cholmod", "sklearn"))
    declared = names(sum(used, PROJECT["dependencies"])) | OPTIONAL_INPUT
    for path, text in modules().items():
        assert imported(ast.parse(text)) <= declared, path


def test_core_modules_import_only_core_dependencies():
    core = names(PROJECT["dependencies"])
    for path, text in modules().items():
        if not path.startswith(
            ("fastlmm_core/plots/", "fastlmm_core/batch/", "fastlmm_core/scikit_learn.py")
        ):
            assert imported(at_import_time(ast.parse(text))) <= core, path


def requirements() -> list[Requirement]:
    """All that are declared, with those of the extras."""
    groups = [PROJECT["dependencies"], *PROJECT["optional-dependencies"].values()]
    return [Requirement(text) for group in groups for text in group]


def locked() -> dict[str, str]:
    """Version by name in the lock file."""
    lines = (ROOT / "requirements-dev.lock").read_text().splitlines()
    pairs = [line.split("==") for line in lines if line and not line.startswith("#")]
    return {canonicalize_name(name): version for name, version in pairs}


def test_every_dependency_has_an_upper_bound():
    for requirement in requirements():
        assert any(own.operator in ("<", "==") for own in requirement.specifier), requirement


def test_the_lock_file_is_one_set_within_the_bounds():
    """Pins alone, no address of an index; scikit-sparse follows the machine's SuiteSparse."""
    versions = locked()
    for requirement in requirements():
        name = canonicalize_name(requirement.name)
        assert name == "scikit-sparse" or requirement.specifier.contains(versions[name]), requirement
    assert "scikit-sparse" not in versions and "fastlmm-core" not in versions
    for name, version in versions.items():
        assert str(Version(version)) == version, name


def test_what_runs_the_suite_is_within_the_bounds():
    optional = set(map(Requirement, PROJECT["optional-dependencies"]["docs"]))  # `make docs` alone needs it
    if not importlib.util.find_spec("sklearn"):  # nothing but its own tests needs it, and they are skipped
        optional |= set(map(Requirement, PROJECT["optional-dependencies"]["sklearn"]))
    for requirement in set(requirements()) - optional:
        if requirement.name == "scikit-sparse" and not importlib.util.find_spec("sksparse"):
            continue  # the suite runs without it
        assert requirement.specifier.contains(metadata.version(requirement.name)), requirement
