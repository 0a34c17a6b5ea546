"""Criterion, score and curvature at arbitrary parameters against dense formulas and finite differences."""

import numpy as np
import pytest
from dense_reference import DenseModel, DenseTerm, first_differences
from random_designs import CASES, case

from fastlmm_core import prepare
from fastlmm_core.linalg.supernodal import SupernodalFactor
from fastlmm_core.reml.objective import evaluate, evaluate_score, factors_at, prepare_response
from fastlmm_core.reml.solved import SolvedEquations


class Setting:
    """One model at a random theta, in the engine and densely."""

    def __init__(self, name, reml, supernodal=False):
        c = case(name)
        self.prepared = prepare(c.formula, c.data, weights=c.weights, reml=reml)
        self.reml, self.e = reml, self.prepared.equations
        design = self.prepared.design
        self.factor = SupernodalFactor(self.e.indptr, self.e.indices) if supernodal else self.prepared.factor
        r = np.random.default_rng(len(name))
        theta = r.normal(0, 0.6, self.e.n_theta)
        diagonal = self.e.theta_row == self.e.theta_col
        self.theta = np.where(diagonal, np.abs(theta) + 0.2, theta)
        self.response = prepare_response(self.e, design.y)
        self.point = evaluate(self.e, self.factor, self.response, factors_at(self.e, self.theta), reml)
        diag = [t.structure.name == "diag" for t in self.e.terms]
        terms = [
            DenseTerm(t.codes, t.values, len(t.levels), d) for t, d in zip(design.random, diag, strict=True)
        ]
        zero = [np.zeros((t.m, t.m)) for t in self.e.terms]
        self.model = DenseModel(design.y, design.X.toarray(), terms, design.weights, zero, 1.0, reml)
        self.dof = self.e.n - (self.e.p if reml else 0)

    def covariances(self, theta, sigma2):
        out = []
        for k, term in enumerate(self.e.terms):
            T = term.structure.covariance(theta[self.e.theta_term == k])
            out.append(sigma2 * term.basis @ T @ term.basis.T)
        return out

    def profiled(self, theta):
        """Dense model at theta with sigma2 profiled out."""
        unit = self.model.at(self.covariances(theta, 1.0), 1.0)
        sigma2 = unit.y @ unit.P @ unit.y / self.dof
        return self.model.at(self.covariances(theta, sigma2), sigma2)

    @property
    def constant(self):
        """What the engine's inside columns and the weights leave out of the criterion."""
        value = -self.e.log_weights
        if self.reml:
            value -= 2 * np.sum(np.log(np.abs(self.e.to_user.diagonal())))
        return value


@pytest.fixture(scope="module", params=[(name, reml) for name in CASES for reml in (True, False)], ids=str)
def setting(request):
    return Setting(*request.param)


def test_criterion(setting):
    dense = setting.profiled(setting.theta)
    np.testing.assert_allclose(setting.point.deviance + setting.constant, dense.criterion, rtol=1e-10)
    np.testing.assert_allclose(setting.point.r2 / setting.dof, dense.sigma2, rtol=1e-9)


def test_estimates_and_projection(setting):
    """beta, u and Z'Py at parameters that are no optimum."""
    s = setting
    dense = s.profiled(s.theta)
    evaluate(s.e, s.factor, s.response, s.point.factors, s.reml)
    solved = SolvedEquations(s.e, s.factor, s.response, s.point, s.theta, s.reml)
    np.testing.assert_allclose(s.e.to_user @ solved.beta, dense.beta, rtol=1e-8, atol=1e-9)
    u = np.concatenate(
        [(solved.random_effects(k) @ term.basis.T).ravel() for k, term in enumerate(s.e.terms)]
    )
    np.testing.assert_allclose(u, dense.u, rtol=1e-7, atol=1e-9)
    np.testing.assert_allclose(solved.criterion, dense.criterion, rtol=1e-10)
    fitted = dense.X @ dense.beta + dense.Z @ dense.u
    np.testing.assert_allclose(solved.residual, dense.y - fitted, atol=1e-8)


