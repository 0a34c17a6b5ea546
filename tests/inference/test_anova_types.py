"""F tests of type I, II and III, conditional modes and predictions against R on unbalanced tables.

Reference: reference/anova_types.json, written by reference/anova_types.R (versions inside the file).
Satterthwaite's denominator of several degrees of freedom tells the bases of a hypothesis apart.
"""

import json
from pathlib import Path

import numpy as np
import pandas as pd
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


@pytest.mark.parametrize("type", [1, 2])
def test_weighted_sums_of_squares_of_a_linear_model(type):
    """F is the fall of the weighted residual sum of squares from the model without the term, as in R's lm."""
    rng, n = np.random.default_rng(7), 70
    data = pd.DataFrame({"a": rng.choice(list("pqr"), n), "b": rng.choice(list("uv"), n, p=[0.7, 0.3]),
                         "x": rng.normal(size=n), "w": rng.uniform(0.2, 5.0, n)})  # fmt: skip
    data["y"] = 1.0 * (data["a"] == "q") + 0.5 * data["x"] + rng.normal(size=n) / np.sqrt(data["w"])
    tests = lmm("y ~ a + b + x", data, weights="w").anova(type=type).set_index("term")

    def squares(*names):
        parts = [np.ones((n, 1)), *(np.atleast_2d(COLUMNS[name](data)).reshape(n, -1) for name in names)]
        root = np.sqrt(data["w"].to_numpy())
        X, y = root[:, None] * np.hstack(parts), root * data["y"].to_numpy()
        return float(np.sum((y - X @ np.linalg.lstsq(X, y, rcond=None)[0]) ** 2))

    def dummies(name):
        return lambda d: pd.get_dummies(d[name], drop_first=True).to_numpy(float)

    COLUMNS = {"a": dummies("a"), "b": dummies("b"), "x": lambda d: d["x"].to_numpy()}
    error = squares("a", "b", "x") / (n - 5)
    for place, name in enumerate(COLUMNS):
        others = [other for other in COLUMNS if other != name] if type == 2 else list(COLUMNS)[:place]
        fall = squares(*others) - squares(*others, name)
        expected = fall / tests.loc[name, "df_num"] / error
        np.testing.assert_allclose(tests.loc[name, "F"], expected, rtol=1e-9)


@pytest.fixture(scope="module")
def oats():
    """Some plots and two of the twelve cells lost."""
    data = datasets.load("oats").drop(index=[2, 9, 16, 17, 29, 40, 41, 54, 69])
    lost = (data["V"] == "Victory") & (data["N"] == "N0.4cwt")
    lost |= (data["V"] == "Marvellous") & (data["N"] == "N0.0cwt")
    return data[~lost].reset_index(drop=True)


def test_basis_of_type_iii_whatever_the_coding(oats):
    """lmerTest 3.1-3: anova(lmer(Y ~ V + N + (1|B/V), oats), type = 3) after contr.sum and contr.helmert."""
    for coding in ("contr.treatment", "contr.sum", "contr.helmert"):
        fit = lmm("Y ~ V + N + (1|B/V)", oats, contrasts={"V": coding, "N": coding})
        tests = fit.anova(type=3, ddf="satterthwaite")
        np.testing.assert_allclose(tests["df_den"], [10.4929840, 31.8460934], rtol=1e-6, err_msg=coding)
        np.testing.assert_allclose(tests["F"], [1.1175, 26.5234], rtol=1e-4, err_msg=coding)


@pytest.mark.filterwarnings("ignore::fastlmm_core.errors.RankDeficientWarning")
def test_basis_of_type_ii_with_empty_cells(oats):
    """lmerTest 3.1-3: anova(lmer(Y ~ V*N + (1|B/V), oats), type = 2)."""
    tests = lmm("Y ~ V*N + (1|B/V)", oats).anova(type=2, ddf="satterthwaite")
    np.testing.assert_allclose(tests["df_den"], [10.4506658, 27.8474900, 27.8056885], rtol=1e-6)
    np.testing.assert_allclose(tests["F"], [1.10900, 27.13409, 1.15783], rtol=1e-5)
