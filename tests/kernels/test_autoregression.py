"""The recursion of an autoregression against its correlation matrix, entry by entry."""

import numpy as np
import pytest

from fastlmm_core.kernels.equations.autoregression import correlate_positions


@pytest.mark.parametrize("rho", [-1.0 + 1e-8, -0.6, 0.0, 0.3, 0.95, 1.0 - 1e-8])
@pytest.mark.parametrize("size", [1, 2, 7])
def test_product_with_the_correlation_matrix(rho, size):
    V = np.random.default_rng(3).normal(size=(2, size, 3))
    R = rho ** np.abs(np.subtract.outer(np.arange(size), np.arange(size)))
    decay = np.full(size, rho)
    np.testing.assert_allclose(correlate_positions(decay, V), R @ V, rtol=1e-13, atol=1e-14)


def test_neighbours_of_any_distance_and_several_series():
    decay = np.array([7.0, 0.5, -0.3, 0.0, 0.9, 1.0])  # the first is not read, a zero begins a series
    V = np.random.default_rng(4).normal(size=(6, 2))
    R = np.zeros((6, 6))
    for i in range(6):
        for j in range(i + 1):
            R[i, j] = R[j, i] = np.prod(decay[j + 1 : i + 1])
    np.testing.assert_allclose(correlate_positions(decay, V[None])[0], R @ V, rtol=1e-13, atol=1e-14)
