"""An autoregression along many positions takes no matrix of all pairs of them."""

import numpy as np
import pytest

from fastlmm_core.structures.levels.factors import AutoregressiveLevels
from fastlmm_core.structures.levels.kronecker import KroneckerLevels


@pytest.mark.parametrize("shape", [(200_000,), (2, 100_000)])
def test_covariance_of_many_positions_is_that_of_the_precision(shape):
    parts = [AutoregressiveLevels(size, f"axis{k}") for k, size in enumerate(shape)]
    levels = parts[0] if len(parts) == 1 else KroneckerLevels(parts)
    theta = np.arctanh([0.4, 0.8])[: levels.n_theta]
    V = np.random.default_rng(1).normal(size=(levels.size, 2))
    moved = levels.multiply_covariance(theta, V)  # of all pairs 300 GB
    np.testing.assert_allclose(levels.precision(theta) @ moved, V, atol=1e-12)
