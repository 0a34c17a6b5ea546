"""The table `trends` of a batch: the fitted trend of every trial, as its own fit has it."""

import pandas as pd
import pytest

from fastlmm_core import datasets, fit_batch, lmm
from fastlmm_core.errors import OptionError

pytestmark = pytest.mark.filterwarnings("ignore::fastlmm_core.errors.FastLMMWarning")
FORMULA = "yield ~ rep + (1 | gen)"


@pytest.fixture(scope="module")
def frame():
    table = datasets.load("besag_field")
    return table[table["county"].isin(["C1", "C3"])]


@pytest.mark.parametrize("trend", ["ps", "ar1(row, col, nugget=TRUE)"])
def test_trends_are_those_of_each_fit(frame, trend):
    batch = fit_batch(
        frame, FORMULA, by="county", field_trend=trend, trends=True, fixed=False, progress=False
    )
    assert (batch.fits["status"] == "ok").all()
    for county, own in frame.groupby("county"):
        rows = batch.trends[batch.trends["county"] == county].drop(columns=["county", "trait"])
        expected = lmm(FORMULA, own, field_trend=trend).trend()
        pd.testing.assert_frame_equal(
            rows.reset_index(drop=True), expected, check_dtype=False, rtol=1e-8, atol=1e-10
        )


def test_a_model_without_trend_has_no_such_table(frame):
    with pytest.raises(OptionError, match="trends=True needs a trend in the formula"):
        fit_batch(frame, FORMULA, by="county", trends=True, progress=False)
    with pytest.raises(OptionError, match="ask for it with trends="):
        fit_batch(frame, FORMULA, by="county", progress=False).table("trends")
