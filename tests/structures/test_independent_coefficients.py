"""``||`` is ``diag``: the criterion, the blocks of an answer, and one correlation of the levels."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import fastlmm_core


@pytest.fixture(scope="module")
def trial() -> pd.DataFrame:
    rng = np.random.default_rng(8)
    n, lines = 120, 15
    gen, env = np.arange(n) % lines, (np.arange(n) // lines) % 3
    x = rng.normal(size=n)
    effects = rng.normal(size=(lines, 3)) * [1.5, 0.8, 0.5]
    y = effects[gen, env] + 0.7 * rng.normal(size=lines)[gen] * x + rng.normal(size=n) * 0.6
    return pd.DataFrame({"y": y, "x": x, "gen": [f"g{i:02d}" for i in gen], "env": [f"e{i}" for i in env]})


def answer(trial: pd.DataFrame, formula: str, **more: object) -> dict:
    return fastlmm_core.run({"data": trial.to_dict("list"), "formula": formula, **more})["fit"]


@pytest.mark.parametrize(
    ("bars", "diag"),
    [
        ("(1 + x || gen)", "diag(1 + x | gen)"),
        ("(0 + env || gen)", "diag(0 + env | gen)"),
        ("(0 + env || ar1(gen))", "diag(0 + env | ar1(gen))"),
    ],
)
@pytest.mark.parametrize("residual", ["units", "units | env"])
def test_two_bars_are_diag(trial, bars, diag, residual):
    one = answer(trial, f"y ~ env + {bars}", residual=residual)
    other = answer(trial, f"y ~ env + {diag}", residual=residual)
    assert one["criterion"] == pytest.approx(other["criterion"], abs=1e-8)
    assert one["npar"] == other["npar"]
    (block,), (same,) = one["terms"], other["terms"]
    assert block["term"] == bars and same["term"] == diag
    assert (block["struct"], block["names"], block["n_par"]) == ("diag", same["names"], same["n_par"])
    np.testing.assert_allclose(block["T"], same["T"], rtol=1e-4, atol=1e-6)
    assert block["group_corr"] == pytest.approx(same["group_corr"], rel=1e-4)


@pytest.mark.parametrize("left", ["env", "env + x", "env * x", "0 + x + env", "0 + env:x + env"])
@pytest.mark.parametrize("residual", ["units", "units | env"])
def test_a_factor_has_the_columns_it_has_in_diag(trial, left, residual):
    """Contrasts beside an intercept or a margin, as lme4's diag_special, glmmTMB and afex code them."""
    fits = [
        fastlmm_core.lmm(f"y ~ env + {bars}", trial, residual=residual)
        for bars in (f"({left} || gen)", f"diag({left} | gen)")
    ]
    one, other = (fit.variance_components for fit in fits)
    assert fits[0].criterion == pytest.approx(fits[1].criterion, abs=1e-6)
    assert sorted(map(str, one["var1"])) == sorted(map(str, other["var1"]))
    np.testing.assert_allclose(
        one.sort_values("var1")["estimate"], other.sort_values("var1")["estimate"], rtol=2e-3, atol=2e-4
    )
    again = fits[0].predict(trial)
    np.testing.assert_allclose(again, fits[0].fitted, atol=1e-9)


def test_a_factor_beside_an_intercept_against_dense_likelihood(trial):
    """V = s1 J + sum_k s_k c_k c_k' by genotype + s I at the estimates, c_k the contrasts of env."""
    fit = fastlmm_core.lmm("y ~ env + (env || gen)", trial)
    table = fit.variance_components
    assert list(table["var1"])[:3] == ["(Intercept)", "enve1", "enve2"]
    env, gen = trial["env"].to_numpy(), trial["gen"].to_numpy()
    columns = [np.ones(len(trial)), (env == "e1") * 1.0, (env == "e2") * 1.0]
    X = np.column_stack(columns)
    same = gen[:, None] == gen
    V = np.eye(len(trial)) * table["estimate"].iloc[-1]
    for column, variance in zip(columns, table["estimate"], strict=False):
        V += variance * same * np.outer(column, column)
    y = trial["y"].to_numpy()
    W = np.linalg.solve(V, X)
    residual = y - X @ np.linalg.solve(X.T @ W, W.T @ y)
    dense = (
        np.linalg.slogdet(V)[1] + np.linalg.slogdet(X.T @ W)[1]
        + residual @ np.linalg.solve(V, residual) + (len(y) - 3) * np.log(2 * np.pi)
    )  # fmt: skip
    assert fit.criterion == pytest.approx(dense, abs=1e-7)


def test_levels_of_at_have_a_block_each(trial):
    blocks = answer(trial, "y ~ env + (1 + x || at(env):gen)")["terms"]
    assert [(block["at"], block["names"]) for block in blocks] == [
        (f"e{i}", ["(Intercept)", "x"]) for i in range(3)
    ]


def test_units_are_numbered_by_rows_from_zero(trial):
    own = trial.assign(col="c" + (trial.index % 12).astype(str), row="r" + (trial.index // 12).astype(str))
    fit = fastlmm_core.lmm("y ~ env + (1 | units)", own, residual="ar1(col):ar1(row)")
    assert list(fit.blups()["level"]) == [str(i) for i in range(len(own))]
