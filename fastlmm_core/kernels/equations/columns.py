"""Columns of [Z X] on a common scale, and products with sparse columns.

Columns are compressed: `indptr` (p + 1,), `indices`, `data`.
"""

from __future__ import annotations

import numpy as np

from fastlmm_core.kernels.compile import kernel


@kernel
def multiply_columns(indptr, indices, data, beta, out):
    """out (n,) += X beta."""
    for j in range(beta.size):
        b = beta[j]
        if b != 0.0:
            for t in range(indptr[j], indptr[j + 1]):
                out[indices[t]] += data[t] * b


@kernel
def subtract_columns(indptr, indices, data, beta, y, out):
    """out (n,) = y - X beta, in about twice the precision of its terms.

    Products and sums come with their rounding errors (Dekker 1971; Ogita, Rump & Oishi 2005, Dot2), which are
    added up apart.
    """
    n = y.size
    rest = np.zeros(n)
    for i in range(n):
        out[i] = y[i]
    for j in range(beta.size):
        b = -beta[j]
        if b == 0.0:
            continue
        split = 134217729.0 * b  # 2^27 + 1 halves the digits
        b_high = split - (split - b)
        b_low = b - b_high
        for t in range(indptr[j], indptr[j + 1]):
            i, x = indices[t], data[t]
            split = 134217729.0 * x
            x_high = split - (split - x)
            x_low = x - x_high
            product = x * b
            error = x_low * b_low - (((product - x_high * b_high) - x_low * b_high) - x_high * b_low)
            total = out[i] + product
            part = total - out[i]
            rest[i] += ((out[i] - (total - part)) + (product - part)) + error
            out[i] = total
    for i in range(n):
        out[i] += rest[i]


@kernel
def multiply_columns_transposed(indptr, indices, data, v):
    """X' v, (p,); of a matrix by rows, its product with v."""
    out = np.zeros(indptr.size - 1)
    for j in range(out.size):
        total = 0.0
        for t in range(indptr[j], indptr[j + 1]):
            total += data[t] * v[indices[t]]
        out[j] = total
    return out


@kernel
def standardize_columns(indptr, indices, data, n, has_intercept):
    """Centre the dense columns that are not constant (given an intercept) and scale all to mean square one.

    The intercept is the first column.  Indicator and other sparse columns are not centred, so they stay
    sparse.

    Returns
    -------
    indptr int64, indices int64, data : the new columns
    shift, scale : (p,) float64
        x_inside = (x - shift) / scale.
    """
    p = indptr.size - 1
    shift = np.zeros(p)
    scale = np.empty(p)
    new_indptr = np.zeros(p + 1, np.int64)
    for j in range(p):
        count = indptr[j + 1] - indptr[j]
        if has_intercept and j > 0 and 2 * count > n:
            first = data[indptr[j]]
            total = 0.0
            constant = True
            for t in range(indptr[j], indptr[j + 1]):
                total += data[t]
                constant = constant and data[t] == first
            if not constant:
                shift[j] = total / n
        new_indptr[j + 1] = new_indptr[j] + (n if shift[j] != 0.0 else count)
    new_indices = np.empty(new_indptr[p], np.int64)
    new_data = np.empty(new_indptr[p])
    for j in range(p):
        at = new_indptr[j]
        if shift[j] != 0.0:
            for i in range(n):
                new_indices[at + i] = i
                new_data[at + i] = -shift[j]
            for t in range(indptr[j], indptr[j + 1]):
                new_data[at + indices[t]] = data[t] - shift[j]
        else:
            for t in range(indptr[j], indptr[j + 1]):
                new_indices[at + t - indptr[j]] = indices[t]
                new_data[at + t - indptr[j]] = data[t]
        square = 0.0
        for t in range(at, new_indptr[j + 1]):
            square += new_data[t] * new_data[t]
        scale[j] = np.sqrt(square / n) if square > 0.0 else 1.0
        for t in range(at, new_indptr[j + 1]):
            new_data[t] /= scale[j]
    return new_indptr, new_indices, new_data, shift, scale


@kernel
def orthonormal_basis(values, diagonal):
    """Basis (m, m) in which the coefficients of a term have columns of mean square one.

    The columns of values @ basis are orthogonal as well when `diagonal` is false and they are independent
    (modified Gram-Schmidt, upper triangular); else they are scaled only.
    """
    n, m = values.shape
    scale = np.empty(m)
    for c in range(m):
        square = 0.0
        for i in range(n):
            square += values[i, c] * values[i, c]
        scale[c] = np.sqrt(square / n) if square > 0.0 else 1.0
    basis = np.zeros((m, m))
    for c in range(m):
        basis[c, c] = 1.0 / scale[c]
    if diagonal or m == 1:
        return basis
    work = np.empty((n, m))
    for i in range(n):
        for c in range(m):
            work[i, c] = values[i, c] / scale[c]
    full = basis.copy()
    for c in range(m):
        for b in range(c):
            for _ in range(2):  # twice is enough
                product = 0.0
                for i in range(n):
                    product += work[i, b] * work[i, c]
                product /= n
                for i in range(n):
                    work[i, c] -= product * work[i, b]
                for a in range(m):
                    full[a, c] -= product * full[a, b]
        square = 0.0
        for i in range(n):
            square += work[i, c] * work[i, c]
        norm = np.sqrt(square / n)
        if not norm > 1e-10:
            return basis
        for i in range(n):
            work[i, c] /= norm
        for a in range(m):
            full[a, c] /= norm
    return full


@kernel
def list_entries(indptr, indices, data, codes, values, widths, first_node):
    """[Z X] by observation, as ``kernels.equations.crossproducts`` takes it.

    Parameters
    ----------
    indptr, indices, data : columns of X
    codes : (K, n) int64
    values : (n, sum of widths) float64
        Coefficients of all terms side by side.
    widths : (K,) int64
    first_node : (K + 1,) int64
        First node of each term, and of the fixed columns.
    """
    K, n = codes.shape
    total = 0
    for k in range(K):
        total += widths[k]
    row_ptr = np.zeros(n + 1, np.int64)
    for t in range(indptr[indptr.size - 1]):
        row_ptr[indices[t] + 1] += 1
    for i in range(n):
        row_ptr[i + 1] += row_ptr[i] + K
    row_node = np.empty(row_ptr[n], np.int64)
    row_val = np.zeros(row_ptr[n] + 1, np.int64)
    flat = np.empty(row_ptr[n] + n * (total - K))
    at = 0
    fill = np.empty(n, np.int64)
    for i in range(n):
        column = 0
        e = row_ptr[i]
        for k in range(K):
            row_node[e] = first_node[k] + codes[k, i]
            for _ in range(widths[k]):
                flat[at] = values[i, column]
                at += 1
                column += 1
            e += 1
            row_val[e] = at
        fill[i] = e
        for t in range(e, row_ptr[i + 1]):
            at += 1
            row_val[t + 1] = at
    for j in range(indptr.size - 1):
        for t in range(indptr[j], indptr[j + 1]):
            i = indices[t]
            row_node[fill[i]] = first_node[K] + j
            flat[row_val[fill[i]]] = data[t]
            fill[i] += 1
    return row_ptr, row_node, row_val, flat
