"""Options of the reference grid against R's emmeans (reference/grid_options.R)."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from fastlmm_core import lmm, run
from fastlmm_core.errors import OptionError

HERE = Path(__file__).parent
CASES = json.loads((HERE / "reference" / "grid_options.json").read_text())["cases"]


@pytest.fixture(scope="module")
def table():
    d = pd.read_csv(HERE.parent / "design" / "reference" / "table.csv")
    return d.assign(w=(d["x"] > 0).astype(int), wt=1.0 + np.arange(1, len(d) + 1) % 3)


@pytest.mark.parametrize("case", [pytest.param(c, id=f"{c['formula']} {c['options']}") for c in CASES])
def test_means_are_those_of_emmeans(case, table):
    fit = lmm(case["formula"], table, weights="wt" if case["weights"] else None)
    means = fit.emmeans(case["specs"], **(case["options"] or {}))
    np.testing.assert_allclose(means.estimate, case["estimate"], rtol=1e-7, atol=1e-9)
    np.testing.assert_allclose(means.se, case["se"], rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"cov_keep": "q"}, "cov_keep: 'q' is not a variable"), ({"cov_reduce": "mode"}, "is not known"),
        ({"cov_reduce": {"q": "max"}}, "cov_reduce: 'q' is not"), ({"cov_reduce": lambda x: "a"}, "failed"),
        ({"cov_reduce": 3}, "must be a function"), ({"nuisance": "b"}, "must be factors that the specs"),
        ({"nuisance": "x"}, "must be factors"), ({"nuisance": "g", "wt_nuis": "flat"}, "is not known"),
        ({"counterfactuals": "x"}, "cannot be set"), ({"submodel": "b"}, "submodel must be"),
        ({"submodel": "~ b:x"}, "no term 'b:x'"),
        ({"cov_reduce": {"g": "max", "x": "max"}}, "cov_reduce: 'g' has levels"),
        ({"counterfactuals": "b", "at": {"x": [1.0, 2.0]}}, "'x' has 2 values"),
        ({"counterfactuals": "b", "cov_reduce": "range"}, "'x' has 2 values"),
        ({"counterfactuals": "b", "nuisance": "g"}, "give one of the two"),
    ],
)  # fmt: skip
def test_wrong_options_are_refused(options, words, table):
    with pytest.raises(OptionError, match=words):
        lmm("y ~ b + g + x", table).emmeans("b", **options)


def test_nuisance_factors_need_no_grid_of_their_combinations(table):
    """Eight factors of nine levels have 43 million combinations; the means are those of equal weights."""
    rng = np.random.default_rng(3)
    n = 400
    wide = pd.DataFrame({f"f{k}": rng.integers(0, 9, n).astype(str) for k in range(8)})
    wide["t"], wide["y"] = rng.choice(list("abc"), n), rng.normal(size=n)
    others = [f"f{k}" for k in range(8)]
    fit = lmm("y ~ t + " + " + ".join(others), wide)
    with pytest.raises(OptionError, match="points"):
        fit.emmeans("t")
    means = fit.emmeans("t", nuisance=others)
    expected = means.estimate[0] + np.array([0.0, fit.beta[1], fit.beta[2]])
    np.testing.assert_allclose(means.estimate, expected, rtol=1e-10)
    few = lmm("y ~ t + f0 + f1", wide)
    aside = few.emmeans("t", nuisance=["f0", "f1"])
    np.testing.assert_allclose(aside.estimate, few.emmeans("t").estimate, rtol=1e-10)


def test_counterfactual_means_are_means_of_predictions(table):
    fit = lmm("y ~ b*x + (1|g)", table)
    means = fit.emmeans("b", counterfactuals="b")
    expected = [fit.predict(table.assign(b=level), random=False).mean() for level in ("hi", "lo")]
    np.testing.assert_allclose(means.estimate, expected, rtol=1e-10)


def test_requests_take_the_same_options(table):
    data = {name: table[name].tolist() for name in table}
    options = {"specs": "b", "cov_keep": ["w"], "cov_reduce": {"x": "max"}}
    answer = run({
        "data": data, "formula": "y ~ b*w + x*b + a", "emmeans": [options],
        "contrasts": [{**options, "method": "nrmlz", "family": "pairwise"}],
    })  # fmt: skip
    means = lmm("y ~ b*w + x*b + a", table).emmeans("b", cov_keep="w", cov_reduce={"x": "max"})
    rows = [row["emmean"] for row in answer["emmeans"][0]["table"]]
    np.testing.assert_allclose(rows, means.estimate, rtol=1e-12)
    difference = answer["contrasts"][0]["table"][0]["estimate"]
    assert difference == pytest.approx((rows[0] - rows[1]) / np.sqrt(2.0), rel=1e-10)


def test_an_unknown_reduction_is_told_without_covariates(table):
    with pytest.raises(OptionError, match="cov_reduce='mode' is not known"):
        lmm("y ~ b + (1 | g)", table).emmeans("b", cov_reduce="mode")
