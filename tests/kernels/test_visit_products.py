"""Sums over the subjects of visit patterns, and the covariances of the patterns, against dense NumPy."""

import numpy as np
import pytest
import scipy.sparse as sp

from fastlmm_core.kernels.visit_products import (
    Patterns,
    differentiate_patterns,
    fill_score_factors,
    invert_patterns,
    multiply_patterns,
    sum_squares,
    sum_visit_products,
)

SEEN = [np.array([0, 2, 3]), np.array([1]), np.array([3, 1, 0, 2])]
ARM = np.array([0, 1, 1])
SUBJECTS = [4, 3, 2]
N = 23


@pytest.fixture
def system():
    """Three patterns of four visits in two arms, their rows spread over a table; the roots of weights."""
    r = np.random.default_rng(5)
    sizes = np.array([seen.size for seen in SEEN])
    bounds = [sizes, sizes * SUBJECTS, sizes * (sizes + 1) // 2, sizes**2]
    seen_ptr, row_ptr, first, square = (np.concatenate(([0], np.cumsum(own))) for own in bounds)
    rows = r.permutation(N)
    patterns = Patterns(ARM, seen_ptr, np.concatenate(SEEN), row_ptr, rows, first, square)
    sigma = np.array([M @ M.T + np.eye(4) for M in r.normal(size=(2, 4, 4))])
    return patterns, sigma, r.uniform(0.5, 2.0, N), r


def each(patterns):
    """Pattern, rows (subjects, v), pieces."""
    for g, seen in enumerate(SEEN):
        rows = patterns.rows[patterns.row_ptr[g] : patterns.row_ptr[g + 1]].reshape(-1, seen.size)
        yield g, seen, rows, slice(patterns.first[g], patterns.first[g + 1])


def pack(M):
    return M[np.tril_indices(len(M))]


def unpack(values):
    v = int(np.sqrt(2 * values.size))
    out = np.zeros((v, v))
    out[np.tril_indices(v)] = values
    return out + np.tril(out, -1).T


def inverses(patterns, sigma):
    return [np.linalg.inv(sigma[ARM[g]][np.ix_(seen, seen)]) for g, seen, _, _ in each(patterns)]


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
    jacobian, gradient = np.zeros((5, patterns.first[-1])), np.zeros(5)
    differentiate_patterns(
        patterns, np.concatenate([pack(M) for M in own]), slopes, place, jacobian, gradient
    )
    wanted, slope = np.zeros_like(jacobian), np.zeros(5)
    for g, seen, rows, pieces in each(patterns):
        for t in range(place[ARM[g]], place[ARM[g] + 1]):
            change = slopes[t][np.ix_(seen, seen)]
            wanted[t, pieces] = pack(-own[g] @ change @ own[g])
            slope[t] += len(rows) * np.trace(own[g] @ change)
    np.testing.assert_allclose(jacobian, wanted, atol=1e-12)
    np.testing.assert_allclose(gradient, slope, rtol=1e-11)


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
