"""Tabulated t quantiles against the exact ones."""

from __future__ import annotations

import numpy as np
import pytest

from fastlmm_core.inference.multiplicity import t_quantile
from fastlmm_core.inference.t_interpolation import over_many_df, t_quantiles


@pytest.mark.parametrize("tail", [0.05, 0.01, 0.1, 1e-4])
def test_many_degrees_of_freedom(tail):
    rng = np.random.default_rng(1)
    df = np.concatenate([rng.uniform(0.5, 12, 400), rng.uniform(10, 400, 400), 10 ** rng.uniform(2, 12, 200)])
    df = np.concatenate([df, [1.0, 2.0, 5.0, 10.0, 25.0, 100.0, np.inf, np.nan]])
    np.testing.assert_allclose(t_quantiles(tail, df), t_quantile(tail, df), rtol=2e-12)
    assert t_quantiles(tail, df[:3]).shape == (3,)


def test_any_smooth_function_of_df():
    df = np.random.default_rng(2).uniform(3, 200, 900)
    np.testing.assert_allclose(over_many_df(lambda some: 1.0 + 2.0 / some, df), 1.0 + 2.0 / df, rtol=1e-13)
