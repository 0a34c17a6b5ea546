"""Fixed effects beside splines: the engine's reduced basis against dense V of the splines as defined.

ps: B-spline coefficients orthogonal to the null space of the penalty; spl: Z = Q (Q'Q)^-1 (Verbyla et al.
1999).
"""

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from scipy import interpolate

from fastlmm_core import lmm
from fastlmm_core.engine.equations.least_squares import least_squares
from fastlmm_core.errors import InferenceError
from fastlmm_core.linalg.ordered_factor import DENSE_NORMAL

STEP = 1e-4


def frame_of(n=72, seed=11):
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame({"x": np.round(rng.uniform(2, 31, n), 1), "z": rng.integers(1, 13, n).astype(float)})
    frame["f"], frame["g"] = np.array(list("abc"))[np.arange(n) % 3], [f"g{i}" for i in np.arange(n) % 8]
    smooth = 2 * np.sin(frame["x"] / 4) + np.cos(frame["z"] / 2) * frame["x"] / 20
    own = rng.normal(size=8)[np.arange(n) % 8]
    frame["y"] = 5 + smooth + 0.1 * frame["z"] + own + 0.6 * rng.normal(size=n)
    return frame


def b_splines(x, n_segments, degree=3):
    step = (x.max() - x.min()) / n_segments
    knots = x.min() + step * np.arange(-degree, n_segments + degree + 1)
    eye = np.eye(n_segments + degree)
    return np.column_stack([interpolate.BSpline(knots, c, degree)(x) for c in eye])


def differences(k, order):
    D = np.diff(np.eye(k), n=order, axis=0)
    return D.T @ D


def ps(x, n_segments, order=2):
    """variances (1,) -> covariance of the smooth: coefficients a with a = (I - N N^+) a."""
    B = b_splines(x, n_segments)
    own = B @ np.linalg.pinv(differences(B.shape[1], order), rcond=1e-11, hermitian=True) @ B.T
    return lambda v: v[0] * own


def ps_of_two(x, z, segments):
    A, B = b_splines(x, segments[0]), b_splines(z, segments[1])
    Z = np.einsum("ia,ib->iab", A, B).reshape(x.size, -1)
    P1 = np.kron(differences(A.shape[1], 2), np.eye(B.shape[1]))
    P2 = np.kron(np.eye(A.shape[1]), differences(B.shape[1], 2))
    d, U = np.linalg.eigh(P1 + P2)
    null = U[:, :4]  # the same for all variances

    def covariance(v):
        P = P1 / v[0] + P2 / v[1]
        inverse = np.linalg.inv(P + null @ null.T) - null @ null.T
        return Z @ inverse @ Z.T

    assert d[3] < 1e-12 < d[4]
    return covariance


def spl(x):
    knots, at = np.unique(x, return_inverse=True)
    h, m = np.diff(knots), knots.size
    Q, R = np.zeros((m, m - 2)), np.zeros((m - 2, m - 2))
    for j in range(m - 2):
        Q[j : j + 3, j] = 1 / h[j], -1 / h[j] - 1 / h[j + 1], 1 / h[j + 1]
        R[j, j] = (h[j] + h[j + 1]) / 3
        if j < m - 3:
            R[j, j + 1] = R[j + 1, j] = h[j + 1] / 6
    Z = (Q @ np.linalg.inv(Q.T @ Q))[at]
    return lambda v: v[0] * Z @ R @ Z.T


def groups(codes):
    Z = (codes.to_numpy()[:, None] == np.unique(codes)).astype(float)
    return lambda v: v[0] * Z @ Z.T


# formula -> parts of V by the group of their term, with their number of variances
MODELS = {
    "y ~ x + ps(x, nseg=9)": lambda d: {"ps": (1, ps(d["x"], 9))},
    "y ~ x + I(x^2) + ps(x, nseg=8, pord=3)": lambda d: {"ps": (1, ps(d["x"], 8, 3))},
    "y ~ ps(x, nseg=7, pord=1)": lambda d: {"ps": (1, ps(d["x"], 7, 1))},
    "y ~ f + x + spl(x) + (1 | g)": lambda d: {"g": (1, groups(d["g"])), "spl": (1, spl(d["x"]))},
    "y ~ 0 + f + x + ps(x, nseg=9) + (1 | g)": lambda d: {"g": (1, groups(d["g"])), "ps": (1, ps(d["x"], 9))},
    "y ~ x*z + ps(x, z, nseg=(5, 4))": lambda d: {"ps": (2, ps_of_two(d["x"], d["z"], (5, 4)))},
    "y ~ x + z + ps(x, nseg=9) + spl(z)": lambda d: {"ps": (1, ps(d["x"], 9)), "spl": (1, spl(d["z"]))},
}  # fmt: skip


