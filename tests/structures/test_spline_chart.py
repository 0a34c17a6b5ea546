"""The chart of smoothing parameters: bounds, second derivatives, and trials whose surface is a plane."""

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from fastlmm_core import lmm
from fastlmm_core.structures.levels.penalty import PenaltyLevels


def eigenvalues(c):
    return float(4.0 * np.log(c.sum())), 4.0 * c / c.sum()


@pytest.mark.parametrize("count", [1, 2])
def test_chart(count):
    own = PenaltyLevels([sp.eye_array(4)] * count, eigenvalues, ("a", "b")[:count], typical=0.3)
    for size in (0.0, 1e-6, 1e-3, 0.4, 3.0, 200.0, 1e6):
        theta = np.full(count, size)
        assert np.all(own.natural(theta) >= 0.3 * own.least * (1 - 1e-9))
        assert np.all(own.natural(theta) <= 0.3 / own.least * (1 + 1e-9))
        np.testing.assert_allclose(own.natural(-theta), own.natural(theta), rtol=0)
        variances = own.natural(theta)
        np.testing.assert_allclose(own.natural(own.theta_of(variances)), variances, rtol=1e-6)
        # of a criterion that is linear in the variances: gradient d variance, curvature d2 variance
        h = 1e-3 * max(size, 1e-2)
        slope = np.diag(own.natural_jacobian(theta))
        numeric = (own.natural(theta + h) - own.natural(theta - h)) / (2 * h)
        np.testing.assert_allclose(slope, numeric, rtol=1e-4, atol=1e-10)
        if size:
            second = (own.natural(theta + h) - 2 * own.natural(theta) + own.natural(theta - h)) / h**2
            found = np.diag(own.curvature(theta, slope))
            np.testing.assert_allclose(found, second, rtol=1e-3, atol=1e-9 * np.abs(second).max() + 1e-12)


def test_a_straight_direction_is_reached_in_few_steps():
    """Where a trial has a plane only, both smoothing parameters go to their bounds at once."""
    rng = np.random.default_rng(4)
    row, col = np.divmod(np.arange(240), 20)
    y = 5 + 0.1 * row + 0.05 * col + rng.normal(size=240)
    frame = pd.DataFrame({"row": row, "col": col, "y": y})
    fit = lmm("y ~ row * col + ps(row, col, nseg=(6, 8))", frame)
    X = np.column_stack([np.ones(240), row, col, row * col])
    residual = y - X @ np.linalg.lstsq(X, y, rcond=None)[0]
    flat = 236 * (1 + np.log(2 * np.pi * (residual @ residual) / 236)) + np.linalg.slogdet(X.T @ X)[1]
    assert fit.converged
    assert fit.optimum.evaluations <= 25
    assert fit.criterion <= flat + 1e-4  # the same fixed part: a spline can only gain
