"""Adjusted p values and critical values on arrays."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from fastlmm_core.errors import InferenceError, OptionError
from fastlmm_core.multiplicity.adjustments import (
    ADJUSTMENTS,
    STEPWISE,
    Family,
    adjusted_p_values,
    critical_values,
    resolve_adjustment,
    stepwise_p,
)
from fastlmm_core.multiplicity.distributions import t_quantile, t_two_sided

P = np.array([0.001, 0.2, 0.012, 0.03, 0.5, 0.04, 0.02])


@pytest.mark.parametrize(
    ("method", "want"),
    [  # R 4.2.2, p.adjust(p, method)
        ("holm", [0.007, 0.4, 0.072, 0.12, 0.5, 0.12, 0.1]),
        ("hochberg", [0.007, 0.4, 0.072, 0.12, 0.5, 0.12, 0.1]),
        ("hommel", [0.007, 0.4, 0.06, 0.09, 0.5, 0.12, 0.08]),
        ("fdr", [0.007, 0.233333333333333, 0.042, 0.0525, 0.5, 0.056, 0.0466666666666667]),
        ("by", [0.01815, 0.605, 0.1089, 0.136125, 1, 0.1452, 0.121]),
    ],
)
def test_stepwise_methods_agree_with_r(method, want):
    np.testing.assert_allclose(stepwise_p(P, method), want, rtol=1e-12)


@pytest.mark.parametrize("method", STEPWISE)
def test_stepwise_methods_keep_order_bounds_and_missing(method):
    p = np.random.default_rng(5).random(40) ** 3
    p[[3, 17]] = np.nan
    adjusted = stepwise_p(p, method)
    valid = ~np.isnan(p)
    np.testing.assert_array_equal(np.isnan(adjusted), ~valid)
    assert np.all(adjusted[valid] >= p[valid] - 1e-15) and np.all(adjusted[valid] <= 1.0)
    assert np.all(np.diff(adjusted[valid][np.argsort(p[valid])]) >= -1e-15)
    assert np.all(adjusted[valid] <= np.minimum(1.0, 40 * np.sum(1 / np.arange(1, 41)) * p[valid]) + 1e-12)


@pytest.mark.parametrize("df", [1.0, 2.5, 13.0, 1e4, 1e9, np.inf])
def test_t_tails_and_quantiles(df):
    t = np.array([0.0, 0.3, -2.0, 5.0, 12.0])
    want = 2.0 * stats.t.sf(np.abs(t), df) if np.isfinite(df) else 2.0 * stats.norm.sf(np.abs(t))
    np.testing.assert_allclose(t_two_sided(t, np.full(5, df)), want, rtol=1e-7)
    tail = np.array([0.5, 0.05, 1e-4])
    np.testing.assert_allclose(t_two_sided(t_quantile(tail, np.full(3, df)), np.full(3, df)), tail, rtol=1e-7)


def family(c=6, n_means=4, kind="pairs", groups=1):
    corr = 0.5 * np.eye(c) + 0.5
    return Family(
        np.repeat(np.arange(groups), c // groups), kind, n_means,
        ranks=lambda: np.full(groups, n_means - 1), correlation=lambda rows: corr[np.ix_(rows, rows)],
    )  # fmt: skip


@pytest.mark.parametrize("method", [m for m in ADJUSTMENTS if m not in STEPWISE])
@pytest.mark.parametrize("df", [3.0, 21.7, np.inf])
def test_critical_value_has_the_p_value_of_the_level(method, df):
    kind = "pairs" if method == "tukey" else "contrast"
    one = family(kind=kind)
    cv = critical_values(0.9, np.full(6, df), method, one)
    tolerance = {"mvt": 2e-3, "dunnettx": 1e-3}.get(method, 1e-7)  # emmeans searches dunnettx to 5e-4 in t
    np.testing.assert_allclose(adjusted_p_values(cv, np.full(6, df), method, one), 0.1, rtol=tolerance)


def test_groups_are_families_of_their_own():
    t, df = np.array([1.0, 2.0, 3.0, 0.5, 2.5, 4.0]), np.full(6, 9.0)
    both, one = family(groups=2, kind="contrast"), family(c=3, kind="contrast")
    for method in ("sidak", "bonferroni", "holm", "dunnettx", "mvt"):
        whole = adjusted_p_values(t, df, method, both)
        parts = [adjusted_p_values(t[i : i + 3], df[:3], method, one) for i in (0, 3)]
        np.testing.assert_allclose(whole, np.concatenate(parts))


def test_one_test_is_not_adjusted():
    single = Family(np.zeros(1, dtype=int), "pairs", 2)
    for adjust in ("tukey", "holm", "sidak", "mvt"):
        assert resolve_adjustment(adjust, single).p_method == "none"
        assert resolve_adjustment(adjust, single).notes == ()


def test_synonyms_and_unknown_names():
    assert resolve_adjustment("BH", family()).p_method == "fdr"
    with pytest.raises(OptionError, match="allowed: 'none', 'tukey', 'sidak'"):
        resolve_adjustment("tuckey", family())


def test_what_is_missing_is_named():
    bare = Family(np.zeros(3, dtype=int), "contrast", 4)
    t, df = np.ones(3), np.full(3, 5.0)
    with pytest.raises(InferenceError, match="scheffe"):
        adjusted_p_values(t, df, "scheffe", bare)
    with pytest.raises(InferenceError, match="mvt"):
        adjusted_p_values(t, df, "mvt", bare)
    large = Family(np.zeros(600, dtype=int), "contrast", 601, correlation=lambda rows: np.eye(rows.size))
    with pytest.raises(InferenceError, match="all 600 tests; the limit is 500"):
        adjusted_p_values(np.ones(600), np.full(600, 5.0), "mvt", large)
