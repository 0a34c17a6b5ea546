"""Joint distribution of correlated t statistics."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import t as student

from fastlmm_core.multiplicity import multivariate_t
from fastlmm_core.multiplicity.multivariate_t import (
    factor_correlation,
    lattice_probability,
    max_abs_t_cdf,
    max_abs_t_quantile,
    one_factor_loadings,
    one_factor_probability,
)
from fastlmm_core.multiplicity.studentized_range import studentized_range_isf, studentized_range_sf

T = np.array([1.0, 2.0, 2.5, 3.5])
EQUICORRELATED = 0.5 * np.eye(4) + 0.5


def pairwise_correlation(k):
    i, j = np.triu_indices(k, 1)
    A = np.zeros((i.size, k))
    A[np.arange(i.size), i], A[np.arange(i.size), j] = 1.0, -1.0
    return A @ A.T / 2.0


@pytest.mark.parametrize(("k", "df"), [(3, 8.0), (4, 12.5), (5, np.inf)])
def test_singular_pairwise_correlations_give_tukey(k, df):
    got = max_abs_t_cdf(T, np.full(4, df), pairwise_correlation(k))
    want = 1.0 - studentized_range_sf(np.sqrt(2.0) * T, k, df)
    assert np.all(np.abs(got.value - want) < np.maximum(got.error, 2e-5))
    assert np.all(got.error < 2e-4)
    quantile = max_abs_t_quantile(0.95, df, pairwise_correlation(k))
    np.testing.assert_allclose(quantile, studentized_range_isf(0.05, k, df) / np.sqrt(2.0), rtol=5e-4)


def consecutive_correlation(k):
    """Of differences of neighbours among k independent means of unequal variances."""
    A = np.diff(np.eye(k), axis=0)
    covariance = A @ np.diag(np.linspace(0.5, 1.5, k)) @ A.T
    return covariance / np.sqrt(np.outer(covariance.diagonal(), covariance.diagonal()))


@pytest.mark.parametrize("level", [0.5, 0.95, 0.999])
@pytest.mark.parametrize("df", [3.0, 12.3, np.inf])
@pytest.mark.parametrize("corr", [consecutive_correlation(12), np.ones((3, 3)), EQUICORRELATED])
def test_quantiles_take_few_evaluations_of_one_set_of_points(monkeypatch, corr, df, level):
    """A family of contrasts has as many quantiles as degrees of freedom: each made its points 12 times."""
    calls = dict.fromkeys(("chi_scale", "box_probabilities"), 0)

    def counted(name):
        function = getattr(multivariate_t, name)

        def call(*args):
            calls[name] += 1
            return function(*args)

        return call

    for name in calls:
        monkeypatch.setattr(multivariate_t, name, counted(name))
    found = max_abs_t_quantile(level, df, corr)
    assert calls["chi_scale"] <= 1 and calls["box_probabilities"] <= 10
    if one_factor_loadings(corr) is None:  # the root on its own points
        inside = lattice_probability(found, df, factor_correlation(corr), 4000, 20240229)[0]
    else:
        inside = max_abs_t_cdf(np.array([found]), np.array([df]), corr).value[0]
    assert inside == pytest.approx(level, abs=1e-9)


def test_one_factor_rule_agrees_with_r_and_with_the_lattice():
    # mvtnorm in R 4.2.2, pmvt(-t, t, df = 8, corr = 0.5 off the diagonal, GenzBretz(abseps = 1e-7))
    want = [0.2794543835, 0.7802915284, 0.8926789206, 0.9748447796]
    got = max_abs_t_cdf(T, np.full(4, 8.0), EQUICORRELATED)
    np.testing.assert_allclose(got.value, want, atol=3e-6)
    factor = factor_correlation(EQUICORRELATED)
    for t, value in zip(T, got.value, strict=True):
        estimate, error = lattice_probability(float(t), 8.0, factor, 4000, seed=3)
        assert abs(estimate - value) < 2.0 * error


def test_independent_statistics_at_infinite_df_multiply():
    got = max_abs_t_cdf(T, np.full(4, np.inf), np.eye(3))
    np.testing.assert_allclose(got.value, (1.0 - 2.0 * student.sf(T, np.inf)) ** 3, atol=1e-6)


def test_perfectly_correlated_statistics_count_once():
    got = max_abs_t_cdf(T, np.full(4, 6.0), np.ones((3, 3)))
    np.testing.assert_allclose(got.value, 1.0 - 2.0 * student.sf(T, 6.0), atol=1e-4)


@pytest.mark.parametrize("df", [1.0, 3.0, 40.0, np.inf])
def test_one_factor_rule_has_the_t_distribution_as_its_margin(df):
    # loadings of 0 for all but one statistic, and bounds that only bind there
    value = one_factor_probability(2.0, df, np.array([0.7]))
    np.testing.assert_allclose(value, 1.0 - 2.0 * student.sf(2.0, df), atol=1e-8)


def test_loadings_are_found_or_declined():
    b = np.array([0.3, -0.8, 0.5, 0.9])
    corr = np.outer(b, b)
    np.fill_diagonal(corr, 1.0)
    found = one_factor_loadings(corr)
    np.testing.assert_allclose(np.outer(found, found)[0, 1:], corr[0, 1:])
    assert one_factor_loadings(pairwise_correlation(4)) is None


def test_factor_reproduces_a_singular_correlation():
    corr = pairwise_correlation(5)
    factor = factor_correlation(corr)
    assert factor.A.shape == (10, 4)
    np.testing.assert_allclose(
        np.sort(np.linalg.eigvalsh(factor.A @ factor.A.T)), np.sort(np.linalg.eigvalsh(corr)), atol=1e-9
    )
    assert sorted(np.concatenate(factor.rows)) == list(range(10))


def test_same_seed_same_figures():
    corr = pairwise_correlation(4)
    a = max_abs_t_cdf(T, np.full(4, 9.0), corr).value
    np.testing.assert_array_equal(a, max_abs_t_cdf(T, np.full(4, 9.0), corr).value)
