"""Mistakes a plant breeder makes, and what is said: the column, level or option, and what would be right."""

import warnings

import numpy as np
import pandas as pd
import pytest

from fastlmm_core import compare, datasets, lmm, prepare
from fastlmm_core.errors import ConfoundedWarning, DataError, FastLMMError, FormulaError, OptionError

OATS = datasets.load("oats")
SLEEP = datasets.load("sleepstudy")


@pytest.fixture(scope="module")
def fit():
    return lmm("Y ~ V*N + (1|B/V)", OATS)


def test_names_are_found_whatever_their_case():
    with pytest.raises(FormulaError, match="'v' is not in the data; nearest: 'V'"):
        lmm("Y ~ v + (1|B)", OATS)
    with pytest.raises(FormulaError, match="'reaction' is not in the data; nearest: 'Reaction'"):
        lmm("reaction ~ Days", SLEEP)


def test_an_equals_sign_is_no_tilde():
    with pytest.raises(FormulaError, match="write 'response ~ terms'"):
        lmm("Y = V + (1|B)", OATS)


@pytest.mark.parametrize(
    ("texts", "words"),
    [
        (lambda y: y.astype(str).str.replace(".", ",") + ",5", "decimal point, or read .* with decimal=','"),
        (lambda y: y.astype(str), "numbers kept as text"),
        (lambda y: y.astype(str).where(y.index != 3, "n.d."), "'n.d.' is not numeric"),
        (lambda y: "low" + y.astype(str), "cannot be modelled as a response"),
    ],
)
def test_a_response_of_text(texts, words):
    with pytest.raises(DataError, match=f"'Y' has the labels .*{words}"):
        lmm("Y ~ V + (1|B)", OATS.assign(Y=texts(OATS["Y"])))


@pytest.mark.parametrize("option", ["weights", "offset"])
def test_values_with_an_index_of_their_own(option):
    values = pd.Series(np.arange(1.0, 73.0), index=np.arange(72)[::-1])
    with pytest.raises(DataError, match=f"{option} is a Series with another index") as at_first:
        lmm("Y ~ V + (1|B)", OATS, **{option: values})
    with pytest.raises(DataError) as later:
        prepare("Y ~ V + (1|B)", OATS).fit(weights=values)
    assert str(later.value) == str(at_first.value).replace(option, "weights")
    aligned = lmm("Y ~ V + (1|B)", OATS, **{option: values.sort_index()})
    plain = lmm("Y ~ V + (1|B)", OATS, **{option: values.sort_index().to_numpy()})
    np.testing.assert_array_equal(aligned.beta, plain.beta)


def test_other_responses_with_an_index_of_their_own():
    """The values of a Series are those of its rows, all of the table or those used; in another order they are
    refused."""
    gaps = OATS.assign(Y=OATS["Y"].where(OATS.index % 7 != 3))
    fit = lmm("Y ~ V + (1|B)", gaps)
    other = gaps["Y"] + np.arange(72.0)
    used = other[gaps["Y"].notna()]
    expected = fit.refit(used.to_numpy()).beta
    for given in (used, other):
        np.testing.assert_array_equal(fit.refit(given).beta, expected)
    for given in (used[::-1], other[::-1], used.reset_index(drop=True)):
        with pytest.raises(DataError, match="y is a Series with another index"):
            fit.refit(given)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda f: f.emmeans("N", at=["V"]), OptionError, "at=.*by variable"),
        (lambda f: f.emmeans(None), OptionError, "specs=None must name the factors"),
        (lambda f: f.emmeans("N").contrast({"a": ["x", "y", "z", "w"]}), OptionError, "'a': .* numbers"),
        (lambda f: f.emmeans("N").contrast({"a": [1, -1, np.nan, 0]}), OptionError, "'a': .* finite"),
        (lambda f: f.emmeans("N").contrast({"a": {"N0.0cwt": "b"}}), OptionError, "'a': .* numbers"),
        (lambda f: f.emmeans("~ V | N").contrast(interaction=["pairwise", "consec"]), OptionError,
         "2 families, but there is 1 factor .'V', within 'N'."),
        (lambda f: f.fixed_effects(level=95), OptionError, "level=95 .* for example 0.95"),
        (lambda f: f.blups(level=95), OptionError, "level=95 .* for example 0.95"),
        (lambda f: compare(f, "x"), OptionError, "takes fits, not 'str'"),
        (lambda f: f.predict(OATS, random=None), OptionError, "random=None"),
        (lambda f: f.linear_functions([[1, 0]]), OptionError, "K has 2 columns; the model has 12"),
        (lambda f: f.prepared.fit(theta=[1.0]), OptionError, "theta must be 2 finite numbers"),
        (lambda f: f.prepared.fit(theta=[1.0, np.nan]), OptionError, "theta must be 2 finite numbers"),
        (lambda f: f.prepared.fit(theta=["a", "b"]), OptionError, "theta must be numbers"),
        (lambda f: lmm("Y ~ V", OATS, contrasts="contr.sum"), OptionError, "does not name its factors"),
        (lambda f: lmm("Y ~ V", OATS, max_memory="8 gigs"), OptionError, "'8 gigs' is not a size"),
        (lambda f: f.predict(OATS.assign(B="XI")), DataError, "'V:B' has the levels 'Victory:XI'"),
        (lambda f: f.predict(OATS.assign(B=None)), DataError, "'V:B' has no value in 72 rows"),
    ],
)  # fmt: skip
def test_wrong_options_are_named(fit, call, error, words):
    with pytest.raises(error, match=words):
        call(fit)


