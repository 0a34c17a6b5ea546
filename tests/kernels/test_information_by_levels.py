"""The information of loadings from the blocks of single levels, against its sum written out."""

import numpy as np

from fastlmm_core.kernels.equations.level_information import sum_level_information


def test_the_sum_over_levels_is_that_of_its_definition():
    r = np.random.default_rng(3)
    levels, m, width = 5, 4, 6
    B, K, P = (r.normal(size=(levels, *shape)) for shape in ((m, width), (width, width), (m, m)))
    K, P = K + np.swapaxes(K, 1, 2), P + np.swapaxes(P, 1, 2)  # as they are of a covariance
    specific = np.array([0.5, 2.0, -0.3, 1.0])
    B[:, :, width - m :] = P * specific
    order = r.permutation(levels)  # where the levels stand, with one number between them
    natural, spherical = (order[:, None] * (size + 1) + np.arange(size) for size in (m, width))
    W = np.full((levels * (m + 1), width + 1), np.nan)
    W[natural, :width] = B
    indptr = np.zeros(levels * (width + 1), np.int64)
    C_inv = []
    for k, c in zip(*np.unravel_index(np.argsort(spherical, axis=None), spherical.shape), strict=True):
        indptr[spherical[k, c]] = len(C_inv)
        C_inv += [*(np.eye(width) - K[k])[c:, c], np.nan]
    rows, columns = np.array([0, 1, 2, 3, 0, 2]), np.array([0, 0, 1, 1, 2, 4])
    out = np.zeros((6, 6))
    sum_level_information(W, np.array(C_inv), indptr, natural, spherical, specific, rows, columns, out)
    expected = np.zeros((6, 6))
    for t, (a, c) in enumerate(zip(rows, columns, strict=True)):
        for u, (b, d) in enumerate(zip(rows, columns, strict=True)):
            expected[t, u] = 2.0 * np.sum(B[:, a, d] * B[:, b, c] + K[:, c, d] * P[:, a, b])
    np.testing.assert_allclose(out, expected, rtol=1e-12)
