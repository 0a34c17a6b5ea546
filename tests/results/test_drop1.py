"""Terms that could be dropped, against lmerTest, pbkrtest and lme4 (reference/drop1.R)."""

import json
from pathlib import Path

import numpy as np
import pytest

from fastlmm_core import datasets, lmm
from fastlmm_core.errors import OptionError

pytestmark = pytest.mark.filterwarnings("ignore::fastlmm_core.errors.FastLMMWarning")
REFERENCE = json.loads((Path(__file__).parent / "reference" / "drop1.json").read_text())
TABLES = {"oats": "oats", "oats_main": "oats", "alpha": "john_alpha"}


@pytest.mark.parametrize("case", TABLES)
@pytest.mark.parametrize("ddf", ["kenward-roger", "satterthwaite"])
def test_f_tests(case, ddf):
    theirs = REFERENCE[case]
    table = lmm(theirs["formula"], datasets.load(TABLES[case])).drop1(ddf=ddf)
    own = theirs["kr" if ddf == "kenward-roger" else ddf]
    assert table["term"].tolist() == np.atleast_1d(theirs["term"]).tolist()
    for column in ("df_num", "df_den", "F", "p"):  # lme4's optimum is as exact as its optimizer
        np.testing.assert_allclose(table[column], np.atleast_1d(own[column]), rtol=2e-4, err_msg=column)


@pytest.mark.parametrize("case", TABLES)
def test_likelihood_ratios(case):
    theirs = REFERENCE[case]["chisq"]
    table = lmm(REFERENCE[case]["formula"], datasets.load(TABLES[case])).drop1("chisq")
    assert table["term"].tolist() == theirs["term"]
    np.testing.assert_allclose(table["aic"], theirs["aic"], rtol=1e-7)
    np.testing.assert_allclose(table["chisq"][1:], theirs["chisq"][1:], rtol=1e-5)
    np.testing.assert_allclose(table["p"][1:], theirs["p"][1:], rtol=1e-5)


def test_terms_within_others_stay():
    data = datasets.load("oats")
    assert lmm("Y ~ V*N + (1|B)", data).drop1()["term"].tolist() == ["V:N"]
    assert lmm("Y ~ V + N + (1|B)", data).drop1()["term"].tolist() == ["V", "N"]
    with pytest.raises(OptionError, match="no fixed term"):
        lmm("Y ~ 1 + (1|B)", data).drop1()


def test_structures_weights_and_offsets_stay_in_the_smaller_model():
    data = datasets.load("besag_field").query("county == 'C1'").copy()
    data["w"] = np.linspace(0.5, 2.0, len(data))
    data["o"] = np.linspace(-3.0, 3.0, len(data))
    model = {"residual": "ar1(row):ar1(col)", "weights": "w"}
    fit = lmm("yield ~ rep + offset(o) + (1|gen)", data, **model)
    table = fit.drop1("chisq")
    less = lmm("yield ~ 1 + offset(o) + (1|gen)", data, reml=False, **model)
    whole = lmm("yield ~ rep + offset(o) + (1|gen)", data, reml=False, **model)
    assert table["criterion"].tolist() == pytest.approx([whole.criterion, less.criterion], abs=1e-6)
    assert table["df"].iloc[1] == 1


def test_likelihood_ratios_beside_splines():
    """The polynomials that a spline does not penalize stay; they made the whole table an error."""
    data = datasets.load("besag_field").query("county in ['C1', 'C2']")
    one = data.query("county == 'C1'")
    fit = lmm("yield ~ rep + (1|gen)", one, field_trend="ps(row, col, nseg=(3, 4))")
    assert fit.drop1("chisq")["term"].tolist() == ["<none>", "rep"]
    assert fit.drop1("F")["term"].tolist() == ["rep", "row:col"]
    both = lmm("yield ~ county:rep + (1|gen)", data, field_trend="ps(row, col, nseg=(2, 2)) | county")
    assert both.drop1("chisq")["term"].tolist() == ["<none>", "county:rep"]
    assert lmm("yield ~ row + I(row^2) + (1|gen) + spl(row)", one).drop1("chisq")["term"].tolist() == [
        "<none>", "I(row^2)"
    ]  # fmt: skip
    with pytest.raises(OptionError, match="the splines are deviations from 'row'"):
        lmm("yield ~ row + (1|gen) + spl(row)", one).drop1("chisq")
