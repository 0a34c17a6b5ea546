"""F tests of type I, II and III, conditional modes and predictions against R on unbalanced tables.

Reference: reference/anova_types.json, written by reference/anova_types.R (versions inside the file).
Satterthwaite's denominator of several degrees of freedom tells the bases of a hypothesis apart.
"""

import json
from pathlib import Path

import numpy as np
import pytest

from fastlmm_core import datasets, lmm

CASES = json.loads((Path(__file__).parent / "reference" / "anova_types.json").read_text())["cases"]


@pytest.fixture(scope="module")
def fits():
    found = {}
    for name, case in CASES.items():
        data = datasets.load(case["file"])
        keep = np.setdiff1d(np.arange(len(data)), np.array(case["out"]) - 1)
        found[name] = lmm(case["formula"], data.iloc[keep].reset_index(drop=True))
    return found


def agrees(tests, reference):
    assert tests["term"].tolist() == [row["term"] for row in reference]
    for column, rtol in (("df_num", 0.0), ("df_den", 1e-5), ("F", 1e-5), ("p", 1e-4)):
        expected = [row[column] for row in reference]
        np.testing.assert_allclose(tests[column], expected, rtol=rtol, err_msg=column)


# The only factor of a model is tested in sum-to-zero coding in type III, unlike here: docs/kenward_roger.md.
TYPES = [(name, type) for name in CASES for type in (1, 2, 3) if (name, type) != ("slopes", 3)]


@pytest.mark.parametrize(("name", "type"), TYPES)
def test_satterthwaite(name, type, fits):
    agrees(fits[name].anova(type=type, ddf="satterthwaite"), CASES[name]["satterthwaite"][type - 1])


@pytest.mark.parametrize("type", [1, 3])
@pytest.mark.parametrize("name", CASES)
def test_kenward_roger(name, type, fits):
    agrees(fits[name].anova(type=type, ddf="kenward-roger"), CASES[name]["kenward_roger"][(type - 1) // 2])


@pytest.mark.parametrize("name", CASES)
def test_the_fit_its_modes_and_predictions(name, fits):
    fit, case = fits[name], CASES[name]
    np.testing.assert_allclose(fit.criterion, case["criterion"], rtol=1e-9)
    np.testing.assert_allclose(fit.sigma, case["sigma"], rtol=1e-6)
    np.testing.assert_allclose(fit.theta, case["theta"], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(fit.predict(random=False), case["population"], rtol=1e-7)
    blups = fit.blups().set_index(["group", "term", "level"])
    for row in case["modes"]:
        own = blups.loc[(row["group"], row["term"], row["level"])]
        np.testing.assert_allclose(own["estimate"], row["estimate"], rtol=1e-5, atol=1e-5 * fit.sigma)
        np.testing.assert_allclose(own["condvar"], row["condvar"], rtol=1e-5, atol=1e-6 * fit.sigma**2)
