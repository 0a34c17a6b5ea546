"""Criteria with several optima: no dense search ends below a fit, and a bound is no reason to stop."""

import warnings

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import minimize

from fastlmm_core import lmm, prepare
from fastlmm_core.engine.objective import evaluate
from fastlmm_core.engine.search.fitting import RISE_TO_BOUND
from fastlmm_core.errors import FastLMMWarning
from fastlmm_core.structures.levels.factors import AutoregressiveLevels


def growth(seed):
    """Few subjects at many visits: a subject's effect and the autocorrelation explain the same."""
    rng = np.random.default_rng(seed)
    subject, visit = np.divmod(np.arange(35), 7)
    y = rng.normal(0, 2, 5)[subject]
    y = y + rng.normal(size=(5, 7)).cumsum(axis=1).ravel() * (1 + 0.3 * visit)
    return pd.DataFrame({"s": subject.astype(str), "v": visit, "y": y})


def fields(seed):
    rng = np.random.default_rng(seed)
    env, row, col = np.unravel_index(np.arange(72), (3, 6, 4))
    y = rng.normal(size=72) * (1 + env) + 2.0 * rng.normal(size=3)[env]
    return pd.DataFrame({"env": np.array(list("abc"))[env], "row": row, "col": col, "y": y})


def quiet(*args, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FastLMMWarning)
        return lmm(*args, **options)


def restricted_deviance(V, X, y):
    try:
        L = np.linalg.cholesky(V)
    except np.linalg.LinAlgError:
        return 1e10
    A = np.linalg.solve(L, np.column_stack([X, y]))
    Q, R = np.linalg.qr(A[:, :-1])
    rest = A[:, -1] - Q @ (Q.T @ A[:, -1])
    logs = 2.0 * np.log(np.diag(L)).sum() + 2.0 * np.log(np.abs(np.diag(R))).sum()
    return logs + rest @ rest + (y.size - X.shape[1]) * np.log(2 * np.pi)


def subject_covariance(theta, table):
    """An intercept of the subject beside hetar1 residuals: sd of subjects, rho, sd of the visits."""
    lag = np.abs(np.subtract.outer(np.arange(7), np.arange(7)))
    residual = np.tanh(theta[1]) ** lag * np.outer(np.exp(theta[2:]), np.exp(theta[2:]))
    return np.kron(np.eye(5), theta[0] ** 2 * np.ones((7, 7)) + residual)


@pytest.mark.parametrize("seed", [9, 14])
def test_a_subject_beside_autocorrelation(seed):
    table = growth(seed)
    fit = quiet("y ~ v + (1 | s)", table, residual="hetar1(v | s)")
    X, y = np.column_stack([np.ones(35), table["v"]]), table["y"].to_numpy()
    rng = np.random.default_rng(2)
    starts = [np.r_[sd, rho, np.full(7, 0.5)] + 0.3 * rng.normal(size=9)
              for sd in (0.1, 3.0) for rho in (-0.2, 0.3, 1.0)]  # fmt: skip
    ends = [
        minimize(lambda theta: restricted_deviance(subject_covariance(theta, table), X, y), x0).fun
        for x0 in starts
    ]
    assert fit.converged
    assert fit.criterion <= min(ends) + 1e-5


@pytest.mark.parametrize("seed", [2, 3, 5, 6, 16, 21, 29, 37])
def test_a_random_field_in_both_directions(seed):
    table = fields(seed)
    fit = quiet("y ~ env + (1 | env:ar1(row):ar1(col))", table)
    X = np.column_stack([np.ones(72), table["env"] == "b", table["env"] == "c"]).astype(float)
    y = table["y"].to_numpy()
    same = np.equal.outer(table["env"].to_numpy(object), table["env"].to_numpy(object))
    lags = [np.abs(np.subtract.outer(table[x].to_numpy(), table[x].to_numpy())) for x in ("row", "col")]

    def deviance(theta):
        trend = np.tanh(theta[2]) ** lags[0] * np.tanh(theta[3]) ** lags[1]
        return restricted_deviance(theta[0] ** 2 * same * trend + theta[1] ** 2 * np.eye(72), X, y)

    starts = [[1.0, 1.0, a, b] for a in (-0.8, 0.8) for b in (-0.8, 0.8)]
    ends = [minimize(deviance, x0, bounds=[(0, None), (1e-4, None), (-6, 6), (-6, 6)]).fun for x0 in starts]
    assert fit.converged
    assert fit.criterion <= min(ends) + 1e-5


