"""Reliability and accuracy of inbred animals against mixed model theory written out densely."""

import numpy as np
import pandas as pd
import pytest
from tabular import as_table, random_parents, tabular_A

from fastlmm_core import Pedigree, lmm, prepare, run
from fastlmm_core.errors import MemoryForecastError


@pytest.fixture(scope="module", params=["estimated", "held"])
def inbred(request):
    """The fit of an inbred herd of 90, of which 60 have records, and its A in the order of the levels."""
    rng = np.random.default_rng(21)
    sire, dam = random_parents(rng, 90, 6, selfing=0.15)
    A = tabular_A(sire, dam)
    assert np.diag(A).max() > 1.3
    u = np.linalg.cholesky(A) @ rng.normal(size=90) * 1.5
    own = np.concatenate((np.arange(30, 90), rng.integers(30, 90, 40)))
    table = pd.DataFrame(
        {"animal": [f"n{i}" for i in own], "sex": rng.choice(["f", "m"], own.size), "y": u[own]}
    )
    table["y"] += rng.normal(size=own.size) + (table["sex"] == "m")
    held = {"vm(animal, A)": 2.0, "Residual": 1.2} if request.param == "held" else None
    parents = as_table(sire, dam, np.arange(90))
    pedigree = Pedigree(parents, check_sex=False)
    formula = "y ~ sex + (1 | vm(animal, A))"
    fit = lmm(formula, table, relationships={"A": pedigree}, fixed_parameters=held)
    answer = run(
        {
            "data": table.to_dict("list"), "formula": formula, "ranef": True,
            "relationships": {"A": {"type": "pedigree", "data": parents}},
            **({"fixed_parameters": held} if held else {}),
        }
    )  # fmt: skip
    return fit, answer, A, table, own


def prediction_errors(fit, A, table, own):
    """Diagonal of Var(u_hat - u) = G - G Z' P Z G, and the additive variance."""
    variance, residual = fit.variance_components["estimate"].to_numpy()
    Z = np.eye(len(A))[own]
    X = np.column_stack((np.ones(len(own)), table["sex"] == "m")).astype(float)
    V_inv = np.linalg.inv(variance * Z @ A @ Z.T + residual * np.eye(len(own)))
    P = V_inv - V_inv @ X @ np.linalg.inv(X.T @ V_inv @ X) @ X.T @ V_inv
    G = variance * A
    return np.diag(G - G @ Z.T @ P @ Z @ G), variance


def test_reliability_is_of_the_variance_of_an_inbred_animal(inbred):
    fit, _, A, table, own = inbred
    pev, variance = prediction_errors(fit, A, table, own)
    blups = fit.blups()
    np.testing.assert_allclose(blups["pev"], pev, rtol=1e-8)
    inside = 1.0 + fit.design.random[0].relation.factors[0].relationship.inbreeding().to_numpy()
    np.testing.assert_allclose(blups["reliability"], 1.0 - pev / (inside * variance), atol=1e-8)
    np.testing.assert_allclose(inside, np.diag(A), atol=1e-14)


def test_accuracy_is_the_correlation_of_an_animal_with_its_prediction(inbred):
    """Cov(u_hat, u) = Var(u_hat) = Var(u) - PEV."""
    fit, answer, A, table, own = inbred
    pev, variance = prediction_errors(fit, A, table, own)
    of_u = variance * np.diag(A)
    correlation = np.sqrt(np.maximum(of_u - pev, 0.0) / of_u)
    found = answer["ranef"]["vm(animal, A)"]
    assert found["levels"] == [f"n{i}" for i in range(90)]
    np.testing.assert_allclose(np.ravel(found["accuracy"]), correlation, atol=1e-7)
    np.testing.assert_allclose(np.ravel(found["reliability"]), correlation**2, atol=1e-7)


def test_a_factor_that_does_not_fit_says_its_operations_and_what_would_help():
    rng = np.random.default_rng(3)
    sire, dam = np.full((2, 3000), -1)
    sire[600:], dam[600:] = rng.integers(0, 300, 2400), rng.integers(300, 600, 2400)
    pedigree = Pedigree(as_table(sire, dam, np.arange(3000)), check_sex=False)
    table = pd.DataFrame({"animal": pedigree.levels, "y": rng.normal(size=3000)})
    words = r"3001 equations \(\d+ billion multiply-adds a step\).*block has [\d,]+ rows.*Pedigree.pruned"
    with pytest.raises(MemoryForecastError, match=words) as caught:
        prepare("y ~ 1 + (1 | vm(animal, A))", table, relationships={"A": pedigree}, max_memory="1MB")
    assert caught.value.needed > caught.value.available == 1_000_000
