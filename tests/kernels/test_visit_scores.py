"""Sums over visit patterns in the matrices of all visits, against dense NumPy by subject."""

import numpy as np
import pytest
import scipy.sparse as sp
from visit_systems import ARM, SUBJECTS, N, each, inverses, pack, unpack, visit_system

from fastlmm_core.kernels.equations.visit_scores import (
    fill_precision_products,
    subtract_weighted_precisions,
    sum_precisions,
    sum_scaled_products,
)


@pytest.fixture
def system():
    patterns, sigma, root, r = visit_system()
    own = inverses(patterns, sigma)
    return patterns, own, np.concatenate([pack(M) for M in own]), root, r


def placed(seen, M):
    """M (v, v) in the places of its visits (4, 4)."""
    out = np.zeros((4, 4))
    out[np.ix_(seen, seen)] = M
    return out


def test_precisions_of_all_subjects(system):
    patterns, own, packed, _, _ = system
    out = np.zeros((2, 4, 4))
    sum_precisions(patterns, packed, out)
    wanted = np.zeros_like(out)
    for g, seen, _, _ in each(patterns):
        wanted[ARM[g]] += SUBJECTS[g] * placed(seen, own[g])
    np.testing.assert_allclose(out, wanted, rtol=1e-12)


def test_precisions_weighted(system):
    patterns, own, packed, _, r = system
    values, out = r.normal(size=packed.size), np.ones((2, 4, 4))
    subtract_weighted_precisions(patterns, packed, values, out)
    wanted = np.ones_like(out)
    for g, seen, _, pieces in each(patterns):
        Y = unpack(values[pieces])
        Y = 0.5 * (Y + np.diag(np.diag(Y)))  # a value belongs to both triangles
        wanted[ARM[g]] -= placed(seen, own[g] @ Y @ own[g])
    np.testing.assert_allclose(out, wanted, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize(("lo", "hi"), [(0, 3), (1, 2)])
def test_pairs_for_the_information(system, lo, hi):
    patterns, own, packed, _, r = system
    squares = np.concatenate([pack(M @ M.T) for M in (r.normal(size=(len(A), 3)) for A in own)])
    left, right = np.zeros((2, hi - lo, 16))
    fill_precision_products(patterns, lo, hi, packed, squares, left, right)
    for g, seen, _, pieces in each(patterns):
        if lo <= g < hi:
            X = unpack(squares[pieces])
            np.testing.assert_allclose(left[g - lo], placed(seen, own[g]).ravel(), rtol=1e-12)
            np.testing.assert_allclose(
                right[g - lo], placed(seen, own[g] @ X @ own[g]).ravel(), rtol=1e-11, atol=1e-13
            )


def test_scaled_products(system):
    patterns, own, packed, root, r = system
    W, E = sp.random_array((N, 5), density=0.6, rng=r, format="csr"), r.normal(size=N)
    out = np.zeros((2, 4, 4, 5))
    matrix = W.indptr.astype(np.int64), W.indices.astype(np.int64), W.data
    sum_scaled_products(patterns, packed, matrix, root, E, out)
    wanted = np.zeros_like(out)
    for g, seen, rows, _ in each(patterns):
        for subject in rows:
            scaled = own[g] @ (root[subject, None] * W.toarray()[subject])
            one = np.einsum("aj,b->abj", scaled, own[g] @ E[subject])
            wanted[np.ix_([ARM[g]], seen, seen)] += one
    np.testing.assert_allclose(out, wanted, rtol=1e-11, atol=1e-13)
