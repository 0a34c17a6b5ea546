"""Adjusted contrasts of a batch: those of `lmm`, however many trials share the batch."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from trial_data import alpha_trials, sized_trials

from fastlmm_core import fit_batch, lmm

FORMULA = "yield ~ gen + rep + (1|rep:block)"
OPTIONS = {"by": "trial", "fixed": False, "emmeans": "gen", "workers": 1}
NUMBERS = ["estimate", "se", "df", "t", "p", "lower", "upper"]
ADJUSTED = [
    ("trt.vs.ctrl", "dunnettx"),
    ("trt.vs.ctrl", "sidak"),
    ("trt.vs.ctrl", "holm"),
    ("pairwise", "tukey"),
    ("pairwise", "bonferroni"),
    ("pairwise", "none"),
]
pytestmark = pytest.mark.filterwarnings("ignore::fastlmm_core.errors.FastLMMWarning")


@pytest.fixture(scope="module")
def sized():
    """Trials of 6 to 40 genotypes, so that df range from a few to about a hundred."""
    return sized_trials([6, 8, 40, 10, 24, 12, 6, 32])


@pytest.mark.parametrize(("family", "adjust"), ADJUSTED)
def test_contrasts_are_those_of_lmm(sized, family, adjust):
    got = fit_batch(sized, FORMULA, contrasts=family, adjust=adjust, **OPTIONS).contrasts
    assert got["df"].max() > 10 * got["df"].min()
    for trial, own in sized.groupby("trial"):
        want = lmm(FORMULA, own).emmeans("gen").contrast(family, adjust=adjust).to_frame()
        mine = got[got["trial"] == trial]
        assert mine["contrast"].tolist() == want["contrast"].tolist()
        np.testing.assert_allclose(
            mine[NUMBERS].astype(float), want[NUMBERS].astype(float), rtol=1e-8, atol=1e-8
        )


@pytest.mark.parametrize(("family", "adjust"), ADJUSTED)
def test_a_trial_alone_and_among_three_hundred(sized, family, adjust):
    """To more digits than a search that took another path would leave; the fit itself is the same."""
    many = pd.concat([sized, alpha_trials(292, 6, 3, 2)], ignore_index=True)
    together = fit_batch(many, FORMULA, contrasts=family, adjust=adjust, **OPTIONS).contrasts
    for trial in ("S0000", "S0002", "T0000", "T0291"):
        own = many[many["trial"] == trial]
        alone = fit_batch(own, FORMULA, contrasts=family, adjust=adjust, **OPTIONS).contrasts
        same = together[together["trial"] == trial].reset_index(drop=True)
        np.testing.assert_array_equal(same[["estimate", "se", "df"]], alone[["estimate", "se", "df"]])
        np.testing.assert_allclose(
            same[["lower", "upper"]], alone[["lower", "upper"]], rtol=1e-10, atol=1e-10
        )
        np.testing.assert_allclose(same["p"], alone["p"], rtol=1e-8, atol=0)
