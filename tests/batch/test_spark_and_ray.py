"""The snippets of docs/batch.md as they stand there, where Spark or Ray is installed."""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from trial_data import alpha_trials

from fastlmm_core import fit_batch

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "batch.md").read_text(encoding="utf-8")
SNIPPET = next(code for code in re.findall(r"```python\n(.*?)```", PAGE, re.S) if "applyInPandas" in code)
PLAN, REST = SNIPPET.split("# Spark: one table of the result for each call\n")
SPARK, RAY = REST.split("# Ray\n")
TRIALS = alpha_trials(6, seed=9)
TRIALS["site"] = np.where(TRIALS["trial"].isin(sorted(TRIALS["trial"].unique())[:3]), "A", "B")
KEYS = ["site", "trial", "gen"]


def expected() -> pd.DataFrame:
    return fit_batch(TRIALS, "yield ~ gen + rep + (1|rep:block)", by=["site", "trial"], emmeans="gen").emmeans


def assert_means(found: pd.DataFrame) -> None:
    ours, theirs = (own.astype(dict.fromkeys(KEYS, str)).sort_values(KEYS) for own in (expected(), found))
    assert len(ours) == len(theirs)
    for column in ("estimate", "se", "df"):
        np.testing.assert_allclose(theirs[column].astype(float), ours[column], rtol=1e-8)


def test_spark(monkeypatch):
    sql = pytest.importorskip("pyspark.sql")
    if shutil.which("java") is None:
        pytest.skip("Spark needs Java")
    monkeypatch.setenv("PYSPARK_PYTHON", sys.executable)
    session = sql.SparkSession.builder.master("local[2]").getOrCreate()
    try:
        names: dict[str, object] = {"frame": session.createDataFrame(TRIALS)}
        exec(PLAN + SPARK, names)
        assert_means(names["means"].toPandas())
    finally:
        session.stop()


def test_ray():
    ray = pytest.importorskip("ray")
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    try:
        names: dict[str, object] = {"frame": TRIALS}
        exec(PLAN + RAY, names)
        assert_means(pd.concat([tables["emmeans"] for tables in names["tables"]]))
    finally:
        ray.shutdown()
