"""Figures of R (lme4, emmeans) for tables whose columns are named like constants, and for ordered phases."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from fastlmm_core import fit_batch, lmm, run
from fastlmm_core.batch import fit_group, make_plan

REFERENCE = Path(__file__).parent / "reference"
PHASES = pd.read_csv(REFERENCE / "phases.csv")
NAMES = pd.read_csv(REFERENCE / "names_T_F.csv")


def test_means_of_a_model_with_a_covariate_called_t():
    renamed = NAMES.assign(k=NAMES["F"])
    for formula, specs in (("y~k+log(T)+(1|g)", "k"), ("y~F+log(T)+(1|g)", "F")):
        means = lmm(formula, renamed).emmeans(specs)
        np.testing.assert_allclose(means.estimate, [5.97, 6.16, 7.42, 8.12], atol=0.005)


@pytest.mark.parametrize("door", ["table", "csv", "parquet folder", "group", "arrow", "dict"])
def test_batches_of_such_a_table_through_every_door(door, tmp_path):
    table = NAMES.assign(trial=np.repeat(["a", "b"], 40))
    source = table
    if door == "csv":
        source = tmp_path / "table.csv"
        table.to_csv(source, index=False)
    elif door == "parquet folder":
        source = tmp_path / "trials"
        source.mkdir()
        table.iloc[:40].to_parquet(source / "a.parquet")
        table.iloc[40:].to_parquet(source / "b.parquet")
    elif door == "arrow":
        source = pytest.importorskip("pyarrow").Table.from_pandas(table)
    elif door == "dict":
        source = {name: table[name].to_numpy() for name in table}
    if door == "group":
        fits = fit_group(table, make_plan("y~log(T)+(1|g)", by="trial"))["fits"]
    else:
        fits = fit_batch(source, "y~log(T)+(1|g)", by="trial", progress=False).fits
    np.testing.assert_allclose(fits["criterion"], [157.178, 153.556], atol=5e-4)


def test_requests_read_such_columns_too():
    data = {name: NAMES[name].tolist() for name in NAMES}
    answer = run({"data": data, "formula": "y ~ F + log(T) + (1|g)", "emmeans": [{"specs": "F"}]})
    means = [row["emmean"] for row in answer["emmeans"][0]["table"]]
    np.testing.assert_allclose(means, [5.97, 6.16, 7.42, 8.12], atol=0.005)
    json.dumps(answer)


def test_levels_in_the_order_asked_for():
    fit = lmm("value~factor(phase, levels=c('pre','post','fup'))+(1|id)", PHASES)
    np.testing.assert_allclose(fit.beta, [0.6155, 0.1762, 0.4488], atol=5e-5)
    means = fit.emmeans("phase")
    assert means.labels["phase"].tolist() == ["pre", "post", "fup"]
    two = lmm("value~factor(phase, levels=c('pre','post'))+(1|id)", PHASES)
    assert (two.nobs, round(two.criterion, 3)) == (142, 454.676)
    ordered = lmm("value~ordered(phase, levels=c('pre','post','fup'))+(1|id)", PHASES)
    np.testing.assert_allclose(ordered.beta[1:], [0.3173, 0.0394], atol=5e-5)
    assert [name[-2:] for name in ordered.coef_names[1:]] == [".L", ".Q"]
