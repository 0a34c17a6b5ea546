"""The recursion of an autoregression against its correlation matrix, entry by entry."""

import numpy as np
import pytest

from fastlmm_core.kernels.autoregression import correlate_positions


@pytest.mark.parametrize("rho", [-1.0 + 1e-8, -0.6, 0.0, 0.3, 0.95, 1.0 - 1e-8])
@pytest.mark.parametrize("size", [1, 2, 7])
def test_product_with_the_correlation_matrix(rho, size):
    V = np.random.default_rng(3).normal(size=(size, 3))
    R = rho ** np.abs(np.subtract.outer(np.arange(size), np.arange(size)))
    np.testing.assert_allclose(correlate_positions(rho, V), R @ V, rtol=1e-13, atol=1e-14)
