"""Limit cases: no variance between groups or at all, no random terms, missing rows, large systems."""

import warnings

import numpy as np
import pandas as pd
import pytest
from dense_reference import DenseModel
from random_designs import case, fit_of

from fastlmm_core import datasets, lmm
from fastlmm_core.errors import FastLMMWarning, NotConvergedWarning, RankDeficientWarning, SingularFitWarning
from fastlmm_core.inference.linear_functions import DDF_METHODS, NO_VARIANCE
from fastlmm_core.linalg.supernodal import SupernodalFactor


def quiet(*args, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FastLMMWarning)
        return lmm(*args, **options)


def test_zero_variances_give_the_linear_model():
    """All variances zero: estimates, errors and criterion are those of least squares."""
    data = datasets.load("dyestuff2").assign(x=np.tile(np.arange(5.0), 6))
    fit, ols = quiet("Yield ~ x + (1|Batch)", data), lmm("Yield ~ x", data)
    assert fit.singular
    np.testing.assert_allclose(fit.beta, ols.beta, rtol=1e-10)
    np.testing.assert_allclose(fit.se, ols.se, rtol=1e-10)
    np.testing.assert_allclose(fit.sigma, ols.sigma, rtol=1e-10)
    np.testing.assert_allclose(
        fit.linear_functions(np.eye(2), ddf="residual").df(), ols.fixed_effects()["df"], rtol=1e-12
    )
    np.testing.assert_allclose(fit.fitted, ols.fitted, rtol=1e-10)
    assert (fit.blups()["estimate"].abs() < 1e-12).all()


def test_zero_variances_give_the_linear_model_by_ml():
    data = datasets.load("dyestuff2")
    fit, ols = quiet("Yield ~ 1 + (1|Batch)", data, reml=False), lmm("Yield ~ 1", data)
    np.testing.assert_allclose(fit.criterion, ols.criterion, rtol=1e-12)
    np.testing.assert_allclose(fit.loglik, ols.loglik, rtol=1e-12)


def test_linear_model_by_formula():
    r = np.random.default_rng(0)
    X = np.column_stack([np.ones(40), r.normal(size=(40, 3))])
    y = X @ [1, 2, 0, -1] + r.normal(size=40)
    data = pd.DataFrame({"y": y, "a": X[:, 1], "b": X[:, 2], "c": X[:, 3]})
    fit = lmm("y ~ a + b + c", data)
    beta = np.linalg.solve(X.T @ X, X.T @ y)
    rss = np.sum((y - X @ beta) ** 2)
    np.testing.assert_allclose(fit.beta, beta, rtol=1e-10)
    np.testing.assert_allclose(fit.cov_beta, rss / 36 * np.linalg.inv(X.T @ X), rtol=1e-9)
    np.testing.assert_allclose(fit.criterion, 40 * (np.log(2 * np.pi * rss / 40) + 1), rtol=1e-12)
    total = np.sum((y - y.mean()) ** 2)
    np.testing.assert_allclose(fit.r_squared, 1 - rss / total, rtol=1e-10)
    np.testing.assert_allclose(fit.adj_r_squared, 1 - rss / total * 39 / 36, rtol=1e-10)
    f = fit.f_statistic
    np.testing.assert_allclose([f.F, f.df1, f.df2], [(total - rss) / 3 / (rss / 36), 3, 36], rtol=1e-9)
    assert fit.method == "OLS"
    assert fit.theta.size == 0
    assert fit.blups().empty


