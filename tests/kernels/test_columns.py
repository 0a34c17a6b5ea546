"""Columns on a common scale, orthonormal bases and entry lists against dense arrays."""

from fractions import Fraction

import numpy as np
import pytest
import scipy.sparse as sp

from fastlmm_core.kernels.equations.columns import (
    list_entries,
    multiply_columns,
    multiply_columns_transposed,
    orthonormal_basis,
    standardize_columns,
    subtract_columns,
)


def columns(seed=0, n=25):
    """Intercept, a covariate far from zero, an indicator, a sparse column, a covariate in a small unit."""
    r = np.random.default_rng(seed)
    X = np.column_stack(
        [
            np.ones(n),
            1e6 + r.normal(size=n),
            r.random(n) < 0.7,
            np.where(r.random(n) < 0.2, r.normal(size=n), 0.0),
            1e-8 * r.normal(size=n),
        ]
    )
    S = sp.csc_array(X)
    return X, S.indptr.astype(np.int64), S.indices.astype(np.int64), S.data


def test_products():
    X, *csc = columns()
    r = np.random.default_rng(1)
    beta, v = r.normal(size=5), r.normal(size=25)
    out = np.ones(25)
    multiply_columns(*csc, beta, out)
    np.testing.assert_allclose(out, 1 + X @ beta, rtol=1e-12)
    np.testing.assert_allclose(multiply_columns_transposed(*csc, v), X.T @ v, rtol=1e-12)


@pytest.mark.parametrize("has_intercept", [True, False])
def test_standardized_columns(has_intercept):
    X, *csc = columns()
    csc = (*(own.astype(np.int32) for own in csc[:2]), csc[2])  # as SciPy has them
    indptr, indices, data, shift, scale = standardize_columns(*csc, 25, has_intercept)
    inside = sp.csc_array((data, indices, indptr), shape=X.shape).toarray()
    np.testing.assert_allclose(inside, (X - shift) / scale, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(np.mean(inside**2, axis=0), 1.0, rtol=1e-10)
    if has_intercept:
        np.testing.assert_allclose(shift[[1, 4]], X[:, [1, 4]].mean(axis=0), rtol=1e-12)
        assert not shift[[0, 2, 3]].any()  # constant, indicator, sparse
        np.testing.assert_allclose(inside[:, [1, 4]].mean(axis=0), 0, atol=1e-9)
    else:
        assert not shift.any()


def test_empty_column_keeps_its_scale():
    S = sp.csc_array(np.column_stack([np.ones(4), np.zeros(4)]))
    *_, scale = standardize_columns(S.indptr, S.indices, S.data, 4, True)
    assert scale[1] == 1.0


def test_basis_of_a_term():
    r = np.random.default_rng(2)
    values = np.column_stack([np.ones(50), 1e5 + 10 * r.normal(size=50), 1e-7 * r.normal(size=50)])
    basis = orthonormal_basis(values, False)
    assert np.array_equal(basis, np.triu(basis))
    inside = values @ basis
    np.testing.assert_allclose(inside.T @ inside / 50, np.eye(3), atol=1e-7)
    scaled = orthonormal_basis(values, True)
    np.testing.assert_allclose(scaled, np.diag(1 / np.sqrt(np.mean(values**2, axis=0))), rtol=1e-12)


def test_basis_of_dependent_coefficients_is_a_scale():
    x = np.arange(1.0, 9.0)
    basis = orthonormal_basis(np.column_stack([x, 2 * x]), False)
    np.testing.assert_allclose(basis, np.diag(1 / np.sqrt([np.mean(x**2), np.mean(4 * x**2)])), rtol=1e-12)
    assert orthonormal_basis(np.zeros((5, 1)), False)[0, 0] == 1.0


def test_entry_lists_rebuild_the_matrix():
    X, *csc = columns()
    r = np.random.default_rng(3)
    codes = np.array([r.integers(0, 4, 25), r.integers(0, 3, 25)])
    values = r.normal(size=(25, 3))  # widths 2 and 1
    first_node = np.array([0, 4, 7])
    row_ptr, row_node, row_val, flat = list_entries(*csc, codes, values, np.array([2, 1]), first_node)
    width = np.array([2] * 4 + [1] * 3 + [1] * 5)
    start = np.concatenate(([0], np.cumsum(width)))
    got = np.zeros((25, start[-1]))
    for i in range(25):
        for e in range(row_ptr[i], row_ptr[i + 1]):
            got[i, start[row_node[e]] : start[row_node[e] + 1]] = flat[row_val[e] : row_val[e + 1]]
    expected = np.zeros_like(got)
    for i in range(25):
        expected[i, 2 * codes[0, i] : 2 * codes[0, i] + 2] = values[i, :2]
        expected[i, 8 + codes[1, i]] = values[i, 2]
    expected[:, 11:] = X
    np.testing.assert_array_equal(got, expected)
    assert row_val[-1] == flat.size


def test_subtraction_keeps_what_cancels():
    """y - X beta where nearly all digits cancel, against fractions."""
    r = np.random.default_rng(8)
    X = sp.csc_array(r.normal(size=(9, 4)) * (r.uniform(size=(9, 4)) < 0.7))
    beta = np.array([1e8, -3.3, 0.0, 1e-5])
    y = X @ beta + 1e-9 * r.normal(size=9)
    out = np.empty(9)
    subtract_columns(X.indptr, X.indices, X.data, beta, y, out)
    dense = X.toarray()
    exact = [
        Fraction(y[i]) - sum(Fraction(dense[i, j]) * Fraction(beta[j]) for j in range(4)) for i in range(9)
    ]
    np.testing.assert_allclose(out, [float(value) for value in exact], rtol=1e-14, atol=1e-22)
