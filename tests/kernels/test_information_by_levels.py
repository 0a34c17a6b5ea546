"""The information of loadings from the blocks of single levels, against its sum written out."""

import numpy as np

from fastlmm_core.kernels.equations.level_information import sum_level_information


def test_the_sum_over_levels_is_that_of_its_definition():
    r = np.random.default_rng(3)
    levels, m, width = 5, 4, 6
    B, K, P = (r.normal(size=(levels, *shape)) for shape in ((m, width), (width, width), (m, m)))
    K, P = K + np.swapaxes(K, 1, 2), P + np.swapaxes(P, 1, 2)  # as they are of a covariance
    rows, columns = np.array([0, 1, 2, 3, 0, 2]), np.array([0, 0, 1, 1, 2, 4])
    out = np.zeros((6, 6))
    sum_level_information(B, K, P, rows, columns, out)
    expected = np.zeros((6, 6))
    for t, (a, c) in enumerate(zip(rows, columns, strict=True)):
        for u, (b, d) in enumerate(zip(rows, columns, strict=True)):
            expected[t, u] = 2.0 * np.sum(B[:, a, d] * B[:, b, c] + K[:, c, d] * P[:, a, b])
    np.testing.assert_allclose(out, expected, rtol=1e-12)
