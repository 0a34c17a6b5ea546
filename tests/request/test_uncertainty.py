"""Intervals, tests of random terms, diagnostics and simulations by request: the figures of the fit."""

import json

import numpy as np
import pytest

from fastlmm_core import datasets, lmm, run
from fastlmm_core.errors import MemoryForecastError, OptionError

SLEEP = {"data": str(datasets.path("sleepstudy")), "formula": "Reaction ~ Days + (Days|Subject)"}


@pytest.fixture(scope="module")
def fit():
    return lmm(SLEEP["formula"], datasets.load("sleepstudy"))


def rows(section, **more):
    return json.loads(json.dumps(run({**SLEEP, section: True, **more}), allow_nan=False))[section]


def test_profile_intervals_are_those_of_lme4():
    """confint(lmer(Reaction ~ Days + (Days|Subject), sleepstudy)), lme4 1.1.31."""
    found = rows("conf_int", conf_int={"parameters": ["beta_", "sigma"]})
    want = {"(Intercept)": (237.6807, 265.130), "Days": (7.3587, 13.576), "sigma": (22.8983, 28.858)}
    assert {row["parameter"]: (row["lower"], row["upper"]) for row in found} == {
        name: pytest.approx(own, rel=1e-4) for name, own in want.items()
    }


def test_other_intervals_and_their_options(fit):
    wald = rows("conf_int", conf_int={"method": "wald", "level": 0.9})
    table = fit.conf_int("wald", level=0.9)
    np.testing.assert_allclose([row["upper"] for row in wald], table["upper"], rtol=1e-12)
    how = {"method": "bootstrap", "n": 20, "seed": 1}
    assert rows("conf_int", conf_int=how) == rows("conf_int", conf_int=how)
    with pytest.raises(OptionError, match=r"conf_int\.n belongs to method 'bootstrap'"):
        run({**SLEEP, "conf_int": {"n": 20}})
    with pytest.raises(OptionError, match="allowed"):
        run({**SLEEP, "conf_int": {"method": "exact"}})


def test_random_terms_and_diagnostics(fit):
    found = rows("ranova")
    assert found[1]["chisq"] == pytest.approx(42.837, abs=1e-3)  # lmerTest::ranova
    assert found[1]["df"] == 2 and found[0]["chisq"] is None
    found, table = rows("diagnostics"), fit.diagnostics()
    assert list(found[0]) == list(table.columns) and len(found) == 180
    np.testing.assert_allclose([row["cooks_d"] for row in found], table["cooks_d"], rtol=1e-10)


def test_simulated_responses(fit):
    found = rows("simulate", simulate={"n": 400, "seed": 3})["responses"]
    assert np.shape(found) == (400, 180)
    assert found == rows("simulate", simulate={"n": 400, "seed": 3})["responses"]
    mean = fit.predict(random=False)
    drawn = np.array(found) - mean
    # Var(y_i) = z_i T z_i' + sigma^2; the standard error of a variance of 400 draws is a fourteenth of it
    T = np.array([[612.0900, 9.6043], [9.6043, 35.0717]])  # lme4 1.1.31
    Z = np.column_stack([np.ones(180), datasets.load("sleepstudy")["Days"]])
    variance = np.einsum("ij,jk,ik->i", Z, T, Z) + 654.941
    assert abs((drawn**2).mean(axis=0) / variance - 1.0).max() < 0.35
    with pytest.raises(MemoryForecastError, match="10,000,000,000,000 responses of 180 rows"):
        run({**SLEEP, "simulate": {"n": 10**13}})
    inside = np.array(rows("simulate", simulate={"n": 400, "conditional": True})["responses"]) - fit.fitted
    assert abs((inside**2).mean() / 654.941 - 1.0) < 0.05
