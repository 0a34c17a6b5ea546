"""The way back from the scale of the model: inverses and slopes of what a formula does to its response."""

import numpy as np
import pytest

from fastlmm_core.design.values.evaluation import evaluate
from fastlmm_core.design.values.table import Table
from fastlmm_core.formula.parsing import parse_formula
from fastlmm_core.means.response_scale import response_scale

Y = np.array([0.4, 3.0, 7.0, 20.0, 60.0])
UNDONE = (
    "log(y)", "np.log(y)", "log10(y)", "log2(y)", "log(y, 3)", "log1p(y)", "log(y + 5)", "-log(y)",
    "log(1 + y)",
    "3 - log(2*y)", "log(log(y + 2))", "log(y/10)", "1/y", "2/(y + 1)", "1/sqrt(y)", "y^-1", "y^2", "y**0.5",
    "y^(1/3)", "sqrt(y) + 1", "2 * sqrt(y)", "exp(y/50)", "expm1(y/100)", "I(y/100)", "y/3", "atan(y)",
    "asin(sqrt(y/110))", "tanh(y/100)", "(y - 4) * (2 + 1)",
)  # fmt: skip
NOT_UNDONE = (
    "y",
    "abs(y)",
    "pmin(y, 4)",
    "log(y/(110 - y))",
    "y * y",
    "round(y)",
    "sin(y)",
    "0 * y",
    "log(y, 1)",
)


def scale_of(text):
    return response_scale(parse_formula(f"{text} ~ x").response)


def model_scale(text):
    return np.asarray(evaluate(parse_formula(f"{text} ~ x").response, Table({"y": Y}), {}), float)


@pytest.mark.parametrize("text", UNDONE)
def test_back_undoes_the_formula(text):
    scale, eta = scale_of(text), model_scale(text)
    np.testing.assert_allclose(scale.back(eta), Y, rtol=1e-10)
    h = 1e-4 * np.maximum(np.abs(eta), 1e-2)
    numeric = (scale.back(eta + h) - scale.back(eta - h)) / (2.0 * h)
    np.testing.assert_allclose(scale.slope(eta), numeric, rtol=1e-4)
    assert scale.variable == "y"
    lower, upper = scale.limits_back(eta, eta + h)
    assert (lower <= Y * (1 + 1e-10)).all() and (upper >= Y * (1 - 1e-10)).all()


@pytest.mark.parametrize("text", NOT_UNDONE)
def test_what_cannot_be_undone(text):
    assert scale_of(text) is None


@pytest.mark.parametrize(
    ("text", "inner", "ratio"),
    [
        ("log(y)", "y", lambda a, b: a / b),
        ("log10(y)", "y", lambda a, b: a / b),
        ("log(y + 5)", "y + 5", lambda a, b: (a + 5) / (b + 5)),
        ("log1p(y)", "y + 1", lambda a, b: (a + 1) / (b + 1)),
        ("2 * log1p(y / 3)", "y/3 + 1", lambda a, b: (a / 3 + 1) / (b / 3 + 1)),
        ("3 - 2 * log2(y)", "y", lambda a, b: a / b),
    ],
)
def test_differences_of_logarithms_are_ratios(text, inner, ratio):
    scale, eta = scale_of(text), model_scale(text)
    assert scale.inner == inner
    np.testing.assert_allclose(
        np.exp(scale.log_factor * (eta[1:] - eta[:-1])), ratio(Y[1:], Y[:-1]), rtol=1e-12
    )


@pytest.mark.parametrize("text", ["sqrt(y)", "sqrt(log(y + 2))", "1/y", "exp(y)"])
def test_other_differences_are_nothing(text):
    assert scale_of(text).log_factor is None
    assert scale_of(text).linear_factor is None


def test_changes_of_units_keep_differences():
    scale, eta = scale_of("(y - 4)/3"), model_scale("(y - 4)/3")
    np.testing.assert_allclose(scale.linear_factor * np.diff(eta), np.diff(Y), rtol=1e-12)


def test_outside_of_the_range():
    """Below zero there is no square root: no estimate, and a limit ends at zero."""
    scale = scale_of("sqrt(y)")
    assert np.isnan(scale.back(np.array([-0.5])))
    lower, upper = scale.limits_back(np.array([-0.5]), np.array([2.0]))
    assert (lower[0], upper[0]) == (0.0, 4.0)
    lower, upper = scale_of("1/y").limits_back(np.array([-0.1]), np.array([0.5]))
    assert (lower[0], upper[0]) == (2.0, np.inf)
