"""emmeans' dunnettx: tails, critical values, and that these do not depend on their neighbours."""

from __future__ import annotations

import numpy as np
import pytest

from fastlmm_core.inference.dunnett import dunnett_piece, dunnett_quantiles, dunnett_tail, searched_quantiles


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