@pytest.mark.parametrize("seed", [12, 20, 34])
def test_a_field_with_a_nugget(seed):
    """One model twice: fields as random terms beside units, and as the residual beside a nugget."""
    table = fields(seed)
    as_terms = quiet("y ~ env + (1 | at(env):ar1(row):ar1(col))", table)
    as_residual = quiet("y ~ env + (1 | units)", table, residual="ar1(row):ar1(col) | env")
    assert as_terms.criterion == pytest.approx(as_residual.criterion, abs=1e-4)


@pytest.mark.parametrize("seed", [13, 33, 43, 46])
def test_a_field_of_few_plots_with_strong_correlations_below_its_nugget(seed):
    """AR1 x AR1 beside lines and units: from weak correlations alone searches end up to 2.6 above."""
    rng = np.random.default_rng(seed)
    row, col = np.divmod(np.arange(56), 7)
    gen = rng.integers(0, 14, 56)
    lags = [np.abs(np.subtract.outer(x, x)) for x in (row, col)]
    a, b = rng.uniform(-0.3, 0.95, 2)
    V = a ** lags[0] * b ** lags[1] + rng.choice([0, 0.3, 1.0]) * np.eye(56)
    y = np.linalg.cholesky(V) @ rng.normal(size=56) + rng.choice([0, 0.7]) * rng.normal(size=14)[gen]
    y = rng.normal(size=56) if rng.random() < 0.3 else y
    keep = rng.random(56) < rng.choice([1.0, 0.9])
    table = pd.DataFrame({"row": row, "col": col, "gen": "g" + pd.Series(gen).astype(str), "y": y})[keep]
    fit = quiet("y ~ 1 + (1 | gen) + (1 | units)", table, residual="ar1(row):ar1(col)")
    y, X, same = y[keep], np.ones((keep.sum(), 1)), np.equal.outer(gen[keep], gen[keep])
    lags = [lag[np.ix_(keep, keep)] for lag in lags]

    def deviance(theta):
        trend = np.tanh(theta[3]) ** lags[0] * np.tanh(theta[4]) ** lags[1]
        V = theta[0] ** 2 * same + theta[1] ** 2 * np.eye(y.size) + theta[2] ** 2 * trend
        return restricted_deviance(V, X, y)

    bounds = [(0, None), (0, None), (1e-3, None), (-6, 6), (-6, 6)]
    starts = [[0.4, sd, 0.5, a, b] for sd in (0.2, 0.8) for a in (-1.1, 1.1) for b in (-1.1, 1.1)]
    ends = [minimize(deviance, x0, bounds=bounds) for x0 in starts]
    # where both run to one beside a variance without end the limit is a random walk, and no optimum
    optima = [end.fun for end in ends if end.x[2] < 10.0]
    assert fit.converged
    assert fit.criterion <= min(optima) + 1e-4 + RISE_TO_BOUND


@pytest.mark.parametrize("seed", [61, 70, 75, 84, 122])
def test_no_start_ends_below_a_surface_that_is_straight_in_a_direction(seed):
    """What the rows (or columns) have by themselves may be a rough curve of the surface: 0.2 to 6.8 lower."""
    rng = np.random.default_rng(seed)
    row, col = np.divmod(np.arange(108), 9)
    gen = rng.integers(0, 27, 108)
    y = rng.normal(size=108) + 0.6 * rng.normal(size=27)[gen]
    y = y + rng.choice([0, 1]) * np.sin(row / rng.uniform(1, 4))
    y = y + rng.choice([0, 0.5, 1]) * np.cos(col / rng.uniform(1, 3)) + rng.choice([0, 0.05]) * row
    table = pd.DataFrame({"row": row, "col": col, "gen": "g" + pd.Series(gen).astype(str), "y": y})
    fit = quiet("y ~ 1 + (1 | gen)", table, field_trend="ps")
    surface = next(term.group for term in fit.design.random if term.is_spline)
    sizes = (1e-5, 0.01, 10.0)
    ends = [
        quiet("y ~ 1 + (1 | gen)", table, field_trend="ps", start={surface: [a, b]}).criterion
        for a in sizes for b in sizes
    ]  # fmt: skip
    assert fit.converged
    assert fit.criterion <= min(ends) + 1e-5


