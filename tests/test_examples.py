"""Every public function, class and method has an example in its docstring, and the examples run."""

import doctest
import inspect
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tools"))

from build_site import REFERENCE, is_contract, members_of, named  # noqa: E402


def public_objects():
    """Dotted name to object: what the reference lists, and the methods of its classes."""
    found = {}
    for _, paths in REFERENCE.values():
        for path in paths:
            owner, name = named(path), path.rpartition(".")[2]
            for key, member in members_of(owner) if inspect.ismodule(owner) else [(name, owner)]:
                if isinstance(member, type) and issubclass(member, BaseException):
                    continue
                found[key] = member
                if inspect.isclass(member):
                    found |= {f"{key}.{own}": value for own, value in methods_of(member)}
    return found


def methods_of(kind):
    """Public methods of a class that this package defines, each once, by the class that defines it."""
    for name in dir(kind):
        if name.startswith("_"):
            continue
        member = inspect.getattr_static(kind, name)
        member = member.__func__ if isinstance(member, (classmethod, staticmethod)) else member
        if inspect.isfunction(member) and member.__module__.startswith("fastlmm_core"):
            yield name, member


OBJECTS = {
    name: own for name, own in public_objects().items()
    if not is_contract(*name.partition(".")[::2])
}  # fmt: skip


def test_the_walk_finds_what_it_should():
    assert {"lmm", "LMMFit.emmeans", "EmmeansTable.cld", "plot_field", "Pedigree", "GxE.ammi"} <= set(OBJECTS)


@pytest.mark.parametrize("name", sorted(OBJECTS))
def test_every_public_name_has_an_example(name):
    own = OBJECTS[name]
    texts = [own.__doc__, getattr(own, "__init__", None).__doc__ if inspect.isclass(own) else None]
    assert any(">>>" in (text or "") for text in texts), f"{own.__module__}: {name} has no example"


def functions_with_examples():
    finder = doctest.DocTestFinder(recurse=False)
    seen = {}
    for name, own in OBJECTS.items():
        inner = inspect.unwrap(own) if inspect.isfunction(own) else own
        key = (inner.__module__, inner.__qualname__)
        for test in finder.find(own, name, globs={}):
            if test.examples:
                seen.setdefault(key, (name, test))
    return dict(seen.values())


EXAMPLES = functions_with_examples()


@pytest.mark.filterwarnings("ignore::fastlmm_core.errors.FastLMMWarning")
@pytest.mark.parametrize("name", sorted(EXAMPLES))
def test_examples_print_what_they_say(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "Agg")
    report: list[str] = []
    flags = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS
    runner = doctest.DocTestRunner(optionflags=flags, verbose=False)
    runner.run(EXAMPLES[name], out=report.append)
    assert runner.failures == 0, "".join(report)
