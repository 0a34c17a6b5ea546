"""Tails and quantiles at so few points that they can be computed without the compiler.

`make coverage` runs this file uncompiled with every index checked; figures at many points are in the tests of
each distribution.
"""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import studentized_range, t

from fastlmm_core.multiplicity.distributions import t_two_sided
from fastlmm_core.multiplicity.studentized_range import (
    direct_quantiles,
    direct_tails,
    studentized_range_isf,
    studentized_range_sf,
)
from fastlmm_core.multiplicity.t_tables import t_quantiles, t_tails
from fastlmm_core.multiplicity.tail_kernels import search_dunnett


def test_range_of_two_is_the_t_distribution():
    q, df = np.array([1.2, 4.5]), np.array([6.0, 31.0])
    np.testing.assert_allclose(direct_tails(q, 2.0, df), t_two_sided(q / np.sqrt(2.0), df), rtol=1e-10)


def test_range_agrees_with_scipy_and_its_quantile_inverts_it():
    q, df = np.array([2.8, 4.4]), np.array([9.0, 25.0])
    np.testing.assert_allclose(studentized_range_sf(q, 5.0, df), studentized_range.sf(q, 5, df), rtol=1e-7)
    found = studentized_range_isf(0.05, 5.0, df[:1])
    np.testing.assert_allclose(direct_tails(found, 5.0, df[:1]), 0.05, rtol=1e-9)
    np.testing.assert_allclose(direct_quantiles(0.05, 5.0, df[:1]), found, rtol=1e-12)


def test_tabulated_t_tails_and_quantiles():
    df = np.linspace(40.0, 60.0, 50)
    x = np.linspace(1.9, 2.1, 50)
    np.testing.assert_allclose(t_tails(x, df), 2.0 * t.sf(x, df), rtol=1e-9)
    np.testing.assert_allclose(t_quantiles(0.05, df), t.isf(0.025, df), rtol=1e-10)


@pytest.mark.parametrize("at", [-0.6, 0.1, 0.8])
def test_search_between_two_ends_finds_the_root(at):
    """log P is linear in log t, which is given by its place between the ends, -1 to 1."""
    log_ends, alpha = np.log([2.2, 2.6]), 0.05
    ends = np.zeros((1, 2, 3))
    ends[0, :, 0] = log_ends
    coef = np.zeros((1, 4, 5))
    coef[0, 0, :2] = np.log(alpha) + 0.4 * at, -0.4
    out = np.full(2, -1.0)
    search_dunnett(
        np.array([0.015, 0.012]), np.array([0, -1]), np.array([[0.01, 0.01]]), ends, coef, alpha, 1e-12, out
    )
    root = np.exp(log_ends[0] + 0.5 * (at + 1.0) * (log_ends[1] - log_ends[0]))
    np.testing.assert_allclose(out, [root, -1.0], rtol=1e-10)
