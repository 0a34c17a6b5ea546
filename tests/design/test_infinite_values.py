"""Infinite values, and expressions without a value: refused by name and row, never fitted, never dropped."""

import numpy as np
import pandas as pd
import polars as pl
import pytest

from fastlmm_core import fit_batch, lmm, prepare
from fastlmm_core.cli import main
from fastlmm_core.design import build_design
from fastlmm_core.errors import DataError
from fastlmm_core.request import run

N = 60
ROW = 7


@pytest.fixture
def trial():
    rng = np.random.default_rng(3)
    return pd.DataFrame(
        {
            "y": rng.normal(5.0, 1.0, N),
            "x": rng.uniform(1.0, 2.0, N),
            "w": rng.uniform(1.0, 2.0, N),
            "o": rng.normal(size=N),
            "gen": np.tile(list("uvwxz"), N // 5),
            "block": np.repeat(list("abcdef"), N // 6),
            "trial": np.repeat(["A", "B"], N // 2),
        }
    )


def with_value(trial, column, value):
    changed = trial.copy()
    changed.loc[ROW, column] = value
    return changed


@pytest.mark.parametrize("value", [np.inf, -np.inf])
@pytest.mark.parametrize(
    ("column", "formula", "options"),
    [
        ("x", "y ~ gen + x + (1|block)", {}),
        ("x", "y ~ gen:x", {}),
        ("x", "y ~ gen + (x|block)", {}),
        ("x", "y ~ gen + (0 + x|block)", {}),
        ("x", "y ~ gen + (1|x)", {}),
        ("x", "y ~ I(1/x)", {}),
        ("x", "y ~ C(x)", {}),
        ("x", "y ~ poly(x, 2)", {}),
        ("y", "y ~ gen + (1|block)", {}),
        ("y", "exp(y) ~ gen", {}),
        ("w", "y ~ gen", {"weights": "w"}),
        ("o", "y ~ gen", {"offset": "o"}),
        ("o", "y ~ gen + offset(2*o)", {}),
    ],
)
def test_an_infinite_value_is_refused_by_column_and_row(trial, value, column, formula, options):
    data = with_value(trial, column, value)
    words = rf"column '{column}' has infinite values, the first in row 7 .* is {'-' if value < 0 else ''}Inf"
    for table in (data, pl.from_pandas(data), {name: data[name].tolist() for name in data}):
        with pytest.raises(DataError, match=words):
            build_design(formula, table, **options)


@pytest.mark.parametrize("option", ["weights", "offset"])
def test_infinite_values_of_an_array(trial, option):
    values = np.ones(N)
    values[ROW] = np.inf
    with pytest.raises(DataError, match=f"{option}.*row 7"):
        build_design("y ~ gen", trial, **{option: values})
    missing = trial.copy()
    missing.loc[ROW, "y"] = np.nan  # the row is dropped, whatever its weight
    assert build_design("y ~ gen", missing, **{option: values}).n == N - 1


@pytest.mark.parametrize(
    ("formula", "x", "words"),
    [
        ("y ~ log(x)", 0.0, r"'log\(x\)' has infinite values in 1 of .* row 7 .* for x = 0"),
        ("y ~ log(x)", -1.0, r"'log\(x\)' is not a number in 1 of .* row 7 .* for x = -1"),
        ("y ~ gen + I(1/x) + (1|block)", 0.0, r"'I\(1/x\)' has infinite values .* row 7"),
        ("y ~ gen + (log(x)|block)", 0.0, r"'log\(x\)' has infinite values .* row 7"),
        ("y ~ poly(log(x), 2)", 0.0, r"'log\(x\)' in 'poly\(log\(x\), 2\)' has infinite values, .* row 7"),
        ("y ~ scale(sqrt(x))", -1.0, r"'scale\(sqrt\(x\)\)' is not a number .* row 7"),
        ("log(x) ~ gen", 0.0, r"'log\(x\)' has infinite values .* row 7"),
        ("log(x) ~ gen", -1.0, r"'log\(x\)' is not a number .* row 7"),
        ("y ~ gen + offset(log(x))", 0.0, r"'log\(x\)' has infinite values .* row 7"),
        ("y ~ exp(1000*x)", 1.0, r"'exp\(1000 \* x\)' has infinite values in 60 of"),
    ],
)
def test_an_expression_without_a_value_is_named(trial, formula, x, words):
    with pytest.raises(DataError, match=words):
        build_design(formula, with_value(trial, "x", x))


@pytest.mark.parametrize("formula", ["y ~ log(x)", "log(x) ~ gen", "y ~ offset(log(x))", "y ~ I(x > 1.5)",
                                     "y ~ poly(x, 2)", "y ~ gen + (1|factor(x > 1.5))"])  # fmt: skip
def test_missing_values_of_an_expression_drop_rows(trial, formula):
    """Also of a comparison, which NumPy answers with False."""
    design = build_design(formula, with_value(trial, "x", np.nan))
    assert design.n_dropped == 1
    assert ROW not in design.rows


def test_rows_that_are_dropped_need_no_value(trial):
    data = with_value(trial, "x", 0.0)
    data.loc[ROW, "y"] = np.nan
    assert build_design("y ~ log(x) + offset(1/x)", data).n == N - 1


def test_new_rows_and_new_responses(trial):
    fit = lmm("y ~ log(x) + (1|block)", trial)
    with pytest.raises(DataError, match=r"'log\(x\)' has infinite values .* row 7"):
        fit.predict(with_value(trial, "x", 0.0))
    with pytest.raises(DataError, match="column 'x' has infinite values"):
        fit.predict(with_value(trial, "x", np.inf))
    with pytest.raises(DataError, match=r"'log\(x\)'"):
        fit.emmeans("~ x", at={"x": [0.0, 1.0]})
    y = trial["y"].to_numpy().copy()
    y[ROW] = np.inf
    with pytest.raises(DataError, match="y has 1 missing or infinite values, the first in row 7"):
        prepare("y ~ gen + (1|block)", trial).fit(y=y)
    with pytest.raises(DataError, match="y has 1 missing or infinite"):
        fit.refit(y)


def test_a_request_and_the_command_line(trial, tmp_path, capsys):
    data = with_value(trial, "x", np.inf)
    with pytest.raises(DataError, match="column 'x' has infinite values, the first in row 7"):
        run({"data": data, "formula": "y ~ gen + x + (1|block)"})
    path = tmp_path / "trial.csv"
    data.to_csv(path, index=False)
    assert main(["fit", str(path), "y ~ gen + x + (1|block)"]) == 2
    assert "column 'x' has infinite values, the first in line 9" in capsys.readouterr().err


@pytest.mark.parametrize("formula", ["y ~ gen + x + (1|block)", "y ~ gen + (1|block) + (0 + x|block)"])
def test_one_trial_of_a_batch_is_refused_and_the_others_go_on(trial, formula):
    fits = fit_batch(with_value(trial, "x", np.inf), formula, by="trial").fits
    assert fits["status"].tolist() == ["data", "ok"]
    assert "'x' has infinite values" in fits["message"][0]
    alone = lmm(formula, trial[trial["trial"] == "B"])
    np.testing.assert_allclose(fits["criterion"][1], alone.criterion, rtol=1e-9)
