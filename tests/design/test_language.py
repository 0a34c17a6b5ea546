"""The functions of the formula language against R (reference/language.R): values, rows, predictions."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from fastlmm_core import lmm
from fastlmm_core.design import build_design
from fastlmm_core.errors import ExtrapolationWarning

REFERENCE = Path(__file__).parent / "reference"
LANGUAGE = json.loads((REFERENCE / "language.json").read_text())


@pytest.fixture(scope="module")
def language():
    return pd.read_csv(REFERENCE / "language.csv")


def rows_of(written):
    return np.array(list(written), dtype=float).reshape(len(written), -1)


@pytest.mark.parametrize("case", [pytest.param(c, id=c["formula"]) for c in LANGUAGE["cases"]])
def test_columns_and_rows_are_those_of_r(case, language):
    design = build_design(case["formula"], language)
    # R writes TRUE after a logical variable, and so do we; it keeps backticks, which results do not show
    assert list(design.column_names) == [name.replace("`", "") for name in case["names"]]
    assert (design.rows + 1).tolist() == case["rows"]
    values = rows_of(case["values"])
    np.testing.assert_allclose(design._X_full.toarray(), values, rtol=1e-7, atol=1e-8)
    again = design.fixed_matrix(language.iloc[design.rows].reset_index(drop=True)).toarray()
    np.testing.assert_allclose(again, values, rtol=1e-7, atol=1e-8)
    few = language.iloc[design.rows[[0, 3, 9]]].reset_index(drop=True)  # the basis is that of the fit
    np.testing.assert_allclose(design.fixed_matrix(few).toarray(), values[[0, 3, 9]], rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize("case", [pytest.param(c, id=c["formula"]) for c in LANGUAGE["beyond"]])
def test_beyond_the_data_bases_go_on_as_in_r(case, language):
    fit, new = lmm(case["formula"], language), pd.DataFrame(LANGUAGE["new"])
    if "s(" in case["formula"]:
        with pytest.warns(
            ExtrapolationWarning, match=r"continued beyond its boundary knots .* 4 of 5|[23] of 5"
        ):
            predicted = fit.predict(new)
    else:
        predicted = fit.predict(new)
    np.testing.assert_allclose(predicted, case["prediction"], rtol=1e-6)
