"""Sections ``correlations`` and ``factor_analysis`` say what the fit says; so does the command."""

import json

import numpy as np
import pandas as pd
import pytest

from fastlmm_core import datasets, lmm, run
from fastlmm_core.cli import main
from fastlmm_core.errors import OptionError

pytestmark = pytest.mark.filterwarnings("ignore::fastlmm_core.errors.FastLMMWarning")
FORMULA = "yield ~ env + rr(0 + env | gen, d=2)"
REQUEST = {"data": str(datasets.path("winter_wheat")), "formula": FORMULA, "residual": "units | env"}


@pytest.fixture(scope="module")
def fit():
    return lmm(FORMULA, datasets.load("winter_wheat"), residual="units | env")


def test_sections_of_an_answer(fit):
    answer = json.loads(json.dumps(run({**REQUEST, "correlations": True, "factor_analysis": True})))
    report, own = fit.factor_analysis(), answer["factor_analysis"]
    assert (own["group"], own["struct"], own["k"]) == ("gen", "rr", 2)
    for name in ("loadings", "scores", "performance"):
        want = getattr(report, name).select_dtypes("number")
        found = pd.DataFrame(own[name])[list(want.columns)].astype(float)
        np.testing.assert_allclose(found, want, rtol=1e-6, atol=1e-8)
    assert own["order"] == report.order()
    rows = answer["correlations"]
    assert len(rows) == 36 and {"se_ai", "se_expected", "se_observed"} <= set(rows[0])
    table = fit.correlations(information="observed").frame
    np.testing.assert_allclose([row["se_observed"] for row in rows], table["se"], rtol=1e-4)


def test_a_group_may_be_named():
    assert run({**REQUEST, "factor_analysis": "gen"})["factor_analysis"]["group"] == "gen"
    with pytest.raises(OptionError, match="term='gem' has no factors; nearest: 'gen'"):
        run({**REQUEST, "factor_analysis": "gem"})


def test_the_command_prints_the_report_and_writes_its_tables_and_figures(tmp_path, capsys, fit):
    command = ["fit", REQUEST["data"], FORMULA, "--residual", "units | env", "--out", str(tmp_path), "--plot"]
    assert main(command) == 0
    assert "Factor analysis of rr(0 + env | gen, d=2)" in capsys.readouterr().out
    written = {path.name for path in tmp_path.iterdir()}
    assert {"loadings_gen.csv", "scores_gen.csv", "performance_gen.csv", "correlations_gen.png",
            "performance_gen.png", "biplot_gen.png", "latent_regressions_gen.png"} <= written  # fmt: skip
    found = pd.read_csv(tmp_path / "performance_gen.csv")
    np.testing.assert_allclose(found["OP"], fit.factor_analysis().performance["OP"], rtol=1e-8)
