"""Products with sums of pieces on the pattern of C.

What a fit multiplies at every step is small: a call of SciPy would take longer than the product.
"""

from __future__ import annotations

from fastlmm_core.kernels.compile import kernel


@kernel
def add_pieces(indptr, place, value, c, out):
    """out += sum_b c_b P_b (nnz(C),), for pieces by columns on the pattern of C."""
    for b in range(c.size):
        for t in range(indptr[b], indptr[b + 1]):
            out[place[t]] += value[t] * c[b]


@kernel
def multiply_pieces(indptr, row, column, value, c, B, out):
    """out += P B for P = sum_b c_b P_b and B, out (size, k).

    Entries on and below the diagonal, of piece b from `indptr[b]` on.
    """
    k = B.shape[1]
    for b in range(c.size):
        if c[b] == 0.0:
            continue
        for t in range(indptr[b], indptr[b + 1]):
            i, j = row[t], column[t]
            factor = c[b] * value[t]
            for a in range(k):
                out[i, a] += factor * B[j, a]
            if i != j:
                for a in range(k):
                    out[j, a] += factor * B[i, a]


@kernel
def contract_pieces(indptr, row, column, value, C_inv, s, out):
    """out[b] = <C^-1, P_b> + s' P_b s, (pieces,), from C^-1 at the entries and s (size,)."""
    for b in range(out.size):
        total = 0.0
        for t in range(indptr[b], indptr[b + 1]):
            i, j = row[t], column[t]
            product = value[t] * (C_inv[t] + s[i] * s[j])
            total += product if i == j else 2.0 * product
        out[b] = total


@kernel
def multiply_row_pieces(row, column, piece, value, users, E, out):
    """out[:, t] += sum_b c_tb E_b E (n_rows, t), for symmetric E_b of entries on and below the diagonal.

    `users` lists by pieces, (indptr, t, c_tb), where c is not zero: a parameter of one field has a dozen of
    the hundreds of all.
    """
    ptr, number, factor = users
    for k in range(row.size):
        i, j, b = row[k], column[k], piece[k]
        for s in range(ptr[b], ptr[b + 1]):
            product = factor[s] * value[k]
            out[i, number[s]] += product * E[j]
            if i != j:
                out[j, number[s]] += product * E[i]


@kernel
def sum_row_pieces(row, column, piece, value, e, out):
    """out[b] += e' E_b e (pieces,), for symmetric E_b of entries on and below the diagonal."""
    for k in range(row.size):
        i, j = row[k], column[k]
        product = value[k] * e[i] * e[j]
        out[piece[k]] += product if i == j else 2.0 * product


@kernel
def add_transposed_product(indptr, indices, data, B, out):
    """out (q, t) += A' B of A (n, q) by rows and B (n, t)."""
    for i in range(B.shape[0]):
        for s in range(indptr[i], indptr[i + 1]):
            j, x = indices[s], data[s]
            for c in range(B.shape[1]):
                out[j, c] += x * B[i, c]
