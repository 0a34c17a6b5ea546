"""E of the loadings by levels against tr(P V_t P V_u) from dense matrices, where levels do not meet."""

import numpy as np
import pandas as pd
import pytest

import fastlmm_core
from fastlmm_core.engine.information.level_information import bending_terms, level_information
from fastlmm_core.engine.objective import gradient_at, n_leading


@pytest.mark.parametrize("covariance", ["fa(0 + e | g, k=1)", "rr(0 + e | g, d=2)"])
def test_sums_over_levels(covariance):
    r = np.random.default_rng(3)
    g, e = (part.ravel() for part in np.meshgrid(np.arange(40), np.arange(4), indexing="ij"))
    g, e = np.tile(g, 2), np.tile(e, 2)
    kept = r.uniform(size=g.size) < 0.8
    y = r.normal(size=40)[g] * (1.0 + 0.3 * e) + 0.6 * r.normal(size=(40, 4))[g, e] + r.normal(size=g.size)
    table = pd.DataFrame({"y": y, "g": g.astype(str), "e": e.astype(str)})[kept]
    solved = fastlmm_core.lmm(f"y ~ 0 + {covariance}", table).solved  # no fixed part joins the levels
    equations, factor, point = solved.equations, solved.factor, solved.point
    if not bending_terms(equations, point.theta):
        pytest.fail("the loadings have a specific deviation of zero, and the case shows nothing")
    C_inv = factor.inverse_subset(n_leading(equations))
    W = np.zeros((equations.natural.size, point.loadings.shape[2]))
    gradient_at(equations, factor, point, C_inv=C_inv, W=W)
    found = level_information(equations, point.loadings, C_inv, W, 0)

    term, own = equations.terms[0], equations.slices[0][0][0]
    Z = [np.asarray(M.todense())[: equations.n] for M in term.matrices]
    Z = np.stack(Z, axis=2).reshape(equations.n, -1)  # level by level
    R = 1.0 / np.asarray(point.precision.todense()).diagonal()[: equations.n]
    loadings = point.loadings[0, : term.m, : term.width]
    V = Z @ np.kron(np.eye(term.n_levels), loadings @ loadings.T) @ Z.T + np.diag(R)
    P = np.linalg.inv(V)
    jacobian = term.structure.loadings_jacobian(point.theta[own])
    moved = []
    for J in jacobian:
        T = J @ loadings.T
        moved.append(P @ Z @ np.kron(np.eye(term.n_levels), T + T.T) @ Z.T)
    expected = np.array([[np.sum(A * B.T) for B in moved] for A in moved])
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-7 * np.abs(expected).max())
