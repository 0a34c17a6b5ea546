"""Autoregressions within subjects as series and by patterns of visits: one model, all its figures."""

import warnings

import numpy as np
import pandas as pd
import pytest

from fastlmm_core import lmm
from fastlmm_core.errors import FastLMMWarning
from fastlmm_core.structures.residuals import visits
from fastlmm_core.structures.residuals.visits_by_pattern import PatternResiduals
from fastlmm_core.structures.residuals.visits_in_series import SeriesResiduals


def plants(rho, seed=5):
    """40 plants on up to 12 dates, each without some of them, under four treatments in two chambers."""
    rng = np.random.default_rng(seed)
    S, m = 40, 12
    e = np.zeros((S, m))
    e[:, 0] = rng.normal(size=S)
    for t in range(1, m):
        e[:, t] = rho * e[:, t - 1] + np.sqrt(1.0 - rho**2) * rng.normal(size=S)
    frame = pd.DataFrame(
        {
            "plant": np.repeat([f"p{i}" for i in range(S)], m),
            "date": np.tile(np.arange(1, m + 1), S),
            "treatment": np.repeat(rng.choice(list("ABCD"), S), m),
            "chamber": np.repeat(np.arange(S) % 2, m).astype(str),
            "line": np.repeat([f"g{i}" for i in rng.integers(0, 12, S)], m),
        }
    )
    frame["y"] = 10.0 + (e + 0.5 * rng.normal(size=(S, 1))).ravel() + 0.1 * frame["date"]
    frame["w"] = rng.uniform(0.5, 2.0, len(frame))
    return frame[rng.random(len(frame)) > 0.2].reset_index(drop=True)


def both_ways(monkeypatch, *args, **options):
    out = []
    for limit, kind in ((0, SeriesResiduals), (10**9, PatternResiduals)):
        monkeypatch.setattr(visits, "MANY_PIECES", limit)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FastLMMWarning)
            fit = lmm(*args, **options)
        assert isinstance(fit.solved.equations.residual, kind)
        out.append(fit)
    return out


