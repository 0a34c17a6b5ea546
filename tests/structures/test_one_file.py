"""A covariance structure defined here, registered by its decorator, in every door: no other file knows it.

T is the band of a moving average of first order, e_i = a z_i + b z_(i+1): v = a^2 + b^2 on the diagonal and
c = ab beside it, zero elsewhere. Lambda (m, m + 1) is rectangular.
"""

import numpy as np
import pandas as pd
import pytest
import test_contract as contract
from test_registry import CONTRACT, own_registry  # noqa: F401 (a fixture)

from fastlmm_core import fit_batch, lmm, run
from fastlmm_core.structures import make_coefficient_structure, register_coefficient_structure
from fastlmm_core.structures.coefficients.linear import LinearCovariance

LEVELS = ("E1", "E2", "E3", "E4")


class MovingAverage(LinearCovariance):
    """Lambda = a [I 0] + b [0 I]."""

    name = "ma1"
    by_distance = True

    @property
    def n_theta(self):
        return 2 if self.m > 1 else 1

    @property
    def width(self):
        return self.m + 1

    def loadings(self, theta):
        return np.tensordot(theta, self.loadings_jacobian(theta), 1)

    def loadings_jacobian(self, theta):
        return np.stack([np.eye(self.m, self.m + 1, k) for k in range(self.n_theta)])

    def _of(self, variance, covariance):
        total = np.sqrt(max(variance + 2.0 * covariance, 0.0))
        rest = np.sqrt(max(variance - 2.0 * covariance, 0.0))
        return np.array([0.5 * (total + rest), 0.5 * (total - rest)])[: self.n_theta]

    def _averages(self, covariance):
        beside = np.diag(covariance, 1)
        return np.diag(covariance).mean(), beside.mean() if beside.size else 0.0

    def start(self, covariance):
        variance, beside = self._averages(covariance)
        variance = max(variance, 0.1)
        return self._of(variance, np.clip(beside, -0.3 * variance, 0.3 * variance))

    def theta_of(self, covariance):
        variance, beside = self._averages(covariance)
        return self._of(variance, beside)

    def canonical(self, theta):
        """The loading that is larger first, and positive: the other three roots have the same T."""
        ordered = theta[np.argsort(-np.abs(theta), kind="stable")]
        return np.where(ordered[0] < 0.0, -ordered, ordered)

    def natural_directions(self):
        return np.stack([np.eye(self.m), np.eye(self.m, k=1) + np.eye(self.m, k=-1)])[: self.n_theta]

    def natural_names(self, labels):
        return ("variance", "covariance of neighbours")[: self.n_theta]


@pytest.fixture(autouse=True)
def moving_average(own_registry):  # noqa: F811
    return register_coefficient_structure(MovingAverage)


def trials(seed, trial):
    """24 genotypes in 4 environments, twice."""
    r = np.random.default_rng(seed)
    z = r.normal(size=(24, 5))
    u = 1.6 * z[:, :4] + 0.8 * z[:, 1:]
    gen, env = np.repeat(np.arange(24), 8), np.tile(np.repeat(np.arange(4), 2), 24)
    y = 10.0 + 0.7 * env + u[gen, env] + r.normal(size=gen.size)
    return pd.DataFrame(
        {"y": y, "gen": [f"G{g:02d}" for g in gen], "env": [LEVELS[e] for e in env], "trial": trial}
    )


DATA = trials(1, "T1")
FORMULA = "y ~ env + ma1(0 + env | gen)"


class Dense:
    """The model at variance, covariance of neighbours and residual variance, n x n."""

    def __init__(self, data, gamma):
        env = data["env"].map({name: k for k, name in enumerate(LEVELS)}).to_numpy()
        gen = pd.factorize(data["gen"], sort=True)[0]
        cells = np.eye(4)[env]
        self.X = np.column_stack([np.ones(env.size), cells[:, 1:]])
        self.Z = np.zeros((env.size, 4 * (gen.max() + 1)))
        self.Z[np.arange(env.size), 4 * gen + env] = 1.0
        levels = np.eye(gen.max() + 1)
        band = np.eye(4, k=1) + np.eye(4, k=-1)
        self.E = [np.kron(levels, np.eye(4)), np.kron(levels, band)]
        self.dV = [self.Z @ E @ self.Z.T for E in self.E] + [np.eye(env.size)]
        self.gamma = np.asarray(gamma)
        self.V_inv = np.linalg.inv(sum(g * V for g, V in zip(self.gamma, self.dV, strict=True)))
        self.phi = np.linalg.inv(self.X.T @ self.V_inv @ self.X)
        self.P = self.V_inv - self.V_inv @ self.X @ self.phi @ self.X.T @ self.V_inv
        self.y = data["y"].to_numpy()
        self.beta = self.phi @ self.X.T @ self.V_inv @ self.y

    @property
    def criterion(self):
        n, p = self.X.shape
        logs = -np.linalg.slogdet(self.V_inv)[1] - np.linalg.slogdet(self.phi)[1]
        return logs + self.y @ self.P @ self.y + (n - p) * np.log(2 * np.pi)

    @property
    def score(self):
        Py = self.P @ self.y
        return np.array([np.trace(self.P @ V) - Py @ V @ Py for V in self.dV])

    @property
    def parameter_covariance(self):
        """Inverse of the expected information."""
        return np.linalg.inv([[0.5 * np.trace(self.P @ A @ self.P @ B) for A in self.dV] for B in self.dV])

    def kenward_roger(self, k):
        """Standard error and df of k'beta (Kenward & Roger 1997; V linear in its parameters)."""
        VX, W = self.V_inv @ self.X, self.parameter_covariance
        first = [-VX.T @ V @ VX for V in self.dV]
        second = [[VX.T @ A @ self.V_inv @ B @ VX for B in self.dV] for A in self.dV]
        total = sum(
            W[i, j] * (second[i][j] - first[i] @ self.phi @ first[j]) for i in range(3) for j in range(3)
        )
        adjusted = self.phi + 2.0 * self.phi @ total @ self.phi
        gradient = np.array([-k @ self.phi @ P @ self.phi @ k for P in first])
        return np.sqrt(k @ adjusted @ k), 2.0 * (k @ self.phi @ k) ** 2 / (gradient @ W @ gradient)