@pytest.mark.parametrize("seed", [27, 106])
def test_environments_alike_beside_one_that_is_not_between_them(seed):
    """hetar1 fits lines alike in the first and the third environment by a second in which none varies."""
    rng = np.random.default_rng(seed)
    line, env = np.repeat(np.arange(10), 9), np.tile(np.repeat(np.arange(3), 3), 10)
    u = rng.normal(size=(10, 3)) @ rng.normal(size=(3, 3))
    y = u[line, env] + rng.normal(size=90)
    table = pd.DataFrame({"g": line.astype(str), "e": np.array(list("abc"))[env], "y": y})
    fit = quiet("y ~ e + hetar1(0 + e | g)", table)
    X = np.column_stack([np.ones(90), env == 1, env == 2]).astype(float)
    lag, same = np.abs(np.subtract.outer(np.arange(3), np.arange(3))), np.equal.outer(line, line)

    def deviance(theta):
        T = np.outer(theta[:3], theta[:3]) * np.tanh(theta[3]) ** lag
        return restricted_deviance(same * T[np.ix_(env, env)] + theta[4] ** 2 * np.eye(90), X, y)

    bounds = [(0, None)] * 3 + [(-6, 6), (1e-2, None)]
    starts = [[1.0, sd, 1.0, x, 1.0] for sd in (0.02, 0.7) for x in (-1.5, 0.1, 1.5)]
    ends = [minimize(deviance, x0, bounds=bounds).fun for x0 in starts]
    assert fit.converged
    assert fit.criterion <= min(ends) + 1e-4


def test_a_field_of_no_variance_with_both_autocorrelations_at_one():
    """Nearly singular precisions leave the deviance to rounding; such points do not exist for a search."""
    table = fields(1)
    equations = prepare("y ~ env + (1 | env:ar1(row):ar1(col))", table)
    solved = equations.fit().solved
    e, factor, y = solved.equations, solved.factor.copy(), table["y"].to_numpy() / solved.response.scale
    ordinary = evaluate(e, factor, y, np.array([0.0, 0.3, 0.3, 1.0])).deviance
    for corner in (6.2, -6.2):
        near = evaluate(e, factor, y, np.array([0.0, 6.2, corner, 1.0])).deviance
        assert near == pytest.approx(ordinary, abs=1e-4)
    one = evaluate(e, factor, y, np.array([0.0, 0.3, 12.0, 1.0])).deviance
    assert one == pytest.approx(ordinary, abs=1e-4)
    assert evaluate(e, factor, y, np.array([0.0, 9.0, 9.0, 1.0])).deviance == np.inf


def test_a_variance_of_visits_that_is_zero_is_said_in_words():
    fit = quiet("y ~ v + (1 | s)", growth(1), residual="hetar1(v | s)")
    assert fit.converged and fit.singular  # it is left just above: at zero R has no inverse
    assert "the variance of 0 is zero in the residual" in str(fit.warnings[0])


def test_derivatives_by_an_autocorrelation_at_its_bound():
    """By the chain rule they are those in rho, however flat the chart is there."""
    levels = AutoregressiveLevels(6, "row")
    for theta in (-25.0, 0.3, 25.0):
        at = np.array([theta])
        rho = float(levels.natural(at)[0])
        interior, neighbours = np.diag([0.0, 1.0, 1.0, 1.0, 1.0, 0.0]), np.eye(6, k=1) + np.eye(6, k=-1)
        by_rho = (2 * rho * (np.eye(6) + interior) - (1 + rho**2) * neighbours) / ((1 - rho) * (1 + rho)) ** 2
        slope = levels.natural_jacobian(at)[0, 0]
        assert slope > 0.0
        c = levels.coefficients(at)[1][0] / slope
        by_pieces = sum(own * piece.toarray() for own, piece in zip(c, levels.pieces, strict=True))
        np.testing.assert_allclose(by_pieces, by_rho, rtol=1e-10)


