"""Likelihood-ratio comparisons of nested fits: never refused on the same rows, and a known figure."""

import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import chi2

from fastlmm_core import compare, datasets, lmm
from fastlmm_core.errors import DesignError

# 210 rows of repeated measures in three phases, with the figures of their comparison from elsewhere.
PHASES = pd.read_csv(Path(__file__).parents[1] / "design" / "reference" / "phases.csv")


def quiet(formula, data, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return lmm(formula, data, **options)


def test_figures_of_a_reference():
    """Chi-square 1.32903 on 4 df, p 0.856431 for the interaction of phase and treatment."""
    large = quiet("value ~ phase*tr + age + (1|id)", PHASES, reml=False)
    small = quiet("value ~ phase + tr + age + (1|id)", PHASES, reml=False)
    row = compare(large, small).iloc[1]
    assert row["df"] == 4
    np.testing.assert_allclose([row["chisq"], row["p"]], [1.32903, 0.856431], atol=5e-6)


@pytest.mark.parametrize("seed", range(40))
def test_nested_fits_of_the_same_rows_always_compare(seed):
    """Responses of all sizes, with offsets and weights, missing rows, and a formula that computes them."""
    r = np.random.default_rng(seed)
    n, groups = int(r.integers(30, 80)), int(r.integers(5, 9))
    data = pd.DataFrame(r.normal(size=(n, 2)), columns=["x", "z"])
    data["g"] = r.integers(0, groups, n).astype(str)
    data["y"] = 10.0 ** r.integers(-6, 7) * (r.normal(size=n) + 3 * data["x"] + 5 * r.normal())
    data["w"], data["o"] = r.uniform(0.5, 2.0, n), r.normal(size=n)
    data.loc[r.integers(0, n, 3), ["y", "x"]] = np.nan
    options = {"reml": False, **({"weights": "w"} if seed % 3 == 0 else {})}
    offset = " + offset(o)" if seed % 2 else ""
    small = quiet(f"y ~ x + (1|g){offset}", data, **options)
    large = quiet(f"y ~ x*z + (1|g){offset}", data, **options)
    row = compare(small, large).iloc[1]
    assert row["df"] == 2
    np.testing.assert_allclose(row["chisq"], max(small.criterion - large.criterion, 0.0), atol=1e-9)
    np.testing.assert_allclose(row["p"], chi2.sf(row["chisq"], 2), rtol=1e-9)
    assert np.array_equal(small.response, data["y"].dropna())


def test_restricted_criteria_of_two_codings_are_put_on_one_scale():
    """Columns times M change the criterion by 2 log |M|: AIC differed by 4.1 for 1.9."""
    oats = datasets.load("oats")
    small, large = "Y ~ V + (1|B)", "Y ~ V + (1|B/V)"
    want = compare(quiet(small, oats), quiet(large, oats))
    got = compare(quiet(small, oats), quiet(large, oats, contrasts={"V": "contr.sum"}))
    names = ["criterion", "loglik", "aic", "bic", "chisq", "p"]
    np.testing.assert_allclose(got[names].astype(float), want[names].astype(float), rtol=1e-6)


def test_models_without_fixed_columns():
    """Their restricted criteria have no coding to differ by; an internal error before."""
    oats = datasets.load("oats")
    fits = [quiet(f"Y ~ 0 + {random}", oats) for random in ("(1|B)", "(1|B/V)")]
    assert compare(*fits)["chisq"].iloc[1] == pytest.approx(fits[0].criterion - fits[1].criterion)


def test_a_response_computed_in_two_ways_is_one_response():
    data = PHASES.assign(value=PHASES["value"] - PHASES["value"].min() + 1.0)
    data["logged"] = np.log2(data["value"]) / np.log2(np.e)
    plain = quiet("logged ~ age + (1|id)", data, reml=False)
    assert compare(plain, quiet("log(value) ~ age + tr + (1|id)", data, reml=False))["df"].iloc[1] == 2


@pytest.mark.parametrize("change", [lambda y: y + 1e-9, lambda y: y[::-1].to_numpy(), lambda y: 2 * y])
def test_another_response_is_refused(change):
    first = quiet("value ~ age + (1|id)", PHASES, reml=False)
    other = quiet("value ~ age + tr + (1|id)", PHASES.assign(value=change(PHASES["value"])), reml=False)
    with pytest.raises(DesignError, match="not of the same observations"):
        compare(first, other)


def test_fits_that_differ_in_the_residual_are_told_apart():
    """AR(1) with one variance within AR(1) with ten: nine parameters more."""
    sleep = datasets.load("sleepstudy")
    fits = [lmm("Reaction ~ Days", sleep, residual=f"{name}(Days | Subject)") for name in ("hetar1", "ar1")]
    table = compare(*fits)
    assert list(table["formula"]) == [
        "Reaction ~ Days, residual='ar1(Days | Subject)'",
        "Reaction ~ Days, residual='hetar1(Days | Subject)'",
    ]
    assert table["df"][1] == 9
    assert table["chisq"][1] == pytest.approx(fits[1].criterion - fits[0].criterion, rel=1e-12)


@pytest.mark.parametrize("name", ["offset", "weights"])
def test_fits_of_other_offsets_or_weights_are_refused(name):
    """Their likelihoods are of different data: a chi-square of hundreds on a df or two means nothing."""
    rng = np.random.default_rng(4)
    data = PHASES.assign(k=rng.uniform(0.5, 2.0, len(PHASES)))
    with_it = quiet("value ~ age + (1|id)", data, reml=False, **{name: "k"})
    same = quiet("value ~ age + tr + (1|id)", data, reml=False, **{name: "k"})
    assert compare(with_it, same)["df"].iloc[1] == 2
    for other in ({}, {name: "j"}):
        fit = quiet("value ~ age + tr + (1|id)", data.assign(j=data["k"] + 0.5), reml=False, **other)
        with pytest.raises(DesignError, match=f"different {name}"):
            compare(with_it, fit)


@pytest.mark.filterwarnings("ignore::fastlmm_core.errors.FastLMMWarning")
@pytest.mark.parametrize("random", ["(1 | g)", "(1 | ar1(place))"])
@pytest.mark.parametrize("base, power", [(2000, 2), (2000, 3), (1_000_000, 2)])
def test_codings_of_powers_of_a_year_are_put_on_one_scale(random, base, power):
    """log |X'X| of the raw powers has no digits left; fits beside others of one coding say what is right."""
    rng = np.random.default_rng(3)
    g = rng.choice(8, 60)
    c = np.arange(60) % 10 - 4.0
    data = pd.DataFrame({"g": [f"g{k}" for k in g], "h": [f"h{k % 4}" for k in range(60)], "c": c})
    data = data.assign(year=c + base, place=g, y=rng.normal(size=60) + 0.3 * g)
    coded = {}
    for name in ("c", "year"):
        terms = [name, *(f"I({name}^{k})" for k in range(2, power + 1))]
        coded[name] = f"y ~ {' + '.join(terms)} + {random}"
    large = lmm(f"{coded['c']} + (1 | h)", data)
    mixed, one = (compare(lmm(coded[name], data), large) for name in ("year", "c"))
    assert np.allclose(mixed["chisq"][1], one["chisq"][1], atol=1e-6)
    assert np.allclose(mixed["criterion"], one["criterion"], atol=1e-6)


@pytest.mark.filterwarnings("ignore::fastlmm_core.errors.FastLMMWarning")
@pytest.mark.parametrize("residual", ["units", "units | h"])
def test_fits_that_are_not_nested_have_no_test(residual):
    """Their AIC compare; a ratio of likelihoods of (x) and (z, w) had p = 1, or 4e-7 beside one more term."""
    rng = np.random.default_rng(0)
    data = pd.DataFrame(rng.normal(size=(60, 3)), columns=["x", "z", "w"])
    data = data.assign(g=[f"g{k % 7}" for k in range(60)], h=[f"h{k % 4}" for k in range(60)])
    data["y"] = data["x"] + rng.normal(size=60) + 2.0 * (data["h"] == "h1")
    small = lmm("y ~ x + (1 | g)", data, reml=False, residual=residual)
    others = {
        "y ~ z + w + (1 | g)": False, "y ~ z + (1 | g) + (1 | h)": False,
        "y ~ x + I(2 * x - z) + (1 | g)": True, "y ~ I(x + w) + w + (1 | g) + (1 | h)": True,
    }  # fmt: skip
    for formula, nested in others.items():
        large = lmm(formula, data, reml=False, residual=residual)
        row = compare(small, large).loc[1]
        assert np.isfinite([row["chisq"], row["p"]]).all() == nested
        assert nested or np.isnan(row["p_boundary"])
        assert row["df"] == large.npar - small.npar
        if nested:
            ratio = small.criterion - large.criterion
            assert row["chisq"] == pytest.approx(ratio, abs=1e-9)
            assert row["p"] == pytest.approx(chi2.sf(ratio, row["df"]), rel=1e-9)


SUBJECTS, VISITS = 15, 4


def visits():
    rng = np.random.default_rng(5)
    level = rng.normal(size=(SUBJECTS, 1)) + np.cumsum(rng.normal(size=(SUBJECTS, VISITS)), axis=1)
    return pd.DataFrame({
        "y": level.ravel(), "visit": np.tile([f"v{k}" for k in range(VISITS)], SUBJECTS),
        "subject": np.repeat([f"s{i:02d}" for i in range(SUBJECTS)], VISITS),
    })  # fmt: skip


@pytest.mark.parametrize(
    ("smaller", "larger", "nested"),
    [("ar1", "hetar1", True), ("ar1", "us", True), ("homcs", "toep", True), ("cs", "toep", True),
     ("ar1", "cs", False), ("homcs", "hetar1", False), ("diag", "hetar1", True)],
)  # fmt: skip
def test_residuals_of_subjects_that_are_no_special_case_have_no_test(smaller, larger, nested):
    fits = [lmm("y ~ visit", visits(), residual=f"{name}(visit | subject)") for name in (smaller, larger)]
    row = compare(*fits).iloc[1]
    assert row["df"] > 0 and np.isfinite(row["p"]) == np.isfinite(row["chisq"]) == nested


@pytest.mark.filterwarnings("ignore::fastlmm_core.errors.FastLMMWarning")
def test_terms_that_are_no_special_case_have_no_test():
    rng = np.random.default_rng(2)
    data = pd.DataFrame({"env": np.repeat(list("abcde"), 40), "gen": np.tile(np.repeat(np.arange(20), 2), 5)})
    scores = rng.normal(size=(20, 2)) @ rng.normal(size=(2, 5)) + 0.5 * rng.normal(size=(20, 5))
    data["y"] = scores[data["gen"], np.repeat(np.arange(5), 40)] + rng.normal(size=200)
    terms = {
        name: lmm(f"y ~ env + {name}", data)
        for name in ("rr(0 + env | gen, d=2)", "fa(0 + env | gen, k=1)", "fa(0 + env | gen, k=2)",
                     "(1 | gen) + (1 | gen:env)", "rr(0 + env | gen, d=1)")
    }  # fmt: skip
    rr2, fa1, fa2, plain, rr1 = terms.values()
    for smaller, larger, nested in (
        (rr2, fa1, False), (rr2, fa2, True), (fa1, fa2, True), (rr1, fa1, True), (plain, fa1, True)
    ):  # fmt: skip
        row = compare(smaller, larger).iloc[1]
        assert larger.npar - smaller.npar == row["df"] > 0 and np.isfinite(row["p"]) == nested


@pytest.mark.filterwarnings("ignore::fastlmm_core.errors.FastLMMWarning")
@pytest.mark.parametrize(
    ("smaller", "larger", "nested"),
    [("(1 | h)", "(x | g)", False), ("(1 | g)", "(1 | h)", False), ("(1 | g:k)", "(x | g)", False),
     ("(0 + x | g)", "(1 | g) + (1 | h)", False), ("(0 + x | g)", "(z || g)", False),
     ("(1 | g)", "(1 | copy) + (1 | h)", True), ("(0 + x | g)", "(z | g)", True),
     ("(x | g)", "(z | g) + (1 | h)", True),
     ("(x | g)", "(year | g) + (1 | h)", True), ("(1 | g) + (1 | g:k)", "(0 + k | g)", True),
     ("(1 | at(k):g)", "(0 + k | g)", True), ("(x || g)", "(x | g)", True)],
)  # fmt: skip
def test_random_terms_that_are_no_special_case_have_no_test(smaller, larger, nested):
    """(1 | h) beside (x | g) had a likelihood ratio and its p."""
    rng = np.random.default_rng(7)
    data = pd.DataFrame({
        "g": [f"g{i}" for i in rng.integers(0, 8, 120)], "h": [f"h{i}" for i in rng.integers(0, 5, 120)],
        "k": [f"k{i}" for i in rng.integers(0, 2, 120)], "x": rng.integers(-4, 5, 120),
    })  # fmt: skip
    data = data.assign(z=3.0 * data["x"] - 1.0, year=2020 + data["x"], copy=data["g"].str.upper())
    level, slope = rng.normal(size=8), rng.normal(size=8)
    own = data["g"].str[1:].astype(int).to_numpy()
    data["y"] = level[own] + slope[own] * data["x"] + rng.normal(size=120) + rng.normal(size=5)[
        data["h"].str[1:].astype(int).to_numpy()
    ]  # fmt: skip
    fits = [lmm(f"y ~ x + {term}", data) for term in (smaller, larger)]
    first, second = fits if fits[0].criterion >= fits[1].criterion else fits[::-1]
    row = compare(first, second).iloc[1]
    assert np.isfinite(row["chisq"]) == nested
    assert nested or np.isnan(row["p"])


def test_residuals_with_variances_by_group_are_no_special_case_of_others():
    rng = np.random.default_rng(8)
    data = pd.DataFrame({"g": np.repeat(list("abcdef"), 8), "k": list("uvuvuvuv") * 6, "h": list("stu") * 16})
    data["y"] = rng.normal(size=6)[np.arange(48) // 8] + rng.normal(size=48)
    plain, both = lmm("y ~ (1 | g)", data), lmm("y ~ (1 | g)", data, residual="units | k:h")
    by_k = lmm("y ~ (1 | g)", data, residual="units | k")
    by_h = lmm("y ~ (1 | g)", data, residual="units | h")
    for smaller, larger, nested in ((plain, by_k, True), (by_k, both, True), (by_k, by_h, False)):
        assert np.isfinite(compare(smaller, larger).loc[1, "chisq"]) == nested
