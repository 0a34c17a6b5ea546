"""The compiled fit against closed forms: balanced one-way layouts have plain formulas."""

from types import SimpleNamespace

import numpy as np
import pytest
import scipy.sparse as sp

from fastlmm_core.linalg.factor import make_factor
from fastlmm_core.reml.equations import build_equations
from fastlmm_core.reml.fitting import fit_equations


def one_way(seed, groups, size, between):
    r = np.random.default_rng(seed)
    codes = np.repeat(np.arange(groups), size)
    y = 5 + between * r.normal(size=groups)[codes] + r.normal(size=codes.size)
    if between == 0:  # means of groups are equal
        y -= np.bincount(codes, y)[codes] / size
    term = SimpleNamespace(codes=codes, values=np.ones((y.size, 1)), levels=np.arange(groups), structure="us")
    X = sp.csc_array(np.ones((y.size, 1)))
    means = y.reshape(groups, size).mean(axis=1)
    within = np.sum((y.reshape(groups, size) - means[:, None]) ** 2)
    among = size * np.sum((means - y.mean()) ** 2)
    return X, term, y, within, among


@pytest.mark.parametrize("reml", [True, False])
@pytest.mark.parametrize(("seed", "groups", "size"), [(0, 6, 5), (1, 4, 8), (2, 9, 2)])
def test_balanced_one_way(seed, groups, size, reml):
    X, term, y, within, among = one_way(seed, groups, size, 2.0)
    sigma2 = within / (groups * (size - 1))
    between = (among / (groups - 1 if reml else groups) - sigma2) / size
    equations = build_equations(X, [term], fixed_last=not reml)
    solved, optimum, certificate = fit_equations(equations, y, reml=reml)
    assert certificate.optimal
    np.testing.assert_allclose(solved.sigma2, sigma2, rtol=1e-6)
    np.testing.assert_allclose(solved.sigma2 * solved.user_covariance(0)[0, 0], between, rtol=1e-5)
    np.testing.assert_allclose(solved.beta, y.mean(), rtol=1e-10)
    assert optimum.evaluations <= 15


@pytest.mark.parametrize("reml", [True, False])
def test_zero_between_groups(reml):
    X, term, y, within, _ = one_way(3, 6, 4, 0.0)
    equations = build_equations(X, [term], fixed_last=not reml)
    solved, _, certificate = fit_equations(equations, y, reml=reml)
    assert certificate.optimal
    assert solved.theta[0] == 0.0
    assert certificate.smallest_boundary_score > 0
    np.testing.assert_allclose(solved.sigma2, within / (y.size - (1 if reml else 0)), rtol=1e-10)


def test_kernel_and_interpreted_loop_take_the_same_path():
    X, term, y, *_ = one_way(5, 7, 4, 1.0)
    equations = build_equations(X, [term])
    seen = []
    kernel = fit_equations(equations, y, reml=True, factor=make_factor(equations))
    loop = fit_equations(equations, y, reml=True, progress=lambda *a: seen.append(a))
    assert len(seen) == loop[1].iterations + 1
    assert kernel[1].evaluations == loop[1].evaluations
    np.testing.assert_allclose(kernel[1].trace, loop[1].trace, rtol=1e-6, atol=1e-9)
