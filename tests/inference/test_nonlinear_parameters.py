"""Kenward-Roger where the covariance is not linear in its parameters: the term R_ij, against n x n matrices.

Two structures that the library does not offer serve as examples: the unstructured covariance written in
variances and correlations (as many parameters as elements), and standard deviations with one correlation
that decays along the coefficients (fewer). They share the factor of `us`: any fit can be seen as one of them.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from dense_reference import DenseModel, first_differences, second_differences
from random_designs import case, fit_of

from fastlmm_core import lmm
from fastlmm_core.errors import InferenceError, InternalError
from fastlmm_core.reml.information import KINDS
from fastlmm_core.reml.objective import evaluate, factors_at
from fastlmm_core.reml.solved import SolvedEquations
from fastlmm_core.structures.coefficients.unstructured import Unstructured

EXACT = {"rtol": 1e-7}


class Correlations(Unstructured):
    """Variances v_a, then the correlations r_ab of a > b, column by column."""

    name = "variances and correlations"
    linear = False

    @property
    def pairs(self):
        return [(a, b) for b in range(self.m) for a in range(b + 1, self.m)]

    def parameters_of(self, G):
        sd = np.sqrt(np.diag(G))
        return np.array([*np.diag(G), *(G[a, b] / (sd[a] * sd[b]) for a, b in self.pairs)])

    def build(self, s):
        """G of the parameters."""
        G = np.diag(s[: self.m])
        for r, (a, b) in zip(s[self.m :], self.pairs, strict=True):
            G[a, b] = G[b, a] = r * np.sqrt(s[a] * s[b])
        return G

    def parameter_jacobian(self, covariance):
        out = np.zeros((self.m + len(self.pairs), self.m, self.m))
        v = np.diag(covariance)
        for a in range(self.m):
            out[a, a, a] = 1.0
        for k, (a, b) in enumerate(self.pairs, start=self.m):
            c = covariance[a, b]
            for i, value in ((a, 0.5 * c / v[a]), (b, 0.5 * c / v[b]), (k, np.sqrt(v[a] * v[b]))):
                out[i, a, b] = out[i, b, a] = value
        return out

    def parameter_hessian(self, covariance):
        n = self.m + len(self.pairs)
        out = np.zeros((n, n, self.m, self.m))
        v = np.diag(covariance)
        for k, (a, b) in enumerate(self.pairs, start=self.m):
            c, root = covariance[a, b], np.sqrt(v[a] * v[b])
            entries = {
                (a, a): -0.25 * c / v[a] ** 2, (b, b): -0.25 * c / v[b] ** 2,
                (a, b): 0.25 * c / (v[a] * v[b]), (a, k): 0.5 * root / v[a], (b, k): 0.5 * root / v[b],
            }  # fmt: skip
            for (i, j), value in entries.items():
                for index in ((i, j, a, b), (i, j, b, a), (j, i, a, b), (j, i, b, a)):
                    out[index] = value
        return out


class Decaying(Unstructured):
    """Standard deviations d_a and a correlation r: G_ab = d_a d_b r^|a - b|."""

    name = "decaying correlation"
    linear = False

    def parameters_of(self, G):
        sd = np.sqrt(np.diag(G))
        return np.array([*sd, G[1, 0] / (sd[0] * sd[1])])

    def build(self, s):
        """G of the parameters."""
        lag = np.abs(np.subtract.outer(np.arange(self.m), np.arange(self.m)))
        return np.outer(s[:-1], s[:-1]) * s[-1] ** lag

    def parameter_jacobian(self, covariance):
        s = self.parameters_of(covariance)
        return first_differences(self.build, s, 0.02 * np.abs(s))

    def parameter_hessian(self, covariance):
        s = self.parameters_of(covariance)
        elements = [
            [
                second_differences(lambda x, a=a, b=b: self.build(x)[a, b], s, 0.02 * np.abs(s))
                for b in range(self.m)
            ]
            for a in range(self.m)
        ]
        return np.moveaxis(np.array(elements), (0, 1), (2, 3))


def seen_as(fit, structure, k, theta=None):
    """The fit with term k in another structure, at its estimates or at another theta."""
    old = fit.solved
    terms = list(old.equations.terms)
    terms[k] = replace(terms[k], structure=structure(terms[k].m))
    equations = replace(old.equations, terms=type(old.equations.terms)(terms))
    theta = old.theta if theta is None else theta
    point = evaluate(equations, old.factor, old.response, factors_at(equations, theta), True)
    solved = SolvedEquations(equations, old.factor, old.response, point, theta, True)
    return replace(fit, solved=solved)


def theta_at(fit, structure, k, parameters):
    """theta of the fit with the relative covariance of term k at the structure's `parameters`."""
    term = fit.solved.equations.terms[k]
    back = np.linalg.inv(term.basis)
    theta = fit.solved.theta.copy()
    own = structure(term.m)
    theta[fit.solved.equations.theta_term == k] = own.theta_of(back @ own.build(parameters) @ back.T)
    return theta


