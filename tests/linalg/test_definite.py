"""Inverses of dense matrices from their factors."""

import numpy as np
import pytest

from fastlmm_core.linalg.definite import inverse_from_factor


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("n", [1, 2, 31, 32, 33, 70, 301])
def test_both_triangles_are_those_of_the_inverse(n, order, overwrite):
    r = np.random.default_rng(n)
    root = r.normal(size=(n, n + 2))
    A = root @ root.T
    factor = np.array(np.linalg.cholesky(A) + np.triu(r.normal(size=(n, n)), 1), order=order)  # noise above
    before = factor.copy()
    found = inverse_from_factor(factor, overwrite)
    np.testing.assert_array_equal(found, found.T)
    np.testing.assert_allclose(found @ A, np.eye(n), atol=1e-6)
    np.testing.assert_allclose(found, np.linalg.inv(A), rtol=1e-6, atol=1e-9 * np.abs(found).max())
    if not overwrite:
        np.testing.assert_array_equal(factor, before)
