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
