"""Per-term statistics of the score against dense formulas."""

import numpy as np
import pytest
from random_pattern import on_pattern, random_pattern

from fastlmm_core.kernels.equations.systems import Pattern
from fastlmm_core.kernels.search.score import (
    TINY_FACTOR,
    divide_by_factors,
    fill_factors,
    form_working_vectors,
    prepare_information,
    subtract_squares,
    sum_squared_blocks,
)
from fastlmm_core.kernels.search.starting_values import halve_fixed_part

TERM = np.array([0, 0, 0, 1])
ROW = np.array([0, 1, 1, 0])
COL = np.array([0, 0, 1, 0])


def factors_for(theta):
    factors = np.zeros((3, 2, 2))
    factors[2, 0, 0] = 1.0
    fill_factors(np.array(theta), TERM, ROW, COL, factors)
    return factors


def test_theta_goes_to_its_places():
    factors = factors_for([1.5, -0.3, 0.7, 2.0])
    assert np.array_equal(factors[0], [[1.5, 0.0], [-0.3, 0.7]])
    assert factors[1, 0, 0] == 2.0
    assert factors[2, 0, 0] == 1.0


def test_zero_diagonals_become_tiny_and_zero_covariances_do_not():
    factors = factors_for([0.0, 0.0, -0.0, -1e-20])
    assert factors[0, 0, 0] == TINY_FACTOR
    assert factors[0, 1, 1] in (TINY_FACTOR, -TINY_FACTOR)
    assert factors[0, 1, 0] == 0.0
    assert factors[1, 0, 0] == -TINY_FACTOR


def test_division_by_factors_undoes_the_product():
    r = np.random.default_rng(0)
    factors = factors_for([1.5, -0.3, 0.7, 2.0])
    H = r.normal(size=(2, 2, 2))
    H = H + np.swapaxes(H, 1, 2)
    H[1, 1, :] = H[1, :, 1] = 0.0
    out = np.zeros_like(H)
    divide_by_factors(H @ factors[:2], factors, np.array([2, 1]), out)
    np.testing.assert_allclose(out, H, atol=1e-13)


def test_working_vectors_and_information():
    """X[:, t] = (I (x) dT_t) q, with F'GX and X'GX, for a block and a scalar term."""
    pattern = random_pattern(3, n=35, terms=((6, 2), (5, 1)), p=2)
    factors = factors_for([1.5, -0.3, 0.7, 2.0])
    r = np.random.default_rng(1)
    size = pattern.start[-1]
    q = r.normal(size=size)
    X = np.full((size, 4), np.nan)
    form_working_vectors(pattern.start, pattern.term, TERM, ROW, COL, factors, q, X)
    expected, F = np.zeros((size, 4)), np.zeros((size, size))
    for j in range(pattern.n_nodes):
        at = slice(pattern.start[j], pattern.start[j + 1])
        m = at.stop - at.start
        F[at, at] = factors[pattern.term[j], :m, :m]
        for t in range(4):
            if TERM[t] == pattern.term[j]:
                dL = np.zeros((m, m))
                dL[ROW[t], COL[t]] = 1.0
                half = dL @ factors[TERM[t], :m, :m].T
                expected[at, t] = (half + half.T) @ q[at]
    np.testing.assert_allclose(X, expected, atol=1e-13)
    indptr, indices = pattern.scalar
    G = pattern.dense.T @ pattern.dense
    B, inner = prepare_information(
        on_pattern(indptr, indices, G), indptr, indices, pattern.start, pattern.term, factors, X
    )
    np.testing.assert_allclose(B, F.T @ G @ expected, atol=1e-11)
    np.testing.assert_allclose(inner, expected.T @ G @ expected, atol=1e-11)


def test_squares():
    r = np.random.default_rng(2)
    D, half = r.normal(size=(3, 3)), r.normal(size=(7, 3))
    out = D.copy()
    subtract_squares(out, half)
    np.testing.assert_allclose(out, D - half.T @ half, atol=1e-13)


@pytest.mark.parametrize("budget", [1e9, 0.0])
def test_squared_blocks(budget):
    """tr(Z_kc' M Z_hd Z_hd' M Z_kc) for every pair of coefficients, with the fixed part taken out or not."""
    pattern = random_pattern(4, n=30, terms=((6, 2), (5, 1)), p=3)
    indptr, indices = pattern.scalar
    G = pattern.dense.T @ pattern.dense
    data, below = on_pattern(indptr, indices, G), pattern.below
    system = Pattern(indptr, indices, *below, pattern.start, pattern.term)
    half = halve_fixed_part(data, system, 2, 2, budget)
    X = pattern.dense[:, np.isin(np.arange(G.shape[0]), pattern.start[:-1][pattern.term == 2])]
    M = np.eye(30) - X @ np.linalg.pinv(X)
    if budget == 0.0:
        assert half.shape[1] == 0
        M = np.eye(30)
    out = np.zeros((2, 2, 2, 2))
    sum_squared_blocks(data, indptr, *below, pattern.start, pattern.term, 2, half, out)
    expected, inside = np.zeros_like(out), pattern.dense.T @ M @ pattern.dense
    for k, m in enumerate(pattern.sizes):
        for h, w in enumerate(pattern.sizes):
            for c in range(m):
                for d in range(w):
                    rows = pattern.start[:-1][pattern.term == k] + c
                    others = pattern.start[:-1][pattern.term == h] + d
                    expected[k, c, h, d] = np.sum(inside[np.ix_(rows, others)] ** 2)
    np.testing.assert_allclose(out, expected, rtol=1e-11)


def test_no_half_of_a_singular_fixed_part():
    pattern = random_pattern(5, n=30, terms=((6, 1),), p=3)
    fixed = pattern.start[:-1][pattern.term == 1]
    dense = pattern.dense.copy()
    dense[:, fixed[2]] = dense[:, fixed[0]] - 2.0 * dense[:, fixed[1]]
    size = dense.shape[1]  # every entry: the combination meets what its parts meet
    indptr = np.concatenate(([0], np.cumsum(np.arange(size, 0, -1))))
    indices = np.concatenate([np.arange(j, size) for j in range(size)])
    data = on_pattern(indptr, indices, dense.T @ dense)
    system = Pattern(indptr, indices, *pattern.below, pattern.start, pattern.term)
    assert halve_fixed_part(data, system, 1, 1, 1e9).shape[1] == 0
