"""The mixed model equations with rectangular loadings: C = F' G F on node blocks, and what is read from C^-1.

A node is one level of a term, one fixed column, or one missing plot.  It has m natural scalars, its
coefficients as the rows of the table meet them, and r spherical ones, u = Lambda s with Lambda (m, r).  G and
M = F C^-1 F' lie on the pattern of the natural scalars, C and its inverse on that of the spherical ones; both
patterns expand the same graph of nodes (`below_ptr`, `below`), a full block a pair of nodes.

    natural     first scalar of each node (N + 1,)      indptr_G
    spherical   first scalar of each node (N + 1,)      indptr_C
    loadings    (T, m, r) padded with zeros, by `term` of the node
"""

from __future__ import annotations

import numpy as np

from fastlmm_core.kernels.compile import kernel


@kernel
def multiply_own(G, columns, right, r, half):
    """half[:m, :r] = G_jj Lambda, for the symmetric block of node j whose columns start at `columns` (m,)."""
    m = columns.size
    for a in range(m):
        for c in range(r):
            total = 0.0
            for k in range(m):
                total += G[columns[min(a, k)] + abs(a - k)] * right[k, c]
            half[a, c] = total


@kernel
def multiply_below(G, columns, offset, h, right, r, half):
    """half[:h, :r] = G_ij Lambda for a node i of h scalars below j; whether G_ij has an entry."""
    m = columns.size
    for a in range(h):
        for c in range(r):
            half[a, c] = 0.0
    occurs = False
    for k in range(m):
        at = columns[k] + m - k + offset
        for a in range(h):
            value = G[at + a]
            if value != 0.0:
                occurs = True
                for c in range(r):
                    half[a, c] += value * right[k, c]
    return occurs


@kernel
def assemble_scalars(G, graph, indptr, loadings, C):
    """`assemble_loadings` where every node has one natural and one spherical scalar, on one pattern."""
    below_ptr, below, term = graph
    for j in range(term.size):
        right = loadings[term[j], 0, 0]
        at = indptr[j]
        C[at] += right * G[at] * right
        shift = at + 1 - below_ptr[j]
        for s in range(below_ptr[j], below_ptr[j + 1]):
            C[shift + s] += loadings[term[below[s]], 0, 0] * (G[shift + s] * right)


@kernel
def assemble_loadings(G, graph, natural, spherical, loadings, C):
    """C += F' G F, (nnz(C),); `graph` is (below_ptr, below, term), a side (start, indptr)."""
    if loadings.shape[1] == 1 and loadings.shape[2] == 1:
        assemble_scalars(G, graph, natural[1], loadings, C)
        return
    below_ptr, below, term = graph
    first_G, indptr_G = natural
    first_C, indptr_C = spherical
    m_max, r_max = loadings.shape[1], loadings.shape[2]
    half = np.empty((m_max, r_max))
    for j in range(term.size):
        right = loadings[term[j]]
        m, r = first_G[j + 1] - first_G[j], first_C[j + 1] - first_C[j]
        multiply_own(G, indptr_G[first_G[j] : first_G[j] + m], right, r, half)
        for c in range(r):
            at = indptr_C[first_C[j] + c] - c
            for d in range(c, r):
                total = 0.0
                for a in range(m):
                    total += right[a, d] * half[a, c]
                C[at + d] += total
        offset_G = 0
        offset_C = 0
        for s in range(below_ptr[j], below_ptr[j + 1]):
            i = below[s]
            left = loadings[term[i]]
            h, t = first_G[i + 1] - first_G[i], first_C[i + 1] - first_C[i]
            multiply_below(G, indptr_G[first_G[j] : first_G[j] + m], offset_G, h, right, r, half)
            for c in range(r):
                at = indptr_C[first_C[j] + c] + r - c + offset_C
                for d in range(t):
                    total = 0.0
                    for a in range(h):
                        total += left[a, d] * half[a, c]
                    C[at + d] += total
            offset_G += h
            offset_C += t


