"""Kenward-Roger and Satterthwaite where models are singular, nearly so, or badly scaled: n x n references."""

from __future__ import annotations

import warnings
from dataclasses import replace
from functools import cache

import numpy as np
import pandas as pd
import pytest
from dense_reference import DenseModel
from random_designs import fit_of
from test_satterthwaite import numerical_df

from fastlmm_core import lmm
from fastlmm_core.engine.information.parameter_covariance import StructureInference
from fastlmm_core.engine.objective import evaluate
from fastlmm_core.engine.solution import StructuredSolution
from fastlmm_core.errors import DataError, FastLMMWarning
from fastlmm_core.reml.information import expected_traces, natural_parameters

EXACT = {"rtol": 1e-7}


def grouped(seed, sizes, slopes=0.0, spread=1.0):
    """Groups of the given sizes with covariates x, z, random intercepts and slopes in x."""
    r = np.random.default_rng(seed)
    s = np.repeat(np.arange(len(sizes)), sizes)
    x, z = r.normal(size=(2, s.size))
    u, v = r.normal(0.0, spread, len(sizes)), r.normal(0.0, slopes, len(sizes))
    y = 1 + x + u[s] + v[s] * x + r.normal(0, 1, s.size)
    f = np.array(["a", "b", "c"])[r.integers(0, 3, s.size)]
    return pd.DataFrame(
        {"y": y, "x": x, "z": z, "f": f, "s": [f"s{k:02d}" for k in s], "o": r.normal(size=s.size)}
    )


def one_row_groups():
    """Half of the groups have one row: they say nothing about slopes, and little about the intercepts."""
    return "y ~ x + f + (x|s)", grouped(31, [1] * 12 + [7] * 10, slopes=0.8), {}


def slope_at_zero():
    """Independent slopes of which one is zero, the other terms are not."""
    data = grouped(35, [6] * 14)
    return "y ~ x + z + (x + z||s)", data, {}


def three_by_three_of_rank_one_beside_a_crossed_term():
    data = grouped(37, [8] * 10, spread=2.0)
    r = np.random.default_rng(38)
    h = r.integers(0, 7, len(data))
    data["y"] += r.normal(size=7)[h]
    return "y ~ x + z + (x + z|s) + (1|h)", data.assign(h=[f"h{k}" for k in h]), {}


def correlation_close_to_one():
    r = np.random.default_rng(44)
    s = np.repeat(np.arange(15), 12)
    x = np.tile(np.linspace(0, 3, 12), 15)
    u = r.normal(0, 2, 15)
    w = 0.995 * u + 0.05 * r.normal(0, 2, 15)
    y = 1 + x + u[s] + w[s] * x + r.normal(0, 0.5, s.size)
    return "y ~ x + (x|s)", pd.DataFrame({"y": y, "x": x, "s": [f"s{k:02d}" for k in s]}), {}


def small_variance():
    """A variance of about a thousandth of the residual's: inside, but close to the boundary."""
    data = grouped(46, [40] * 12, spread=0.07)
    return "y ~ x + f + (1|s)", data, {}


def weights_over_six_decades():
    data = grouped(51, [6] * 14)
    r = np.random.default_rng(52)
    w = 10.0 ** r.uniform(-3, 3, len(data))
    return (
        "y ~ x + f + (1|s)",
        data.assign(y=data["y"] + r.normal(size=len(data)) / np.sqrt(w), w=w),
        {"weights": "w"},
    )


def offset_and_weights():
    data = grouped(53, [5] * 16, slopes=0.8)
    w = np.random.default_rng(54).uniform(0.5, 3, len(data))
    return "y ~ x + f + (x|s)", data.assign(w=w), {"weights": "w", "offset": "o"}


def more_columns_than_groups():
    """Fixed effects between groups that leave one of them free."""
    data = grouped(57, [6] * 5)
    data["t"] = data["s"].map({"s00": "A", "s01": "B", "s02": "C", "s03": "D", "s04": "D"})
    return "y ~ t + x + (1|s)", data, {}


def units_far_apart():
    """A covariate in millions, a response in thousandths."""
    data = grouped(59, [7] * 12, slopes=0.8)
    return "y ~ x + f + (x|s)", data.assign(x=data["x"] * 1e6 + 3e6, y=data["y"] * 1e-3), {}


CASES = {
    f.__name__: f
    for f in (
        one_row_groups, slope_at_zero, three_by_three_of_rank_one_beside_a_crossed_term,
        correlation_close_to_one, small_variance, weights_over_six_decades, offset_and_weights,
        more_columns_than_groups, units_far_apart,
    )
}  # fmt: skip
SINGULAR = ("slope_at_zero", "three_by_three_of_rank_one_beside_a_crossed_term")


@cache
def made(name):
    formula, data, options = CASES[name]()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FastLMMWarning)
        fit = lmm(formula, data, **options)
    return fit, DenseModel.of_fit(fit)


@pytest.mark.parametrize("name", CASES)
def test_the_cases_are_what_they_say(name):
    fit, dense = made(name)
    assert fit.converged
    assert bool(fit.singular_terms) == (name in SINGULAR)
    ratio = np.diag(dense.G[0]).min() / dense.sigma2
    if name == "small_variance":
        assert 1e-4 < ratio < 1e-2
    if name == "correlation_close_to_one":
        G = dense.G[0]
        assert 0.98 < G[0, 1] / np.sqrt(G[0, 0] * G[1, 1]) < 1.0


