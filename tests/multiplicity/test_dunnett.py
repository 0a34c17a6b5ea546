"""emmeans' dunnettx: tails, critical values, and that these do not depend on their neighbours."""

from __future__ import annotations

import numpy as np
import pytest

from fastlmm_core.multiplicity.dunnett import (
    dunnett_piece,
    dunnett_quantiles,
    dunnett_tail,
    searched_quantiles,
)
from fastlmm_core.multiplicity.root_finding import find_roots
from fastlmm_core.multiplicity.tail_kernels import search_root


def test_dunnett_approximation_is_its_formula():
    # emmeans' .pdunnx with R's ptukey: k = 4, df = 8, t = 1.191483520037311 gives 0.5951177959089757
    got = dunnett_tail(np.array([1.191483520037311]), np.array([4]), np.array([8.0]))
    np.testing.assert_allclose(got, 0.5951177959089757, atol=1e-9)


@pytest.mark.parametrize("size", [2, 3, 40, 1000])
def test_dunnett_quantiles_invert_the_tail(size):
    """To emmeans' tolerance of 5e-4 in the quantile."""
    df = np.array([2.0, 5.5, 5.5, 80.0, np.inf])
    q = dunnett_quantiles(0.05, size, df)
    sizes = np.full(5, size)
    assert np.all(dunnett_tail(q - 5e-4, sizes, df) >= 0.05)
    assert np.all(dunnett_tail(q + 5e-4, sizes, df) <= 0.05)


@pytest.mark.parametrize(
    ("level", "size", "df", "want"),
    [  # R 4.2.2, emmeans 1.8.4-1: emmeans:::.qdunnx(level, size, df)
        (0.9, 20, 14.0, 3.01994317958744),
        (0.9, 7, 25.7, 2.49341526125615),
        (0.95, 3, 6.0, 3.14311587733948),
        (0.95, 2, 8.0, 2.70075093514737),
        (0.95, 4, 18.0, 2.69443721370138),
        (0.95, 9, 33.0, 2.86254300269614),
        (0.95, 35, 120.5, 3.15466852130555),
        (0.95, 60, 300.0, 3.27010226520766),
        (0.95, 3, np.inf, 2.35942657811332),
        (0.99, 5, 10.2, 3.9982704261849),
        (0.99, 12, 60.0, 3.46737276313123),
    ],
)
def test_dunnett_quantiles_are_those_of_emmeans(level, size, df, want):
    """Closer than its search is exact, since the path is the same."""
    np.testing.assert_allclose(dunnett_quantiles(1.0 - level, size, np.array([df])), want, rtol=0, atol=1e-6)


@pytest.mark.parametrize("alpha", [0.2, 0.05, 0.001])
@pytest.mark.parametrize("size", [2, 3, 8, 59, 200, 1500])
def test_every_df_has_the_search_of_its_own(alpha, size):
    """Series in the search give the path of tails computed one by one; one flip of a step would be 1e-6."""
    df = np.exp(np.random.default_rng(6).uniform(np.log(2.5), np.log(600.0), 150))
    df = np.concatenate([df, [np.inf, 1.0, 0.8, 1e7]])
    got = dunnett_quantiles(alpha, size, df)
    np.testing.assert_allclose(got, searched_quantiles(alpha, size, df), rtol=3e-10)
    assert all(dunnett_piece(alpha, size, i) is not None for i in range(6))


def test_critical_values_do_not_depend_on_how_many_there_are():
    df = np.random.default_rng(7).uniform(1.0, 300.0, 700)
    df[3] = np.nan
    together = dunnett_quantiles(0.05, 17, df)
    dunnett_piece.cache_clear()
    np.testing.assert_array_equal(together[:9], [dunnett_quantiles(0.05, 17, df[[i]])[0] for i in range(9)])
    np.testing.assert_array_equal(np.isnan(together), np.isnan(df))


@pytest.mark.parametrize("tolerance", [5e-4, 1e-9])
def test_the_compiled_search_goes_the_way_of_find_roots(tolerance):
    """On log P(t) = polynomial of log t, with the root at either end and in between."""
    rng = np.random.default_rng(8)
    for _ in range(200):
        low, high = np.sort(np.exp(rng.normal(1.0, 0.4, 2)))
        series = np.array([-2.0, -rng.uniform(0.3, 6.0), rng.uniform(0.0, 0.2), rng.normal(0.0, 0.02)])
        start, length = (
            (np.log(high), np.log(low / high)) if rng.integers(2) else (np.log(low), np.log(high / low))
        )
        if length < 0.0:
            series[1::2] *= -1.0

        def tail(t, series=series, start=start, length=length):
            return np.exp(np.polynomial.chebyshev.chebval(2.0 * (np.log(t) - start) / length - 1.0, series))

        alpha = float(tail(low + rng.uniform(0.0, 1.0) * (high - low)))
        ends = np.array([low]), np.array([high])
        want = find_roots(lambda t, rows, alpha=alpha, tail=tail: alpha - tail(t), *ends, tolerance)
        got = search_root(low, high, start, length, series, alpha, tolerance)
        np.testing.assert_allclose(got, want[0], rtol=1e-9)
