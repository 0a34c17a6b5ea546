"""Kenward-Roger at a variance of zero whose covariances go with its root: cs, hetar1, toep.

By the variance they have no derivative there; by the standard deviation they have, and V is as dense
matrices say.
"""

import warnings

import numpy as np
import pandas as pd
import pytest

from fastlmm_core import lmm
from fastlmm_core.errors import InferenceError, SingularFitWarning


def environments(seed):
    rng = np.random.default_rng(seed)
    line, env, _ = np.unravel_index(np.arange(90), (15, 3, 2))
    u = rng.normal(size=(15, 3)) * [1.2, 0.02, 0.9] + rng.normal(size=(15, 1)) * [0.9, 0.0, 0.8]
    y = u[line, env] + env + rng.normal(size=90)
    return pd.DataFrame({"g": line.astype(str), "e": np.array(list("abc"))[env], "y": y})


@pytest.fixture(scope="module")
def fit():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SingularFitWarning)
        fit = lmm("y ~ e + cs(0 + e | g)", environments(3))
    assert "the variance of eb is zero in g" in str(fit.warnings[0])
    return fit


def correlated(sd, rho):
    return np.outer(sd, sd) * (np.full((3, 3), rho) + (1 - rho) * np.eye(3))


def dense_adjustment(fit, table):
    """Covariance of the coefficients adjusted without second derivatives, by the expected information."""
    found = fit.variance_components.set_index("component")["estimate"]
    sd, sigma2 = np.sqrt(np.array([found["V1"], found["V3"], found["V6"]])), found["V7"]
    rho = found["V4"] / (sd[0] * sd[2])
    Z = (table["e"].to_numpy(object)[:, None] == np.array(list("abc"), object)).astype(float)
    same = np.equal.outer(table["g"].to_numpy(object), table["g"].to_numpy(object))
    step, slopes = 1e-6, []
    for k in range(4):
        ends = []
        for sign in (1, -1):
            at = np.r_[sd, rho]
            at[k] += sign * step
            ends.append(correlated(at[:3], at[3]))
        slopes.append(same * (Z @ ((ends[0] - ends[1]) / (2 * step)) @ Z.T))
    slopes.append(np.eye(len(table)))
    V = same * (Z @ correlated(sd, rho) @ Z.T) + sigma2 * np.eye(len(table))
    X = np.column_stack([np.ones(len(table)), Z[:, 1:]])
    V_inv = np.linalg.inv(V)
    phi = np.linalg.inv(X.T @ V_inv @ X)
    P = V_inv - V_inv @ X @ phi @ X.T @ V_inv
    W = 2.0 * np.linalg.inv([[np.trace(P @ a @ P @ b) for b in slopes] for a in slopes])
    first = [X.T @ V_inv @ a @ V_inv @ X for a in slopes]
    Q = [[X.T @ V_inv @ a @ V_inv @ b @ V_inv @ X for b in slopes] for a in slopes]
    inner = sum(W[i, j] * (Q[i][j] - first[i] @ phi @ first[j]) for i in range(5) for j in range(5))
    return phi + 2.0 * phi @ inner @ phi


def test_the_adjusted_covariance(fit):
    table = environments(3)
    own = fit.fixed_effects("kenward-roger", "expected")["se"]
    np.testing.assert_allclose(own**2, np.diag(dense_adjustment(fit, table)), rtol=1e-5)


@pytest.mark.parametrize("information", ["expected", "observed", "average"])
def test_second_derivatives_are_refused(fit, information):
    with pytest.raises(InferenceError, match="'cs' has a variance of zero"):
        fit.fixed_effects("kenward-roger", information, second_derivatives=True)


@pytest.mark.parametrize("structure", ["cs", "hetar1", "toep"])
def test_every_figure_is_there(structure):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SingularFitWarning)
        fit = lmm(f"y ~ e + {structure}(0 + e | g)", environments(3))
    for information in ("expected", "observed", "average"):
        table = fit.fixed_effects("kenward-roger", information)
        assert np.isfinite(table[["se", "df"]]).all(axis=None)
        assert np.isfinite(fit.vpredict("V1 + V7", information=information).se)
