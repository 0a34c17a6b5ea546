"""Simulated responses: the linear map from normals to responses has the dense covariance of the model."""

import numpy as np
import pandas as pd
import pytest

from fastlmm_core import datasets, lmm
from fastlmm_core.intervals.simulation import response_model
from fastlmm_core.results.components.structured_blocks import residual_blocks, term_blocks

pytestmark = pytest.mark.filterwarnings("ignore::fastlmm_core.errors.FastLMMWarning")
LEVELS = [f"g{i:02d}" for i in range(12)]
A = np.cov(np.random.default_rng(8).normal(size=(12, 30)))


def field(seed=3):
    rng = np.random.default_rng(seed)
    rows = [(f"E{e}", LEVELS[g], r + 1, c + 1) for e in range(2) for r in range(4) for c, g in
            enumerate(rng.permutation(12)[:5])]  # fmt: skip
    table = pd.DataFrame(rows, columns=["env", "gen", "row", "col"])
    u = dict(zip(LEVELS, np.linalg.cholesky(A) @ rng.normal(size=12), strict=True))
    return table.assign(y=[10 + u[g] for g in table["gen"]] + rng.normal(size=len(table)))


TABLE = field()


def covariance(fit):
    """A A' of the responses y = mean + A z."""
    model = response_model(fit)
    B = model.respond(np.eye(model.n_normals)) - model.mean[:, None]
    return B @ B.T


def indicators(column):
    labels, codes = np.unique(column, return_inverse=True)
    return np.eye(labels.size)[codes]


@pytest.mark.parametrize("weights", [False, True])
def test_a_plain_model_has_its_covariance(weights):
    data = datasets.load("sleepstudy")
    w = np.random.default_rng(1).uniform(0.5, 2.0, len(data)) if weights else None
    fit = lmm("Reaction ~ Days + (Days|Subject)", data, weights=w)
    T = term_blocks(fit)[0].T
    ones, days = np.ones(len(data)), data["Days"].to_numpy(float)
    pairs = np.column_stack([ones, days])
    same = np.equal.outer(data["Subject"].to_numpy(), data["Subject"].to_numpy())
    V = same * (pairs @ T @ pairs.T) + fit.sigma**2 * np.diag(1.0 / (ones if w is None else w))
    assert np.allclose(covariance(fit), V, rtol=1e-10)
    assert np.allclose(response_model(fit).mean, fit.predict(random=False), rtol=1e-12)


def test_a_relationship_and_residuals_by_environment():
    fit = lmm("y ~ env + (1 | vm(gen, A))", TABLE, relationships={"A": (A, LEVELS)}, residual="units | env")
    Z = np.eye(12)[[LEVELS.index(g) for g in TABLE["gen"]]]
    s2 = {block.at: block.T[0, 0] for block in residual_blocks(fit)}
    V = term_blocks(fit)[0].T[0, 0] * Z @ A @ Z.T + np.diag([s2[e] for e in TABLE["env"]])
    assert np.allclose(covariance(fit), V, rtol=1e-8, atol=1e-10)


def test_a_relationship_with_independent_residuals():
    """Balanced or not: the engine may take the levels in another basis."""
    for table in (TABLE, TABLE.drop_duplicates("gen")):
        fit = lmm("y ~ 1 + (1 | vm(gen, A))", table, relationships={"A": (A, LEVELS)})
        Z = np.eye(12)[[LEVELS.index(g) for g in table["gen"]]]
        V = term_blocks(fit)[0].T[0, 0] * Z @ A @ Z.T + fit.sigma**2 * np.eye(len(table))
        assert np.allclose(covariance(fit), V, rtol=1e-8, atol=1e-10)


