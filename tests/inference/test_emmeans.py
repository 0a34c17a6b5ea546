"""Means, slopes, contrasts and joint tests against R's emmeans on ordinary least squares.

Reference: reference/emmeans_ols.json, written by reference/emmeans_ols.R beside it (versions inside the file).
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from dense_fit import DenseFit
from fastlmm_core.errors import DataError, OptionError
from fastlmm_core.inference.emmeans import emmeans, emtrends
from fastlmm_core.inference.joint_tests import joint_tests

REFERENCE = json.loads((Path(__file__).parent / "reference" / "emmeans_ols.json").read_text())
CASES = REFERENCE["cases"]
FIGURES = ("estimate", "se", "df", "t", "p", "lower", "upper")


def reference_data() -> pd.DataFrame:
    frame = pd.DataFrame(REFERENCE["data"])
    frame["n"] = pd.Categorical(frame["n"].astype(str), ["0", "50", "100"])
    return frame


@pytest.fixture(scope="module")
def fits():
    data = reference_data()
    return {
        name: DenseFit(formula, data, offset="o" if name == "offset" else None)
        for name, formula in REFERENCE["formulas"].items()
    }


def means_of(fits, case):
    options = dict(case["means"])
    specs = options.pop("specs")
    fit = fits[case["fit"]]
    if "var" in options:
        return emtrends(fit, specs, options.pop("var"), ddf="residual", delta=1e-5, **options)
    return emmeans(fit, specs, ddf="residual", **options)


def table_of(fits, case):
    table = means_of(fits, case)
    steps = case.get("contrast") or []
    for step in [steps] if isinstance(steps, dict) else steps:
        table = table.contrast(**{k: v for k, v in step.items()})
    return table


@pytest.mark.parametrize("name", [name for name in CASES if not name.startswith("joint")])
def test_table_agrees_with_emmeans(fits, name):
    want = pd.DataFrame(CASES[name]["table"])
    got = table_of(fits, CASES[name]).to_frame()
    labels = [column for column in want.columns if column not in FIGURES]
    assert [column for column in got.columns if column not in (*FIGURES, "status")] == labels
    for column in labels:
        assert [str(v) for v in got[column]] == [str(v) for v in want[column]] or np.allclose(
            got[column].astype(float), want[column].astype(float)
        )
    # dunnettx limits: R's root finder stops at 5e-4; Tukey p: R's ptukey is good to about 1e-8
    for column in FIGURES:
        tolerance = 5e-4 if column in ("lower", "upper") and "control" in name else 2e-7
        np.testing.assert_allclose(
            got[column].to_numpy(float),
            want[column].to_numpy(float),
            rtol=tolerance,
            atol=tolerance,
            err_msg=column,
        )


@pytest.mark.parametrize(("name", "by"), [("joint", None), ("joint_by", "n")])
def test_joint_tests_agree_with_emmeans(fits, name, by):
    want = pd.DataFrame(CASES[name]["table"])
    got = joint_tests(fits["full"], by=by, scaled=False)
    want = want.set_index(["model term"] + ([by] if by else []))
    for row in got.to_dict("records"):
        ref = want.loc[(row["term"], row[by]) if by else row["term"]]
        assert row["df_num"] == ref["df1"]
        np.testing.assert_allclose(
            row["F"], ref["F.ratio"], atol=5.1e-4
        )  # emmeans rounds F to three decimals
        np.testing.assert_allclose(row["p"], ref["p.value"], atol=1e-8)
    assert len(got) == len(want)
