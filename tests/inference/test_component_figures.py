"""Variance components of several fits at once against dense algebra, and the kernels that stand beside."""

import numpy as np
import pytest

from fastlmm_core import datasets, lmm
from fastlmm_core.inference.component_figures import (
    component_errors,
    invert_information,
    user_covariances,
    user_directions,
)
from fastlmm_core.kernels.outcomes import NO_INFERENCE, OK
from fastlmm_core.kernels.search import information
from fastlmm_core.kernels.trials.design import place_theta
from fastlmm_core.reml.theta_places import theta_places
from fastlmm_core.structures import make_coefficient_structure

SIZES, DIAGONAL = (2, 1, 2), (0, 0, 1)  # (x|g) + (1|h) + (x||k)
PARAMETERS = theta_places(
    [make_coefficient_structure("diag" if d else "us", m) for m, d in zip(SIZES, DIAGONAL, strict=True)]
)


def fits(seed=0, n=4):
    """Natural parameters, bases, average informations and residual variances of n fits."""
    r = np.random.default_rng(seed)
    d = PARAMETERS.term.size
    bases = np.zeros((n, 3, 2, 2))
    for k, m in enumerate(SIZES):
        bases[:, k, :m, :m] = np.triu(r.normal(size=(n, m, m)))
    root = r.normal(size=(n, d + 1, d + 1)) * 10.0 ** r.uniform(-3, 3, (n, d + 1, 1))
    values = np.tile([0.8, 0.1, 0.5, 0.7, 0.3, 0.2], (n, 1)) * r.uniform(0.5, 1.0, (n, 1))
    return values, bases, root @ np.swapaxes(root, 1, 2), r.uniform(0.5, 2.0, n)


def inside(values):
    """The T of the three terms as (2, 2) matrices, zero padded."""
    a, b, c, one, x, y = values
    return [np.array([[a, b], [b, c]]), np.diag([one, 0.0]), np.diag([x, y])]


def test_places_are_those_of_the_kernel():
    ours = place_theta(np.array(SIZES), np.array(DIAGONAL))
    for own, expected in zip(PARAMETERS, ours, strict=True):
        np.testing.assert_array_equal(own, expected)


def test_covariances_and_their_errors_are_those_of_the_delta_method():
    values, bases, average, sigma2 = fits()
    covariance = user_covariances(PARAMETERS, values, bases, sigma2)
    errors, sigma2_error = component_errors(PARAMETERS, values, bases, average, sigma2)
    for u, s2 in enumerate(sigma2):
        known = np.linalg.inv(average[u] / (2.0 * s2**2))
        np.testing.assert_allclose(sigma2_error[u] ** 2, known[-1, -1], rtol=1e-8)
        for k, T in enumerate(inside(values[u])):
            B = bases[u, k]
            np.testing.assert_allclose(covariance[u, k], s2 * B @ T @ B.T, rtol=1e-13)
            slopes = [B @ inside(one)[k] @ B.T for one in np.eye(values.shape[1])]
            np.testing.assert_allclose(
                errors[u, k] ** 2,
                np.einsum("iab,ij,jab->ab", slopes, known[:-1, :-1], slopes),
                rtol=1e-8,
            )


def test_directions_are_the_slopes_of_the_covariances():
    values, bases, _, _ = fits(1)
    one = np.ones(len(values))
    for j, own in enumerate(np.moveaxis(user_directions(PARAMETERS, bases), 1, 0)):
        step = np.zeros_like(values)
        step[:, j] = 1.0
        whole = user_covariances(PARAMETERS, step, bases, one)
        np.testing.assert_allclose(own, whole[:, PARAMETERS.term[j]], rtol=1e-13, atol=1e-15)


def test_a_variance_at_zero_has_no_error_and_counts_as_known():
    values, bases, average, sigma2 = fits(2)
    values[1, 3] = 0.0  # of the term with one coefficient
    errors, sigma2_error = component_errors(PARAMETERS, values, bases, average, sigma2)
    assert np.isnan(errors[1, 1, 0, 0])
    rest = np.delete(np.delete(average[1], 3, 0), 3, 1) / (2.0 * sigma2[1] ** 2)
    np.testing.assert_allclose(sigma2_error[1] ** 2, np.linalg.inv(rest)[-1, -1], rtol=1e-8)
    assert np.isfinite(errors[[0, 2, 3]]).all()


@pytest.mark.parametrize("fault", ["infinite", "singular", "no residual variance"])
def test_an_information_that_cannot_be_inverted_leaves_the_other_fits(fault):
    values, bases, average, sigma2 = fits(3)
    expected = component_errors(PARAMETERS, values, bases, average, sigma2)
    if fault == "infinite":
        average[1, 0, 0] = np.inf
    elif fault == "singular":
        average[1, 0], average[1, :, 0] = average[1, 3], average[1, :, 3]
        average[1, 0, 0] = average[1, 3, 3]
    else:
        sigma2[1], average[1] = 0.0, np.nan
    found = component_errors(PARAMETERS, values, bases, average, sigma2)
    assert np.isnan(found[0][1, 0]).all() and np.isnan(found[1][1])
    for own, alone in zip(found, expected, strict=True):
        np.testing.assert_array_equal(own[[0, 2, 3]], alone[[0, 2, 3]])


def test_the_kernel_inverts_as_numpy_does():
    _, _, average, sigma2 = fits(4)
    expected = invert_information(average / (2.0 * sigma2[:, None, None] ** 2))
    for u, s2 in enumerate(sigma2):
        status, found = information.invert_information(average[u], s2)
        assert status == OK
        scale = np.sqrt(np.diag(expected[u]))
        np.testing.assert_allclose(found / scale / scale[:, None], expected[u] / scale / scale[:, None],
                                   atol=1e-8)  # fmt: skip
    twice = np.array([[1.0, 1.0], [1.0, 1.0]])
    assert np.isnan(invert_information(twice[None])).all()
    assert information.invert_information(twice, 1.0)[0] == NO_INFERENCE


def test_a_fit_has_the_table_that_several_have():
    fit = lmm("Reaction ~ Days + (Days|Subject)", datasets.load("sleepstudy"))
    table = fit.variance_components
    assert table["var1"].tolist()[:3] == ["(Intercept)", "Days", "(Intercept)"]
    assert table["var2"].isna().tolist() == [True, True, False, True]
    # lme4's estimates of Bates, Maechler, Bolker & Walker (2015), table 3: 24.740, 5.922, 0.07, 25.592
    np.testing.assert_allclose(table["sd_or_cor"], [24.740, 5.922, 0.066, 25.592], atol=5e-4)
