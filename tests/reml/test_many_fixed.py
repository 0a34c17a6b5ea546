"""Least squares on more fixed columns than are solved densely, in whatever order they are eliminated."""

import numpy as np
import pandas as pd
import pytest
from scipy.linalg import solve_triangular

from fastlmm_core import lmm, prepare
from fastlmm_core.linalg.ordered_factor import DENSE_NORMAL


@pytest.fixture(scope="module")
def trials():
    """620 genotypes in 6 environments, unbalanced: 5 % of the plots are missing."""
    r = np.random.default_rng(8)
    gen, env = np.repeat(np.arange(620), 6), np.tile(np.arange(6), 620)
    block = (gen * 7 + env) % 31
    blocks = r.normal(scale=0.7, size=186)[env * 31 + block]
    y = r.normal(size=620)[gen] + 0.5 * env + blocks + r.normal(size=3720)
    frame = pd.DataFrame({
        "y": y, "gen": [f"G{g:03d}" for g in gen], "env": [f"E{e}" for e in env],
        "block": [f"B{b:02d}" for b in block], "w": r.uniform(0.5, 2.0, size=3720),
    })  # fmt: skip
    return frame.sample(frac=0.95, random_state=3).reset_index(drop=True)


@pytest.mark.compiled
def test_normal_equations_of_columns_that_are_eliminated_in_another_order(trials):
    equations = prepare("y ~ env + gen + (1|env:block)", trials, weights="w").equations
    assert equations.p > DENSE_NORMAL
    assert np.any(np.diff(equations.layout.fixed_rows) < 0)  # not the order of the columns
    y, w = trials["y"].to_numpy(), trials["w"].to_numpy()
    beta = np.zeros(equations.p)
    for _ in range(2):  # once more for the residual, as every caller does
        beta = beta + equations.least_squares(y - equations.fixed_predictor(beta))
    X = np.column_stack([equations.fixed_predictor(column) for column in np.eye(equations.p)])
    root = np.sqrt(w)
    exact = np.linalg.lstsq(X * root[:, None], y * root, rcond=None)[0]
    np.testing.assert_allclose(beta, exact, rtol=1e-7, atol=1e-9 * np.abs(exact).max())


@pytest.mark.compiled
def test_the_fit_is_generalized_least_squares(trials):
    fit = lmm("y ~ env + gen + (1|env:block)", trials)
    X = pd.get_dummies(trials[["env", "gen"]], drop_first=True, dtype=float)
    X = np.column_stack([np.ones(len(trials)), X])
    groups = pd.factorize(trials["env"] + trials["block"])[0]
    Z = np.eye(groups.max() + 1)[groups]
    variances = fit.variance_components.set_index("group")["estimate"]
    V = variances.iloc[0] * Z @ Z.T + variances["Residual"] * np.eye(len(trials))
    L = np.linalg.cholesky(V)
    turned = solve_triangular(L, np.column_stack([X, trials["y"]]), lower=True)  # L^-1 X and L^-1 y
    A, b = turned[:, :-1], turned[:, -1]
    information = A.T @ A
    beta = np.linalg.solve(information, A.T @ b)
    n, p = X.shape
    criterion = (
        2.0 * np.log(np.diag(L)).sum() + np.linalg.slogdet(information)[1] + np.sum((b - A @ beta) ** 2)
        + (n - p) * np.log(2 * np.pi)
    )  # fmt: skip
    np.testing.assert_allclose(fit.beta, beta, rtol=1e-6, atol=1e-7)
    assert fit.criterion == pytest.approx(criterion, rel=1e-9)
