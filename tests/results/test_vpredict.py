"""Functions of variance components that have no real value are missing, with their standard error."""

import numpy as np
import pytest

from fastlmm_core import datasets, lmm
from fastlmm_core.errors import OptionError


@pytest.fixture(scope="module")
def fit():
    return lmm("Reaction ~ Days + (Days | Subject)", datasets.load("sleepstudy"))


@pytest.mark.parametrize(
    "expression", ["sqrt(-V1)", "log(-V1)", "log(0 * V1)", "(-V1)^0.5", "V1 / 0", "V1 + sqrt(-V4)"]
)
def test_what_has_no_real_value(fit, expression):
    found = fit.vpredict(expression)
    assert np.isnan(found.estimate) and np.isnan(found.se)


def test_what_has_one(fit):
    v1, v3, v2, v4 = fit.variance_components["estimate"]  # covariances after the variances, as lme4
    wanted = {"(-V1)^2": v1**2, "-sqrt(V1)": -np.sqrt(v1), "V2 / sqrt(V1 * V3)": v2 / np.sqrt(v1 * v3),
              "V1^0.5 - exp(log(V4))": np.sqrt(v1) - v4, "V1 - V1": 0.0}  # fmt: skip
    for expression, value in wanted.items():
        found = fit.vpredict(expression)
        assert found.estimate == pytest.approx(value, rel=1e-12, abs=1e-9)
        assert np.isfinite(found.se)


@pytest.mark.parametrize("number", [np.nan, np.inf])
def test_functions_of_coefficients_are_of_numbers(fit, number):
    with pytest.raises(OptionError, match="K has a number that is missing or infinite, the first in row 1"):
        fit.linear_functions([[0.0, 1.0], [number, 1.0]])
