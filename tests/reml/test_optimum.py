"""The result is an optimum: score zero inside, Karush-Kuhn-Tucker at the boundary, on both engines."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from random_designs import CASES, REGULAR, SINGULAR, case, dense_of, fit_of

from fastlmm_core import datasets, lmm, prepare
from fastlmm_core.linalg import elimination
from fastlmm_core.linalg.simplicial import SimplicialFactor
from fastlmm_core.linalg.supernodal import SupernodalFactor
from fastlmm_core.reml.fitting import fit_equations, starting_values
from fastlmm_core.reml.objective import prepare_response

METHODS = [True, False]


def decrement(model, free):
    """Newton decrement of the dense criterion over the free parameters: twice what is left to gain."""
    score = model.score[free]
    hessian = 2 * model.information("expected")[np.ix_(free, free)]
    return score @ np.linalg.solve(hessian, score)


@pytest.mark.parametrize("reml", METHODS)
@pytest.mark.parametrize("name", CASES)
def test_criterion_is_the_dense_one(name, reml):
    fit, dense = fit_of(name, reml), dense_of(name, reml)
    np.testing.assert_allclose(fit.criterion, dense.criterion, rtol=1e-11)
    kept = fit.design.kept
    np.testing.assert_allclose(fit.beta[kept], dense.beta, rtol=1e-9)
    np.testing.assert_allclose(fit.cov_beta, dense.phi, rtol=1e-8, atol=1e-9 * np.abs(dense.phi).max())
    np.testing.assert_allclose(fit.se[kept], np.sqrt(np.diag(dense.phi)), rtol=1e-9)


@pytest.mark.parametrize("reml", METHODS)
@pytest.mark.parametrize("name", REGULAR)
def test_score_vanishes_inside(name, reml):
    fit, dense = fit_of(name, reml), dense_of(name, reml)
    assert fit.converged
    assert not fit.singular
    assert fit.convergence.certificate
    assert decrement(dense, np.arange(dense.gamma.size)) < 1e-9
    values = np.linalg.eigvalsh(dense.information("observed"))
    assert values.min() > 0


@pytest.mark.parametrize("reml", METHODS)
@pytest.mark.parametrize("name", SINGULAR)
def test_conditions_at_the_boundary(name, reml):
    """d criterion / dG is positive semidefinite on the null space of G and zero on its range."""
    fit, dense = fit_of(name, reml), dense_of(name, reml)
    assert fit.converged
    assert fit.singular
    assert fit.singular_terms
    assert any(w.flag == "singular" for w in fit.warnings)
    at = 0
    for term, G in zip(dense.terms, dense.G, strict=True):
        S = np.zeros((term.m, term.m))
        for a, b in term.elements:
            S[a, b] = S[b, a] = dense.score[at] * (1.0 if a == b else 0.5)
            at += 1
        values, vectors = np.linalg.eigh(G)
        null = vectors[:, values <= 1e-9 * max(values.max(), 1e-300)]
        scale = np.abs(S).max()
        assert np.linalg.eigvalsh(null.T @ S @ null).min(initial=0.0) >= -1e-6 * scale
        np.testing.assert_allclose(G @ S, 0, atol=1e-4)  # complementary slackness
    np.testing.assert_allclose(dense.score @ dense.gamma, 0, atol=1e-4)


@pytest.mark.parametrize("name", SINGULAR)
def test_no_better_point_nearby(name):
    """Brute force: the dense criterion at random covariance matrices close to a singular optimum."""
    dense = dense_of(name)
    r = np.random.default_rng(0)
    for _ in range(40):
        step = 10 ** r.uniform(-4, -0.5)
        G = []
        for matrix in dense.G:
            values, vectors = np.linalg.eigh(matrix)
            root = vectors * np.sqrt(np.maximum(values, 0))
            root = root + step * np.sqrt(dense.sigma2) * r.normal(size=root.shape)
            G.append(root @ root.T)
        assert dense.at(G, dense.sigma2 * np.exp(step * r.normal())).criterion >= dense.criterion - 1e-8


def both_engines(name, reml):
    c = case(name)
    prepared = prepare(c.formula, c.data, weights=c.weights, reml=reml)
    assert isinstance(prepared.factor, SimplicialFactor)
    large = replace(prepared, factor=SupernodalFactor(prepared.equations.indptr, prepared.equations.indices))
    return prepared, large


@pytest.mark.filterwarnings("ignore::fastlmm_core.errors.FastLMMWarning")
@pytest.mark.parametrize("reml", METHODS)
@pytest.mark.parametrize(
    "name", ["crossed", "nested", "slope_and_crossed", "weighted", "empty_cells", "singular_rank2"]
)
def test_supernodes_give_the_same_fit(name, reml):
    small, large = (prepared.fit() for prepared in both_engines(name, reml))
    assert small.converged
    assert large.converged
    np.testing.assert_allclose(large.criterion, small.criterion, rtol=1e-11)
    np.testing.assert_allclose(large.theta, small.theta, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(large.beta, small.beta, rtol=1e-6)
    K = np.eye(len(small.coef_names))[small.design.kept]
    ddf = "kenward-roger" if reml else "satterthwaite"
    a, b = (f.linear_functions(K, ddf=ddf) for f in (small, large))
    np.testing.assert_allclose(b.cov, a.cov, rtol=1e-5, atol=1e-6 * np.abs(a.cov).max())
    np.testing.assert_allclose(b.df(), a.df(), rtol=2e-5)
    np.testing.assert_allclose(large.blups()["pev"], small.blups()["pev"], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(large.blups()["condvar"], small.blups()["condvar"], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("reml", METHODS)
def test_ordering_of_large_systems_gives_the_same_fit(monkeypatch, reml):
    c = case("crossed_interaction")
    monkeypatch.setattr(elimination, "SMALL_GRAPH", 0)
    prepared = prepare(c.formula, c.data, reml=reml)
    assert prepared.equations.order.name in ("by terms", "amd", "metis")
    assert isinstance(prepared.factor, SupernodalFactor)
    fit, reference = prepared.fit(), fit_of("crossed_interaction", reml)
    np.testing.assert_allclose(fit.criterion, reference.criterion, rtol=1e-11)
    np.testing.assert_allclose(fit.theta, reference.theta, rtol=1e-5)


@pytest.mark.parametrize("reml", METHODS)
def test_starting_values_do_not_matter(reml):
    c = case("slope_and_crossed")
    prepared = prepare(c.formula, c.data, reml=reml)
    reference = fit_of("slope_and_crossed", reml)
    for seed in range(4):
        r = np.random.default_rng(seed)
        theta = r.normal(0, 3, prepared.equations.n_theta)
        fit = prepared.fit(theta=theta)
        assert fit.converged
        np.testing.assert_allclose(fit.criterion, reference.criterion, rtol=1e-11)
        np.testing.assert_allclose(fit.theta, reference.theta, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("reml", METHODS)
@pytest.mark.parametrize(
    "formula", ["y ~ rep + (1|gen)", "y ~ rep + gen + (1|rep:gen)", "y ~ env + (1|gen) + (1|gen:env)"]
)
def test_balanced_designs_start_at_their_estimates(formula, reml):
    """The moments are those of an analysis of variance, and REML's are the same; ML's count no fixed part."""
    r = np.random.default_rng(4)
    gen, env, rep, _ = (a.ravel() for a in np.indices((12, 3, 4, 2)))
    y = r.normal(size=12)[gen] + r.normal(size=(12, 3))[gen, env] + r.normal(size=(4, 12))[rep, gen]
    data = pd.DataFrame({"gen": gen, "env": env, "rep": rep, "y": y + r.normal(size=y.size)})
    data[["gen", "env", "rep"]] = data[["gen", "env", "rep"]].astype(str)
    prepared = prepare(formula, data, reml=reml)
    equations, factor = prepared.equations, prepared.factor
    start = starting_values(equations, prepare_response(equations, data["y"].to_numpy()), factor.flops, reml)
    _, optimum, _ = fit_equations(equations, data["y"].to_numpy(), reml=reml)
    np.testing.assert_allclose(start, optimum.theta, rtol=1e-6)


@pytest.mark.parametrize("start", [0.0, 1e-12, 1e-6, 1e-3, 30.0, -1.0])
def test_zero_is_a_stationary_point_but_no_optimum(start):
    """Incomplete blocks: the criterion is flat in theta at zero while the variance wants to grow."""
    prepared = prepare("yield ~ gen + (1|loc)", datasets.load("cochran_bib"))
    fit = prepared.fit(theta=[start])
    assert fit.converged
    assert not fit.singular
    np.testing.assert_allclose(fit.variance_components["estimate"], [6.053, 19.934], atol=6e-4)
    np.testing.assert_allclose(fit.criterion, 253.6, atol=0.05)


def test_zero_variance_that_is_one():
    """Dyestuff2 (Box & Tiao 1973): between batches the variance is exactly zero, and the score says so."""
    with pytest.warns(match="between levels of Batch"):
        fit = lmm("Yield ~ 1 + (1|Batch)", datasets.load("dyestuff2"))
    assert fit.singular
    assert fit.converged
    assert fit.theta[0] == 0.0
    assert fit.certificate.smallest_boundary_score > 0
    y = fit.design.y
    np.testing.assert_allclose(fit.sigma**2, y.var(ddof=1), rtol=1e-12)
    np.testing.assert_allclose(fit.ranef()["Batch"].to_numpy(), 0.0, atol=1e-12)


def test_record_of_the_search():
    fit = fit_of("slopes3")
    record = fit.convergence
    assert len(record.trace) == record.iterations + 1
    assert record.evaluations >= record.iterations + 1
    assert np.all(np.diff(record.trace["deviance"]) <= 1e-9)
    assert record.trace["decrement"].iloc[-1] == record.decrement
    assert record.iterations <= 20