@pytest.mark.parametrize("seed", range(12))
def test_two_coefficients_are_unstructured(seed):
    """With two coefficients every heterogeneous structure is `us`, at a variance of zero as well."""
    rng = np.random.default_rng(seed)
    line, half = rng.integers(0, 9, 60), rng.integers(0, 2, 60)
    u = rng.normal(size=(9, 2)) * [0.7, 0.1]
    table = pd.DataFrame({"g": line.astype(str), "h": np.array(["a", "b"])[half]})
    table["y"] = u[line, half] + rng.normal(size=60)
    wanted = quiet("y ~ h + us(0 + h | g)", table, residual="units | h").criterion
    for structure in ("cs", "hetar1", "toep"):
        found = quiet(f"y ~ h + {structure}(0 + h | g)", table, residual="units | h").criterion
        np.testing.assert_allclose(found, wanted, atol=1e-5, err_msg=structure)


@pytest.mark.parametrize("seed", [2, 13])
def test_loadings_of_few_levels(seed):
    """Reduced rank where one factor explains little: each coefficient may be the one that it follows."""
    rng = np.random.default_rng(seed)
    line, env, _ = np.unravel_index(np.arange(80), (10, 4, 2))
    y = (rng.normal(size=(10, 4)) * [0.5, 1.0, 1.5, 1.0])[line, env] + rng.normal(size=80) * 0.8
    table = pd.DataFrame({"s": line.astype(str), "v": np.array(list("abcd"))[env], "y": y})
    fit = quiet("y ~ 1 + rr(0 + v | s, d=1)", table, residual="units | v")
    X, same, Z = np.ones((80, 1)), np.equal.outer(line, line), np.eye(4)[env]

    def deviance(theta):
        factor = Z @ theta[:4]
        return restricted_deviance(same * np.outer(factor, factor) + np.diag(np.exp(Z @ theta[4:])), X, y)

    starts = [np.r_[rng.normal(size=4), np.zeros(4)] for _ in range(10)]
    ends = [minimize(deviance, x0, bounds=[(-9, 9)] * 4 + [(-12, 4)] * 4).fun for x0 in starts]
    assert fit.criterion <= min(ends) + 1e-5


@pytest.mark.parametrize(("seed", "structure"), [(12, "cs"), (11, "hetar1")])
def test_correlations_of_few_related_lines(seed, structure):
    """One plot a cell: weak correlations beside variances at zero are one optimum, strong ones another."""
    rng = np.random.default_rng(seed)
    M = rng.integers(0, 3, size=(14, 30)).astype(float)
    M -= M.mean(axis=0)
    K = M @ M.T / 30 + 0.1 * np.eye(14)
    line, env = (axis.ravel() for axis in np.indices((14, 3)))
    u = np.linalg.cholesky(K) @ rng.normal(size=(14, 3)) * [0.6, 0.9, 1.1]
    y = 10 + env + u[line, env] + rng.normal(size=line.size) * np.array([0.6, 1.0, 0.8])[env]
    names = [f"g{k:02d}" for k in range(14)]
    table = pd.DataFrame({"gen": [names[k] for k in line], "env": [f"e{k}" for k in env], "y": y})
    fit = quiet(
        f"y ~ env + {structure}(0 + env | vm(gen, K))", table, residual="units | env",
        relationships={"K": pd.DataFrame(K, index=names, columns=names)},
    )  # fmt: skip
    X = np.column_stack([np.ones(y.size), env == 1, env == 2]).astype(float)

    def deviance(theta):
        sd, rho, errors = np.exp(theta[:3]), np.tanh(theta[3]), np.exp(2.0 * theta[4:])
        lag = np.abs(np.subtract.outer(np.arange(3), np.arange(3)))
        R = rho**lag if structure == "hetar1" else np.where(lag > 0, 1.5 * (rho + 1.0) / 2.0 - 0.5, 1.0)
        T = np.outer(sd, sd) * R
        return restricted_deviance(K[np.ix_(line, line)] * T[np.ix_(env, env)] + np.diag(errors[env]), X, y)

    starts = [[-0.5, -0.2, 0.0, rho, 0.0, 0.0, 0.0] for rho in (-0.3, 0.3, 1.0, 3.0)]
    least = min(minimize(deviance, start, method="BFGS").fun for start in starts)
    assert fit.criterion < least + 1e-3