def dense_gradient(setting):
    """d gamma / d theta at fixed sigma2, whose own derivative is zero, and the dense model."""
    s = setting
    dense = s.profiled(s.theta)
    blocks = []
    for k, term in enumerate(s.e.terms):
        at = s.e.theta_term == k
        jacobian = term.structure.covariance_jacobian(s.theta[at])
        moved = dense.sigma2 * term.basis @ jacobian @ term.basis.T
        blocks.append(np.array([[m[a, b] for a, b in dense.terms[k].elements] for m in moved]))
    rows = np.zeros((s.e.n_theta, dense.gamma.size))
    at = 0
    for k, block in enumerate(blocks):
        rows[s.e.theta_term == k, at : at + block.shape[1]] = block
        at += block.shape[1]
    return rows, dense


def test_gradient_by_formula(setting):
    s = setting
    rows, dense = dense_gradient(s)
    evaluate(s.e, s.factor, s.response, s.point.factors, s.reml)
    gradient, _, _ = evaluate_score(s.e, s.factor, s.response, s.point, s.reml)
    expected = rows @ dense.score
    np.testing.assert_allclose(gradient, expected, rtol=1e-7, atol=1e-8 * np.abs(expected).max())
    # sigma2 is at its optimum
    np.testing.assert_allclose(dense.gamma @ dense.score, 0, atol=1e-7)


def test_curvature_by_formula(setting):
    """Average information in theta, the score times d2T, and the profiled sigma2."""
    s = setting
    rows, dense = dense_gradient(s)
    evaluate(s.e, s.factor, s.response, s.point.factors, s.reml)
    _, hessian, _ = evaluate_score(s.e, s.factor, s.response, s.point, s.reml)
    Py = dense.P @ dense.y
    quadratic = np.array([Py @ V @ Py for V in dense.dV])
    expected = rows @ (2 * dense.information("average")) @ rows.T
    expected -= np.outer(rows @ quadratic, rows @ quadratic) / s.dof
    first = 0
    for k, term in enumerate(s.e.terms):
        at = np.flatnonzero(s.e.theta_term == k)
        second = term.structure.covariance_hessian(s.theta[at])
        moved = dense.sigma2 * term.basis @ second @ term.basis.T
        elements = dense.terms[k].elements
        score = dense.score[first : first + len(elements)]
        first += len(elements)
        expected[np.ix_(at, at)] += sum(
            moved[:, :, a, b] * c for (a, b), c in zip(elements, score, strict=True)
        )
    np.testing.assert_allclose(hessian, expected, rtol=1e-6, atol=1e-7 * np.abs(expected).max())


@pytest.mark.parametrize("name", ["crossed", "slopes2", "weighted_slopes", "empty_cells"])
def test_gradient_by_differences(name):
    """No formula at all: the dense criterion moved."""
    s = Setting(name, True)
    gradient, _, _ = evaluate_score(s.e, s.factor, s.response, s.point, s.reml)
    numeric = first_differences(lambda t: s.profiled(t).criterion, s.theta, np.full(s.e.n_theta, 0.02))
    np.testing.assert_allclose(gradient, numeric, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("reml", [True, False])
@pytest.mark.parametrize("name", ["crossed_interaction", "slopes3", "weighted", "empty_cells"])
def test_supernodes_give_the_same_figures(name, reml):
    a, b = Setting(name, reml), Setting(name, reml, supernodal=True)
    np.testing.assert_allclose(a.point.deviance, b.point.deviance, rtol=1e-12)
    first = evaluate_score(a.e, a.factor, a.response, a.point, reml)
    second = evaluate_score(b.e, b.factor, b.response, b.point, reml)
    for x, z in zip(first, second, strict=True):
        np.testing.assert_allclose(x, z, rtol=1e-8, atol=1e-9 * np.abs(x).max())
