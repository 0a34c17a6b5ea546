"""The doors of the library: what is refused before work begins, and what may leave."""

import inspect
import pickle
import re
import warnings

import numpy as np
import pandas as pd
import pytest

from fastlmm_core import datasets, errors, fit_batch, lmm, plots, prepare
from fastlmm_core.errors import (
    LONGEST,
    FastLMMError,
    FormulaError,
    InternalError,
    OptionError,
    clipped,
    shown,
)
from fastlmm_core.gate import ours_of, public
from fastlmm_core.options import LEVEL, NAMES, check, list_of, one_of, optional, record, table_of, whole


@pytest.fixture(scope="module")
def fit():
    return lmm("Y ~ V*N + (1|B/V)", datasets.load("oats"))


def is_ours(error):
    """One of ours, in one printable line of bounded length."""
    assert isinstance(error, FastLMMError), repr(error)
    assert not isinstance(error, InternalError), str(error)
    text = str(error)
    assert text and len(text) <= LONGEST and text.isprintable(), text
    return text


ROOT = [
    FastLMMError("m"), FormulaError("m", "y ~ x +", 7), errors.MemoryForecastError("m", 5, 3),
    errors.MemoryExhaustedError("m"), errors.DependencyError("m"), errors.SingularFitWarning("m"),
]  # fmt: skip


@pytest.mark.parametrize("error", ROOT, ids=lambda e: type(e).__name__)
def test_errors_survive_pickling(error):
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is type(error) and str(again) == str(error) and vars(again) == vars(error)


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ("plain", "plain"),
        ("a\nb\tc\x1b[31m", "a\\nb\\tc\\x1b[31m"),
        ("x\u202ey\u2066", "x\\u202ey\\u2066"),
        ("\ud800", "\\ud800"),
        ("Größe, K₂O, 基因", "Größe, K₂O, 基因"),
    ],
)
def test_messages_are_printable(text, want):
    assert str(errors.DataError(text)) == want
    assert str(errors.SingularFitWarning(text)) == want


def test_messages_are_bounded_and_keep_both_ends():
    text = "begin " + "x" * 10_000_000 + " end"
    assert len(clipped(text)) == LONGEST
    assert clipped(text).startswith("begin x") and clipped(text).endswith("x end")
    assert len(str(FormulaError("m" * 5000, "y ~ " + "x" * 5000, 3000))) <= LONGEST
    assert shown(10**5000) == "a value of type int"
    assert len(shown(list(range(10**6)))) <= 60


def test_place_in_a_long_formula_is_shown_with_what_stands_around_it():
    formula = "y ~ " + " + ".join(f"x{i}" for i in range(300)) + " + (1|"
    with pytest.raises(FormulaError) as caught:
        lmm(formula, {"y": [1.0]})
    assert caught.value.position == len(formula)
    assert str(caught.value).endswith(f"(character {len(formula) + 1} of '...{formula[-60:]}')")