def fresh(name):
    """A fit of one's own, whose factor may be used for another point."""
    c = case(name)
    return lmm(c.formula, c.data, weights=c.weights)


class DenseNonlinear:
    """Kenward & Roger's formulas with n x n first and second derivatives of V by differences in s."""

    def __init__(self, fit):
        self.model = model = DenseModel.of_fit(fit)
        self.structures = [
            None if term.structure.linear else term.structure for term in fit.solved.equations.terms
        ]
        parts = [
            np.array([G[a, b] for a, b in term.elements]) if own is None else own.parameters_of(G)
            for own, term, G in zip(self.structures, model.terms, model.G, strict=True)
        ]
        self.sizes = [part.size for part in parts]
        self.s = np.concatenate([*parts, [model.sigma2]])
        steps = 0.02 * np.abs(self.s)
        self.dV = first_differences(lambda s: self.at(s).V, self.s, steps)
        self.d2V = self.second(steps)

    def at(self, s):
        """The model at own parameters."""
        G, position = [], 0
        for own, term, size in zip(self.structures, self.model.terms, self.sizes, strict=True):
            part = s[position : position + size]
            position += size
            if own is None:
                matrix = np.zeros((term.m, term.m))
                for value, (a, b) in zip(part, term.elements, strict=True):
                    matrix[a, b] = matrix[b, a] = value
                G.append(matrix)
            else:
                G.append(own.build(part))
        return self.model.at(G, s[-1])

    def second(self, steps):
        """(s + 1, s + 1, n, n), each entry a difference of first differences along another direction."""
        n = self.s.size
        out = np.zeros((n, n, *self.model.V.shape))
        for i in range(n):
            step = np.zeros(n)
            step[i] = steps[i]
            parts = []
            for h in (1.0, 0.5, 0.25):
                up = first_differences(lambda s: self.at(s).V, self.s + h * step, steps)
                down = first_differences(lambda s: self.at(s).V, self.s - h * step, steps)
                parts.append((up - down) / (2 * h * steps[i]))
            a, b = (4 * parts[1] - parts[0]) / 3, (4 * parts[2] - parts[1]) / 3
            out[i] = (16 * b - a) / 15
        return out

    def information(self, kind):
        P, y = self.model.P, self.model.y
        Py = P @ y
        PV = P @ self.dV
        expected = 0.5 * np.einsum("iab,jba->ij", PV, PV)
        VPy = [V @ Py for V in self.dV]
        average = 0.5 * np.array([[v @ P @ w for v in VPy] for w in VPy])
        curved = 0.5 * (np.einsum("ab,ijba->ij", P, self.d2V) - np.einsum("a,ijab,b->ij", Py, self.d2V, Py))
        return {
            "expected": expected, "average": average, "observed": 2 * average - expected + curved,
        }[kind]  # fmt: skip

    def adjusted_covariance(self, kind, second=True):
        """Phi + 2 Phi {sum_ij W_ij (Q_ij - P_i Phi P_j - R_ij / 4)} Phi."""
        model, phi = self.model, self.model.phi
        VX = model.V_inv @ model.X
        W = np.linalg.inv(self.information(kind))
        total = np.zeros_like(phi)
        first = [-VX.T @ V @ VX for V in self.dV]
        for i in range(len(W)):
            for j in range(len(W)):
                Q = VX.T @ self.dV[i] @ model.V_inv @ self.dV[j] @ VX
                R = VX.T @ self.d2V[i, j] @ VX if second else np.zeros_like(phi)
                total += W[i, j] * (Q - first[i] @ phi @ first[j] - R / 4)
        return phi + 2 * phi @ total @ phi

    def df(self, row, kind):
        VX = self.model.V_inv @ self.model.X
        u = VX @ (self.model.phi @ row)
        gradient = np.array([u @ V @ u for V in self.dV])
        W = np.linalg.inv(self.information(kind))
        return 2 * (row @ self.model.phi @ row) ** 2 / (gradient @ W @ gradient)


CASES = {
    "correlation of two": ("slopes2", Correlations, 0, None),
    "weights": ("weighted_slopes", Correlations, 0, None),
    "beside a linear term": ("slope_and_crossed", Correlations, 0, None),
    "correlations of three": ("slopes3", Correlations, 0, None),
    "fewer parameters": ("slopes3", Decaying, 0, (1.2, 0.9, 0.6, 0.4)),
}


@pytest.fixture(scope="module", params=CASES)
def pair(request):
    """The fit and the dense formulas, made once for all checks of a case."""
    name, structure, k, decay = CASES[request.param]
    fit = fresh(name)
    fit = seen_as(fit, structure, k, None if decay is None else theta_at(fit, structure, k, np.array(decay)))
    return fit, DenseNonlinear(fit)