class Dense:
    """Inference from V (n, n) at given log variances, the residual's last."""

    def __init__(self, frame, parts, X, reml):
        self.y, self.X, self.reml = frame["y"].to_numpy(), X, reml
        self.parts = parts

    def covariance(self, logs):
        v, at = np.exp(logs), 0
        V = v[-1] * np.eye(self.y.size)
        for count, part in self.parts:
            V = V + part(v[at : at + count])
            at += count
        return V

    def criterion(self, logs):
        V = self.covariance(logs)
        phi, P = self.projection(V)[1:]
        value = np.linalg.slogdet(V)[1] + self.y @ P @ self.y
        if not self.reml:
            return value + self.y.size * np.log(2 * np.pi)
        return value - np.linalg.slogdet(phi)[1] + (self.y.size - self.X.shape[1]) * np.log(2 * np.pi)

    def projection(self, V):
        V_inv = np.linalg.inv(V)
        phi = np.linalg.inv(self.X.T @ V_inv @ self.X)
        return V_inv, phi, V_inv - V_inv @ self.X @ phi @ self.X.T @ V_inv

    def at(self, logs):
        self.V = self.covariance(logs)
        self.V_inv, self.phi, self.P = self.projection(self.V)
        self.beta = self.phi @ self.X.T @ self.V_inv @ self.y
        unit = np.eye(logs.size) * STEP
        self.slopes = [
            (8 * (self.covariance(logs + s) - self.covariance(logs - s))
             - (self.covariance(logs + 2 * s) - self.covariance(logs - 2 * s))) / (12 * STEP)
            for s in unit
        ]  # fmt: skip
        U = self.V_inv @ self.X @ self.phi
        self.gradients = np.array([U.T @ D @ U for D in self.slopes])
        self.U = U
        return self

    def hessian(self, logs, h=2e-3):
        t = logs.size
        H = np.empty((t, t))

        def f(*steps):
            return self.criterion(logs + sum((s * h * np.eye(t)[i] for i, s in steps), np.zeros(t)))

        for i in range(t):
            for j in range(t):
                pairs = [(a, b) for a in (1, -1) for b in (1, -1)]
                H[i, j] = sum(a * b * f((i, a), (j, b)) for a, b in pairs) / (4 * h * h)
        return H

    def satterthwaite(self, logs):
        A = 2 * np.linalg.inv(self.hessian(logs))
        g = np.einsum("taa->at", self.gradients)
        return 2 * np.diag(self.phi) ** 2 / np.einsum("at,tu,au->a", g, A, g)

    def kenward_roger(self, W=None):
        if W is None:
            PD = [self.P @ D for D in self.slopes]
            W = 2 * np.linalg.inv(np.array([[np.trace(A @ B) for B in PD] for A in PD]))
        moved = [D @ self.U for D in self.slopes]
        add = sum(
            W[i, j] * moved[i].T @ self.P @ moved[j]
            for i in range(len(moved)) for j in range(len(moved))
        )  # fmt: skip
        return self.phi + 2 * add, W


def case(formula, reml=True):
    frame = frame_of()
    fit = lmm(formula, frame, reml=reml)
    parts = MODELS[formula](frame)
    order = [term.group.partition("(")[0] for term in fit.design.random]
    dense = Dense(frame, [parts[name] for name in order], fit.design.X.toarray(), reml)
    variances = [np.ravel(fit.term_variances(k)) for k in range(len(fit.design.random))]
    logs = np.log(np.concatenate([*variances, [fit.sigma**2]]))
    return frame, fit, dense.at(logs), logs


@pytest.fixture(scope="module", params=MODELS)
def fitted(request):
    return case(request.param)


def test_coefficients_and_their_covariance(fitted):
    _, fit, dense, logs = fitted
    assert fit.criterion == pytest.approx(dense.criterion(logs), abs=1e-7)
    np.testing.assert_allclose(fit.beta, dense.beta, rtol=1e-7, atol=1e-9)
    np.testing.assert_allclose(fit.cov_beta, dense.phi, rtol=1e-6, atol=1e-9 * np.abs(dense.phi).max())
    np.testing.assert_allclose(fit.se, np.sqrt(np.diag(dense.phi)), rtol=1e-7)


def test_satterthwaite(fitted):
    _, fit, dense, logs = fitted
    table = fit.fixed_effects(ddf="satterthwaite")
    np.testing.assert_allclose(table["df"], dense.satterthwaite(logs), rtol=3e-4)


