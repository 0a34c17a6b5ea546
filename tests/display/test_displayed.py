"""Every object that a public function returns says what it is, and what can be asked of it next."""

import importlib
import importlib.util
import inspect
import pkgutil
import re

import pytest

import fastlmm_core
from fastlmm_core import datasets, lmm, plots, prepare
from fastlmm_core.display.displayed import Displayed
from fastlmm_core.display.next_steps import NEXT_STEPS, next_steps


def package_classes():
    found = {}
    for module in pkgutil.walk_packages(fastlmm_core.__path__, "fastlmm_core."):
        if module.name.endswith("scikit_learn") and not importlib.util.find_spec("sklearn"):
            continue  # an extra
        if not module.name.endswith("__main__"):
            members = vars(importlib.import_module(module.name)).values()
            found |= {m.__name__: m for m in members if inspect.isclass(m) and m.__module__ == module.name}
    return found


CLASSES = package_classes()


def returned_classes():
    """Classes of this package that public functions return, by way of the methods of those too."""
    seen: dict[str, type] = {}
    waiting = [getattr(fastlmm_core, name) for name in fastlmm_core.__all__]
    while waiting:
        member = waiting.pop()
        if inspect.isclass(member) and member.__module__.startswith("fastlmm_core"):
            if member.__name__ in seen or issubclass(member, (BaseException, Warning)):
                continue
            seen[member.__name__] = member
            waiting += [getattr(member, name) for name in dir(member) if not name.startswith("_")]
            continue
        function = getattr(member, "fget", None) or getattr(member, "func", None) or member
        annotation = getattr(function, "__annotations__", {}).get("return", "")
        waiting += [CLASSES[word] for word in re.findall(r"\w+", str(annotation)) if word in CLASSES]
    return seen


# What a fit is made of: parts of the engine that only those look at who work on it.
INSIDE = {
    "SolvedEquations", "StructuredSolution", "CholeskyFactor", "ParsedFormula", "Coding",
    "MixedModelEquations", "StructuredEquations", "MarkerEffects", "PartStore", "Limits",
    "Adjustment", "Family", "Probability",
}  # fmt: skip


def test_the_walk_finds_what_it_should():
    assert {"LMMFit", "EmmeansTable", "Bootstrap", "GxE", "AMMI"} <= set(returned_classes())


@pytest.mark.parametrize("name", sorted(set(returned_classes()) - INSIDE))
def test_returned_objects_say_what_they_are_and_what_is_next(name):
    kind = CLASSES[name]
    assert issubclass(kind, Displayed), f"{kind.__module__}.{name} is not Displayed"
    assert next_steps(kind), f"display/next_steps.py has nothing for {name}"
    assert kind._shown is not Displayed._shown or inspect.isabstract(kind)


@pytest.mark.parametrize("name", sorted(NEXT_STEPS))
def test_next_steps_exist(name):
    """A step with a dot is an attribute of the class; one of plots is a figure."""
    attributes = {*dir(CLASSES[name]), *getattr(CLASSES[name], "__dataclass_fields__", {})}
    for step in NEXT_STEPS[name]:
        if own := re.match(r"\.(\w+)", step):
            assert own[1] in attributes or step.endswith("of the fit"), f"{name} has no {step}"
        if figure := re.match(r"plots\.(\w+)\(", step):
            assert figure[1] in plots.__all__


@pytest.fixture(scope="module")
def fit():
    return lmm("Y ~ V*N + (1|B/V)", datasets.load("oats"))


def test_print_shows_the_table_and_a_session_the_next_steps_too(fit):
    means = fit.emmeans("N")
    assert repr(means).startswith(str(means)) and "Next:" not in str(means)
    assert '.contrast("pairwise")' in repr(means).splitlines()[-1]
    assert "<small>Next:" in means._repr_html_()


def test_a_session_shows_a_fit_in_short(fit):
    lines = repr(fit).splitlines()
    assert lines[0] == "Linear mixed model by REML: Y ~ V*N + (1|B/V)"
    assert lines[1].startswith("72 rows, 12 fixed effects") and "B 214.5" in lines[2]
    assert str(fit) == str(fit.summary())


def test_a_fit_says_in_short_too_what_a_reader_must_know():
    singular = lmm("Yield ~ 1 + (1|Batch)", datasets.load("dyestuff2"))
    assert "Singular fit" in repr(singular)


def test_a_prepared_model_says_that_it_is_not_fitted():
    text = repr(prepare("Y ~ V*N + (1|B/V)", datasets.load("oats")))
    assert "not yet fitted" in text and "(1 | V:B), 18 levels" in text


def test_text_becomes_html_without_markup_of_its_own():
    class Odd(Displayed):
        def _shown(self):
            return "a < b\n& c"

    assert Odd()._repr_html_() == "<p>a &lt; b<br>&amp; c</p>"