def test_labels_where_the_fit_had_numbers():
    fit = lmm("Reaction ~ Days + (1|Subject)", SLEEP)
    with pytest.raises(DataError, match="'Days' has the labels '1', but numbers are needed"):
        fit.predict({"Days": ["1"], "Subject": ["S308"]})
    assert np.isfinite(fit.predict({"Days": [1], "Subject": ["S308"]})).all()


def test_starting_values_move_nothing():
    prepared = prepare("Y ~ V*N + (1|B/V)", OATS)
    first = prepared.fit()
    again = prepared.fit(theta=first.solved.theta)
    np.testing.assert_allclose(again.criterion, first.criterion, rtol=1e-10)


def test_a_column_named_like_a_second_term():
    """lme4 writes rep.1 for a second term of rep; here it is a column of its own, with its own variance."""
    rng = np.random.default_rng(0)
    rep, plot = rng.integers(0, 5, 200), rng.integers(0, 25, 200)
    y = 3.0 * rng.normal(size=5)[rep] + rng.normal(size=25)[plot] + rng.normal(size=200)
    fit = lmm("y ~ 1 + (1|rep) + (1|rep.1)", {"y": y, "rep": rep.astype(str), "rep.1": plot.astype(str)})
    shown = fit.summary().random.to_frame().set_index("Groups")["Variance"]
    expected = fit.variance_components.set_index("group")["estimate"]
    for group in ("rep", "rep.1", "Residual"):
        assert shown[group] == expected[group]


def test_correlations_stand_under_one_heading():
    text = str(lmm("Y ~ N + (V|B)", OATS).summary())
    assert "Corr.2" not in text
    header = next(line for line in text.splitlines() if line.startswith(" Groups"))
    assert header.split() == ["Groups", "Name", "Variance", "Std.Dev.", "Corr", "Corr"]


def test_an_effect_in_two_terms_is_said_to_be_confounded():
    with pytest.warns(ConfoundedWarning, match=r"'\(Intercept\)' varies between levels of 'B' in more"):
        twice = lmm("Y ~ V + (1|B) + (1|B)", OATS)
    once = lmm("Y ~ V + (1|B)", OATS)
    np.testing.assert_allclose(twice.criterion, once.criterion, rtol=1e-9)
    assert list(twice.ranef()["B"].columns) == ["(Intercept)", "(Intercept)"]
    with warnings.catch_warnings():
        warnings.simplefilter("error", ConfoundedWarning)
        lmm("Reaction ~ Days + (1|Subject) + (0 + Days|Subject)", SLEEP)


def test_every_mistake_is_an_error_of_this_library():
    assert issubclass(OptionError, FastLMMError)
    for formula in ("Y ~ V + (1|B", "Y ~ V + 1|B)", "Y ~ V + 1|B", "", "Y ~ V ~ N", "Y ~ foo(V)"):
        with pytest.raises(FormulaError):
            lmm(formula, OATS)
