"""Offsets of the formula in means, slopes, predictions and batches; slopes in functions of a covariate."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from fastlmm_core import fit_batch, lmm
from fastlmm_core.errors import DataError, OptionError

SIZES = pd.read_csv(Path(__file__).parent / "reference" / "offset_sizes.csv")
FORMULA = "y ~ size*log(n) + offset(log(n)) + (1|g)"


@pytest.fixture(scope="module")
def fit():
    return lmm(FORMULA, SIZES)


def at_sizes(n):
    return pd.DataFrame({"size": ["s1", "s2", "s3"], "n": float(n)})


@pytest.mark.parametrize("n", [100, 500, 1000])
def test_means_at_a_value_are_predictions_there(fit, n):
    means = fit.emmeans("size", at={"n": n})
    np.testing.assert_allclose(means.estimate, fit.predict(at_sizes(n), random=False), rtol=1e-12)
    if n == 100:
        np.testing.assert_allclose(means.estimate, [4.21805044, 4.15373462, 4.52316538], rtol=1e-7)


def test_without_values_the_offset_is_that_of_the_mean(fit):
    means = fit.emmeans("size")
    expected = fit.predict(at_sizes(SIZES["n"].mean()), random=False)
    np.testing.assert_allclose(means.estimate, expected, rtol=1e-12)
    assert f"The offset {np.log(SIZES['n'].mean()):.6g} is included" in means.remarks
    several = fit.emmeans("~ n | size", at={"n": [100, 200]})
    differences = several.contrast("revpairwise")
    rows = [fit.predict(at_sizes(n), random=False) for n in (100, 200)]
    np.testing.assert_allclose(differences.estimate, rows[1] - rows[0], rtol=1e-10)


def test_a_column_that_only_the_offset_reads_can_be_set():
    fit = lmm("y ~ size + offset(log(n)) + (1|g)", SIZES)
    low, high = (fit.emmeans("size", at={"n": n}).estimate for n in (100, 300))
    np.testing.assert_allclose(high - low, np.log(3.0), rtol=1e-12)
    assert fit.joint_tests()["term"].tolist() == ["size"]
    np.testing.assert_allclose(fit.emtrends("size", "n").estimate, 1 / SIZES["n"].mean(), rtol=1e-6)


def test_an_offset_beside_the_formula_counts_with_its_mean():
    fit = lmm("y ~ size + offset(log(n)) + (1|g)", SIZES, offset="ln")
    both = lmm("y ~ size + offset(log(n)) + offset(ln) + (1|g)", SIZES)
    np.testing.assert_allclose(fit.emmeans("size").estimate, both.emmeans("size").estimate, rtol=1e-10)
    with pytest.raises(DataError, match="give offset=, the whole offset"):
        fit.predict(SIZES)
    whole = 2 * SIZES["ln"]
    np.testing.assert_allclose(fit.predict(SIZES, offset=whole), fit.fitted, rtol=1e-9)


def test_predictions_evaluate_the_offset_in_new_data(fit):
    np.testing.assert_allclose(fit.predict(SIZES), fit.fitted, rtol=1e-9)
    few = SIZES.iloc[[5, 7]].reset_index(drop=True)
    np.testing.assert_allclose(fit.predict(few), fit.fitted[[5, 7]], rtol=1e-9)
    table = fit.predict(few, se=True)
    np.testing.assert_allclose(table["prediction"], fit.fitted[[5, 7]], rtol=1e-9)
    np.testing.assert_allclose(fit.predict(few, offset=0.0), fit.fitted[[5, 7]] - np.log(few["n"]), rtol=1e-9)
    with pytest.raises(DataError, match="column 'n' is not in the data"):
        fit.predict(few.drop(columns="n"))
    with pytest.raises(DataError, match="'log\\(n\\)' is not a number"):
        fit.predict(few.assign(n=-1.0))
    scaled = lmm("y ~ size + offset(scale(n)) + (1|g)", SIZES)  # the scale is that of the fit
    np.testing.assert_allclose(scaled.predict(few), scaled.fitted[[5, 7]], rtol=1e-9)


@pytest.mark.parametrize("offsets", ["offset(log(n))", "offset(log(n)) + offset(n/1000)", "offset(ln)"])
def test_batches_have_the_offset_of_lmm(offsets):
    table = pd.concat([SIZES.assign(trial="a"), SIZES.assign(trial="b", n=SIZES["n"] * 2)])
    for formula in (f"y ~ size + {offsets} + (1|g)", f"y ~ size + log(n) + {offsets} + (1|g)"):
        found = fit_batch(table, formula, by="trial", emmeans="size", progress=False)
        for trial, part in table.groupby("trial"):
            means = lmm(formula, part).emmeans("size")
            rows = found.emmeans[found.emmeans["trial"] == trial]
            np.testing.assert_allclose(rows["estimate"], means.estimate, rtol=1e-8)
            np.testing.assert_allclose(rows["se"], means.se, rtol=1e-5)


# ------------------------------------------------- slopes in functions (R 4.2.2, emmeans 1.8.4, lm)
def test_slopes_in_a_logarithm_are_those_of_emmeans():
    straight = lmm("y ~ size*log(n)", SIZES)
    trends = straight.emtrends("size", "log(n)")
    slopes = straight.beta[3] + np.array([0, *straight.beta[4:]])
    np.testing.assert_allclose(trends.estimate, slopes, rtol=1e-9)
    np.testing.assert_allclose(trends.estimate, [1.11537706, 1.18785004, 0.93103592], atol=1e-7)
    np.testing.assert_allclose(straight.emtrends("size", "log(n)", at={"n": 100}).estimate, trends.estimate)
    linear = lmm("y ~ size*n", SIZES)
    slopes = linear.emtrends("size", "n").estimate
    in_logs = linear.emtrends("size", "log(n)").estimate
    np.testing.assert_allclose(in_logs, slopes * SIZES["n"].mean(), rtol=1e-7)
    at = linear.emtrends("size", "sqrt(n)", at={"n": 100.0})
    np.testing.assert_allclose(at.estimate, slopes * 20.0, rtol=1e-7)
    step = linear.emtrends("size", "log(n)", at={"n": 100.0}, delta=10.0)
    np.testing.assert_allclose(step.estimate, slopes * 10.0 / np.log(1.1), rtol=1e-9)


def test_slopes_hold_the_offset_of_the_formula(fit):
    plain = lmm("y ~ size*log(n) + (1|g)", SIZES)
    np.testing.assert_allclose(
        fit.emtrends("size", "log(n)").estimate, plain.emtrends("size", "log(n)").estimate, rtol=1e-7
    )


@pytest.mark.parametrize(
    ("var", "words"),
    [
        ("sin(n)", "cannot be solved for 'n'"), ("log(m)", "not in the fixed part"),
        ("log(size)", "is a factor"),
        ("log(n", "not in the fixed part"), ("n + ln", "not in the fixed part"), ("size", "is a factor"),
    ],
)  # fmt: skip
def test_wrong_slopes_are_refused(fit, var, words):
    with pytest.raises(OptionError, match=words):
        fit.emtrends("size", var)
