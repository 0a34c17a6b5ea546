"""A random term inside the fixed part is named at the fit, and refused where a figure would depend on it."""

import warnings

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


def test_no_warning_where_the_data_inform_the_variance():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fl.lmm("yield ~ gen + (1|loc)", fl.datasets.load("cochran_bib"))
