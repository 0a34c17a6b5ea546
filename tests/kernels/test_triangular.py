"""Dense factors, solves and inverses by halves, within larger arrays, against definitions."""

import numpy as np
import pytest

from fastlmm_core.kernels.blas import ADDRESSES, make_workspace
from fastlmm_core.kernels.factor.triangular import (
    FACTOR_LEAF,
    LEAF,
    factorize_columns,
    invert_from_cholesky,
    solve_triangular_right,
)

# Around one, two and several leaves, and numbers of leaves that are no power of two.
SIZES = [1, 2, LEAF - 1, LEAF, LEAF + 1, FACTOR_LEAF + 1, 3 * LEAF, 5 * LEAF + 3, 7 * FACTOR_LEAF, 211, 400]


def positive_definite(m, rng):
    root = rng.normal(size=(m, m + 3))
    return root @ root.T + m * np.eye(m)


def within(rows, values, rng):
    """Column-major noise of leading dimension `rows` that holds `values` in its first rows and columns."""
    out = np.asfortranarray(rng.normal(size=(rows, max(rows, values.shape[1]))))
    out[: values.shape[0], : values.shape[1]] = values
    return out


@pytest.mark.parametrize("m", SIZES)
def test_an_inverse_stays_in_its_triangle(m):
    r = np.random.default_rng(m)
    A = positive_definite(m, r)
    before = within(m + 5, A, r)
    square = before.copy(order="F")
    square[:m, :m] = np.tril(np.linalg.cholesky(A)) + np.triu(before[:m, :m], 1)
    invert_from_cholesky(ADDRESSES, make_workspace(), square.ctypes.data, m + 5, m)
    lower = np.tril_indices(m)
    np.testing.assert_allclose(square[:m, :m][lower], np.linalg.inv(A)[lower], rtol=1e-9, atol=1e-12)
    outside = np.ones(square.shape, bool)
    outside[:m, :m] = np.triu(np.ones((m, m), bool), 1)
    np.testing.assert_array_equal(square[outside], before[outside])


@pytest.mark.parametrize("below", [0, 1, 70])
@pytest.mark.parametrize("m", SIZES)
def test_columns_of_a_front_become_those_of_the_factor(m, below):
    r = np.random.default_rng(m + below)
    A = positive_definite(m + below, r)
    before = within(m + below + 4, A[:, :m], r)
    panel = before.copy(order="F")
    size = m + below
    assert factorize_columns(ADDRESSES, make_workspace(), panel.ctypes.data, size + 4, m, size) == 0
    L = np.linalg.cholesky(A)[:, :m]
    lower = np.tril(np.ones((size, m), bool))
    np.testing.assert_allclose(panel[:size, :m][lower], L[lower], rtol=1e-11, atol=1e-11)
    outside = np.ones(panel.shape, bool)
    outside[:size, :m] = ~lower
    np.testing.assert_array_equal(panel[outside], before[outside])


@pytest.mark.parametrize("pivot", [1, LEAF, FACTOR_LEAF, FACTOR_LEAF + 1, 3 * FACTOR_LEAF + 5, 150])
def test_the_pivot_that_is_not_positive_is_named(pivot):
    r = np.random.default_rng(pivot)
    A = positive_definite(150, r)
    L = np.linalg.cholesky(A)
    A[pivot - 1, pivot - 1] -= L[pivot - 1, pivot - 1] ** 2 + 1.0
    panel = np.asfortranarray(A)
    assert factorize_columns(ADDRESSES, make_workspace(), panel.ctypes.data, 150, 150, 150) == pivot


@pytest.mark.parametrize("place", [0, 20, 100])
def test_not_a_number_reaches_the_last_pivot(place):
    A = positive_definite(120, np.random.default_rng(place))
    A[place, place] = np.nan
    panel = np.asfortranarray(A)
    failed = factorize_columns(ADDRESSES, make_workspace(), panel.ctypes.data, 120, 120, 120)
    assert failed != 0 or np.isnan(panel[119, 119])


@pytest.mark.parametrize("transposed", [True, False])
@pytest.mark.parametrize("m", SIZES)
def test_solves_from_the_right(m, transposed):
    r = np.random.default_rng(m)
    rows = 37
    lower = np.tril(np.linalg.cholesky(positive_definite(m, r)))
    L = within(m + 3, lower + np.triu(r.normal(size=(m, m)), 1), r)
    B = r.normal(size=(rows, m))
    before = within(rows + max(m, 2), B, r)
    Y = before.copy(order="F")
    solve_triangular_right(
        ADDRESSES, make_workspace(), L.ctypes.data, m + 3, transposed, Y.ctypes.data, Y.shape[0], rows, m
    )
    right = lower.T if transposed else lower
    np.testing.assert_allclose(Y[:rows, :m] @ right, B, rtol=1e-10, atol=1e-10)
    Y[:rows, :m] = before[:rows, :m]
    np.testing.assert_array_equal(Y, before)


def test_solves_with_columns_of_any_scale_are_as_stable_as_those_of_lapack():
    """Residual of the solve by rows of L, scaled: an explicit inverse of a leaf would lose digits here."""
    r = np.random.default_rng(4)
    m = 6 * LEAF
    scale = 10.0 ** r.uniform(-9, 9, m)
    L = np.asfortranarray(np.tril(np.linalg.cholesky(positive_definite(m, r))) * scale[:, None])
    B = r.normal(size=(20, m))
    Y = np.asfortranarray(B)
    solve_triangular_right(ADDRESSES, make_workspace(), L.ctypes.data, m, True, Y.ctypes.data, 20, 20, m)
    bound = np.abs(Y) @ np.abs(L.T)
    assert np.max(np.abs(Y @ L.T - B) / bound) < 3 * m * np.finfo(float).eps