@pytest.mark.parametrize(
    ("kind", "value", "words"),
    [
        (LEVEL, 95, "v=95 must lie above 0 and below 1, for example 0.95"),
        (LEVEL, "0.9", "v='0.9' must be a finite number"),
        (LEVEL, True, "v=True must be a finite number"),
        (LEVEL, float("nan"), "v=nan must be a finite number"),
        (whole(0), -1, "v=-1 must be a whole number, 0 or larger"),
        (whole(0), 1.5, "v=1.5 must be a whole number, 0 or larger"),
        (whole(0), 10**400, "must be a whole number"),
        (optional(whole(1)), [1], r"v=\[1\] must be a whole number, 1 or larger"),
        (NAMES, 3, "v=3 must be a name or a list of names"),
        (NAMES, ["a", None], "v=None must be a name"),
        (NAMES, "", "v is empty; it must be a name"),
        (NAMES, "a\ud800", r"v='a\\ud800' is not valid Unicode \(character 2\)"),
        (one_of(("REML", "ML")), "reml", "v='reml' is not known; allowed: 'REML', 'ML'"),
        (one_of((1, 2, 3)), True, "v=True is not known; allowed: 1, 2, 3"),
        (table_of(whole(0)), {"a": "b"}, r"v\['a'\]='b' must be a whole number"),
        (table_of(whole(0)), {1: 1}, "v has the key 1; keys are texts"),
        (record({"a": whole(0)}, ["a"]), {}, "v lacks 'a'"),
        (record({"a": whole(0)}), {"b": 1}, "v has no key 'b'; known: 'a'"),
        (list_of(record({"a": whole(0)})), [{}, {"a": "x"}], r"v\[1\]\.a='x' must be a whole number"),
        (list_of(whole(0)), "abc", "v must be a list of whole numbers, not 'abc'"),
    ],
)
def test_values_of_a_wrong_kind_are_named(kind, value, words):
    with pytest.raises(OptionError, match=words):
        check("v", value, kind)


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (LEVEL, np.float32(0.9)), (whole(0), np.int8(3)), (optional(LEVEL), None), (NAMES, ("a", "b")),
        (NAMES, np.array(["a"])), (one_of((1, 2, 3)), np.int64(2)), (list_of(whole(0)), range(3)),
        (record({"a": whole(0)}), {"a": None}), (table_of(LEVEL), {"x": 0.5}),
    ],
)  # fmt: skip
def test_values_of_the_kind_pass(kind, value):
    check("v", value, kind)


STRANGE = (
    object(), 1j, b"x", "\ud800", "a\x00b", 10**400, float("nan"), [], {}, [[]], {"a": {}}, -1, 2.5, "", "zz",
    np.zeros((2, 2)), pd.NaT, {1, 2},
)  # fmt: skip
QUESTIONS = (
    "linear_functions", "fixed_effects", "anova", "emmeans", "emtrends", "joint_tests", "blups", "predict",
    "refit", "summary", "observation_weights", "marker_effects", "vpredict",
)  # fmt: skip
NEEDED = {
    "linear_functions": {"K": np.zeros((1, 12))}, "observation_weights": {"K": np.eye(12)[:1]},
    "emmeans": {"specs": "V"}, "emtrends": {"specs": "V", "var": "x"}, "refit": {"y": np.arange(72.0)},
    "vpredict": {"expression": "V1"},
}  # fmt: skip
TABLES = (
    "contrast", "test", "with_options", "cld", "difference_errors", "comparison_intervals", "best",
    "forecast_pairs", "pairs",
)  # fmt: skip


@pytest.mark.parametrize("question", QUESTIONS)
def test_no_option_of_a_question_lets_a_foreign_error_out(fit, question):
    method, needed = getattr(fit, question), NEEDED.get(question, {})
    for option in inspect.signature(method).parameters:
        for value in STRANGE:
            try:
                method(**{**needed, option: value})
            except Exception as error:
                is_ours(error)


@pytest.mark.parametrize("question", TABLES)
def test_no_option_of_a_table_lets_a_foreign_error_out(fit, question):
    table = fit.emmeans("V")
    names = [p for p in inspect.signature(getattr(table, question)).parameters if p != "options"]
    for option in [*names, "reverse", "max_degree", "wrong"]:
        for value in STRANGE:
            try:
                str(getattr(table, question)(**{option: value}))
            except Exception as error:
                is_ours(error)


@pytest.mark.parametrize("door", [lmm, prepare])
def test_no_option_of_a_fit_lets_a_foreign_error_out(door):
    data = datasets.load("oats")
    given = {"formula": "Y ~ V + (1|B)", "data": data}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for option in [*inspect.signature(door).parameters, "wieghts"]:
            for value in STRANGE:
                try:
                    door(**{**given, option: value})
                except Exception as error:
                    is_ours(error)


