"""Places of entries in lower triangles, and G = W' R^-1 W as products on its pattern, by pieces of R^-1."""

from __future__ import annotations

import numpy as np

from fastlmm_core.kernels.compile import kernel


@kernel
def find_entry(indptr, indices, row, column):
    """Place of (row, column), row >= column, in a lower triangle with sorted columns; -1 where it is not."""
    low, high = indptr[column], indptr[column + 1]
    while low < high:
        middle = (low + high) // 2
        if indices[middle] < row:
            low = middle + 1
        else:
            high = middle
    if low < indptr[column + 1] and indices[low] == row:
        return low
    return -1


@kernel
def find_entries(indptr, indices, rows, columns):
    """`find_entry` for arrays of rows and columns, either of which may be the larger."""
    out = np.empty(rows.size, np.int64)
    for k in range(rows.size):
        out[k] = find_entry(indptr, indices, max(rows[k], columns[k]), min(rows[k], columns[k]))
    return out


@kernel
def expand_piece_products(matrix, pairs, indptr, indices, place, piece, product):
    """Every product that W' E_b W is a sum of: its place in the pattern of G, its piece b and its value.

    `matrix` is W (n, q) as (indptr, indices, data) by rows; `pairs` are the entries of all E_b on and below
    the diagonal as (row, column, piece, value).
    """
    W_ptr, W_index, W_value = matrix
    row, column, number, value = pairs
    at = 0
    for k in range(row.size):
        i, j = row[k], column[k]
        for s in range(W_ptr[i], W_ptr[i + 1]):
            for t in range(W_ptr[j], W_ptr[j + 1]):
                a, b = W_index[s], W_index[t]
                if i == j and a < b:
                    continue
                place[at] = find_entry(indptr, indices, max(a, b), min(a, b))
                piece[at] = number[k]
                factor = 2.0 if i != j and a == b else 1.0
                product[at] = factor * value[k] * W_value[s] * W_value[t]
                at += 1
    return at


@kernel
def sum_piece_products(matrix, turned, pairs, indptr, indices, out):
    """out (nnz(G), pieces) += the values of W' E_b W on the pattern of G; see `expand_piece_products`.

    `turned` is W' by rows, and `pairs` the entries of all E_b above and below the diagonal, by rows as
    (indptr, column, piece, value). A column of G is done at a time, with the places of its rows at hand:
    to search for each product costs seven times as much.
    """
    W_ptr, W_index, W_value = matrix
    column_ptr, column_row, column_value = turned
    E_ptr, E_column, number, value = pairs
    place = np.empty(column_ptr.size - 1, np.int64)
    for b in range(column_ptr.size - 1):
        for p in range(indptr[b], indptr[b + 1]):
            place[indices[p]] = p
        for t in range(column_ptr[b], column_ptr[b + 1]):
            j = column_row[t]
            for k in range(E_ptr[j], E_ptr[j + 1]):
                factor = value[k] * column_value[t]
                i = E_column[k]
                for s in range(W_ptr[i + 1] - 1, W_ptr[i] - 1, -1):  # ascending: what is below b comes first
                    if W_index[s] < b:
                        break
                    out[place[W_index[s]], number[k]] += factor * W_value[s]


@kernel
def sum_row_forms(matrix, indptr, indices, values, out):
    """out[i] = a_i' M a_i for rows a_i of a matrix and a symmetric M, known on a lower triangle.

    NaN where two entries of a row, none of them zero, are not on it.
    """
    A_ptr, A_index, A_value = matrix
    for i in range(out.size):
        total = 0.0
        for s in range(A_ptr[i], A_ptr[i + 1]):
            if A_value[s] == 0.0:
                continue
            for t in range(A_ptr[i], s + 1):
                if A_value[t] == 0.0:
                    continue
                a, b = A_index[s], A_index[t]
                place = find_entry(indptr, indices, max(a, b), min(a, b))
                if place < 0:
                    total = np.nan
                    break
                total += (1.0 if a == b else 2.0) * A_value[s] * A_value[t] * values[place]
            if np.isnan(total):
                break
        out[i] = total
