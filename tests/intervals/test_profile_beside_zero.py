"""Profiles of correlated coefficients of which variances are estimated as zero, against dense likelihoods."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import minimize
from scipy.stats import chi2

from fastlmm_core import lmm, prepare
from fastlmm_core.engine.search import fitting
from fastlmm_core.errors import NotConvergedWarning, NumericalError
from fastlmm_core.intervals.criteria import StructuredCriterion

QUANTILE = float(chi2.ppf(0.95, 1))
GENOTYPES, REPLICATES = 14, 2


def trials(seed, own, shared=1.0):
    """Three environments, two replicates; genotypes vary with standard deviations `own`."""
    r = np.random.default_rng(seed)
    own = np.asarray(own, float)
    u = shared * r.normal(size=(GENOTYPES, 1)) * own + 0.4 * r.normal(size=(GENOTYPES, 3)) * own
    rows = [
        (f"e{e}", f"g{g:02d}", u[g, e] + e + r.normal())
        for e in range(3)
        for g in range(GENOTYPES)
        for _ in range(REPLICATES)
    ]
    return pd.DataFrame(rows, columns=["env", "gen", "y"])


def least_deviance(data, structure, held):
    """Of z = (sd, sd, sd, correlation, log s2) with `held` {index: value}, from many starts.

    With balanced data the means of the environments are known, and means and deviations are sufficient.
    """
    Y = data["y"].to_numpy().reshape(3, GENOTYPES, REPLICATES)
    means = Y.mean(2)
    inside, centred = ((Y - means[..., None]) ** 2).sum(), means - means.mean(1, keepdims=True)
    S, lag = centred @ centred.T / GENOTYPES, np.abs(np.subtract.outer(range(3), range(3)))
    least = -0.5 if structure == "cs" else -1.0

    def deviance(z):
        R = np.where(lag == 0, 1.0, z[3]) if structure == "cs" else z[3] ** lag
        V = R * np.outer(z[:3], z[:3]) + np.exp(z[4]) / REPLICATES * np.eye(3)
        between = np.linalg.slogdet(V)[1] + np.trace(np.linalg.solve(V, S))
        return GENOTYPES * (between + 3 * (REPLICATES - 1) * z[4]) + inside / np.exp(z[4])

    bounds = [(0.0, 5.0)] * 3 + [(least + 1e-9, 1.0 - 1e-9), (-3.0, 3.0)]
    free = [k for k in range(5) if k not in held]

    def full(z):
        out = np.empty(5)
        out[list(held)], out[free] = list(held.values()), z
        return out

    starts = [(0.5, 0.5, 0.5), (0.03, 0.5, 0.5), (0.5, 0.03, 0.5), (0.5, 0.5, 0.03), (0.9, 0.03, 0.03)]
    ends = [
        minimize(
            lambda z: deviance(full(z)), np.array([*sd, c, 0.0])[free], method="L-BFGS-B",
            bounds=[bounds[k] for k in free],
        ).fun
        for sd in starts for c in (0.6 * least, 0.6)
    ]  # fmt: skip
    return min(ends)


@pytest.mark.parametrize(
    ("structure", "own", "seed", "parameter", "index"),
    [
        ("cs", (0, 0, 0), 2, "gen: variance of enve1", 1),
        ("cs", (0, 1, 1), 1, "gen: variance of enve1", 1),
        ("cs", (0, 1, 1), 2, "gen: variance of enve2", 2),
        ("cs", (0, 1, 1), 4, "sigma", 4),
        ("cs", (0, 0, 0), 5, "gen: correlation", 3),
        ("hetar1", (0, 1, 1), 1, "sigma", 4),
        ("hetar1", (0, 1, 1), 1, "gen: rho", 3),
    ],
)
def test_limits_where_standard_deviations_have_kinks_at_zero(structure, own, seed, parameter, index):
    """A limit is where the least dense deviance has risen by the quantile, or a bound where it has not."""
    data = trials(seed, own)
    fit = lmm(f"y ~ env + {structure}(0 + env | gen)", data, reml=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        row = fit.conf_int(parameters=parameter).iloc[0]
    best = least_deviance(data, structure, {})
    bounds = (-0.5 if structure == "cs" else -1.0, 1.0) if index == 3 else (0.0, np.inf)
    for limit in (row["lower"], row["upper"]):
        at = {4: lambda v: 2.0 * np.log(v), 3: float}.get(index, np.sqrt)(limit)
        rise = least_deviance(data, structure, {index: at}) - best
        if limit in bounds:
            assert rise < QUANTILE
        else:
            assert rise == pytest.approx(QUANTILE, rel=1e-3)


@pytest.mark.parametrize("seed", [0, 2])
def test_a_covariance_beside_a_variance_of_zero(seed):
    """It has limits on both sides: homcs is a genotype and its interaction, with a sum below zero allowed."""
    data = trials(seed, (0, 0, 0))
    fit = lmm("y ~ env + homcs(0 + env | gen)", data, reml=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        row = fit.conf_int(parameters="gen: covariance").iloc[0]
    Y = data["y"].to_numpy().reshape(3, GENOTYPES, REPLICATES)
    means = Y.mean(2)
    inside, centred = ((Y - means[..., None]) ** 2).sum(), means - means.mean(1, keepdims=True)
    S = centred @ centred.T / GENOTYPES

    def deviance(z, covariance):
        least = max(covariance, -2.0 * covariance)  # of a variance with it
        V = covariance + np.eye(3) * (least + z[0] ** 2 - covariance + np.exp(z[1]) / REPLICATES)
        between = np.linalg.slogdet(V)[1] + np.trace(np.linalg.solve(V, S))
        return GENOTYPES * (between + 3 * (REPLICATES - 1) * z[1]) + inside / np.exp(z[1])

    ends = [
        min(minimize(deviance, [a, 0.0], args=(v,), tol=1e-12).fun for a in (0.05, 0.5))
        for v in (row["lower"], row["upper"], 0.0)
    ]
    assert row["estimate"] == 0.0
    np.testing.assert_allclose(np.array(ends[:2]) - ends[2], QUANTILE, rtol=1e-4)


def test_correlations_that_variances_of_zero_leave_open():
    """Every correlation is as likely as any: the table has none, and limits at its bounds, without a warning
    of arithmetic."""
    one = trials(1, (0, 0, 0)).query("env != 'e2'")
    for structure in ("hetar1", "us", "cs"):
        fit = lmm(f"y ~ env + {structure}(0 + env | gen)", one, reml=False)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            table = fit.conf_int(parameters="theta_")
        row = table[table["kind"].isin(["cor", "correlation"])].iloc[0]
        assert (row["lower"], row["upper"]) == (-1.0, 1.0)
        assert np.isfinite(table[["lower", "upper"]].to_numpy()).all()


def test_wald_limits_of_a_correlation_at_the_least_of_compound_symmetry():
    """At -1/(m - 1) it is at a bound, as at one: there are none."""
    fit = lmm("y ~ env + cs(0 + env | gen)", trials(0, (0, 0, 0)), reml=False)
    row = fit.conf_int("wald", "gen: correlation").iloc[0]
    assert row["estimate"] == pytest.approx(-0.5, abs=1e-6)
    assert np.isnan(row["lower"]) and np.isnan(row["upper"])
    profile = fit.conf_int(parameters="gen: correlation").iloc[0]
    assert profile["lower"] == -0.5


def test_a_correlation_of_factors_beside_specific_variances_of_zero():
    """At +1 and at -1, the specific variances of both at zero, the dense deviance is below the quantile."""
    data = trials(0, (0, 1, 1))
    fit = lmm("y ~ env + fa(0 + env | gen, k=1)", data, reml=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            row = fit.conf_int(parameters="cor(gen: enve0, enve1)").iloc[0]
        except NumericalError as error:  # the profile is level here: where rounding ends a search, it says so
            row = {"lower": -1.0, "upper": 1.0}
            assert "has no value near its limit" in str(error)
    Y = data["y"].to_numpy().reshape(3, GENOTYPES, REPLICATES)
    means = Y.mean(2)
    inside, centred = ((Y - means[..., None]) ** 2).sum(), means - means.mean(1, keepdims=True)
    S = centred @ centred.T / GENOTYPES

    def deviance(z, sign):  # loadings, specific deviations, log s2
        loadings = np.array([sign * np.exp(z[0]), np.exp(z[1]), z[2]])
        specific = np.zeros(3) if sign else z[3:6]
        V = np.outer(loadings, loadings) * (sign != 0) + np.diag(specific**2) + z[6] ** 2 / 2 * np.eye(3)
        V[2, 2] += z[5] ** 2 * (sign != 0)
        if sign == 0:
            V += np.outer(z[:3], z[:3])
        between = np.linalg.slogdet(V)[1] + np.trace(np.linalg.solve(V, S))
        return GENOTYPES * (between + 3 * (REPLICATES - 1) * 2 * np.log(abs(z[6]))) + inside / z[6] ** 2

    starts = [[a, 0.5, 0.5, 0.3, 0.3, 0.3, 1.0] for a in (-3.0, -1.0, 0.5)]
    best, up, down = (
        min(minimize(deviance, start, args=(sign,), method="BFGS").fun for start in starts)
        for sign in (0.0, 1.0, -1.0)
    )
    assert (row["lower"], row["upper"]) == (-1.0, 1.0)
    assert max(up, down) - best < QUANTILE


def counted(monkeypatch):
    """How often the criterion of a profile has been evaluated."""
    count, evaluate = [], StructuredCriterion.evaluate
    monkeypatch.setattr(StructuredCriterion, "evaluate", lambda *args: count.append(1) or evaluate(*args))
    return count


def test_searches_end_where_a_kink_is_the_optimum(monkeypatch):
    """Between kinks the criterion is smooth: a search beside one takes no more steps than another."""
    data, count = trials(2, (0, 0, 0)), counted(monkeypatch)
    fit = lmm("y ~ env + cs(0 + env | gen)", data, reml=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        table = fit.conf_int(parameters="theta_")
    assert np.isfinite(table[["lower", "upper"]].to_numpy()).all()
    assert len(count) < 3000


def test_correlations_of_factors_are_level_beside_a_standard_deviation_of_zero(monkeypatch):
    """No correlation is less likely than that standard deviation: where it is reached no more is searched."""
    data, count = trials(3, (0, 1, 1), 0.3), counted(monkeypatch)
    fit = lmm("y ~ env + fa(0 + env | gen, k=1)", data, reml=False)
    profile = fit.profile("theta_", level=0.95)
    table = profile.conf_int(0.95).set_index("parameter")
    assert table.loc["sd(gen: enve0)", "lower"] == 0.0
    for name in ("cor(gen: enve0, enve1)", "cor(gen: enve0, enve2)"):
        assert tuple(table.loc[name, ["lower", "upper"]]) == (-1.0, 1.0)
    assert len(count) < 3000


@pytest.mark.parametrize(("seed", "fall"), [(5, 6.548), (2, 0.583)])
def test_profiles_that_come_below_the_fit_go_on_from_there(monkeypatch, seed, fall):
    """Limits are those of the better optimum, and a warning says so.

    A fit finds that optimum from any start, unless it does not look at other optima.
    """
    prepared = prepare("y ~ env + hetar1(0 + env | gen)", trials(seed, (0, 0, 0)), reml=False)
    best = prepared.fit()
    start = np.array([0.05, 0.05, 0.6, 3.0, best.solved.theta[-1]])
    assert prepared.fit(theta=start).deviance == pytest.approx(best.deviance, abs=1e-6)
    monkeypatch.setattr(fitting, "_beside_kinks", lambda criterion, found, *rest: found)
    fit = prepared.fit(theta=start)
    assert fit.deviance - best.deviance == pytest.approx(fall, abs=1e-3)
    with pytest.warns(NotConvergedWarning, match=f"a deviance {fall:.3g} below that of the fit"):
        table = fit.conf_int(parameters="theta_")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        expected = best.conf_int(parameters="theta_")
    columns = ["estimate", "lower", "upper"]
    np.testing.assert_allclose(table[columns], expected[columns], rtol=1e-4, atol=1e-4)


def test_a_variance_of_zero_that_grows_with_another_correlation():
    """Beside it all correlations are alike, and only with strong ones it leaves zero."""
    data = trials(17, (0, 0, 0))
    fit = lmm("y ~ env + homtoep(0 + env | gen)", data, reml=False)
    row = fit.conf_int(parameters="sigma").iloc[0]
    Y = data["y"].to_numpy().reshape(3, GENOTYPES, REPLICATES)
    means = Y.mean(2)
    inside, centred = ((Y - means[..., None]) ** 2).sum(), means - means.mean(1, keepdims=True)
    S, lag = centred @ centred.T / GENOTYPES, np.abs(np.subtract.outer(range(3), range(3)))

    def deviance(z, log_s2):  # a standard deviation and partial correlations
        r1, partial = np.tanh(z[1:])
        R = np.array([1.0, r1, r1**2 + partial * (1.0 - r1**2)])[lag]
        V = z[0] ** 2 * R + np.exp(log_s2) / REPLICATES * np.eye(3)
        between = np.linalg.slogdet(V)[1] + np.trace(np.linalg.solve(V, S))
        return GENOTYPES * (between + 3 * (REPLICATES - 1) * log_s2) + inside / np.exp(log_s2)

    def least(sigma):
        starts = [(0.3, a, b) for a in (-2.0, 0.0, 2.0) for b in (-2.0, 0.0, 2.0)]
        return min(minimize(deviance, z, args=(2.0 * np.log(sigma),)).fun for z in starts)

    for limit in (row["lower"], row["upper"]):
        assert least(limit) - least(row["estimate"]) == pytest.approx(QUANTILE, rel=1e-3)
