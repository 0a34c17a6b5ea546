"""Satterthwaite df against numerical differentiation of the dense criterion and against dense information."""

import warnings

import numpy as np
import pytest
from dense_reference import DenseModel, first_differences, satterthwaite_f, second_differences
from random_designs import REGULAR, case, dense_of, fit_of

from fastlmm_core import datasets, lmm
from fastlmm_core.errors import FastLMMWarning
from fastlmm_core.inference.satterthwaite import combine_degrees_of_freedom, degrees_of_freedom


def numerical_df(fit, row):
    """As lmerTest: Hessian of the criterion in (theta, sigma), gradient of the variance, by differences."""
    dense, solved = DenseModel.of_fit(fit), fit.solved
    e = solved.equations

    def model(parameters):
        theta, sigma2 = parameters[:-1], parameters[-1] ** 2
        G = [
            sigma2 * t.basis @ t.structure.covariance(theta[e.theta_term == k]) @ t.basis.T
            for k, t in enumerate(e.terms)
        ]
        return dense.at(G, sigma2)

    at = np.append(solved.theta, fit.sigma)
    steps = 0.04 * np.append(np.maximum(np.abs(solved.theta), 0.3), fit.sigma)
    H = second_differences(lambda t: model(t).criterion, at, steps)
    gradient = first_differences(lambda t: row @ model(t).phi @ row, at, steps)
    spread = gradient @ (2 * np.linalg.inv(H)) @ gradient
    return 2 * (row @ dense.phi @ row) ** 2 / spread


@pytest.mark.parametrize("reml", [True, False])
@pytest.mark.parametrize("name", ["nested", "slopes2", "weighted_slopes", "slopes_diagonal", "weighted"])
def test_by_numerical_differentiation(name, reml):
    fit = fit_of(name, reml)
    row = np.zeros(len(fit.coef_names))
    row[[0, 1]] = [0.3, 1.0]
    functions = fit.linear_functions(row[None], ddf="satterthwaite")
    np.testing.assert_allclose(functions.df()[0], numerical_df(fit, row), rtol=1e-6)
    np.testing.assert_allclose(functions.se()[0] ** 2, row @ DenseModel.of_fit(fit).phi @ row, rtol=1e-9)


@pytest.mark.parametrize("reml", [True, False])
@pytest.mark.parametrize("name", REGULAR)
def test_by_observed_information(name, reml):
    """At an interior optimum the parametrisation does not matter, up to the score that is left."""
    fit, dense = fit_of(name, reml), dense_of(name, reml)
    X = np.unique(fit.design.fixed_matrix(fit.design.frame).toarray(), axis=0)[:3]
    K = np.vstack([X, np.diff(X, axis=0)])
    functions = fit.linear_functions(K, ddf="satterthwaite")
    expected = [dense.satterthwaite_df(row) for row in K[:, fit.design.kept]]
    np.testing.assert_allclose(functions.df(), expected, rtol=3e-5)


@pytest.mark.parametrize("name", ["crossed", "nested", "slopes3", "weighted"])
def test_joint_test(name):
    fit, dense = fit_of(name), dense_of(name)
    K = np.eye(len(fit.coef_names))[1:]
    test = fit.linear_functions(K, ddf="satterthwaite").f_test()
    F, df = satterthwaite_f(K, dense)
    assert test.df_num == len(K)
    np.testing.assert_allclose(test.F, F, rtol=1e-8)
    np.testing.assert_allclose(test.df_den, df, rtol=3e-5)
    np.testing.assert_allclose(test.scaling, 1.0)


def test_a_variance_at_zero_drops_out():
    """As in lmerTest the df are those of the model without the term, not those of Kenward-Roger."""
    c = case("singular_scalar")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FastLMMWarning)
        fit = fit_of("singular_scalar")
        without = lmm("y ~ t + (1|h)", c.data)
    a, b = (f.fixed_effects(ddf="satterthwaite") for f in (fit, without))
    np.testing.assert_allclose(a["df"], b["df"], rtol=1e-5)
    np.testing.assert_allclose(a["se"], b["se"], rtol=1e-6)


def test_dyestuff2_has_the_df_of_the_sample():
    with pytest.warns(match="singular"):
        fit = lmm("Yield ~ 1 + (1|Batch)", datasets.load("dyestuff2"))
    np.testing.assert_allclose(fit.fixed_effects(ddf="satterthwaite")["df"], 29.0, rtol=1e-6)


def test_balanced_data_give_the_classical_df():
    fit = lmm("yield ~ K2O_lbac + (1|rep)", datasets.load("cochrancox_kfert"))
    functions = fit.linear_functions(np.eye(5)[1:], ddf="satterthwaite")
    np.testing.assert_allclose(functions.df(), 8.0, rtol=1e-5)
    np.testing.assert_allclose(functions.f_test().df_den, 8.0, rtol=1e-5)


def test_a_chi_square_times_a_known_constant():
    """v = g s2 with Var(s2) = 2 s2^2 / nu has nu df."""
    nu, s2, g = 13.0, 2.5, 0.7
    df = degrees_of_freedom(np.array([g * s2]), np.array([[g]]), np.array([[2 * s2**2 / nu]]))
    np.testing.assert_allclose(df, nu)


def test_combination_of_df():
    """Equal df stay; otherwise the mean of F(l, df) is that of the average of the squared t."""
    assert combine_degrees_of_freedom(np.array([7.5])) == 7.5
    assert combine_degrees_of_freedom(np.array([9.0, 9.0, 9.0])) == 9.0
    nu = np.array([5.0, 12.0, 40.0])
    df = combine_degrees_of_freedom(nu)
    np.testing.assert_allclose(df / (df - 2), np.mean(nu / (nu - 2)))
    assert combine_degrees_of_freedom(np.array([1.5, 30.0])) == 2.0
