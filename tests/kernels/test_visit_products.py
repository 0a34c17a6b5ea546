"""Sums over the subjects of visit patterns, and the covariances of the patterns, against dense NumPy."""

import numpy as np
import pytest
import scipy.sparse as sp
from visit_systems import ARM, N, each, inverses, pack, unpack, visit_system

from fastlmm_core.kernels.equations.visit_products import (
    differentiate_patterns,
    fill_score_factors,
    invert_patterns,
    multiply_patterns,
    sum_squares,
    sum_visit_products,
)


@pytest.fixture
def system():
    return visit_system()


def test_inverses_of_patterns(system):
    patterns, sigma, _, _ = system
    coefficients, logs = np.empty(patterns.first[-1]), np.empty(3)
    assert invert_patterns(patterns, sigma, coefficients, logs)
    expected = inverses(patterns, sigma)
    np.testing.assert_allclose(coefficients, np.concatenate([pack(M) for M in expected]), rtol=1e-12)
    np.testing.assert_allclose(logs, [-np.linalg.slogdet(M)[1] for M in expected], rtol=1e-12)
    sigma[1, 2, 2] = -1.0
    assert not invert_patterns(patterns, sigma, coefficients, logs)


def test_derivatives_of_patterns(system):
    patterns, sigma, _, r = system
    slopes = r.normal(size=(5, 4, 4)) * (r.uniform(size=(5, 4, 4)) < 0.6)
    slopes = slopes + np.swapaxes(slopes, 1, 2)
    place = np.array([0, 2, 5])
    own = inverses(patterns, sigma)
    jacobian = np.zeros((5, patterns.first[-1]))
    differentiate_patterns(patterns, np.concatenate([pack(M) for M in own]), slopes, place, jacobian)
    wanted = np.zeros_like(jacobian)
    for g, seen, _, pieces in each(patterns):
        for t in range(place[ARM[g]], place[ARM[g] + 1]):
            change = slopes[t][np.ix_(seen, seen)]
            wanted[t, pieces] = pack(-own[g] @ change @ own[g])
    np.testing.assert_allclose(jacobian, wanted, atol=1e-12)


@pytest.mark.parametrize("r", [1, 3])
def test_products_with_patterns(system, r):
    patterns, sigma, root, rng = system
    V, out = rng.normal(size=(N, r)), np.empty((N, r))
    own = inverses(patterns, sigma)
    multiply_patterns(patterns, np.concatenate([pack(M) for M in own]), root, V, out)
    dense = np.zeros((N, N))
    for g, _, rows, _ in each(patterns):
        for subject in rows:
            dense[np.ix_(subject, subject)] = own[g]
    np.testing.assert_allclose(out, root[:, None] * (dense @ (root[:, None] * V)), rtol=1e-12)


def test_sums_of_squares(system):
    patterns, _, _, r = system
    E, out = r.normal(size=N), np.empty(patterns.first[-1])
    sum_squares(patterns, E, out)
    np.testing.assert_allclose(
        out, np.concatenate([pack(E[rows].T @ E[rows]) for _, _, rows, _ in each(patterns)])
    )


@pytest.mark.parametrize(("lo", "hi"), [(0, 3), (1, 3)])
def test_sums_of_products(system, lo, hi):
    patterns, _, root, r = system
    W = sp.random_array((N, 4), density=0.6, rng=r, format="csr")
    E, D = r.normal(size=N), r.normal(size=(2, patterns.first[-1]))
    start = patterns.first[lo]
    out = np.zeros((4, patterns.first[hi] - start))
    matrix = W.indptr.astype(np.int64), W.indices.astype(np.int64), W.data
    sum_visit_products(patterns, lo, hi, matrix, root, E, out)
    wanted = np.zeros((4, 2))
    for g, _, rows, pieces in each(patterns):
        if lo <= g < hi:
            for t in range(2):
                for subject in rows:
                    scaled = root[subject, None] * W.toarray()[subject]
                    wanted[:, t] += scaled.T @ unpack(D[t, pieces]) @ E[subject]
    np.testing.assert_allclose(out @ D[:, start : patterns.first[hi]].T, wanted, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize(("lo", "hi"), [(0, 3), (1, 2)])
def test_factors_of_the_information(system, lo, hi):
    patterns, sigma, _, r = system
    E, D, squares = r.normal(size=N), r.normal(size=(2, patterns.first[-1])), np.empty(patterns.first[-1])
    sum_squares(patterns, E, squares)
    left, right = np.empty((2, 2, patterns.square[hi] - patterns.square[lo]))
    fill_score_factors(patterns, lo, hi, squares, sigma, D, left, right)
    wanted = np.zeros((2, 2))
    for g, seen, rows, pieces in each(patterns):
        if lo <= g < hi:
            own = [unpack(D[t, pieces]) for t in range(2)]
            R = sigma[ARM[g]][np.ix_(seen, seen)]
            wanted += [[sum(e @ A @ R @ B @ e for e in E[rows]) for B in own] for A in own]
    np.testing.assert_allclose(left @ right.T, wanted, rtol=1e-11, atol=1e-12)
