"""Kenward-Roger with second derivatives beside nonlinear structures, against matrices of n x n.

A random intercept and AR(1) residuals within subjects: V = s_u ZZ' + v rho^|lag|, parameters (s_u, v, rho).
"""

import numpy as np
import pytest

from fastlmm_core import datasets, lmm

EXACT = {"rtol": 1e-6}


@pytest.fixture(scope="module")
def fit():
    return lmm("Reaction ~ Days + (1 | Subject)", datasets.load("sleepstudy"), residual="ar1(Days | Subject)")


class Dense:
    """V and its derivatives at the estimates of a fit."""

    def __init__(self, fit):
        data = datasets.load("sleepstudy")
        same = np.equal.outer(data["Subject"].to_numpy(), data["Subject"].to_numpy()).astype(float)
        days = data["Days"].to_numpy(float)
        lag = np.abs(np.subtract.outer(days, days))
        intercept, variance = (fit.vpredict(name).estimate for name in ("V1", "V2"))
        rho = fit.vpredict("V3/V2").estimate
        R, slope = same * rho**lag, same * lag * rho ** (lag - 1.0)
        bend = same * lag * (lag - 1.0) * rho ** (lag - 2.0)
        zero = np.zeros_like(R)
        self.V = intercept * same + variance * R
        self.first = [same, R, variance * slope]
        self.second = [
            [zero, zero, zero], [zero, zero, slope], [zero, slope, variance * bend],
        ]  # fmt: skip
        self.X = np.column_stack([np.ones(len(data)), days])
        self.y = data["Reaction"].to_numpy()
        self.inverse = np.linalg.inv(self.V)
        self.phi = np.linalg.inv(self.X.T @ self.inverse @ self.X)
        half = self.inverse @ self.X
        self.P = self.inverse - half @ self.phi @ half.T

    def weights(self, kind):
        """Covariance of the parameters by an information (3, 3)."""
        P, Py = self.P, self.P @ self.y
        E = np.array([[np.sum((P @ a) * (P @ b).T) for b in self.first] for a in self.first])
        A = np.array([[Py @ a @ P @ b @ Py for b in self.first] for a in self.first])
        if kind == "expected":
            return 2.0 * np.linalg.inv(E)
        curvature = np.array([[np.sum(P * s) - Py @ s @ Py for s in row] for row in self.second])
        return 2.0 * np.linalg.inv(2.0 * A - E + curvature)

    def adjusted(self, kind, second_derivatives):
        """Kenward & Roger's Phi_A (2, 2)."""
        W, half = self.weights(kind), self.inverse @ self.X
        inner = np.zeros((2, 2))
        for i, a in enumerate(self.first):
            for j, b in enumerate(self.first):
                R = half.T @ self.second[i][j] @ half if second_derivatives else 0.0
                inner += W[i, j] * (half.T @ a @ self.P @ b @ half - 0.25 * R)
        return self.phi + 2.0 * self.phi @ inner @ self.phi


@pytest.mark.parametrize("second_derivatives", [False, True])
@pytest.mark.parametrize("kind", ["observed", "expected"])
def test_adjusted_covariance(fit, kind, second_derivatives):
    expected = Dense(fit).adjusted(kind, second_derivatives)
    ours = fit.linear_functions(np.eye(2), information=kind, second_derivatives=second_derivatives)
    np.testing.assert_allclose(ours.cov, expected, **EXACT)


@pytest.mark.parametrize("kind", ["observed", "expected"])
def test_the_term_moves_standard_errors_and_not_df(fit, kind):
    with_term, without = (fit.fixed_effects(information=kind, second_derivatives=s) for s in (True, False))
    assert np.all(np.abs(with_term["se"] / without["se"] - 1.0) > 1e-3)
    np.testing.assert_allclose(with_term["df"], without["df"], rtol=1e-12)