def test_kenward_roger(fitted):
    _, fit, dense, _ = fitted
    adjusted, W = dense.kenward_roger()
    table = fit.fixed_effects(ddf="kenward-roger", information="expected")
    np.testing.assert_allclose(table["se"], np.sqrt(np.diag(adjusted)), rtol=1e-6)
    g = np.einsum("taa->at", dense.gradients)
    df = 2 * np.diag(dense.phi) ** 2 / np.einsum("at,tu,au->a", g, W, g)
    np.testing.assert_allclose(table["df"], df, rtol=1e-5)


def test_kenward_roger_by_observed_information(fitted):
    _, fit, dense, logs = fitted
    adjusted, _ = dense.kenward_roger(2 * np.linalg.inv(dense.hessian(logs)))
    se = np.sqrt(np.diag(adjusted))
    options = {"ddf": "kenward-roger", "information": "observed"}
    np.testing.assert_allclose(fit.coefficient_functions(**options).se(), se, rtol=1e-4)
    if "x, z" in fit.formula:
        with pytest.raises(InferenceError, match="splines of two variables"):
            fit.coefficient_functions(**options, second_derivatives=True)
        return
    second = fit.coefficient_functions(**options, second_derivatives=True)  # V is linear in its variances
    np.testing.assert_allclose(second.se(), se, rtol=1e-4)


def test_functions_of_several_rows(fitted):
    _, fit, dense, _ = fitted
    K = np.random.default_rng(0).normal(size=(3, dense.beta.size))
    found = fit.linear_functions(K, ddf="kenward-roger", information="expected")
    adjusted, W = dense.kenward_roger()
    scale = np.abs(K @ dense.phi @ K.T).max()
    np.testing.assert_allclose(found.estimate, K @ dense.beta, rtol=1e-7)
    np.testing.assert_allclose(found.cov_unadjusted, K @ dense.phi @ K.T, atol=1e-7 * scale)
    np.testing.assert_allclose(found.cov, K @ adjusted @ K.T, atol=1e-6 * scale)
    wanted = np.einsum("rp,tpq,sq->trs", K, dense.gradients, K)  # a squared sum does not depend on the chart
    np.testing.assert_allclose(
        np.einsum("trs,tu,urs->rs", found.gradients, found.cov_parameters, found.gradients),
        np.einsum("trs,tu,urs->rs", wanted, W, wanted), rtol=1e-5,
    )  # fmt: skip
    np.testing.assert_allclose(fit.observation_weights(K), (dense.U @ K.T).T, atol=1e-8)


def test_predictions_add_up(fitted):
    frame, fit, dense, _ = fitted
    smooth = dense.V - fit.sigma**2 * np.eye(dense.y.size)
    fixed = dense.X @ dense.beta
    both = fixed + smooth @ dense.P @ dense.y
    np.testing.assert_allclose(fit.fitted, both, rtol=1e-7)
    np.testing.assert_allclose(fit.predict(), both, rtol=1e-7)
    np.testing.assert_allclose(fit.predict(frame[:9]), both[:9], rtol=1e-7)
    alone = fit.predict(frame, random=False, se=True)
    np.testing.assert_allclose(alone["prediction"], fixed, rtol=1e-7)
    variance = np.einsum("ia,ab,ib->i", dense.X, dense.phi, dense.X)
    np.testing.assert_allclose(alone["se"], np.sqrt(variance), rtol=1e-6)
    spread = np.sqrt(mean_variance(dense, smooth))
    np.testing.assert_allclose(fit.predict(se=True)["se"], spread, rtol=1e-6)


def mean_variance(dense, smooth):
    """Var(X b_hat + u_hat - X b - u) of every row."""
    D = dense.X - smooth @ dense.V_inv @ dense.X
    given = smooth - smooth @ dense.V_inv @ smooth
    return np.diag(given + D @ dense.phi @ D.T)


def test_one_of_the_terms_alone(fitted):
    """Each named term adds its own part as defined to the fixed part."""
    frame, fit, dense, logs = fitted
    at = 0
    for term, (count, part) in zip(fit.design.random, dense.parts, strict=True):
        smooth = part(np.exp(logs[at : at + count]))
        own = smooth @ dense.P @ dense.y
        at += count
        found = fit.predict(frame, random=[term.group], se=True)
        np.testing.assert_allclose(found["prediction"], dense.X @ dense.beta + own, rtol=1e-7)
        np.testing.assert_allclose(found["se"], np.sqrt(mean_variance(dense, smooth)), rtol=1e-6)


