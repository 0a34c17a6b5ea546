"""Columns that enter as numbers and as levels, and covariates without a value a unit from their mean."""

import numpy as np
import pandas as pd
import pytest

from fastlmm_core import lmm
from fastlmm_core.errors import OptionError
from fastlmm_core.inference.linear_functions import NO_ERROR


@pytest.fixture(scope="module")
def table():
    rng, n = np.random.default_rng(0), 80
    data = pd.DataFrame({
        "a": rng.choice(list("pqr"), n), "g": rng.integers(0, 8, n).astype(str),
        "z": rng.uniform(0.01, 0.5, n), "k": rng.integers(1, 4, n),
    })  # fmt: skip
    return data.assign(y=1.0 * (data["a"] == "q") + 0.4 * data["k"] + rng.normal(size=n))


def test_lack_of_fit_has_the_means_of_its_levels(table):
    both, levels = (lmm(f"y ~ a*factor(k){more} + (1 | g)", table) for more in (" + k", ""))
    for specs in ("k", "a", "~ a + k"):
        found, expected = (fit.emmeans(specs).to_frame() for fit in (both, levels))
        figures = ["estimate", "se", "df"]
        np.testing.assert_allclose(found[figures], expected[figures], rtol=1e-7)
    found, expected = (fit.joint_tests() for fit in (both, levels))
    np.testing.assert_allclose(found[["df_num", "F", "p"]], expected[["df_num", "F", "p"]], rtol=1e-6)


CLASSES = ("cut(z, c(0, 0.1, 0.3, 0.6))", "ifelse(z > 0.1 & z <= 0.3, 'middle', 'ends')")


@pytest.mark.parametrize("text", CLASSES)
@pytest.mark.parametrize("weights", ["equal", "proportional", "cells"])
def test_classes_of_a_number_have_the_means_of_a_column_of_them(table, text, weights):
    middle = (table["z"] > 0.1) & (table["z"] <= 0.3)
    low = "low" if text.startswith("cut") else "high"
    column = table.assign(c=np.where(middle, "middle", np.where(table["z"] <= 0.1, low, "high")))
    within, beside = lmm(f"y ~ a*{text} + (1 | g)", table), lmm("y ~ a*c + (1 | g)", column)
    found, expected = (fit.emmeans("a", weights=weights).to_frame() for fit in (within, beside))
    np.testing.assert_allclose(found[["estimate", "se", "df"]], expected[["estimate", "se", "df"]], rtol=1e-7)
    found, expected = (fit.joint_tests() for fit in (within, beside))
    np.testing.assert_allclose(found[["df_num", "F", "p"]], expected[["df_num", "F", "p"]], rtol=1e-6)
    found, expected = within.emmeans("z").to_frame(), beside.emmeans("c").to_frame()
    np.testing.assert_allclose(np.sort(found["estimate"]), np.sort(expected["estimate"]), rtol=1e-7)


def test_proportional_weights_count_the_rows_of_numbers_that_are_levels_too(table):
    """R's emmeans 2.0.4 keeps all values of a covariate that factor() makes levels of, and counts them."""
    both, levels = (lmm(f"y ~ a*factor(k){more} + (1 | g)", table) for more in (" + k", ""))
    for weights in ("proportional", "cells"):
        found, expected = (fit.emmeans("a", weights=weights) for fit in (both, levels))
        np.testing.assert_allclose(found.estimate, expected.estimate, rtol=1e-7)


def test_a_condition_is_true_or_false_at_the_mean(table):
    """As in R's emmeans."""
    fit = lmm("y ~ a + I(z > 0.2) + (1 | g)", table)
    held = fit.emmeans("a", at={"z": table["z"].mean()})
    np.testing.assert_array_equal(fit.emmeans("a").estimate, held.estimate)


def test_a_logarithm_of_shares(table):
    """A unit below their mean there is none."""
    fit = lmm("y ~ a + log(z) + (1 | g)", table)
    joint, anova = fit.joint_tests().set_index("term"), fit.anova().set_index("term")
    assert joint.loc["z", "F"] == pytest.approx(anova.loc["log(z)", "F"], rel=1e-8)


def test_nuisance_factors_that_interact_are_named(table):
    fit = lmm("y ~ a*k + (1 | g)", table.assign(k=table["k"].astype(str)))
    means = fit.emmeans("a", nuisance="k", wt_nuis="proportional")
    assert "No nuisance factors, as they interact: k" in str(means)
    with pytest.raises(OptionError, match="wt_nuis='bogus' is not known"):
        fit.emmeans("a", wt_nuis="bogus")


@pytest.mark.filterwarnings("ignore::fastlmm_core.errors.ConfoundedWarning")
def test_a_test_without_an_error_has_a_row(table):
    data = pd.concat([table.assign(h="m"), table.iloc[:3].assign(h=["n", "n", "n"])], ignore_index=True)
    data.loc[data.index[-1], "h"] = "alone"
    fit = lmm("y ~ a + h + (1 | g)", data, residual="units | h")
    joint = fit.joint_tests().set_index("term")
    assert joint.loc["h", "status"] == NO_ERROR and np.isnan(joint.loc["h", "F"])
    assert joint.loc["a", "F"] > 0.0


def test_a_step_is_tested_from_one_side_to_the_other(table):
    """One unit to either side of the mean there may be no step; the test is that of its coefficient."""
    data = table.assign(x=np.random.default_rng(5).uniform(0.0, 100.0, len(table)))
    fit = lmm("y ~ a + I(x > 70) + (1 | g)", data)
    joint, anova = fit.joint_tests().set_index("term"), fit.anova().set_index("term")
    np.testing.assert_allclose(joint.loc["x", "F"], anova.loc["I(x > 70)", "F"], rtol=1e-8)
    with pytest.raises(OptionError, match="the prediction is flat in 'x' at these values"):
        fit.emtrends("a", var="x")
