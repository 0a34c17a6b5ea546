"""Kenward-Roger with second derivatives beside nonlinear structures, against matrices of n x n.

A random intercept and AR(1) residuals within subjects; random lines by variances and a correlation.
"""

import numpy as np
import pytest

from fastlmm_core import datasets, lmm

EXACT = {"rtol": 1e-6}


DATA = datasets.load("sleepstudy")
DATA = DATA[(DATA["Days"] < 3) | (np.arange(len(DATA)) % 20 < 10)]  # balanced, the term is zero for lines
DAYS = DATA["Days"].to_numpy(float)
SAME = np.equal.outer(DATA["Subject"].to_numpy(), DATA["Subject"].to_numpy()).astype(float)


def autoregressive(fit):
    """V = s_u ZZ' + v rho^|lag| and its derivatives by (s_u, v, rho)."""
    lag = np.abs(np.subtract.outer(DAYS, DAYS))
    intercept, variance = (fit.vpredict(name).estimate for name in ("V1", "V2"))
    rho = fit.vpredict("V3/V2").estimate
    R, slope = SAME * rho**lag, SAME * lag * rho ** (lag - 1.0)
    bend, zero = SAME * lag * (lag - 1.0) * rho ** (lag - 2.0), np.zeros_like(R)
    first = [SAME, R, variance * slope]
    return intercept * SAME + variance * R, first, [
        [zero, zero, zero], [zero, zero, slope], [zero, slope, variance * bend],
    ]  # fmt: skip


def correlated(fit):
    """V of lines by (v_1, v_2, rho, sigma2): a covariance of rho sqrt(v_1 v_2)."""
    found = fit.variance_components["estimate"].to_numpy()
    a, c, b, sigma2 = found
    root, ones, zero = np.sqrt(a * b), np.ones_like(DAYS), np.zeros_like(SAME)

    def moved(of_a, of_b, of_c):
        Z = np.column_stack([ones, DAYS])
        return SAME * (Z @ np.array([[of_a, of_c], [of_c, of_b]]) @ Z.T)

    first = [moved(1.0, 0.0, 0.5 * c / a), moved(0.0, 1.0, 0.5 * c / b), moved(0.0, 0.0, root)]
    bends = [
        [-0.25 * c / a**2, 0.25 * c / (a * b), 0.5 * root / a],
        [0.25 * c / (a * b), -0.25 * c / b**2, 0.5 * root / b],
        [0.5 * root / a, 0.5 * root / b, 0.0],
    ]
    second = [[*(moved(0.0, 0.0, bend) for bend in row), zero] for row in bends]
    unit = np.eye(DAYS.size)
    return moved(a, b, c) + sigma2 * unit, [*first, unit], [*second, [zero] * 4]


MODELS = {
    "residual": ("Reaction ~ Days + (1 | Subject)", "ar1(Days | Subject)", autoregressive, 1e-3),
    "term": ("Reaction ~ Days + cs(Days | Subject)", "units", correlated, 5e-5),
}


@pytest.fixture(scope="module", params=MODELS)
def model(request):
    """A fit, its dense matrices and what the term moves standard errors by at least."""
    formula, residual, derivatives, least = MODELS[request.param]
    fit = lmm(formula, DATA, residual=residual)
    return fit, Dense(*derivatives(fit)), least


class Dense:
    """V and its derivatives at the estimates of a fit."""

    def __init__(self, V, first, second):
        self.V, self.first, self.second = V, first, second
        self.X = np.column_stack([np.ones(DAYS.size), DAYS])
        self.y = DATA["Reaction"].to_numpy()
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
def test_adjusted_covariance(model, kind, second_derivatives):
    fit, dense, _ = model
    expected = dense.adjusted(kind, second_derivatives)
    ours = fit.linear_functions(np.eye(2), information=kind, second_derivatives=second_derivatives)
    np.testing.assert_allclose(ours.cov, expected, **EXACT)


@pytest.mark.parametrize("kind", ["observed", "expected"])
def test_the_term_moves_standard_errors_and_not_df(model, kind):
    fit, _, least = model
    with_term, without = (fit.fixed_effects(information=kind, second_derivatives=s) for s in (True, False))
    assert np.all(np.abs(with_term["se"] / without["se"] - 1.0) > least)
    np.testing.assert_allclose(with_term["df"], without["df"], rtol=1e-12)