@pytest.fixture
def fit():
    return lmm(FORMULA, DATA)


@pytest.fixture
def dense(fit):
    """At the variance, the covariance and the residual variance that the fit reports."""
    return Dense(DATA, fit.variance_components["estimate"].to_numpy()[[0, 1, -1]])


@pytest.mark.parametrize("m", [1, 2, 4])
@pytest.mark.parametrize("test", CONTRACT)
def test_it_keeps_the_contract(test, m):
    getattr(contract, test)(make_coefficient_structure("ma1", m))


def test_lmm_finds_the_optimum_of_the_definition(fit, dense):
    assert fit.converged and np.all(dense.gamma > 0.1)
    assert fit.criterion == pytest.approx(dense.criterion, rel=1e-10)
    np.testing.assert_allclose(dense.score * dense.gamma, 0.0, atol=1e-4)
    np.testing.assert_allclose(fit.beta, dense.beta, rtol=1e-9)


def test_predicted_effects_and_their_errors(fit, dense):
    prior = dense.gamma[0] * dense.E[0] + dense.gamma[1] * dense.E[1]
    u = prior @ dense.Z.T @ dense.P @ dense.y
    pev = prior - prior @ dense.Z.T @ dense.P @ dense.Z @ prior
    table = fit.blups()
    np.testing.assert_allclose(table["estimate"], u, rtol=1e-8, atol=1e-9)
    np.testing.assert_allclose(table["pev"], np.diag(pev), rtol=1e-8)


def test_kenward_roger_means(fit, dense):
    means = fit.emmeans("env")
    assert (means.ddf, means.information) == ("kenward-roger", "expected")
    rows = np.column_stack([np.ones(4), np.eye(4)[:, 1:]])
    figures = np.array([dense.kenward_roger(row) for row in rows])
    np.testing.assert_allclose(means.se, figures[:, 0], rtol=1e-7)
    np.testing.assert_allclose(means.df, figures[:, 1], rtol=1e-6)


def test_summary_and_components_name_it(fit, dense):
    assert "ma1(0 + env | gen)" in str(fit.summary())
    shown = fit.variance_components
    ratio = dense.gamma[1] / dense.gamma[0]
    assert shown["sd_or_cor"].iloc[1] == pytest.approx(ratio, rel=1e-9)
    ratio_of_two = fit.vpredict("V2/V1").estimate
    assert ratio_of_two == pytest.approx(ratio, rel=1e-9)


def test_a_batch_has_the_figures_of_lmm():
    both = pd.concat([DATA, trials(2, "T2")], ignore_index=True)
    result = fit_batch(both, FORMULA, by="trial", emmeans="env", blups=True)
    assert result.fits["status"].eq("ok").all()
    for trial, own in both.groupby("trial"):
        fit = lmm(FORMULA, own)
        row = result.fits[result.fits["trial"] == trial].iloc[0]
        assert row["criterion"] == pytest.approx(fit.criterion, rel=1e-8)
        for table, expected in ((result.emmeans, fit.emmeans("env").to_frame()), (result.blups, fit.blups())):
            got = table[table["trial"] == trial]
            for name in ("estimate", "se"):
                np.testing.assert_allclose(got[name], expected[name], rtol=1e-8, atol=1e-12)


def test_requests_answer_with_it(fit, dense):
    answer = run(
        {"data": DATA.to_dict("list"), "formula": FORMULA, "ranef": True, "emmeans": [{"specs": "env"}]}
    )
    (term,) = answer["fit"]["terms"]
    v, c = dense.gamma[:2]
    np.testing.assert_allclose(
        term["T"], v * np.eye(4) + c * (np.eye(4, k=1) + np.eye(4, k=-1)), rtol=1e-8, atol=1e-12
    )
    assert term["n_par"] == 2


def test_it_may_be_the_residual_of_subjects():
    """Four visits of a genotype are a subject: V is the band in blocks, without another variance."""
    first = DATA.groupby(["gen", "env"], as_index=False).first()
    fit = lmm("y ~ env", first, residual="ma1(env | gen)")
    values = fit.variance_components["estimate"].to_numpy()
    dense = Dense(first, [values[0], values[1], 0.0])
    assert fit.criterion == pytest.approx(dense.criterion, rel=1e-10)
    np.testing.assert_allclose(dense.score[:2] * dense.gamma[:2], 0.0, atol=1e-4)
    np.testing.assert_allclose(fit.beta, dense.beta, rtol=1e-9)
