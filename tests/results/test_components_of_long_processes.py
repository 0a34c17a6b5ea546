"""A process over days that are far apart: it is found, and its covariances take little memory."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pandas as pd
import pytest

from fastlmm_core import lmm
from fastlmm_core.results.components.structured_blocks import residual_blocks

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
    by_visit = lmm("y ~ visit", data, residual="ar1(visit | subject)")
    np.testing.assert_allclose(by_day.criterion, by_visit.criterion, rtol=1e-9)
    visits = by_visit.variance_components
    assert len(visits) == VISITS * (VISITS + 1) // 2  # each pair of few visits
    days = by_day.variance_components
    assert days["var1"].tolist() == ["0", "0", "1"]
    apart = 3
    for rows, power in ((visits["var2"].isna(), 0), (visits["var2"] == str(apart), apart)):
        own = visits[rows & (visits["var1"] == "0")].iloc[0]
        found = by_day.vpredict(f"V1*(V2/V1)^{power * STEP}")
        np.testing.assert_allclose(found.estimate, own["estimate"], rtol=1e-5)
        np.testing.assert_allclose(found.se, own["se"], rtol=1e-4)


@pytest.mark.parametrize("size", [61, 5_000])  # by patterns of visits, and in series
def test_tables_of_a_long_process_have_its_parameters(size):
    rng = np.random.default_rng(4)
    rho_of = {"a": 0.7, "b": 0.3}
    data = pd.concat([visits_of_subjects(rho_of[a], 1, size).assign(subject=a, arm=a) for a in rho_of])
    data = data[rng.random(len(data)) > 0.01]
    data = data[(data["visit"] != 5) | (data["arm"] == "a")].reset_index(drop=True)
    tracemalloc.start()
    fit = lmm("y ~ visit", data, residual="ar1(visit | subject) | arm")
    table = fit.variance_components
    text = str(fit.summary())
    correlations = fit.correlations().to_frame()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 6e7  # one covariance of all visits would take 2e8
    assert len(table) == 6
    np.testing.assert_allclose(table["estimate"][[0, 3]], table["estimate"][[2, 5]])
    np.testing.assert_allclose(correlations["estimate"], table["sd_or_cor"][[1, 4]])
    natural = fit.solved.equations.residual.natural(fit.theta)
    np.testing.assert_allclose(natural[[1, 3]], table["sd_or_cor"][[1, 4]])
    assert text.count(f"0 to {size - 1}") == 2
    assert text.count(f"Of the {size:,} visits of Residual(visit|subject)|arm ") == 1
    assert "Residual(visit|subject)|arm a" in text  # a level may be part of the column's name
    section = [block.section() for block in residual_blocks(fit)]
    assert [(own["visits"], own["last"], own["names"]) for own in section] == [
        (size, str(size - 1), ["0", "1"])
    ] * 2


@pytest.mark.parametrize(("rho", "step"), [(0.6, 2), (0.6, 3), (0.6, 10), (0.6, 30), (-0.5, 3), (-0.5, 5)])
def test_the_unit_of_days_changes_nothing(step, rho):
    """The criterion of visits 0, 1, 2, ... and of days 0, step, 2 step, ...; odd steps keep its sign."""
    data = visits_of_subjects(rho, 10, 6)
    expected = lmm("y ~ visit", data, residual="ar1(visit | subject)").criterion
    fit = lmm("y ~ visit", data.assign(day=data["visit"] * step), residual="ar1(day | subject)")
    np.testing.assert_allclose(fit.criterion, expected, rtol=1e-9)
