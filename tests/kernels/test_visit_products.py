"""Sums over subjects of products of two visits, against dense NumPy, compiled and not."""

import numpy as np
import pytest
import scipy.sparse as sp

from fastlmm_core.kernels.visit_products import accumulate_visit_products


@pytest.mark.parametrize("compiled", [True, False])
def test_sums_of_products(compiled):
    rng = np.random.default_rng(5)
    W = sp.random_array((12, 4), density=0.6, rng=rng, format="csr")
    rows = rng.permutation(12).reshape(4, 3)
    root, E = rng.uniform(0.5, 2.0, (4, 3)), rng.normal(size=(4, 3))
    out = rng.normal(size=(4, 3, 3))
    wanted = out + np.einsum("sa,saj,sb->jab", root, W.toarray()[rows], E)
    kernel = accumulate_visit_products if compiled else accumulate_visit_products.py_func
    arrays = W.indptr.astype(np.int64), W.indices.astype(np.int64), W.data
    kernel(*arrays, rows.astype(np.int64), root, E, out)
    np.testing.assert_allclose(out, wanted, rtol=1e-12)
