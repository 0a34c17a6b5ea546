"""A plot's effect beside correlated visits of the plot: what one explains the other may, so that optima are
several; and bounds of the visits' correlations, where a chart has no slope."""

import warnings

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import minimize

from fastlmm_core import lmm
from fastlmm_core.errors import FastLMMWarning

VISITS = 3


def trial(seed, plots=12):
    """Plots of two arms at three visits, some of them missing."""
    rng = np.random.default_rng(seed)
    plot, visit = np.repeat(np.arange(plots), VISITS), np.tile(np.arange(VISITS), plots)
    y = rng.normal(size=plots)[plot] * rng.choice([0, 0.5, 1.0])
    y = y + rng.normal(size=plot.size) * rng.uniform(0.5, 2, size=VISITS)[visit]
    keep = rng.random(y.size) < rng.choice([1.0, 0.85])
    table = pd.DataFrame({"plot": plot, "visit": visit, "arm": plot % 2, "y": y})[keep]
    return table.assign(plot="p" + table["plot"].astype(str)).reset_index(drop=True)


def quiet(*args, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FastLMMWarning)
        return lmm(*args, **options)


def correlations(structure, x):
    lag = np.abs(np.subtract.outer(np.arange(VISITS), np.arange(VISITS)))
    if structure == "hetar1":
        return np.tanh(x) ** lag
    return np.where(lag > 0, -0.5 + 0.75 * (1 + np.tanh(x)), 1.0)


def deviance(theta, structure, table, X, arms):
    """theta: sd of plots; sd of the visits and their correlation in every arm."""
    plot, visit, arm = (table[name].to_numpy() for name in ("plot", "visit", "arm"))
    same, V = np.equal.outer(plot, plot), theta[0] ** 2 * np.equal.outer(plot, plot)
    for k in range(arms):
        sd, x = theta[1 + 4 * k : 4 + 4 * k], theta[4 + 4 * k]
        T = np.outer(sd, sd) * correlations(structure, x)
        own = np.ones(plot.size, bool) if arms == 1 else arm == k
        V = V + T[np.ix_(visit, visit)] * same * np.outer(own, own)
    try:
        L = np.linalg.cholesky(V)
    except np.linalg.LinAlgError:
        return 1e10
    A = np.linalg.solve(L, np.column_stack([X, table["y"]]))
    Q, R = np.linalg.qr(A[:, :-1])
    rest = A[:, -1] - Q @ (Q.T @ A[:, -1])
    logs = 2.0 * np.log(np.diag(L)).sum() + 2.0 * np.log(np.abs(np.diag(R))).sum()
    return logs + rest @ rest + (len(table) - X.shape[1]) * np.log(2 * np.pi)


def named(table):
    return table.assign(v="v" + table["visit"].astype(str))


@pytest.mark.parametrize(
    ("structure", "arms", "seed"),
    [("cs", 2, 6), ("hetar1", 2, 20), ("hetar1", 2, 35), ("hetar1", 1, 34)],
)
def test_no_dense_search_ends_below_a_plot_beside_its_visits(structure, arms, seed):
    table = trial(seed)
    by_arm = " | arm" if arms > 1 else ""
    fit = quiet("y ~ v + (1 | plot)", named(table), residual=f"{structure}(v | plot){by_arm}")
    X = np.column_stack([np.ones(len(table))] + [table["visit"] == k for k in (1, 2)]).astype(float)
    starts = [np.r_[plot, np.tile([1.0, 1.0, 1.0, x], arms)] for plot in (0.1, 0.7) for x in (-0.7, 0.2, 1.5)]
    bounds = [(0, None)] + ([(1e-2, None)] * 3 + [(-6, 6)]) * arms
    ends = [minimize(deviance, x0, args=(structure, table, X, arms), bounds=bounds).fun for x0 in starts]
    assert fit.converged
    assert fit.criterion <= min(ends) + 1e-4


@pytest.mark.parametrize("seed", [9, 19, 30, 37])
def test_a_bound_of_visits_that_only_the_chart_took_for_an_optimum_is_left(seed):
    """From hardly any variance the partial correlations run to a bound, where the chart has no slope."""
    table = named(trial(seed))
    fit = quiet("y ~ v + (1 | plot)", table, residual="toep(v | plot) | arm")
    start = 1e-4 * np.var(table["y"]) * np.eye(VISITS)
    far = quiet("y ~ v + (1 | plot)", table, residual="toep(v | plot) | arm", start={"Residual": start})
    assert fit.converged and far.converged
    assert far.criterion == pytest.approx(fit.criterion, abs=1e-5)