@kernel
def spread_inverse(C_inv, graph, natural, spherical, loadings, M):
    """M = F C^-1 F' on the pattern of G, (nnz(G),), from C^-1 on that of C."""
    if loadings.shape[1] == 1 and loadings.shape[2] == 1:
        M.fill(0.0)
        assemble_scalars(C_inv, graph, natural[1], loadings, M)
        return
    below_ptr, below, term = graph
    first_G, indptr_G = natural
    first_C, indptr_C = spherical
    half = np.empty((loadings.shape[1], loadings.shape[2]))
    for j in range(term.size):
        right = loadings[term[j]]
        m, r = first_G[j + 1] - first_G[j], first_C[j + 1] - first_C[j]
        for a in range(m):
            for c in range(r):
                total = 0.0
                for d in range(r):
                    total += right[a, d] * C_inv[indptr_C[first_C[j] + min(c, d)] + abs(c - d)]
                half[a, c] = total
        for b in range(m):
            at = indptr_G[first_G[j] + b] - b
            for a in range(b, m):
                total = 0.0
                for c in range(r):
                    total += half[a, c] * right[b, c]
                M[at + a] = total
        offset_G = 0
        offset_C = 0
        for s in range(below_ptr[j], below_ptr[j + 1]):
            i = below[s]
            left = loadings[term[i]]
            h, t = first_G[i + 1] - first_G[i], first_C[i + 1] - first_C[i]
            for a in range(h):
                for c in range(r):
                    at = indptr_C[first_C[j] + c] + r - c + offset_C
                    total = 0.0
                    for d in range(t):
                        total += left[a, d] * C_inv[at + d]
                    half[a, c] = total
            for b in range(m):
                at = indptr_G[first_G[j] + b] + m - b + offset_G
                for a in range(h):
                    total = 0.0
                    for c in range(r):
                        total += half[a, c] * right[b, c]
                    M[at + a] = total
            offset_G += h
            offset_C += t


@kernel
def accumulate_scalar_scores(G, C_inv, graph, indptr, loadings, W):
    """`accumulate_loading_scores` where every node has one natural and one spherical scalar.

    The nodes below come in runs of one term, whose products are summed before they meet W.
    """
    below_ptr, below, term = graph
    for j in range(term.size):
        own = term[j]
        right = loadings[own, 0, 0]
        at = indptr[j]
        W[own, 0, 0] += G[at] * right * C_inv[at]
        shift = at + 1 - below_ptr[j]
        s = below_ptr[j]
        while s < below_ptr[j + 1]:
            other = term[below[s]]
            total = 0.0
            while s < below_ptr[j + 1] and term[below[s]] == other:
                total += G[shift + s] * C_inv[shift + s]
                s += 1
            W[other, 0, 0] += total * right
            W[own, 0, 0] += total * loadings[other, 0, 0]


@kernel
def accumulate_loading_scores(G, C_inv, graph, natural, spherical, loadings, W):
    """W[k] += sum over the levels of term k of (G F C^-1)_aa, (T, m, r): half of d log|C| / d Lambda_k.

    Nothing is subtracted, so that W keeps its relative accuracy as a variance goes to zero.
    """
    if loadings.shape[1] == 1 and loadings.shape[2] == 1:
        accumulate_scalar_scores(G, C_inv, graph, natural[1], loadings, W)
        return
    below_ptr, below, term = graph
    first_G, indptr_G = natural
    first_C, indptr_C = spherical
    half = np.empty((loadings.shape[1], loadings.shape[2]))
    for j in range(term.size):
        right = loadings[term[j]]
        m, r = first_G[j + 1] - first_G[j], first_C[j + 1] - first_C[j]
        own = W[term[j]]
        multiply_own(G, indptr_G[first_G[j] : first_G[j] + m], right, r, half)
        for a in range(m):
            for c in range(r):
                total = 0.0
                for d in range(r):
                    total += half[a, d] * C_inv[indptr_C[first_C[j] + min(c, d)] + abs(c - d)]
                own[a, c] += total
        offset_G = 0
        offset_C = 0
        for s in range(below_ptr[j], below_ptr[j + 1]):
            i = below[s]
            left = loadings[term[i]]
            other = W[term[i]]
            h, t = first_G[i + 1] - first_G[i], first_C[i + 1] - first_C[i]
            if multiply_below(G, indptr_G[first_G[j] : first_G[j] + m], offset_G, h, right, r, half):
                # level i: G_ij Lambda_j (C^-1)_ji
                for c in range(r):
                    at = indptr_C[first_C[j] + c] + r - c + offset_C
                    for d in range(t):
                        value = C_inv[at + d]
                        for a in range(h):
                            other[a, d] += half[a, c] * value
                # level j: G_ji Lambda_i (C^-1)_ij
                for k in range(m):
                    at = indptr_G[first_G[j] + k] + m - k + offset_G
                    for d in range(t):
                        total = 0.0
                        for a in range(h):
                            total += G[at + a] * left[a, d]
                        if total != 0.0:
                            for c in range(r):
                                own[k, c] += total * C_inv[indptr_C[first_C[j] + c] + r - c + offset_C + d]
            offset_G += h
            offset_C += t


@kernel
def apply_loadings(term, first_out, first_in, loadings, B, out):
    """out = F B, natural (q, k) from spherical (q', k); F' B with sides and loadings turned."""
    for j in range(term.size):
        factor = loadings[term[j]]
        for a in range(first_out[j + 1] - first_out[j]):
            row = out[first_out[j] + a]
            for c in range(row.size):
                row[c] = 0.0
            for d in range(first_in[j + 1] - first_in[j]):
                value = factor[a, d]
                if value != 0.0:
                    source = B[first_in[j] + d]
                    for c in range(row.size):
                        row[c] += value * source[c]


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
