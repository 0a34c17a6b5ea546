"""What is added for the residual, and taken from a covariance for it, against dense projections."""

from types import SimpleNamespace

import numpy as np
import pytest

from fastlmm_core.kernels.search.information import append_residual, eliminate_residual


@pytest.fixture(scope="module", params=[0, 1, 3], ids=lambda d: f"{d} parameters")
def model(request):
    """V = V_e + sum_j t_j V_j of 30 rows, V_e of unequal weights, and its P."""
    r = np.random.default_rng(7)
    n, d = 30, request.param
    X, y = np.column_stack([np.ones(n), r.normal(size=(n, 2))]), r.normal(size=n)
    parts = []
    for levels in (5, 6, 4)[:d]:
        Z = (r.integers(levels, size=n)[:, None] == np.arange(levels)) * r.normal(1.0, 0.5, (n, 1))
        parts.append(Z @ Z.T)
    t, residual = r.uniform(0.3, 2.0, d), np.diag(1.0 / r.uniform(0.5, 2.0, n))
    V = residual + sum((value * part for value, part in zip(t, parts, strict=True)), np.zeros((n, n)))
    inverse = np.linalg.inv(V)
    P = inverse - inverse @ X @ np.linalg.solve(X.T @ inverse @ X, X.T @ inverse)
    return SimpleNamespace(X=X, y=y, V=V, P=P, inverse=inverse, t=t, all=[*parts, residual])


def test_traces_with_the_residual(model):
    """tr(P V_i P V_j), tr(P V) being the degrees of freedom n - p."""
    P, d = model.P, model.t.size
    expected = np.array([[np.trace(P @ A @ P @ B) for B in model.all] for A in model.all])
    single = np.array([np.trace(P @ A) for A in model.all[:d]])
    dof = float(np.subtract(*model.X.shape))
    found = append_residual(expected[:d, :d].copy(), single, model.t, dof)
    np.testing.assert_allclose(found, expected, rtol=1e-11)


def test_forms_of_the_response_with_the_residual(model):
    """y'P V_i P V_j P y from those without the residual, y'P V_i P y and y'P y."""
    P, d = model.P, model.t.size
    Py = P @ model.y
    expected = np.array([[Py @ A @ P @ B @ Py for B in model.all] for A in model.all])
    single = np.array([Py @ A @ Py for A in model.all[:d]])
    found = append_residual(expected[:d, :d].copy(), single, model.t, float(model.y @ Py))
    np.testing.assert_allclose(found, expected, rtol=1e-11)


def test_weights_without_the_residual(model):
    """sum_ij W_ij U'V_i P V_j U over all parameters, U = V^-1 X, is a sum over those of the terms."""
    d, U = model.t.size, model.inverse @ model.X
    root = np.random.default_rng(8).normal(size=(d + 1, d + 1))
    covariance = root @ root.T

    def weighted(weights, parts):
        forms = (w * (U.T @ A @ model.P @ B @ U) for row, A in zip(weights, parts, strict=True)
                 for w, B in zip(row, parts, strict=True))  # fmt: skip
        return sum(forms, np.zeros((3, 3)))

    weights = eliminate_residual(model.t, covariance)
    assert weights.shape == (d, d)
    expected = weighted(covariance, model.all)
    found = weighted(weights, model.all[:d])
    np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-12 * (1.0 + np.abs(covariance).max()))
