"""Fits with standard deviations of zero beside correlations, against dense likelihoods."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from fastlmm_core import lmm
from fastlmm_core.engine.search.optimum import Criterion
from fastlmm_core.engine.search.zero_deviations import one_alone_varies, starts_of_signs
from fastlmm_core.structures import make_coefficient_structure


@pytest.mark.parametrize("name", ["cs", "hetar1"])
@pytest.mark.parametrize("alone", [0, 1, 2])
def test_starts_follow_the_units(name, alone):
    """Where one coefficient varies alone, the second that is tried does not depend on units of columns.

    T' = D^-1 T D^-1 of columns in other units has the derivative D S D, and the same starts.
    """
    structure, rng = make_coefficient_structure(name, 3), np.random.default_rng(alone)
    half = rng.normal(size=(3, 3))
    S, scale = half + half.T, np.array([1.0, 4.0, 0.5])

    def starts(unit):
        T = np.zeros((3, 3))
        T[alone, alone] = 0.7 / unit[alone] ** 2
        term = SimpleNamespace(structure=structure, column_scale=scale * unit**2)
        theta = structure.theta_of(T)
        assert one_alone_varies(term, theta)
        product = S * np.outer(unit, unit) @ structure.loadings(theta)
        found = [structure.covariance(own) for own in starts_of_signs(term, theta, product)]
        return np.array([own * np.outer(unit, unit) for own in found])

    plain = starts(np.ones(3))
    assert len(plain)
    for unit in ([1000.0, 1.0, 1.0], [1.0, 0.001, 1.0], [0.01, 30.0, 500.0]):
        np.testing.assert_allclose(starts(np.array(unit)), plain, rtol=1e-9, atol=1e-12)


def trials(seed, genotypes, own, shared):
    """Three environments, two replicates; genotypes vary with standard deviations `own`."""
    r = np.random.default_rng(seed)
    u = shared * r.normal(size=(genotypes, 1)) * own + 0.4 * r.normal(size=(genotypes, 3)) * own
    rows = [
        (f"e{e}", f"g{g:02d}", u[g, e] + e + r.normal())
        for e in range(3)
        for g in range(genotypes)
        for _ in range(2)
    ]
    return pd.DataFrame(rows, columns=["env", "gen", "y"])


def dense_deviance(data, structure, sd, correlations, sigma):
    """-2 log-likelihood of balanced trials at their maximum over the means of the environments."""
    Y = data["y"].to_numpy().reshape(3, -1, 2)
    means, genotypes = Y.mean(2), Y.shape[1]
    inside, centred = ((Y - means[..., None]) ** 2).sum(), means - means.mean(1, keepdims=True)
    lag = np.abs(np.subtract.outer(range(3), range(3)))
    first = correlations[0]
    by_lag = {"cs": [1.0, first, first], "hetar1": [1.0, first, first**2]}.get(structure)
    if by_lag is None:  # partial correlations
        by_lag = [1.0, first, first**2 + correlations[1] * (1.0 - first**2)]
    V = np.array(by_lag)[lag] * np.outer(sd, sd) + sigma**2 / 2 * np.eye(3)
    between = np.linalg.slogdet(V)[1] + np.trace(np.linalg.solve(V, centred @ centred.T)) / genotypes
    logs = 3 * np.log(2.0) + 6 * np.log(2.0 * np.pi) + 6 * np.log(sigma)
    return genotypes * (between + logs) + inside / sigma**2


@pytest.mark.parametrize(
    ("structure", "seed", "genotypes", "own", "shared", "z"),
    [  # z = (sd, sd, sd, correlations, log s2) of the least of L-BFGS-B from 50 random starts
        ("cs", 4, 14, (0.0, 0.0, 0.0), 1.0, (0.102018, 0.274316, 0.45056, 1 - 1e-9, -0.037729)),
        ("cs", 0, 8, (0.0, 1.0, 1.0), 0.3, (0.387029, 0.0, 0.415172, 1 - 1e-9, -0.067312)),
        ("cs", 0, 8, (0.0, 0.2, 0.2), 0.3, (0.331923, 0.0, 0.304929, 1 - 1e-9, -0.071561)),
        ("toep", 8, 8, (0.0, 0.0, 0.0), 1.0, (0.642533, 0.518855, 0.0, -1 + 1e-9, -0.452141, -0.005251)),
        ("hetar1", 7, 14, (0.0, 0.0, 0.5), 1.0, (0.313856, 0.499693, 0.0, 1 - 1e-9, -0.271407)),
    ],
)
def test_fits_end_at_the_best_optimum(structure, seed, genotypes, own, shared, z):
    """Each standard deviation at zero, where the criterion has a kink, may have an optimum of its own."""
    data = trials(seed, genotypes, np.array(own), shared)
    fit = lmm(f"y ~ env + {structure}(0 + env | gen)", data, reml=False)
    known = dense_deviance(data, structure, z[:3], z[3:-1], np.exp(0.5 * z[-1]))
    assert fit.deviance < known + 1e-5
    assert fit.converged


def test_standard_deviations_stop_at_zero(monkeypatch):
    """Steps across a kink found no end, and took one and a half thousand evaluations."""
    data, count, evaluate = trials(1, 14, np.zeros(3), 1.0), [], Criterion.at
    monkeypatch.setattr(Criterion, "at", lambda *args: count.append(1) or evaluate(*args))
    lmm("y ~ env + hetar1(0 + env | gen)", data, reml=False)
    assert len(count) < 900
