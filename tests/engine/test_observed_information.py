"""Second derivatives from dense matrices of the unknowns are those of the gradient, by differences."""

import numpy as np
import pandas as pd
import pytest

import fastlmm_core as f
from fastlmm_core.engine.factorized import FactorizedModel
from fastlmm_core.engine.information import observed_information
from fastlmm_core.engine.information.observed_information import observed_by_unknowns
from fastlmm_core.engine.objective import evaluate, gradient_at
from fastlmm_core.engine.search.starting_values import starting_values
from fastlmm_core.engine.solution import StructuredSolution
from fastlmm_core.results.fit import LMMFit
from fastlmm_core.structures.differences import differentiate


@pytest.fixture(scope="module")
def plots() -> pd.DataFrame:
    """15 x 12 plots of three environments, with a trend, a covariate, and some plots missing."""
    rng = np.random.default_rng(11)
    rows, cols, envs = 15, 12, 3
    cell = np.arange(rows * cols * envs)
    env, rest = np.divmod(cell, rows * cols)
    row, col = np.divmod(rest, cols)
    gen = rng.permutation(cell % 20)
    subject, visit = np.divmod(cell, 4)
    trend = np.sin(row / 2.0) + np.cos(col / 1.5)
    within, across = (scale**np.abs(np.subtract.outer(np.arange(size), np.arange(size)))
                      for scale, size in ((0.7, rows), (0.5, cols)))  # fmt: skip
    field = np.linalg.cholesky(np.kron(within, across))
    rough = 1.2 * np.ravel(field @ rng.normal(size=(rows * cols, 1)))[rest]
    effect = rng.normal(size=(20, envs)) + rng.normal(size=(20, 1))
    y = 5.0 + trend + effect[gen, env] + rng.normal(size=cell.size) * np.array([0.6, 1.0, 1.4])[env]
    y += 0.8 * rng.normal(size=subject.max() + 1)[subject]
    table = pd.DataFrame(
        {"y": y + rough, "smooth": y, "row": row + 1, "col": col + 1, "subject": subject, "visit": visit + 1,
         "env": np.array(["E1", "E2", "E3"])[env], "gen": np.char.add("G", gen.astype(str)),
         "w": rng.uniform(0.5, 2.0, size=cell.size)}
    )  # fmt: skip
    return table.drop(index=rng.choice(cell.size, 25, replace=False)).reset_index(drop=True)


def relation() -> pd.DataFrame:
    rng = np.random.default_rng(2)
    markers = rng.normal(size=(20, 40))
    names = [f"G{k}" for k in range(20)]
    return pd.DataFrame(markers @ markers.T / 40 + 0.05 * np.eye(20), index=names, columns=names)


MODELS = {
    "us": {"formula": "y ~ env + (env | gen)", "weights": "w", "residual": "units | env"},
    "ar1 over coefficients": {"formula": "y ~ env + (1 | ar1(env):gen)"},
    "fa": {"formula": "y ~ env + fa(0 + env | gen, k=1)"},
    "known relation": {"formula": "y ~ env + us(env | vm(gen, A))", "relationships": {"A": relation()}},
    "cs over a relation": {"formula": "y ~ env + cs(env | vm(gen, A))", "relationships": {"A": relation()}},
    "one spline": {"formula": "y ~ env + row + spl(row) + (1 | gen)"},
    "surface": {"formula": "smooth ~ env + row*col + (1 | row) + (1 | gen) + ps(row, col, nseg=(5, 4))"},
    "process among levels": {"formula": "y ~ env + (1 | gen) + (1 | ar1(row):ar1(col))"},
    "field": {"formula": "y ~ env + (1 | gen)", "residual": "ar1(row):ar1(col) | env"},
    "visits": {"formula": "y ~ env + (1 | gen)", "residual": "us(visit4 | subject)", "weights": "w"},
    "visits, Toeplitz by group": {"formula": "y ~ env", "residual": "toep(visit4 | subject) | env"},
    "a parameter held": {
        "formula": "y ~ env + (1 | gen) + (1 | gen:env)",
        "fixed_parameters": {"gen": 0.7},
        "residual": "units | env",
    },
    "known covariances": {
        "formula": "y ~ env + (1 | gen)",
        "residual": "vm(units, O)",
        "relationships": {"O": None},
    },
}


@pytest.mark.parametrize("reml", [True, False], ids=["REML", "ML"])
@pytest.mark.parametrize("name", list(MODELS))
def test_second_derivatives_are_those_of_the_gradient(plots, name, reml):
    call = dict(MODELS[name])
    table = plots.assign(visit4=(plots["visit"] - 1) % 4 + 1)
    if "O" in call.get("relationships", {}):
        n = len(table)
        lags = np.abs(np.subtract.outer(np.arange(n), np.arange(n)))
        call["relationships"] = {"O": (np.where(lags < 3, 0.4**lags, 0.0), list(range(1, n + 1)))}
    fit = f.lmm(call.pop("formula"), table, reml=reml, **call)
    assert isinstance(fit, LMMFit)
    solution = fit.solved
    assert isinstance(solution, StructuredSolution)
    e, unit = solution.equations, solution.response.residual / solution.response.scale
    y, free = np.concatenate([unit, np.zeros(e.residual.n_missing)]), np.flatnonzero(solution.free)
    # not the estimates, some of which are at a boundary, near which differences see little
    theta = np.where(solution.free, starting_values(e, unit), solution.theta)
    factor = solution.factor.copy()

    def gradient(theta: np.ndarray) -> np.ndarray:
        return gradient_at(e, factor, evaluate(e, factor, y, theta))[0][free]

    by_differences = differentiate(gradient, theta, free, np.full(free.size, 0.2))
    point = evaluate(e, factor, y, theta)
    exact = observed_by_unknowns(FactorizedModel(e, factor, point, solution.free, reml))
    size = np.sqrt(np.maximum(np.abs(np.diag(exact)), 1e-3))
    np.testing.assert_allclose(exact / np.outer(size, size), by_differences / np.outer(size, size), atol=1e-6)
    np.testing.assert_allclose(exact, exact.T, atol=1e-9 * np.abs(exact).max())


@pytest.mark.parametrize("reml", [True, False], ids=["REML", "ML"])
@pytest.mark.parametrize("name", ["us", "cs over a relation", "surface", "process among levels"])
def test_inverses_of_loadings_take_the_place_of_products(plots, monkeypatch, name, reml):
    call = dict(MODELS[name])
    solution = f.lmm(call.pop("formula"), plots, reml=reml, **call).solved
    e, unit = solution.equations, solution.response.residual / solution.response.scale
    y = np.concatenate([unit, np.zeros(e.residual.n_missing)])
    point = evaluate(e, solution.factor, y, starting_values(e, unit))
    model = FactorizedModel(e, solution.factor, point, solution.free, reml)
    own = next(own for own, _ in e.slices[0] if own.start < own.stop)
    found = {}
    for least in (1e-2, np.inf):
        monkeypatch.setattr(observed_information, "LEAST_LOADING", least)
        found[least] = observed_by_unknowns(model)
    assert np.any(found[1e-2][own, own])
    np.testing.assert_allclose(found[1e-2], found[np.inf], rtol=1e-9, atol=1e-9 * np.abs(found[np.inf]).max())
