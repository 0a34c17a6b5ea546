"""Imports run downward only.

cli, plots, datasets, request > batch > api, results > means > inference > reml, engine > design > formula >
structures > linalg, multiplicity > kernels > errors.  Imports inside functions count, and those for type
checkers: a name that a signature needs is a thought that goes the other way.
"""

import ast
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "fastlmm_core"
LAYERS = {
    "errors": 0, "_version": 0,
    "options": 1, "gate": 1, "limits": 1,  # the doors: kinds of values, what leaves, how much
    "other_names": 1,  # words of other programs, for the messages of the doors
    "reading": 1,  # files to tables: needs nothing but errors
    "durable_files": 1, "table_formats": 1,
    "processes": 1,  # children of this process and the socket to them
    "progress_bar": 1,
    "compiling": 1,
    "display": 1,  # text and HTML of tables: needs pandas only
    "kernels": 1,
    "linalg": 2,
    "multiplicity": 2,  # distributions and adjustments, of numbers alone
    "structures": 3,  # a known inverse is factorized by linalg
    "formula": 4,  # text to what it says, without a table
    "design": 5,
    "reml": 6, "engine": 6,  # one search for both: reml is the engine of unrelated levels
    "inference": 7,
    "means": 8,
    "results": 9, "api": 9, "fit_arguments": 9, "intervals": 9, "loading": 9,
    "batch": 10, "multi_environment": 10,
    "cli": 11, "plots": 11, "reports": 11, "datasets": 11, "request": 11, "service": 11,
    "scikit_learn": 11,
}  # fmt: skip


def modules():
    return sorted(p for p in PACKAGE.rglob("*.py") if p != PACKAGE / "__init__.py")


def part_of(path):
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported(path):
    """Dotted names below the package that a module imports, wherever in it."""
    package = ("fastlmm_core", *path.relative_to(PACKAGE).with_suffix("").parts[:-1])

    def visit(node):
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Import):
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
        assert LAYERS[other] <= LAYERS[own], f"{own} imports {name}"


def test_kernels_use_only_numpy_and_numba():
    """Beside the standard library."""
    allowed = {"numpy", "numba", "llvmlite", "fastlmm_core"} | sys.stdlib_module_names
    for path in (PACKAGE / "kernels").rglob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and not node.level:
                names = [node.module]
            assert {n.partition(".")[0] for n in names} <= allowed, path.name


def module_of(name, known):
    """The module that a dotted name is of: `a.b.c` or, for a name in it, `a.b`; else None."""
    for module in (name, name.rpartition(".")[0]):
        if module in known:
            return module
    return None


def circles():
    """Sets of modules each of which imports every other, if only by way of others (Tarjan 1972)."""
    paths = {
        str(p.relative_to(PACKAGE).with_suffix("")).replace("/", ".").removesuffix(".__init__"): p
        for p in modules()
    }
    graph = {
        name: {module_of(other, paths) for other in imported(path)} - {None, name}
        for name, path in paths.items()
    }
    number, low, stack, found = {}, {}, [], []

    def visit(name):
        number[name] = low[name] = len(number)
        stack.append(name)
        for other in sorted(graph[name]):
            if other not in number:
                visit(other)
                low[name] = min(low[name], low[other])
            elif other in stack:
                low[name] = min(low[name], number[other])
        if low[name] == number[name]:
            members = stack[stack.index(name) :]
            del stack[stack.index(name) :]
            if len(members) > 1:
                found.append(frozenset(members))

    for name in sorted(graph):
        if name not in number:
            visit(name)
    return found


def test_no_circle():
    for members in circles():
        raise AssertionError(f"circle: {', '.join(sorted(members))}")


def test_the_reader_of_imports_sees_what_it_should():
    """The rules above are only as good as `imported`."""
    names = imported(PACKAGE / "results" / "fixed_part.py")
    assert "inference.linear_functions.LinearFunctions" in names
    assert "means.emmeans.emmeans" in names  # inside a method
    names = imported(PACKAGE / "intervals" / "refits.py")
    assert "results.random_part.RandomPart" in names  # for type checkers only
