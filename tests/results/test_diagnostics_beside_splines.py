"""Marginal residuals, leverage and influence beside splines, which have no share in their polynomials."""

import numpy as np
import pandas as pd
import pytest
from scipy.interpolate import BSpline

from fastlmm_core import lmm

SEGMENTS, DEGREE = 6, 3


@pytest.fixture(scope="module")
def table():
    rng = np.random.default_rng(4)
    n = 60
    x = np.round(rng.uniform(0.0, 10.0, n), 1)
    frame = pd.DataFrame({"x": x, "gen": [f"g{i % 10}" for i in range(n)]})
    frame["env"] = np.where(np.arange(n) % 3 == 0, "E1", "E2")
    effects = 0.7 * rng.normal(size=10)[np.arange(n) % 10]
    frame["y"] = 5.0 + 2.0 * np.sin(frame["x"]) + 0.3 * frame["x"] + effects + 0.6 * rng.normal(size=n)
    return frame


def spline(x):
    """Rows of B-splines on equal segments of x, and the covariance of coefficients orthogonal to lines."""
    step = np.ptp(x) / SEGMENTS
    knots = x.min() + step * np.arange(-DEGREE, SEGMENTS + DEGREE + 1)
    inside = np.clip(x, knots[DEGREE], knots[-DEGREE - 1])
    B = BSpline.design_matrix(inside, knots, DEGREE).toarray()
    D = np.diff(np.eye(B.shape[1]), 2, axis=0)
    return B, np.linalg.pinv(D.T @ D, rcond=1e-10, hermitian=True)


class Dense:
    """V = s_gen Z Z' + sum of s B G B' + s_e I at the estimates of a fit."""

    def __init__(self, fit, table, X, splines):
        variances = fit.variance_components.set_index("group")["estimate"]
        Z = pd.get_dummies(table["gen"]).to_numpy(float)
        V = variances["gen"] * Z @ Z.T + variances["Residual"] * np.eye(len(table))
        own = [variances[name] for name in variances.index if "ps(" in name]
        for s, (B, G) in zip(own, splines, strict=True):
            V += s * B @ G @ B.T
        self.y, self.X, self.V = table["y"].to_numpy(), X, V
        self.phi, self.beta = self.of_rows(np.arange(len(table)))

    def of_rows(self, rows):
        Vi = np.linalg.inv(self.V[np.ix_(rows, rows)])
        phi = np.linalg.inv(self.X[rows].T @ Vi @ self.X[rows])
        return phi, phi @ self.X[rows].T @ Vi @ self.y[rows]

    def without(self, rows):
        phi, beta = self.of_rows(np.setdiff1d(np.arange(self.y.size), rows))
        change, p = beta - self.beta, self.beta.size
        measures = (
            change @ np.linalg.solve(self.phi, change) / p, change @ np.linalg.solve(phi, change) / p,
            abs(np.trace(np.linalg.solve(self.phi, phi)) - p), np.linalg.det(phi) / np.linalg.det(self.phi),
        )  # fmt: skip
        return measures, change


def one_curve(table):
    x = table["x"].to_numpy()
    return "x + (1 | gen) + ps(x, nseg=6)", np.column_stack([np.ones_like(x), x]), [spline(x)]


def curve_of_each(table):
    x, first = table["x"].to_numpy(), (table["env"] == "E1").to_numpy()
    splines = []
    for own in (first, ~first):
        B, G = np.zeros((x.size, SEGMENTS + DEGREE)), None
        B[own], G = spline(x[own])
        splines.append((B, G))
    X = np.column_stack([np.ones_like(x), ~first, x, ~first * x])
    return "env * x + (1 | gen) + at(env):ps(x, nseg=6)", X, splines


MEASURES = ["cooks_d", "mdffits", "covtrace", "covratio"]


@pytest.mark.parametrize("reml", [True, False])
@pytest.mark.parametrize("model", [one_curve, curve_of_each])
def test_every_row_against_dense_matrices(table, model, reml):
    right, X, splines = model(table)
    fit = lmm(f"y ~ {right}", table, reml=reml)
    dense, found = Dense(fit, table, X, splines), fit.diagnostics()
    np.testing.assert_allclose(fit.beta, dense.beta, rtol=1e-6)
    marginal = dense.y - X @ dense.beta
    errors = np.sqrt(np.diag(dense.V - X @ dense.phi @ X.T))
    np.testing.assert_allclose(found["marginal"], dense.y - fit.predict(random=False), atol=1e-10)
    np.testing.assert_allclose(found["marginal"], marginal, atol=1e-7)
    np.testing.assert_allclose(found["marginal_studentized"], marginal / errors, atol=1e-6)
    leverage = np.diag(X @ dense.phi @ X.T @ np.linalg.inv(dense.V))
    np.testing.assert_allclose(found["leverage_fixed"], leverage, atol=1e-7)
    expected = np.array([dense.without([i])[0] for i in range(len(table))])
    np.testing.assert_allclose(found[MEASURES], expected, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("reml", [True, False])
def test_levels_against_dense_matrices(table, reml):
    right, X, splines = one_curve(table)
    fit = lmm(f"y ~ {right}", table, reml=reml)
    dense, found = Dense(fit, table, X, splines), fit.influence("gen", coefficients=True)
    for _, row in found.iterrows():
        measures, change = dense.without(np.flatnonzero(table["gen"] == row["level"]))
        np.testing.assert_allclose(row[MEASURES].astype(float), measures, rtol=1e-5, atol=1e-8)
        np.testing.assert_allclose(row[["change_(Intercept)", "change_x"]].astype(float), change, atol=1e-6)