@pytest.mark.parametrize("structure", [Correlations, Decaying])
@pytest.mark.parametrize("m", [2, 3])
def test_derivatives_of_the_examples(structure, m):
    own = structure(m)
    G = own.build(np.array([1.5, 0.8, 0.6, 0.3, -0.2, 0.4][: len(own.parameters_of(np.eye(m)))]))
    s = own.parameters_of(G)
    np.testing.assert_allclose(own.build(s), G, rtol=1e-14)
    np.testing.assert_allclose(
        own.parameter_jacobian(G), first_differences(own.build, s, 0.02 * np.abs(s)), atol=1e-10
    )
    H = own.parameter_hessian(G)
    for a in range(m):
        for b in range(m):
            numeric = second_differences(lambda x, a=a, b=b: own.build(x)[a, b], s, 0.02 * np.abs(s))
            np.testing.assert_allclose(H[:, :, a, b], numeric, atol=1e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_adjusted_covariance_and_df(pair, kind):
    fit, dense = pair
    rows = np.eye(len(fit.coef_names))
    functions = fit.linear_functions(rows, information=kind)
    want = dense.adjusted_covariance(kind)
    np.testing.assert_allclose(functions.cov, want, rtol=1e-7, atol=1e-8 * np.abs(want).max())
    np.testing.assert_allclose(functions.se(), np.sqrt(np.diag(want)), **EXACT)
    np.testing.assert_allclose(functions.df(), [dense.df(row, kind) for row in rows], **EXACT)
    # the second derivatives matter: without them the figures are others
    without = np.sqrt(np.diag(dense.adjusted_covariance(kind, second=False)))
    assert np.abs(functions.se() / without - 1.0).max() > 1e-5


def test_observed_information_is_the_curvature_of_the_criterion(pair):
    """The reference itself, held to differences of the restricted likelihood."""
    _, dense = pair
    H = 0.5 * second_differences(lambda s: dense.at(s).criterion, dense.s, 0.02 * np.abs(dense.s))
    scale = np.sqrt(np.outer(*[np.diag(dense.information("expected"))] * 2))
    np.testing.assert_allclose(dense.information("observed") / scale, H / scale, atol=2e-6)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["slopes2", "slopes3", "slope_and_crossed"])
def test_without_second_derivatives_parameters_do_not_matter(name, kind):
    """As many own parameters as covariances: df, and Phi_A without R_ij, are the linear structure's."""
    linear = fit_of(name)
    curved = seen_as(fresh(name), Correlations, 0)
    rows = np.eye(len(linear.coef_names))
    a, b = (fit.linear_functions(rows, information=kind) for fit in (linear, curved))
    np.testing.assert_allclose(b.df(), a.df(), rtol=1e-6)  # the score vanishes to the optimizer's tolerance
    parts = b.gradients[:-1]
    curvature = curved._inference.curvature(kind)
    np.testing.assert_allclose(
        b.cov + 0.5 * np.einsum("k,kab->ab", curvature, parts), a.cov, rtol=1e-6, atol=1e-9
    )
    assert linear._inference.curvature(kind) is None


def test_scaled_f_uses_the_adjusted_covariance():
    fit = seen_as(fresh("slopes3"), Correlations, 0)
    dense = DenseNonlinear(fit)
    L = np.eye(len(fit.coef_names))[3:]
    test = fit.linear_functions(L).f_test()
    estimate = L @ dense.model.beta
    F = estimate @ np.linalg.solve(L @ dense.adjusted_covariance("expected") @ L.T, estimate) / len(L)
    np.testing.assert_allclose(test.F, test.scaling * F, **EXACT)
    # df and scaling depend on first derivatives only, and as many parameters give the linear structure's
    same = fit_of("slopes3").linear_functions(L).f_test()
    np.testing.assert_allclose([test.df_den, test.scaling], [same.df_den, same.scaling], rtol=1e-7)


def test_a_correlation_beside_a_zero_variance_is_refused():
    fit = fresh("slopes2")
    theta = fit.solved.theta.copy()
    theta[1:] = 0.0  # no variance of the slope in the standardized coefficients
    singular = seen_as(fit, Correlations, 0, theta)
    with np.errstate(all="ignore"), pytest.raises(InferenceError, match="random term 's' does not determine"):
        singular.linear_functions(np.eye(2))
    singular.linear_functions(np.eye(2), ddf="satterthwaite")


def test_a_nonlinear_structure_without_derivatives_is_an_error():
    class Unfinished(Unstructured):
        linear = False
        name = "unfinished"

    fit = seen_as(fresh("slopes2"), Unfinished, 0)
    with pytest.raises(InternalError, match="'unfinished' is not linear and has to define parameter_j"):
        fit.linear_functions(np.eye(2))
