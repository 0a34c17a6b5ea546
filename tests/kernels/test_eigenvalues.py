"""Eigenvalues of small symmetric matrices against LAPACK."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastlmm_core.kernels.eigenvalues import diagonalize


def check(A):
    values, vectors = diagonalize(A)
    d, size = A.shape[0], float(np.abs(A).max())
    np.testing.assert_allclose(np.sort(values), np.linalg.eigvalsh(A), rtol=0.0, atol=1e-13 * size * d)
    np.testing.assert_allclose(vectors @ np.diag(values) @ vectors.T, A, rtol=0.0, atol=1e-13 * size * d)
    np.testing.assert_allclose(vectors.T @ vectors, np.eye(d), atol=1e-13)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 12), st.sampled_from([1e-200, 1e-12, 1.0, 1e9, 1e200]))
def test_eigenvalues_in_any_unit(seed, d, unit):
    A = np.random.default_rng(seed).normal(size=(d, d))
    check(unit * (A + A.T))


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 9), st.integers(1, 4))
def test_eigenvalues_that_coincide(seed, d, rank):
    r = np.random.default_rng(seed)
    Q = np.linalg.qr(r.normal(size=(d, d)))[0]
    A = Q @ np.diag(np.repeat([2.0, -1.0, 0.0], d)[: 3 * d : 3]) @ Q.T
    check(0.5 * (A + A.T))
    low = r.normal(size=(d, min(rank, d)))
    check(low @ low.T)


@pytest.mark.compiled
def test_large_and_graded_matrices():
    r = np.random.default_rng(1)
    A = r.normal(size=(80, 80))
    check(A + A.T)
    scale = 10.0 ** r.uniform(-6, 0, size=30)
    A = r.normal(size=(30, 30))
    check(scale[:, None] * (A @ A.T) * scale)


def test_special_matrices():
    values, vectors = diagonalize(np.zeros((3, 3)))
    assert not values.any()
    assert np.array_equal(vectors, np.eye(3))
    values, vectors = diagonalize(np.diag([3.0, -1.0, 2.0]))
    assert np.array_equal(values, [3.0, -1.0, 2.0])  # exactly, in their places
    assert np.array_equal(vectors, np.eye(3))
    values, _ = diagonalize(np.ones((4, 4)))
    np.testing.assert_allclose(np.sort(values), [0, 0, 0, 4], atol=1e-14)
    for bad in (np.nan, np.inf):
        values, _ = diagonalize(np.array([[1.0, bad], [bad, 1.0]]))
        assert np.isnan(values).all()