@pytest.mark.parametrize("name", CASES)
def test_kenward_roger(name):
    fit, dense = made(name)
    p = len(fit.coef_names)
    r = np.random.default_rng(p)
    rows = np.vstack([np.eye(p), r.normal(size=(2, p)) / np.sqrt(np.diag(dense.phi))])
    functions = fit.linear_functions(rows)
    cov = rows @ dense.adjusted_covariance() @ rows.T
    np.testing.assert_allclose(functions.estimate, rows @ dense.beta, rtol=1e-7, atol=1e-9)
    np.testing.assert_allclose(functions.se(), np.sqrt(np.diag(cov)), **EXACT)
    np.testing.assert_allclose(functions.df(), [dense.kr_df(row) for row in rows], **EXACT)
    L = np.eye(p)[1:]
    test = fit.linear_functions(L).f_test()
    np.testing.assert_allclose([test.F, test.df_den, test.scaling], dense.kr_test(L), rtol=1e-6)


@pytest.mark.parametrize("name", [name for name in CASES if name != "weights_over_six_decades"])
def test_the_route_of_large_systems(name):
    """Differences of traces hold 1e-7 at the boundary and close to it."""
    fit, _ = made(name)
    parameters = natural_parameters(fit.solved)
    dense = expected_traces(fit.solved, parameters, "dense")
    differences = expected_traces(fit.solved, parameters, "differences")
    scale = np.sqrt(np.outer(np.diag(dense), np.diag(dense)))
    np.testing.assert_allclose(differences / scale, dense / scale, rtol=0, atol=1e-7)


@pytest.mark.parametrize("name", [name for name in CASES if name not in SINGULAR])
def test_satterthwaite_inside(name):
    """At an interior optimum: observed information of the variances, up to the score that is left."""
    fit, dense = made(name)
    rows = np.eye(len(fit.coef_names))
    got = fit.linear_functions(rows, ddf="satterthwaite").df()
    np.testing.assert_allclose(got, [dense.satterthwaite_df(row) for row in rows], rtol=2e-4)


@pytest.mark.parametrize(
    "name", ["singular_scalar", "singular_correlation", "singular_rank2", "singular_rank1", *SINGULAR]
)
def test_satterthwaite_at_singular_fits(name):
    """As lmerTest: the Hessian in the factor of the covariance, whose zero elements have no slope."""
    fit = made(name)[0] if name in CASES else fit_of(name)
    row = np.zeros(len(fit.coef_names))
    row[[0, 1]] = [0.3, 1.0]
    got = fit.linear_functions(row[None], ddf="satterthwaite").df()[0]
    np.testing.assert_allclose(got, numerical_df(fit, row), rtol=1e-5)


@pytest.mark.parametrize("ddf", ["kenward-roger", "satterthwaite"])
def test_units_do_not_matter(ddf):
    """Rescaled columns and response: the same t, df and p."""
    formula, data, _ = units_far_apart()
    far = lmm(formula, data).fixed_effects(ddf=ddf)
    near = lmm(formula, data.assign(x=data["x"] / 1e6, y=data["y"] * 1e3)).fixed_effects(ddf=ddf)
    for column in ("t", "df", "p"):
        np.testing.assert_allclose(far[column], near[column], rtol=1e-5)


def test_an_offset_moves_the_estimates_only():
    formula, data, options = offset_and_weights()
    with_offset = lmm(formula, data, **options).fixed_effects()
    moved = lmm(formula, data.assign(y=data["y"] - data["o"]), weights="w").fixed_effects()
    for column in ("estimate", "se", "df"):
        np.testing.assert_allclose(with_offset[column], moved[column], rtol=1e-9)


def test_weights_that_are_zero_are_refused():
    formula, data, _ = weights_over_six_decades()
    data.loc[data.index[3], "w"] = 0.0
    with pytest.raises(DataError, match="weights"):
        lmm(formula, data, weights="w")


@pytest.mark.parametrize("residual", ["units", "units | half"])
def test_a_residual_variance_beside_zero_is_as_known_as_one_of_zero(residual):
    """A search ends at zero or within rounding of it, by the order of the rows: the others' errors stay."""
    rng = np.random.default_rng(2)
    row, col = (a.ravel() for a in np.meshgrid(np.arange(7), np.arange(6), indexing="ij"))
    apart = np.abs(np.subtract.outer(row, row)) + np.abs(np.subtract.outer(col, col))
    y = np.linalg.cholesky(0.5**apart) @ rng.normal(size=row.size)
    y += (row > 3) * rng.normal(0.0, 2.0, row.size) * (residual != "units")
    table = pd.DataFrame({"row": row, "col": col, "y": y, "half": np.where(row > 3, "b", "a")})
    solution = lmm("y ~ 1 + (1 | ar1(row):ar1(col))", table, residual=residual).solved
    e, y = solution.equations, solution.response.y
    rest = e.slices[1].start
    assert solution.theta[rest] ** 2 <= e.residual.least[0]
    covariances = []
    for value in (0.0, 3e-8):
        theta = solution.theta.copy()
        theta[rest] = value
        point = evaluate(e, solution.factor, y, theta)
        own = StructuredSolution(
            e, solution.factor, solution.response, replace(solution.optimum, point=point), True
        )
        covariances.append(StructureInference(own, ("plots",)).theta_covariance("average"))
    np.testing.assert_allclose(*covariances, rtol=1e-6, atol=1e-9)
    assert not covariances[1][rest].any()
