"""Studentized range: exact cases, independent quadrature, SciPy, R."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import ndtr
from scipy.stats import chi, studentized_range
from scipy.stats import t as student

from fastlmm_core.errors import OptionError
from fastlmm_core.multiplicity.studentized_range import (
    log_range_tail,
    range_table,
    studentized_range_isf,
    studentized_range_sf,
)

DFS = (1.0, 1.5, 2.0, 3.3, 8.0, 20.0, 77.4, 500.0, 1e5, 1e9, np.inf)


def dense_range_tail(w, k):
    """P(range of k normal variables > w) on a fine grid."""
    z = np.linspace(-12.0, 40.0, 100_001)
    a, b = ndtr(z), ndtr(z - w)
    ratio = np.minimum(b / a, 1.0 - 1e-16)
    density = np.exp(-0.5 * z**2) / np.sqrt(2.0 * np.pi)
    return k * (z[1] - z[0]) * np.sum(density * a ** (k - 1.0) * -np.expm1((k - 1.0) * np.log1p(-ratio)))


@pytest.mark.parametrize("df", DFS)
def test_two_means_are_the_t_distribution(df):
    q = np.array([1e-3, 0.1, 0.7, 2.0, 3.5, 8.0, 15.0, 40.0])
    np.testing.assert_allclose(
        studentized_range_sf(q, 2, df), 2.0 * student.sf(q / np.sqrt(2.0), df), rtol=1e-11, atol=1e-300
    )


@pytest.mark.parametrize("k", [2.0, 2.01, 2.7, 5.0, 60.0, 1414.0])
def test_normal_range_agrees_with_a_fine_grid(k):
    w = np.array([0.05, 0.3, 1.0, 2.0, 3.1, 4.444, 6.0, 8.0, 12.0, 20.0])
    want = np.array([dense_range_tail(x, k) for x in w])
    np.testing.assert_allclose(studentized_range_sf(w, k, np.inf), want, rtol=1e-10)


@pytest.mark.parametrize("k", [2.7, 5.0, 60.0, 1414.0])
@pytest.mark.parametrize("df", [1.5, 8.0, 77.4, 5000.0])
def test_studentized_tail_agrees_with_a_fine_grid_over_the_scale(k, df):
    u = np.linspace(-1.0, 1.0, 4001) if df > 100 else np.linspace(-25.0, 3.0, 12_001)
    for q in (0.5, 2.0, 4.0, 8.0):
        s = np.exp(u)
        density = s * np.sqrt(df) * chi.pdf(s * np.sqrt(df), df)
        want = np.sum(density * studentized_range_sf(q * s, k, np.inf)) * (u[1] - u[0])
        assert abs(float(studentized_range_sf(q, k, df)) - want) < 1e-10


def test_agrees_with_scipy_where_scipy_is_accurate():
    for k in (3, 5, 13):
        for df in (1.5, 8.0, 77.4):
            q = np.array([0.7, 2.0, 3.5, 5.0])
            np.testing.assert_allclose(
                studentized_range_sf(q, k, df), studentized_range.sf(q, k, df), rtol=0, atol=1e-10
            )


def test_agrees_with_r():
    # R 4.2.2: ptukey(c(2, 3.5, 5), k, df, lower.tail = FALSE) and qtukey(0.95, k, df).
    # The fine grid above says that R is off by 2e-7 at k = 60.
    rows = {
        (3, 8.0): [0.378935705530175, 0.0877665042429087, 0.0187150336704547],
        (13, 32.65): [0.96421404083221, 0.422014449638982, 0.0538269942796761],
        (60, 77.4): [0.999999959480213, 0.961653428483403, 0.309923016509665],
    }
    for (k, df), want in rows.items():
        np.testing.assert_allclose(studentized_range_sf([2.0, 3.5, 5.0], k, df), want, rtol=0, atol=3e-7)
    got = [float(studentized_range_isf(0.05, k, df)) for k, df in rows]
    np.testing.assert_allclose(got, [4.04103647197799, 5.04436647366256, 6.01956972334074], rtol=2e-6)


@pytest.mark.parametrize("k", [2.0, 2.7, 5.0, 60.0, 1414.0])
def test_quantile_inverts_the_tail(k):
    for tail in (0.999, 0.5, 0.05, 0.001, 1e-6):
        for df in DFS:
            q = studentized_range_isf(tail, k, df)
            np.testing.assert_allclose(studentized_range_sf(q, k, df), tail, rtol=1e-8)


def test_many_different_df_without_loss():
    df = np.random.default_rng(3).uniform(1.0, 400.0, 3000)
    df[:2] = 0.7, np.nan
    q = studentized_range_isf(0.05, 30, df)
    np.testing.assert_allclose(studentized_range_sf(q[2:], 30, df[2:]), 0.05, rtol=1e-9)
    np.testing.assert_allclose(studentized_range_sf(q[0], 30, 0.7), 0.05, rtol=1e-8)
    assert np.isnan(q[1])
    np.testing.assert_allclose(
        studentized_range_isf(0.05, 30, np.full(99, 12.0)), studentized_range_isf(0.05, 30, 12.0), rtol=1e-11
    )


def test_missing_zero_and_infinite_statistics():
    got = studentized_range_sf([np.nan, 0.0, -1.0, np.inf, 3.0], 4, [5.0, 5.0, 5.0, 5.0, np.nan])
    np.testing.assert_array_equal(np.isnan(got), [True, False, False, False, True])
    np.testing.assert_array_equal(got[1:4], [1.0, 1.0, 0.0])


@pytest.mark.parametrize("df", [1e-27, 1e-9, 1e-4, 0.005, 0.02])
@pytest.mark.parametrize("k", [2, 5, 30])
def test_df_near_zero(k, df):
    """As Satterthwaite's of a perfect fit are: long tails, neither endless sums nor reads past the tables."""
    q = np.array([1e-6, 1.0, 1e9, 1e25, 1e200])
    tails = studentized_range_sf(q, k, df)
    assert (tails > 0.0).all() and (np.diff(tails) <= 0.0).all()
    if k == 2:
        np.testing.assert_allclose(tails[:-1], 2.0 * student.sf(q[:-1] / np.sqrt(2.0), df), rtol=1e-6)
    quantile = studentized_range_isf(0.05, k, df)
    if np.isfinite(quantile):
        np.testing.assert_allclose(studentized_range_sf(quantile, k, df), 0.05, rtol=1e-6)
    else:
        assert df * 700.0 < 3.0