@pytest.mark.parametrize("value", [0.0, 7.25, -1e9])
@pytest.mark.parametrize("formula", ["y ~ t + (1|g) + (1|l)", "y ~ t", "y ~ 1 + (1|g)"])
def test_constant_response(formula, value):
    """Exact zero variances, the constant as fitted value, no crash in any table."""
    fit = quiet(formula, case("crossed").data.assign(y=value))
    assert fit.sigma == 0.0
    np.testing.assert_allclose(
        fit.beta, [value, *np.zeros(fit.rank - 1)], rtol=1e-12, atol=1e-12 * max(1, abs(value))
    )
    np.testing.assert_allclose(fit.fitted, value, rtol=1e-12)
    assert np.all(fit.theta == 0)
    assert np.all(fit.variance_components["estimate"] == 0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert "no variance is left to test against" in str(fit.summary())
        assert len(fit.fixed_effects()) == fit.rank
        blups = fit.blups()
        assert len(blups) == sum(len(t.levels) for t in fit.design.random)
        assert not np.any(blups["estimate"])
        assert not np.any(fit.predict(se=True)["se"])
        anova = fit.anova()
    assert anova[["F", "p"]].isna().all(axis=None)
    assert set(anova["status"]) <= {NO_VARIANCE}


@pytest.mark.parametrize("ddf", DDF_METHODS)
@pytest.mark.parametrize("formula", ["y ~ t + (1|g) + (1|l)", "y ~ t + (x|g)", "y ~ t"])
def test_means_of_a_constant_response(formula, ddf):
    """Estimates with standard error 0, no test, and a status that says why; no warning in any table."""
    fit = quiet(formula, case("crossed").data.assign(y=7.25, x=np.arange(len(case("crossed").data)) % 7))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        means = fit.emmeans("t", ddf=ddf)
        tables = [means] + [
            means.contrast(method, adjust=adjust)
            for method, adjust in (("pairwise", "tukey"), ("trt.vs.ctrl", "dunnettx"), ("consec", "mvt"),
                                   ("pairwise", "scheffe"), ("eff", "holm"))
        ]  # fmt: skip
        for table in tables:
            frame = table.to_frame()
            np.testing.assert_allclose(frame["estimate"], 7.25 if table is means else 0.0, atol=1e-12)
            assert np.all(frame["se"] == 0.0)
            assert frame[["t", "p"]].isna().all(axis=None)
            assert set(frame["status"]) == {NO_VARIANCE}
            assert NO_VARIANCE in str(table)
        assert frame["df"].isna().all() == (ddf in ("kenward-roger", "satterthwaite"))
        assert set(fit.joint_tests(ddf=ddf)["status"]) == {NO_VARIANCE}
        assert set(fit.joint_tests(ddf=ddf, scaled=False)["status"]) == {NO_VARIANCE}
        means.cld()


def test_response_that_the_fixed_part_explains():
    """y linear in x: nothing is left for any variance."""
    c = case("slopes2")
    fit = quiet(c.formula, c.data.assign(y=3 - 2 * c.data["x"]))
    np.testing.assert_allclose(fit.beta, [3, -2], rtol=1e-10)
    assert fit.sigma < 1e-10
    np.testing.assert_allclose(fit.fitted, 3 - 2 * c.data["x"], rtol=1e-9)


def test_no_residual_variance_is_reported():
    """y is a function of the group: the criterion has no minimum, so there is a fit but no certificate."""
    g = np.repeat(np.arange(8), 5)
    data = pd.DataFrame({"y": np.random.default_rng(0).normal(size=8)[g], "g": g.astype(str)})
    with pytest.warns(NotConvergedWarning):
        fit = lmm("y ~ 1 + (1|g)", data)
    assert not fit.converged
    assert fit.sigma < 1e-6
    np.testing.assert_allclose(fit.fitted, data["y"], atol=1e-6)
    assert [w.flag for w in fit.warnings] == ["not-converged"]


def test_rows_with_missing_values_are_dropped_and_counted():
    c = case("crossed")
    data = c.data.copy()
    data.loc[[3, 50], "y"] = np.nan
    data.loc[7, "t"] = None
    data.loc[9, "g"] = None
    fit, direct = lmm(c.formula, data), lmm(c.formula, data.dropna())
    assert (fit.nobs, fit.n_dropped) == (236, 4)
    assert fit.criterion == direct.criterion
    # another response may have the length of the rows used or of the table
    y = c.data["y"].to_numpy()[::-1] + c.data["g"].factorize()[0] + c.data["l"].factorize()[0]
    np.testing.assert_array_equal(fit.refit(y).beta, fit.refit(y[fit.design.rows]).beta)


def test_dependent_columns_are_dropped_and_named():
    c = case("slopes2")
    data = c.data.assign(x2=2 * c.data["x"] + 1)
    with pytest.warns(RankDeficientWarning, match="'x2'"):
        fit = lmm("y ~ x + x2 + (1|s)", data)
    assert fit.dropped_columns == ("x2",)
    assert np.isnan(fit.beta[2])
    np.testing.assert_allclose(fit.beta[:2], lmm("y ~ x + (1|s)", data).beta, rtol=1e-8)
    table = fit.fixed_effects()
    assert table["status"].tolist()[:2] == ["ok", "ok"]
    assert "depends" in table["status"][2]


def test_warnings_have_flags():
    with pytest.warns(SingularFitWarning):
        fit = lmm("Yield ~ 1 + (1|Batch)", datasets.load("dyestuff2"))
    assert [w.flag for w in fit.warnings] == ["singular"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert fit_of("crossed").warnings == ()
        lmm(case("crossed").formula, case("crossed").data)


@pytest.fixture(scope="module")
def dense_crossed():
    """Few nodes with much fill: ordered by the small-graph kernel, factorized by supernodes."""
    r = np.random.default_rng(0)
    n, q = 5000, 500
    g, h = r.integers(0, q, n), r.integers(0, q, n)
    y = r.normal(size=q)[g] + r.normal(size=q)[h] + r.normal(size=n)
    return pd.DataFrame({"y": y, "g": g.astype(str), "h": h.astype(str)})


def test_minimum_degree_order_with_supernodes(dense_crossed):
    """Score by the supernodal inverse against differences of the criterion; the true variances are found."""
    from fastlmm_core import prepare
    from fastlmm_core.reml.objective import evaluate, evaluate_score, factors_at

    prepared = prepare("y ~ 1 + (1|g) + (1|h)", dense_crossed)
    e, factor = prepared.equations, prepared.factor
    assert e.ordering == "minimum degree"
    assert isinstance(factor, SupernodalFactor)
    fit = prepared.fit()
    assert fit.convergence.iterations <= 8
    np.testing.assert_allclose(fit.variance_components["estimate"], 1.0, atol=0.15)

    def deviance(theta):
        return evaluate(e, factor, fit.solved.response, factors_at(e, np.array(theta)), True).deviance

    h = 1e-3
    point = evaluate(e, factor, fit.solved.response, factors_at(e, np.array([0.7, 1.3])), True)
    gradient, _, _ = evaluate_score(e, factor, fit.solved.response, point, True)
    numeric = [
        (deviance([0.7 + h, 1.3]) - deviance([0.7 - h, 1.3])) / (2 * h),
        (deviance([0.7, 1.3 + h]) - deviance([0.7, 1.3 - h])) / (2 * h),
    ]
    np.testing.assert_allclose(gradient, numeric, rtol=1e-5)


def test_a_certificate_is_not_given_for_nothing():
    """An iteration limit of one leaves no optimum, and the fit says so."""
    from fastlmm_core.reml import optimizer
    from fastlmm_core.reml.objective import prepare_response

    fit = fit_of("slopes3")
    e = fit.solved.equations
    response = prepare_response(e, case("slopes3").data["y"].to_numpy())
    optimum = optimizer.minimize(
        e, fit.solved.factor.copy(), response, reml=True, theta=np.ones(e.n_theta), max_iterations=1
    )
    assert optimum.status == 1
    assert optimum.decrement > 1e-6


def test_criterion_of_the_dense_model_at_the_linear_limit():
    fit = fit_of("singular_scalar")
    dense = DenseModel.of_fit(fit)
    assert dense.G[1][0, 0] == 0.0 or dense.G[0][0, 0] == 0.0
    np.testing.assert_allclose(fit.criterion, dense.criterion, rtol=1e-11)