def test_conditional_variance_of_other_terms():
    frame, fit, dense, _ = case("y ~ f + x + spl(x) + (1 | g)")
    Z = (frame["g"].to_numpy()[:, None] == np.unique(frame["g"])).astype(float)
    v = fit.term_variances([term.group for term in fit.design.random].index("g"))[0]
    table = fit.blups()
    np.testing.assert_allclose(table["estimate"], v * Z.T @ dense.P @ dense.y, rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(table["pev"], v - v**2 * np.diag(Z.T @ dense.P @ Z), rtol=1e-6)
    np.testing.assert_allclose(table["condvar"], v - v**2 * np.diag(Z.T @ dense.V_inv @ Z), rtol=1e-6)


def test_marginal_means_are_at_a_spline_part_of_zero():
    frame, fit, dense, _ = case("y ~ f + x + spl(x) + (1 | g)")
    means = fit.emmeans("f")
    at = frame["x"].mean()
    K = np.array([[1, 0, 0, at], [1, 1, 0, at], [1, 0, 1, at]])
    np.testing.assert_allclose(means.functions.estimate, K @ dense.beta, rtol=1e-7)
    np.testing.assert_allclose(means.functions.cov_unadjusted, K @ dense.phi @ K.T, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("formula", MODELS)
def test_maximum_likelihood_is_that_of_the_definition(formula):
    frame, fit, dense, logs = case(formula, reml=False)
    assert fit.criterion == pytest.approx(dense.criterion(logs), abs=1e-7)
    np.testing.assert_allclose(fit.beta, dense.beta, rtol=1e-7, atol=1e-9)
    np.testing.assert_allclose(fit.se, np.sqrt(np.diag(dense.phi)), rtol=1e-7)
    smooth = dense.V - fit.sigma**2 * np.eye(dense.y.size)
    both = dense.X @ dense.beta + smooth @ dense.P @ dense.y
    np.testing.assert_allclose(fit.predict(frame), both, rtol=1e-7)
    np.testing.assert_allclose(fit.predict(se=True)["se"], np.sqrt(mean_variance(dense, smooth)), rtol=1e-6)
    np.testing.assert_allclose(fit.predict(random=False), dense.X @ dense.beta, rtol=1e-7)
    for step in 1e-3 * np.eye(logs.size):  # no better variances nearby
        assert min(dense.criterion(logs + step), dense.criterion(logs - step)) > fit.criterion - 1e-7


@pytest.mark.parametrize("levels", [4, DENSE_NORMAL + 1])
def test_least_squares_of_several_columns(levels):
    rng = np.random.default_rng(2)
    n = 2 * levels + 5
    codes = np.arange(n) % levels
    X = sp.csc_array((np.ones(n), (np.arange(n), codes)), shape=(n, levels))
    X = sp.csc_array(sp.hstack([X, sp.csc_array(rng.normal(size=(n, 1)))]))
    w, truth = rng.uniform(0.5, 2.0, n), rng.normal(size=(levels + 1, 3))
    found, residual = least_squares(X, w, X @ truth)
    np.testing.assert_allclose(found, truth, atol=1e-11)
    np.testing.assert_allclose(residual, 0.0, atol=1e-12)
    y = rng.normal(size=n)
    beta, residual = least_squares(X, w, y)
    np.testing.assert_allclose(X.T @ (w * residual), 0.0, atol=1e-11)
    np.testing.assert_allclose(y, X @ beta + residual, atol=1e-12)


def test_kenward_roger_beside_a_spline_that_has_gone():
    """With a spline variance at its limit of zero, inference is that of the model without the spline."""
    r = np.random.default_rng(0)
    row = np.repeat(np.arange(10), 12)
    gen = [f"g{i:02d}" for i in r.permutation(np.arange(120) % 40)]
    y = 5 + r.normal(size=40)[[int(g[1:]) for g in gen]] + 0.8 * r.normal(size=120) + 0.1 * row
    frame = pd.DataFrame({"row": row, "gen": gen, "y": y})
    fit, without = lmm("y ~ row + gen + spl(row)", frame), lmm("y ~ row + gen", frame)
    assert fit.term_variances(0)[0] < 1e-9
    ours, plain = fit.fixed_effects(ddf="kenward-roger"), without.fixed_effects()
    assert np.allclose(ours["estimate"], plain["estimate"], rtol=1e-6, atol=1e-8)
    assert np.allclose(ours["se"], plain["se"], rtol=1e-6)
    assert np.allclose(ours["df"], plain["df"], rtol=1e-5)
    tests = fit.anova().set_index("term")["F"]
    assert np.allclose(tests, without.anova().set_index("term")["F"][tests.index], rtol=1e-5)
