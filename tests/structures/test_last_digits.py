"""Fits whose search stalls end where the criterion of a dense V (n, n) is stationary."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import fastlmm_core

SLEEP = Path(__file__).parents[2] / "data" / "sleepstudy.csv"


def dense_criterion(y: np.ndarray, X: np.ndarray, T: np.ndarray) -> float:
    """-2 restricted log-likelihood of complete subjects with covariance T (m, m), lme4's scale."""
    inverse = np.kron(np.eye(y.size // len(T)), np.linalg.inv(T))
    XVX = X.T @ inverse @ X
    beta = np.linalg.solve(XVX, X.T @ inverse @ y)
    rest = y - X @ beta
    log_V = y.size // len(T) * np.linalg.slogdet(T)[1]
    return float(
        (y.size - X.shape[1]) * np.log(2 * np.pi) + log_V + np.linalg.slogdet(XVX)[1] + rest @ inverse @ rest
    )


@pytest.mark.parametrize("structure", ["toep", "cs", "hetar1"])
def test_the_gradient_vanishes_to_the_last_digits(structure):
    table = pd.read_csv(SLEEP)
    table["day"] = "d" + table["Days"].astype(str)
    fit = fastlmm_core.lmm("Reaction ~ Days", table, residual=f"{structure}(day | Subject)")
    (block,) = fastlmm_core.run(
        {
            "data": table.to_dict("list"),
            "formula": "Reaction ~ Days",
            "residual": f"{structure}(day | Subject)",
        }
    )["fit"]["residual"]
    T, y = np.array(block["T"]), table["Reaction"].to_numpy()
    X = np.column_stack([np.ones(y.size), table["Days"]])
    assert fit.criterion == pytest.approx(dense_criterion(y, X, T), abs=1e-8)
    for day in range(len(T)):
        moved = []
        for h in (1e-3, -1e-3, 2e-3, -2e-3):
            scale = np.ones(len(T))
            scale[day] += h
            moved.append(dense_criterion(y, X, T * np.outer(scale, scale)))
        slope = (8.0 * (moved[0] - moved[1]) - (moved[2] - moved[3])) / 12e-3
        assert slope == pytest.approx(0.0, abs=2e-5), (structure, day)
