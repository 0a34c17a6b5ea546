"""Searches that the average information leads to no end go on with exact second derivatives."""

import numpy as np
import pandas as pd
import pytest
import scipy.optimize

import fastlmm_core as fl

N_SUBJECTS, VISITS = 12, 6
CORNER = np.tril_indices(VISITS)


def grown():
    """Twelve plants whose growth bends, seen at six visits: a line in time leaves it to the residual."""
    rng = np.random.default_rng(39)
    growth = np.array([0.0, 2.0, 6.0, 9.0, 11.0, 12.0])
    y = 3.0 + growth + rng.normal(size=(N_SUBJECTS, 1)) * 0.3 * growth / 4.0
    y += np.cumsum(0.3 * rng.normal(size=(N_SUBJECTS, VISITS)), axis=1)
    visits, subjects = (rows.ravel() for rows in np.meshgrid(range(VISITS), range(N_SUBJECTS)))
    return pd.DataFrame({
        "y": y.ravel(), "time": visits, "visit": [f"v{k}" for k in visits],
        "subject": [f"s{i:02d}" for i in subjects],
    })  # fmt: skip


def reml_deviance(R, Y, X):
    """-2 log restricted likelihood of subjects (n, m) with one design X (m, p) and covariance R (m, m)."""
    n, m = Y.shape
    W = np.linalg.inv(R)
    XWX = n * X.T @ W @ X
    beta = np.linalg.solve(XWX, X.T @ W @ Y.sum(axis=0))
    left = Y - X @ beta
    log_determinants = n * np.linalg.slogdet(R)[1] + np.linalg.slogdet(XWX)[1]
    dof = n * m - X.shape[1]
    return log_determinants + np.einsum("ia,ab,ib->", left, W, left) + dof * np.log(2.0 * np.pi)


@pytest.mark.filterwarnings("error::fastlmm_core.errors.NotConvergedWarning")
def test_a_narrow_valley_is_followed_to_its_end():
    """Steps by the average information alone go to and fro: 200 of them end 0.002 above."""
    data = grown()
    fit = fl.lmm("y ~ time", data, residual="us(visit | subject)")
    assert fit.converged
    R = np.zeros((VISITS, VISITS))
    R[CORNER] = fit.variance_components["estimate"]  # the lower triangle row by row
    R += np.tril(R, -1).T
    Y = data["y"].to_numpy().reshape(N_SUBJECTS, VISITS)
    X = np.column_stack([np.ones(VISITS), np.arange(VISITS)])

    def deviance(corner):
        L = np.zeros((VISITS, VISITS))
        L[CORNER] = corner
        return reml_deviance(L @ L.T, Y, X)

    ours = np.linalg.cholesky(R)[CORNER]
    assert fit.criterion == pytest.approx(deviance(ours), abs=1e-8)
    found = scipy.optimize.minimize(deviance, ours, method="BFGS")
    assert found.fun >= fit.criterion - 1e-6
