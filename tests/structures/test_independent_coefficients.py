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


def test_levels_of_at_have_a_block_each(trial):
    blocks = answer(trial, "y ~ env + (1 + x || at(env):gen)")["terms"]
    assert [(block["at"], block["names"]) for block in blocks] == [
        (f"e{i}", ["(Intercept)", "x"]) for i in range(3)
    ]


def test_units_are_numbered_by_rows_from_zero(trial):
    own = trial.assign(col="c" + (trial.index % 12).astype(str), row="r" + (trial.index // 12).astype(str))
    fit = fastlmm_core.lmm("y ~ env + (1 | units)", own, residual="ar1(col):ar1(row)")
    assert list(fit.blups()["level"]) == [str(i) for i in range(len(own))]
