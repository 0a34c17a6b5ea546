"""A process over days that are far apart: it is found, and its covariances take little memory."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pandas as pd
import pytest

from fastlmm_core import lmm

STEP, VISITS = 12, 21  # days 0, 12, ..., 240: 241 declared, 29,161 pairs and variances


def visits_of_subjects(rho=0.6, subjects=20, visits=VISITS):
    rng = np.random.default_rng(8)
    e = rng.normal(size=(subjects, visits))
    for t in range(1, visits):
        e[:, t] = rho * e[:, t - 1] + np.sqrt(1.0 - rho**2) * e[:, t]
    subject, visit = np.divmod(np.arange(e.size), visits)
    return pd.DataFrame(
        {"y": e.ravel() + 0.1 * visit, "subject": subject, "visit": visit, "day": visit * STEP}
    )


def test_days_far_apart_are_the_process_of_their_visits():
    """rho of a day to the power of the step is rho of a visit; variances and their errors are the same."""
    data = visits_of_subjects()
    by_day = lmm("y ~ visit", data, residual="ar1(day | subject)")
    tracemalloc.start()
    days = by_day.variance_components
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(days) == 241 * 242 // 2
    assert peak < 1e9  # a matrix of all pairs of these would take 6.8e9
    by_visit = lmm("y ~ visit", data, residual="ar1(visit | subject)")
    visits = by_visit.variance_components
    np.testing.assert_allclose(by_day.criterion, by_visit.criterion, rtol=1e-9)
    own = days[days["var1"].astype(float) % STEP == 0]
    second = own["var2"].astype(float)
    own = own[second.isna() | (second % STEP == 0)]
    np.testing.assert_allclose(own["estimate"], visits["estimate"], rtol=1e-5, atol=1e-9)
    np.testing.assert_allclose(own["se"], visits["se"], rtol=1e-4, atol=1e-9)


@pytest.mark.parametrize(("rho", "step"), [(0.6, 2), (0.6, 3), (0.6, 10), (0.6, 30), (-0.5, 3), (-0.5, 5)])
def test_the_unit_of_days_changes_nothing(step, rho):
    """The criterion of visits 0, 1, 2, ... and of days 0, step, 2 step, ...; odd steps keep its sign."""
    data = visits_of_subjects(rho, 10, 6)
    expected = lmm("y ~ visit", data, residual="ar1(visit | subject)").criterion
    fit = lmm("y ~ visit", data.assign(day=data["visit"] * step), residual="ar1(day | subject)")
    np.testing.assert_allclose(fit.criterion, expected, rtol=1e-9)