def test_a_field_with_missing_plots():
    few = TABLE.drop(index=[3, 17, 18])
    fit = lmm("y ~ env + (1 | gen)", few, residual="ar1(row):ar1(col) | env")
    V = term_blocks(fit)[0].T[0, 0] * indicators(few["gen"]) @ indicators(few["gen"]).T
    for block in residual_blocks(fit):
        here = (few["env"] == block.at).to_numpy()
        rho = block.extra["group_corr"]
        R = block.T[0, 0]
        for name in ("row", "col"):
            x = few[name].to_numpy()[here]
            R = R * rho[name] ** np.abs(x[:, None] - x)
        V[np.ix_(here, here)] += R
    assert np.allclose(covariance(fit), V, rtol=1e-8, atol=1e-10)


def test_covariances_within_subjects():
    data = datasets.load("sleepstudy")
    data = data[data["Days"] < 4]
    fit = lmm("Reaction ~ Days", data, residual="hetar1(Days | Subject)")
    T = residual_blocks(fit)[0].T
    day = data["Days"].to_numpy(int)
    same = np.equal.outer(data["Subject"].to_numpy(), data["Subject"].to_numpy())
    assert np.allclose(covariance(fit), same * T[np.ix_(day, day)], rtol=1e-8)


def test_a_spline_beside_its_polynomials():
    """Both bases of a spline agree on everything that X does not explain."""
    fit = lmm("y ~ env + row + (1 | gen) + ps(row, nseg=4)", TABLE)
    ml = lmm("y ~ env + row + (1 | gen) + ps(row, nseg=4)", TABLE, reml=False)
    ml.solved.point.loadings[:] = fit.solved.point.loadings
    variances = term_blocks(fit)[1].extra["variances"]
    assert variances[0] >= 0.0
    X = fit.design.X.toarray()
    B = np.linalg.svd(X)[0][:, X.shape[1] :].T
    dense = covariance(fit)
    term = fit.solved.equations.terms[1]
    Q = term.levels.precision(fit.solved.term_theta(1)[1]).toarray()
    basis = term.matrices[0].toarray()
    gen = indicators(TABLE["gen"])
    V = term_blocks(fit)[0].T[0, 0] * gen @ gen.T + fit.sigma**2 * np.eye(len(TABLE))
    V += fit.solved.sigma2 * basis @ np.linalg.solve(Q, basis.T)
    assert np.allclose(B @ dense @ B.T, B @ V @ B.T, rtol=1e-8, atol=1e-10)


def test_draws_have_the_moments_of_the_model():
    fit = lmm("Yield ~ 1 + (1|Batch)", datasets.load("dyestuff"))
    Y = fit.simulate(40_000, seed=2)
    assert Y.shape == (30, 40_000)
    assert np.allclose(Y.mean(axis=1), 1527.5, atol=4 * 65 / 200)
    V = covariance(fit)
    error = np.sqrt((V**2 + np.outer(np.diag(V), np.diag(V))) / 40_000)
    assert np.abs((np.cov(Y) - V) / error).max() < 5.0


def test_a_seed_gives_the_same_draws_however_many():
    fit = lmm("Yield ~ 1 + (1|Batch)", datasets.load("dyestuff"))
    assert np.array_equal(fit.simulate(3, seed=5), fit.simulate(7, seed=5)[:, :3])
    assert not np.array_equal(fit.simulate(3, seed=5), fit.simulate(3, seed=6))


def test_conditional_draws_vary_about_the_fitted_values():
    fit = lmm("Yield ~ 1 + (1|Batch)", datasets.load("dyestuff"))
    Y = fit.simulate(20_000, seed=2, conditional=True)
    assert np.allclose(Y.mean(axis=1), fit.fitted, atol=5 * fit.sigma / np.sqrt(20_000))
    assert Y.std() == pytest.approx(np.hypot(fit.sigma, fit.fitted.std()), rel=0.02)


def test_a_linear_model_and_an_offset():
    data = datasets.load("dyestuff")
    fit = lmm("Yield ~ 1", data, offset=np.arange(30.0))
    assert np.allclose(response_model(fit).mean, fit.fitted, rtol=1e-12)
    assert np.allclose(covariance(fit), fit.sigma**2 * np.eye(30), rtol=1e-12)
