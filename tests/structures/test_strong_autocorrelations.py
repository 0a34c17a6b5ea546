"""Fields whose autocorrelations run to one keep the digits of their criterion.

The oracle differences the rows by hand: L with L C L' = I has two entries a row, and nothing cancels in it.
"""

import numpy as np
import pandas as pd
import pytest

from fastlmm_core import lmm, prepare
from fastlmm_core.engine.objective import evaluate

ROWS, COLUMNS, LINES = 12, 15, 60


def field(seed, noise):
    r = np.random.default_rng(seed)
    row, column = np.repeat(np.arange(ROWS), COLUMNS), np.tile(np.arange(COLUMNS), ROWS)
    line = r.permutation(np.resize(np.arange(LINES), row.size))
    trend = np.cumsum(r.normal(size=ROWS))[row] + np.cumsum(r.normal(size=COLUMNS))[column]
    y = 50.0 + r.normal(size=LINES)[line] + trend + r.normal(0.0, noise, row.size)
    return pd.DataFrame({"row": row, "col": column, "line": [f"L{k:02d}" for k in line], "y": y})


def along(below, A):
    """L_row (x) L_col applied to the columns of A (n, k), from 1 - rho of both."""
    out = A.reshape(ROWS, COLUMNS, -1)
    for axis, rest in enumerate(below):
        moved = np.moveaxis(out, axis, 0)
        scale = np.sqrt(rest * (2.0 - rest))
        own = moved.copy()
        own[1:] = ((moved[1:] - moved[:-1]) + rest * moved[:-1]) / scale  # x_i - rho x_(i - 1)
        out = np.moveaxis(own, 0, axis)
    return out.reshape(ROWS * COLUMNS, -1)


def whitened_criterion(table, y, deviation, variance, below):
    """-2 restricted log-likelihood of (1 | line) beside the field, from whitened rows."""
    Z = (table["line"].to_numpy()[:, None] == np.unique(table["line"])).astype(float)
    one, Z, y = (along(below, A) / np.sqrt(variance) for A in (np.ones((len(y), 1)), Z, y[:, None]))
    n = len(y)
    # [Z deviation; I] and [X; 0]: the residual sum of squares and determinants of the augmented system
    A = np.block([[deviation * Z, one], [np.eye(LINES), np.zeros((LINES, 1))]])
    Q, R = np.linalg.qr(A)
    rest = np.r_[y[:, 0], np.zeros(LINES)]
    rest = rest - Q @ (Q.T @ rest)
    rest = rest - Q @ (Q.T @ rest)
    log_R = n * np.log(variance)
    for others, size, b in zip((COLUMNS, ROWS), (ROWS, COLUMNS), below, strict=True):
        log_R += others * (size - 1) * np.log(b * (2.0 - b))
    return float((n - 1) * np.log(2 * np.pi) + log_R + 2 * np.log(np.abs(np.diag(R))).sum() + rest @ rest)


@pytest.mark.parametrize("distance", [1.0, 3.0, 5.0, 5.8])
def test_the_criterion_keeps_its_digits(distance):
    """Up to two autocorrelations of 0.99998 beside a variance of two thousand."""
    table = field(4, 0.001)
    prepared = prepare("y ~ 1 + (1 | line)", table, residual="ar1(row):ar1(col)")
    e = prepared.equations
    y = table["y"].to_numpy() - table["y"].mean()
    charts = np.array([distance, distance - 0.4])
    rho = np.tanh(charts) * (1.0 - 1e-8)
    below = [2.0 / (np.exp(2.0 * c) + 1.0) * (1.0 - 1e-8) + 1e-8 for c in charts]  # 1 - rho
    np.testing.assert_allclose(below, 1.0 - rho, rtol=1e-6)
    log_variance = 2.0 * distance - 4.0
    theta = np.r_[0.8, log_variance, charts]
    assert e.n_theta == theta.size
    point = evaluate(e, prepared.factor, y, theta)
    expected = whitened_criterion(table, y, 0.8, np.exp(log_variance), below)
    assert point.deviance == pytest.approx(expected, abs=1e-8)


@pytest.mark.filterwarnings("ignore::fastlmm_core.errors.FastLMMWarning")
def test_trends_that_walk_are_told():
    """The limit of a random walk is no maximum: the search ends in some dozens of steps, with a word why."""
    fields = [field(10 + k, 0.02).assign(env=f"E{k}") for k in range(3)]
    table = pd.concat(fields, ignore_index=True)
    table["line"] = np.tile([f"L{k:03d}" for k in range(ROWS * COLUMNS)], 3)
    fit = lmm("y ~ env + diag(0 + env | line)", table, residual="ar1(row):ar1(col) | env")
    assert not fit.converged
    assert fit.optimum.evaluations < 100
    assert any("as its autocorrelation tends to +1: along" in str(word) for word in fit.warnings)
