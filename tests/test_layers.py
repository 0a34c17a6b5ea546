"""Imports run downward only.

cli, plots, datasets, request > batch > api, results > inference > reml > design > structures > linalg >
kernels > errors.  Imports for type checkers do not count, imports inside functions do.
"""

import ast
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "fastlmm_core"
LAYERS = {
    "errors": 0, "_version": 0,
    "options": 1, "gate": 1, "limits": 1,  # the doors: kinds of values, what leaves, how much
    "reading": 1,  # files to tables: needs nothing but errors
    "parquet": 1,
    "durable_files": 1,
    "progress_bar": 1,
    "compiling": 1,
    "kernels": 1,
    "linalg": 2,
    "structures": 3,  # a known inverse is factorized by linalg
    "design": 4,
    "reml": 5, "engine": 5,  # one search for both: reml is the engine of unrelated levels
    "inference": 6,
    "results": 7, "api": 7, "intervals": 7,
    "batch": 8, "multi_environment": 8,
    "cli": 9, "plots": 9, "datasets": 9, "request": 9,
}  # fmt: skip
# An inference table draws itself with results/rendering when it is displayed: known, inside methods only.
DISPLAY = ("inference/figure_tables.py", "results.rendering")


def modules():
    return sorted(p for p in PACKAGE.rglob("*.py") if p != PACKAGE / "__init__.py")


def part_of(path):
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def is_type_checking(node):
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)


def imported(path):
    """Dotted names below the package that a module imports at run time."""
    package = ("fastlmm_core", *path.relative_to(PACKAGE).with_suffix("").parts[:-1])

    def visit(node):
        for child in ast.iter_child_nodes(node):
            if is_type_checking(child):
                for other in child.orelse:
                    yield from visit(other)
            elif isinstance(child, ast.Import):
                yield from (alias.name for alias in child.names)
            elif isinstance(child, ast.ImportFrom):
                base = package[: len(package) - child.level + 1] if child.level else ()
                module = ".".join((*base, *([child.module] if child.module else [])))
                yield from (f"{module}.{alias.name}" for alias in child.names)
            else:
                yield from visit(child)

    names = visit(ast.parse(path.read_text(encoding="utf-8")))
    return [name.removeprefix("fastlmm_core.") for name in names if name.startswith("fastlmm_core.")]


def test_every_module_has_a_layer():
    assert {part_of(path) for path in modules()} <= set(LAYERS)


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_run_downward(path):
    own = part_of(path)
    for name in imported(path):
        other = name.partition(".")[0]
        if other not in LAYERS:
            continue  # a name of the package itself, such as __version__
        if (str(path.relative_to(PACKAGE)), ".".join(name.split(".")[:2])) == DISPLAY:
            continue
        assert LAYERS[other] <= LAYERS[own], f"{own} imports {name}"


def test_kernels_use_only_numpy_and_numba():
    """Beside the standard library."""
    allowed = {"numpy", "numba", "llvmlite", "fastlmm_core"} | sys.stdlib_module_names
    for path in (PACKAGE / "kernels").glob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and not node.level:
                names = [node.module]
            assert {n.partition(".")[0] for n in names} <= allowed, path.name


def test_the_reader_of_imports_sees_what_it_should(tmp_path):
    """The rule above is only as good as `imported`."""
    path = PACKAGE / "results" / "fit.py"
    names = imported(path)
    assert "inference.linear_functions.LinearFunctions" in names
    assert "inference.emmeans.emmeans" in names  # inside a method
    assert not any(name.startswith("api.") for name in names)  # for type checkers only