def test_tail_is_monotone_in_q_df_and_k():
    q = np.linspace(0.01, 60.0, 2000)
    for df in (1.0, 7.3, np.inf):
        assert np.all(np.diff(studentized_range_sf(q, 7, df)) <= 0.0)
    assert np.all(np.diff(studentized_range_sf(4.0, 7, np.linspace(1.0, 300.0, 500))) < 0.0)
    assert np.all(
        np.diff([float(studentized_range_sf(4.0, k, 9.0)) for k in np.linspace(2.0, 9.0, 30)]) > 0.0
    )


def test_kernel_without_compilation_gives_the_same():
    for w in (0.6, 3.0, 9.0):
        compiled = log_range_tail(w, range_table(5.0))
        plain = getattr(log_range_tail, "py_func", log_range_tail)(w, range_table(5.0))
        np.testing.assert_allclose(compiled, plain, rtol=1e-13)


def test_order_of_the_questions_does_not_matter():
    q = np.array([0.3, 2.0, 7.0])
    range_table.cache_clear()
    first = studentized_range_sf(q, 6, 11.0)
    range_table.cache_clear()
    again = studentized_range_sf(q[::-1], 6, 11.0)[::-1]
    np.testing.assert_array_equal(first, again)


@pytest.mark.parametrize("k", [1, 0, np.nan, np.inf])
def test_family_of_fewer_than_two_means_is_refused(k):
    with pytest.raises(OptionError, match="at least two means"):
        studentized_range_sf(3.0, k, 5.0)


@pytest.mark.parametrize("tail", [0.0, 1.0, -0.1])
def test_tail_outside_the_unit_interval_is_refused(tail):
    with pytest.raises(OptionError, match="above 0 and below 1"):
        studentized_range_isf(tail, 3, 5.0)
