"""Prior weights, and the weights of the observations in an estimate."""

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from random_designs import CASES, case, dense_of, fit_of

from fastlmm_core import datasets, lmm, prepare
from fastlmm_core.errors import DataError, OptionError


@pytest.mark.parametrize("name", CASES)
def test_observation_weights(name):
    """K (X'V^-1 X)^-1 X'V^-1; applied to y they give the estimate; X is reproduced."""
    fit, dense = fit_of(name), dense_of(name)
    K = np.unique(fit.design.fixed_matrix(fit.design.frame).toarray(), axis=0)[:3]
    rows = K[:, fit.design.kept]
    got = fit.observation_weights(K)
    expected = rows @ dense.phi @ dense.X.T @ dense.V_inv
    np.testing.assert_allclose(got, expected, rtol=1e-7, atol=1e-9 * np.abs(expected).max())
    np.testing.assert_allclose(
        got @ fit.design.y, fit.linear_functions(K, ddf="asymptotic").estimate, rtol=1e-9
    )
    np.testing.assert_allclose(got @ dense.X, rows, atol=1e-9)
    np.testing.assert_allclose(fit.observation_weights(sp.csr_array(K)), got)


def test_weights_of_a_contrast_in_incomplete_blocks():
    """All fixed: only blocks that hold one of the two hybrids count, and weights add to zero within a block.
    Blocks random: weights between blocks recover information."""
    data = datasets.load("cochran_bib")
    fixed, mixed = lmm("yield ~ gen + loc", data), lmm("yield ~ gen + (1|loc)", data)
    for fit, recovered in ((fixed, False), (mixed, True)):
        K = np.zeros((1, len(fit.coef_names)))
        K[0, 1] = -1.0  # G01 - G02
        w = fit.observation_weights(K)[0]
        by_block = pd.Series(w).groupby(data["loc"].to_numpy()).sum().abs()
        by_gen = pd.Series(w).groupby(data["gen"].to_numpy()).sum()
        np.testing.assert_allclose(by_gen[["G01", "G02"]], [1, -1], atol=1e-9)
        np.testing.assert_allclose(by_gen.drop(["G01", "G02"]), 0, atol=1e-9)
        assert (by_block.max() > 1e-3) == recovered


def test_weights_refuse_what_is_not_estimable():
    fit = fit_of("empty_cells")
    unknown = np.eye(len(fit.coef_names))[np.argmax(np.abs(fit.design.null_basis[:, 0]))][None]
    with pytest.raises(OptionError, match="estimable"):
        fit.observation_weights(unknown)
    with pytest.raises(OptionError, match="columns"):
        fit.observation_weights(np.ones((1, 3)))


def table(fit):
    return fit.fixed_effects()[["estimate", "se", "df"]].to_numpy()


def test_common_factor_of_the_weights_only_scales_sigma():
    c = case("weighted")
    fit, other = fit_of("weighted"), lmm(c.formula, c.data.assign(w=c.data["w"] * 1e5), weights="w")
    np.testing.assert_allclose(table(other), table(fit), rtol=1e-5)
    np.testing.assert_allclose(other.sigma**2, fit.sigma**2 * 1e5, rtol=1e-5)
    np.testing.assert_allclose(
        other.variance_components["estimate"][0], fit.variance_components["estimate"][0], rtol=1e-4
    )
    np.testing.assert_allclose(other.criterion, fit.criterion, rtol=1e-9)


def test_unit_weights_are_no_weights():
    c = case("crossed")
    fit = lmm(c.formula, c.data, weights=np.ones(len(c.data)))
    np.testing.assert_allclose(fit.criterion, fit_of("crossed").criterion, rtol=1e-12)
    np.testing.assert_allclose(table(fit), table(fit_of("crossed")), rtol=1e-7)


def test_integer_weights_are_the_model_in_sqrt_w_units():
    """sqrt(w) times every column of [y X Z] has homogeneous errors: the same estimates and inference."""
    r = np.random.default_rng(5)
    n, w = 90, r.integers(1, 6, 90).astype(float)
    s, x = r.integers(0, 9, 90), r.normal(size=90)
    y = 2 + x + r.normal(0, 1, 9)[s] + r.normal(size=n) / np.sqrt(w)
    root = np.sqrt(w)
    data = pd.DataFrame(
        {"y": y, "x": x, "s": s.astype(str), "w": w, "ry": root * y, "one": root, "rx": root * x}
    )
    fit = lmm("y ~ x + (1|s)", data, weights="w")
    scaled = lmm("ry ~ 0 + one + rx + (0 + one|s)", data)
    np.testing.assert_allclose(table(scaled), table(fit), rtol=1e-5)
    np.testing.assert_allclose(
        scaled.variance_components["estimate"], fit.variance_components["estimate"], rtol=1e-5
    )
    # criteria differ by the Jacobian of the scaling only
    np.testing.assert_allclose(scaled.criterion - np.log(w).sum(), fit.criterion, rtol=1e-9)


def test_weights_of_a_linear_model():
    r = np.random.default_rng(6)
    x, w = r.normal(size=30), r.uniform(0.2, 4, 30)
    y = 1 + x + r.normal(size=30) / np.sqrt(w)
    fit = lmm("y ~ x", pd.DataFrame({"y": y, "x": x}), weights=w)
    X = np.column_stack([np.ones(30), x])
    inverse = np.linalg.inv(X.T @ (w[:, None] * X))
    beta = inverse @ X.T @ (w * y)
    sigma2 = w @ (y - X @ beta) ** 2 / 28
    np.testing.assert_allclose(fit.beta, beta, rtol=1e-10)
    np.testing.assert_allclose(fit.se, np.sqrt(sigma2 * np.diag(inverse)), rtol=1e-10)
    np.testing.assert_allclose(fit.sigma**2, sigma2, rtol=1e-10)
    loglik = -0.5 * (30 * np.log(2 * np.pi * sigma2 * 28 / 30) + 30) + 0.5 * np.log(w).sum()
    np.testing.assert_allclose(fit.loglik, loglik, rtol=1e-10)


def test_prepared_weights_and_new_weights():
    c = case("weighted")
    prepared = prepare(c.formula, c.data)
    fit = prepared.fit(weights=c.data["w"])
    np.testing.assert_allclose(fit.criterion, fit_of("weighted").criterion, rtol=1e-11)
    np.testing.assert_allclose(table(fit), table(fit_of("weighted")), rtol=1e-6)
    np.testing.assert_array_equal(fit.weights, c.data["w"])
    np.testing.assert_allclose(prepared.fit().criterion, lmm(c.formula, c.data).criterion, rtol=1e-11)
    with pytest.raises(DataError, match="positive"):
        prepared.fit(weights=-c.data["w"])
    with pytest.raises(DataError, match="149"):
        prepared.fit(weights=c.data["w"][:-1])