@pytest.mark.parametrize("rho", [0.7, -0.4, 0.0])
@pytest.mark.parametrize(
    "formula, residual, options",
    [
        ("y ~ treatment * date + (1 | line)", "ar1(date | plant)", {}),
        ("y ~ treatment + (1 | line) + (1 | plant)", "ar1(date | plant)", {"weights": "w"}),
        ("y ~ treatment", "ar1(date | plant) | chamber", {}),
        ("y ~ treatment + (1 | line)", "ar1(date | plant)", {"reml": False}),
    ],
)
def test_all_figures_of_both(monkeypatch, rho, formula, residual, options):
    series, patterns = both_ways(monkeypatch, formula, plants(rho), residual=residual, **options)
    np.testing.assert_allclose(series.criterion, patterns.criterion, rtol=1e-10)
    pd.testing.assert_frame_equal(
        series.variance_components, patterns.variance_components, rtol=1e-4, atol=1e-6
    )
    ddf = ["satterthwaite"] + ["kenward-roger"] * options.get("reml", True)
    for one in ddf:
        pd.testing.assert_frame_equal(
            series.fixed_effects(ddf=one), patterns.fixed_effects(ddf=one), rtol=1e-4, atol=1e-6
        )
    if options.get("reml", True):
        for information in ("expected", "observed"):
            one, other = (
                fit.emmeans("treatment", ddf="kenward-roger", information=information).to_frame()
                for fit in (series, patterns)
            )
            pd.testing.assert_frame_equal(one, other, rtol=1e-4, atol=1e-6)
        one, other = (
            fit.linear_functions(np.eye(4, fit.rank), second_derivatives=True) for fit in (series, patterns)
        )
        np.testing.assert_allclose(one.se(), other.se(), rtol=1e-4)
        np.testing.assert_allclose(one.df(), other.df(), rtol=1e-3)
    if "|" in formula:
        pd.testing.assert_frame_equal(series.blups(), patterns.blups(), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(series.fitted, patterns.fitted, atol=1e-5)
    one, other = (fit.simulate(2000, seed=3) for fit in (series, patterns))
    np.testing.assert_allclose(np.var(one, axis=-1).mean(), np.var(other, axis=-1).mean(), rtol=0.1)
    one, other = (str(fit.summary()).split("Random effects")[0] for fit in (series, patterns))
    assert one == other


def test_no_variance_beside_a_term_that_takes_it_all(monkeypatch):
    frame = plants(0.5)
    frame["y"] = np.random.default_rng(1).normal(size=len(frame))
    series, patterns = both_ways(monkeypatch, "y ~ 1 + (1 | units)", frame, residual="ar1(date | plant)")
    np.testing.assert_allclose(series.criterion, patterns.criterion, atol=1e-4)


def test_held_and_started_as_a_covariance_of_the_visits(monkeypatch):
    frame = plants(0.6)
    lag = np.abs(np.subtract.outer(np.arange(12), np.arange(12)))
    given = {"Residual(date|plant)": 1.3 * 0.55**lag}
    held = both_ways(
        monkeypatch, "y ~ treatment", frame, residual="ar1(date | plant)", fixed_parameters=given
    )
    np.testing.assert_allclose(held[0].criterion, held[1].criterion, rtol=1e-12)
    np.testing.assert_allclose(held[0].beta, held[1].beta, rtol=1e-9)
    free = both_ways(monkeypatch, "y ~ treatment", frame, residual="ar1(date | plant)", start=given)
    np.testing.assert_allclose(free[0].criterion, free[1].criterion, rtol=1e-11)


def test_long_series_are_taken_so_and_no_expected_information_is_promised():
    rng = np.random.default_rng(2)
    n = 4500
    frame = pd.DataFrame({"t": np.arange(n), "one": "a", "x": rng.normal(size=n)})
    e = np.zeros(n)
    for t in range(1, n):
        e[t] = 0.8 * e[t - 1] + rng.normal()
    frame["y"] = 1.0 + 0.5 * frame["x"] + e
    fit = lmm("y ~ x", frame, residual="ar1(t | one)")
    assert isinstance(fit.solved.equations.residual, SeriesResiduals)
    # by the innovations of the estimated process, whose sum of squares gives the likelihood
    variance, rho = fit.solved.equations.residual.natural(fit.solved.theta) * [fit.solved.user_sigma2, 1.0]
    X = np.column_stack([np.ones(n), frame["x"]])
    white = np.vstack([X[:1] * np.sqrt(1.0 - rho**2), X[1:] - rho * X[:-1]])
    y = frame["y"].to_numpy()
    wy = np.r_[y[0] * np.sqrt(1.0 - rho**2), y[1:] - rho * y[:-1]]
    innovation = variance * (1.0 - rho**2)
    beta, rest, *_ = np.linalg.lstsq(white, wy, rcond=None)
    deviance = (
        (n - 2) * np.log(2.0 * np.pi * innovation) + rest[0] / innovation - np.log(1.0 - rho**2)
        + np.linalg.slogdet(white.T @ white)[1]
    )  # fmt: skip
    np.testing.assert_allclose(fit.criterion, deviance, rtol=1e-9)
    np.testing.assert_allclose(fit.beta, beta, rtol=1e-8)


@pytest.mark.parametrize("seed", [0, 1, 3, 9])
def test_an_autocorrelation_at_its_bound_is_known(monkeypatch, seed):
    """Beside a nugget rho = 1 is a random intercept; its curvature in the chart is but rounding."""
    rng = np.random.default_rng(seed)
    S, m = 40, 10
    frame = pd.DataFrame({"plant": np.repeat(np.arange(S), m).astype(str), "day": np.tile(np.arange(m), S)})
    frame["treatment"] = np.repeat(rng.choice(list("ABC"), S), m)
    frame["y"] = np.repeat(rng.normal(size=S), m) + rng.normal(size=S * m)
    frame = frame[rng.random(len(frame)) < 0.8]
    series, patterns = both_ways(
        monkeypatch, "y ~ treatment + (1 | units)", frame, residual="ar1(day | plant)"
    )
    rho = series.solved.equations.residual.natural(series.solved.theta[1:])[1]
    assert rho > 1.0 - 1e-7
    plain = lmm("y ~ treatment + (1 | plant)", frame).fixed_effects(ddf="satterthwaite")["df"]
    np.testing.assert_allclose(series.fixed_effects(ddf="satterthwaite")["df"], plain, rtol=0.02)
    # inverses of nearly singular patterns have lost digits: a quarter of a df, by machine
    np.testing.assert_allclose(patterns.fixed_effects(ddf="satterthwaite")["df"], plain, rtol=0.3)
