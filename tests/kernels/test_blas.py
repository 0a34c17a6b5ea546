"""Dense blocks through BLAS and LAPACK, in the lower triangle of a larger array."""

import numpy as np
import pytest

from fastlmm_core.kernels.blas import (
    ADDRESSES,
    INVERSE_BLOCK,
    LARGEST_BLOCKED,
    NARROW_BLOCKS,
    invert_from_cholesky,
    make_workspace,
)


@pytest.mark.compiled
@pytest.mark.parametrize(
    "m",
    [1, INVERSE_BLOCK, INVERSE_BLOCK + 1, 2 * INVERSE_BLOCK, 211, NARROW_BLOCKS, NARROW_BLOCKS + 1,
     LARGEST_BLOCKED, LARGEST_BLOCKED + 1],
)  # fmt: skip
def test_an_inverse_stays_in_its_triangle(m):
    r = np.random.default_rng(m)
    root = r.normal(size=(m, m + 3))
    A = root @ root.T + m * np.eye(m)
    rows = m + 5
    square = np.asfortranarray(r.normal(size=(rows, rows)))
    before = square.copy()
    square[:m, :m] = np.tril(np.linalg.cholesky(A)) + np.triu(before[:m, :m], 1)
    for _ in range(3):  # work arrays of one call are those of the next
        again = square.copy(order="F")
        invert_from_cholesky(ADDRESSES, make_workspace(), again.ctypes.data, rows, m)
    lower = np.tril_indices(m)
    np.testing.assert_allclose(again[:m, :m][lower], np.linalg.inv(A)[lower], rtol=1e-9, atol=1e-12)
    np.testing.assert_array_equal(again[m:], before[m:])
    np.testing.assert_array_equal(again[:m, m:], before[:m, m:])
