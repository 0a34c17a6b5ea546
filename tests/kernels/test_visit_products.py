"""Sums over subjects of products of two visits, against dense NumPy."""

import numpy as np
import scipy.sparse as sp

from fastlmm_core.kernels.visit_products import accumulate_visit_products


def test_sums_of_products():
    rng = np.random.default_rng(5)
    W = sp.random_array((12, 4), density=0.6, rng=rng, format="csr")
    rows = rng.permutation(12).reshape(4, 3)
    root, E = rng.uniform(0.5, 2.0, (4, 3)), rng.normal(size=(4, 3))
    out = rng.normal(size=(4, 3, 3))
    wanted = out + np.einsum("sa,saj,sb->jab", root, W.toarray()[rows], E)
    arrays = W.indptr.astype(np.int64), W.indices.astype(np.int64), W.data
    accumulate_visit_products(*arrays, rows.astype(np.int64), root, E, out)
    np.testing.assert_allclose(out, wanted, rtol=1e-12)
