"""Levels of the residual's ``|`` whose names are parts of the column's: env "n", trial1 "1"."""

import numpy as np
import pandas as pd
import pytest

from fastlmm_core import fit_batch, lmm


@pytest.mark.parametrize("levels", [("e", "n", "v"), ("E1", "E2", "E3")])
def test_every_level_has_its_variance(levels):
    rng = np.random.default_rng(1)
    data = pd.DataFrame([(g, e) for g in range(8) for e in range(3) for _ in range(3)], columns=["gen", "at"])
    data["env"], data["gen"] = np.array(levels)[data["at"]], "g" + data["gen"].astype(str)
    data["y"] = rng.normal(size=len(data)) * np.array([1.0, 2.0, 4.0])[data["at"]]
    fit = lmm("y ~ env + (1 | gen)", data, residual="units | env")
    table = fit.variance_components.set_index("var1")["estimate"]
    names = [f"var_Residual|env.{level}" for level in levels]
    np.testing.assert_allclose([fit.trial_summary("gen")[name] for name in names], table[list(levels)])
    batch = fit_batch(data.assign(trial=1), "y ~ env + (1 | gen)", by="trial", residual="units | env")
    np.testing.assert_allclose(batch.fits[names].iloc[0].astype(float), table[list(levels)], rtol=1e-5)
    assert all(f"Residual|env {level}" in str(fit.summary()) for level in levels)