def test_no_option_of_a_batch_lets_a_foreign_error_out():
    data = datasets.load("trials")
    given = {"source": data, "formula": "yield ~ gen + (1|rep)", "by": "trial", "progress": False}
    for option in inspect.signature(fit_batch).parameters:
        if option in ("engine", "out"):  # asked for below: every value would be a folder
            continue
        for value in STRANGE:
            try:
                fit_batch(**{**given, "fixed": False, option: value})
            except Exception as error:
                is_ours(error)


def test_figures_are_doors_too(fit):
    pytest.importorskip("matplotlib")
    for draw in (plots.plot_emmeans, plots.plot_blups, plots.plot_residuals, plots.plot_comparison_intervals):
        for thing in STRANGE:
            with pytest.raises(FastLMMError) as caught:
                draw(thing)
            is_ours(caught.value)


def test_an_unknown_option_is_named():
    with pytest.raises(OptionError, match=r"lmm\(\) has no option 'wieghts'; nearest: 'weights'"):
        lmm("y ~ x", {"y": [1.0]}, wieghts="w")
    with pytest.raises(OptionError, match="missing a required argument: 'data'"):
        lmm("y ~ x")


def test_what_the_caller_raises_stays_the_callers():
    class Stop(Exception):
        pass

    def stop(*_):
        raise Stop

    data = datasets.load("oats")
    with pytest.raises(Stop):
        lmm("Y ~ V + (1|B)", data, verbose=stop)
    with warnings.catch_warnings(), pytest.raises(errors.RankDeficientWarning):
        warnings.simplefilter("error", errors.FastLMMWarning)
        lmm("Y ~ V + V2 + (1|B)", data.assign(V2=data["V"]))


def test_a_warning_points_at_the_line_that_called():
    data = datasets.load("oats")
    model = prepare("Y ~ V + V2 + (1|B)", data.assign(V2=data["V"]))
    for call in (lambda: model.fit(), lambda: lmm("Y ~ V + V2 + (1|B)", data.assign(V2=data["V"]))):
        with pytest.warns(errors.RankDeficientWarning) as caught:
            call()
        assert caught[0].filename == __file__


@pytest.mark.parametrize(
    ("raised", "kind"),
    [
        (MemoryError(), errors.MemoryExhaustedError), (RecursionError(), OptionError),
        (np.linalg.LinAlgError("singular"), errors.NumericalError), (KeyError("k"), InternalError),
        (OSError(28, "No space left on device", "/x/y"), errors.DataError),
    ],
)  # fmt: skip
def test_every_exception_is_translated(raised, kind):
    @public()
    def door():
        raise raised

    with pytest.raises(kind) as caught:
        door()
    assert caught.value.__cause__ is raised
    assert ours_of(caught.value) is caught.value


def test_a_fault_of_ours_names_its_line():
    found = ours_of(KeyError("k"))
    assert re.fullmatch("internal error, please report it: KeyError: 'k'", str(found))


@pytest.mark.parametrize("formula", ["Y ~ 0", "Y ~ 0 + (1|B)", "Y ~ -1 + (1|B) + (1|V)"])
def test_a_model_without_fixed_effects_answers_every_question(formula):
    data = datasets.load("oats")
    fit = lmm(formula, data)
    assert fit.rank == 0 and fit.beta.size == fit.se.size == 0 and fit.cov_beta.shape == (0, 0)
    assert len(fit.fixed_effects()) == len(fit.anova()) == 0
    assert "Residual" in str(fit.summary())
    with pytest.raises(OptionError, match="no effect to test"):
        fit.joint_tests()
    if "|" not in formula:
        assert fit.sigma**2 == pytest.approx(np.mean(data["Y"] ** 2))
        assert fit.criterion == pytest.approx(72 * (np.log(2 * np.pi * fit.sigma**2) + 1))
        assert fit.predict(data.iloc[:3]).tolist() == [0.0, 0.0, 0.0]
