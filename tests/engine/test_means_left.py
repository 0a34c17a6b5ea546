"""Means that the fixed part leaves to visits with variances of their own: optima far below those of moments.

Where a mean changes over the visits and the fixed part does not follow, standard deviations in the ratios of
what is left, strongly correlated, make of it one draw for each subject.
"""

import warnings

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import minimize

from fastlmm_core import lmm
from fastlmm_core.errors import FastLMMWarning

# CO2 uptake of 12 plants at 7 concentrations: Potvin, Lechowicz & Tardif (1990), Ecology 71, 1389-1400; the
# first six from Mississippi, the others from Quebec.
UPTAKE = """
10.6 18.0 17.9 17.9 17.9 18.9 19.9  12.0 22.0 30.6 31.8 32.4 31.1 31.5  11.3 19.4 25.8 27.9 28.5 28.1 27.8
10.5 14.9 18.1 18.9 19.5 22.2 21.9   7.7 11.4 12.3 13.0 12.5 13.7 14.4  10.6 19.2 26.2 30.0 30.9 32.4 35.5
14.2 24.1 30.3 34.6 32.5 35.4 38.7   9.3 27.3 35.0 38.8 38.6 37.5 42.4  15.1 21.0 38.1 34.0 38.9 39.6 41.4
16.0 30.4 34.8 37.2 35.3 39.2 39.7  13.6 27.3 37.1 41.8 40.6 41.4 44.3  16.2 32.4 40.3 42.1 42.9 43.9 45.5
"""


@pytest.fixture(scope="module")
def plants():
    plant, time = np.repeat(np.arange(12), 7), np.tile(np.arange(1.0, 8.0), 12)
    table = pd.DataFrame({"plant": plant, "time": time, "uptake": np.array(UPTAKE.split(), float)})
    origin = np.where(plant < 6, "Mississippi", "Quebec")
    table = table.assign(visit=time.astype(int).astype(str), origin=origin)
    return table.assign(plant="p" + table["plant"].astype(str))


@pytest.mark.parametrize(
    ("fixed", "residual", "deviance"),
    [("time * origin", "hetar1", 413.4222), ("visit + origin", "cs", 413.7798)],  # gls of nlme 3.1-171
)
def test_the_optimum_of_visits_whose_means_are_left_is_that_of_nlme(plants, fixed, residual, deviance):
    fit = lmm(f"uptake ~ {fixed}", plants, residual=f"{residual}(visit | plant)")
    assert fit.converged
    assert fit.criterion == pytest.approx(deviance, abs=1e-4)


def trial(seed, subjects=10, visits=5):
    """Two rows of each subject at each visit; the mean of a visit rises and is left out of the model."""
    rng = np.random.default_rng(seed)
    subject, visit = np.repeat(np.arange(subjects), visits), np.tile(np.arange(visits), subjects)
    T = 0.8 ** np.abs(np.subtract.outer(np.arange(visits), np.arange(visits)))
    u = rng.normal(size=(subjects, visits)) @ np.linalg.cholesky(T).T
    table = pd.DataFrame({"subject": subject, "visit": visit, "y": u.ravel() + 2.0 * visit})
    table = pd.concat([table, table], ignore_index=True)
    return table.assign(y=table["y"] + 0.5 * rng.normal(size=len(table)))


def dense_deviance(theta, table, visits=5):
    """theta: logarithms of the standard deviations, atanh of rho, logarithm of the residual's."""
    sd, rho, subject, visit = np.exp(theta[:visits]), np.tanh(theta[visits]), table["subject"], table["visit"]
    T = np.outer(sd, sd) * rho ** np.abs(np.subtract.outer(np.arange(visits), np.arange(visits)))
    V = T[np.ix_(visit, visit)] * np.equal.outer(subject.to_numpy(), subject.to_numpy())
    L = np.linalg.cholesky(V + np.exp(2.0 * theta[-1]) * np.eye(len(table)))
    x, y = np.linalg.solve(L, np.ones(len(table))), np.linalg.solve(L, table["y"])
    rest = y - x * (x @ y) / (x @ x)
    return 2.0 * np.log(np.diag(L)).sum() + np.log(x @ x) + rest @ rest + (len(table) - 1) * np.log(2 * np.pi)


@pytest.mark.parametrize("seed", [1, 2])
def test_no_dense_search_ends_below_a_term_whose_means_are_left(seed):
    table = trial(seed)
    rise = np.log(np.linspace(0.5, 4.0, 5))
    starts = [np.r_[own, 1.5, -0.7] for own in (np.zeros(5), rise, rise[::-1])]
    ends = [minimize(dense_deviance, start, args=(table,), method="L-BFGS-B").fun for start in starts]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FastLMMWarning)
        names = {name: name[0] + table[name].astype(str) for name in ("subject", "visit")}
        fit = lmm("y ~ 1 + hetar1(0 + visit | subject)", table.assign(**names))
    assert fit.criterion <= min(ends) + 1e-4
    assert max(ends) > min(ends) + 1.0
