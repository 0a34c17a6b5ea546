"""A random term inside the fixed part is named at the fit, and refused where a figure would depend on it."""

import re
import warnings

import numpy as np
import pandas as pd
import pytest

import fastlmm_core as fl
from fastlmm_core.errors import ConfoundedWarning, InferenceError


def test_confounded_term_is_named():
    data = fl.datasets.load("cochran_bib")
    with pytest.warns(ConfoundedWarning, match="'loc' lies within the fixed part"):
        fit = fl.lmm("yield ~ gen + loc + (1|loc)", data)
    assert [w.flag for w in fit.warnings] == ["confounded"]
    with pytest.raises(InferenceError, match="loc"):
        fit.emmeans("gen").to_frame()


@pytest.mark.parametrize(
    ("formula", "residual", "named"),
    [
        ("y ~ factor(x) + ps(x, nseg=4) + (1|g)", "units", "ps(x, nseg=4)"),
        ("y ~ factor(x) + spl(x)", "units", "spl(x)"),
        ("y ~ g + (1|g) + x + ps(x, nseg=4)", "units", "g"),
        ("y ~ f*g + diag(0 + f | g)", "units | f", "g"),
        ("y ~ g + diag(1 + x | g)", "units | f", "g"),
    ],
)
def test_confounded_structures_are_named(formula, residual, named):
    rng = np.random.default_rng(1)
    data = pd.DataFrame({"x": np.arange(96) % 12.0, "g": [f"g{i // 12}" for i in range(96)]})
    data["f"] = np.array(list("ab"))[rng.integers(0, 2, 96)]
    data["y"] = rng.normal(size=96)
    with pytest.warns(ConfoundedWarning, match=re.escape(f"'{named}' lies within the fixed part")):
        fit = fl.lmm(formula, data, residual=residual)
    for ddf in ("kenward-roger", "satterthwaite"):
        with pytest.raises(InferenceError, match=re.escape(named)):
            fit.fixed_effects(ddf=ddf)
    assert np.isfinite(fit.fixed_effects(ddf="residual")["estimate"]).any()


def test_one_variance_of_all_coefficients_is_told_by_those_that_are_not_fixed():
    rng = np.random.default_rng(1)
    data = pd.DataFrame({"g": [f"g{i // 12}" for i in range(96)], "f": list("abc") * 32})
    data["a"] = (data["f"] == "a") * 1.0
    data["y"] = rng.normal(size=96) + rng.normal(size=(8, 3))[np.arange(96) // 12, np.arange(96) % 3]
    fit = fl.lmm("y ~ g:a + homdiag(0 + f | g)", data)
    assert not [w for w in fit.warnings if w.flag == "confounded"]
    assert np.isfinite(fit.fixed_effects(ddf="satterthwaite")["df"]).any()


def test_no_warning_where_a_variance_is_held():
    rng = np.random.default_rng(1)
    data = pd.DataFrame({"g": [f"g{i // 12}" for i in range(96)], "y": rng.normal(size=96)})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fl.lmm("y ~ g + (1|g)", data, fixed_parameters={"g": 1.0, "Residual": 1.0})


def test_no_warning_where_the_data_inform_the_variance():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fl.lmm("yield ~ gen + (1|loc)", fl.datasets.load("cochran_bib"))
