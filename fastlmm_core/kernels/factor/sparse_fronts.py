"""Fronts whose rows below keep the few entries they have: elimination, solves and inverse subset.

With the columns J of a front and the rows I below, C_IJ = X is sparse when the front comes, and
L_IJ = X L_JJ^-T is not.  L_IJ is never formed.  With K = L_JJ^-1

    C_II <- C_II - U X',  U = (X K') K,
    Z_IJ = -(Z_II X K') K,    Z_JJ = K' (I + K X' Z_II X K') K,

where the products with X go entry by entry down columns of the block below, and Z_IJ is read only where X has
entries: what lies below the front needs no more.  K comes in two steps, as in the triangular solves that it
stands for: K'K alone would square the condition of L_JJ.

The panel of such a front in the storage of L is L_JJ, column-major without the rows below, and behind it the
entries of X row by row.
"""

from __future__ import annotations

import numpy as np

from fastlmm_core.kernels.blas import invert_triangle, make_workspace, multiply, solve_triangular_vector
from fastlmm_core.kernels.compile import kernel
from fastlmm_core.kernels.equations.crossproducts import bound_runs
from fastlmm_core.kernels.factor.supernodes import cut_rows
from fastlmm_core.kernels.factor.triangular import (
    factorize_columns,
    invert_from_cholesky,
    solve_triangular_right,
)

# Rows of a block below that stay in the cache: with all columns of the front, and for one column by itself.
CACHED_ROWS, CACHED_COLUMN = 256, 512
# Rows and columns that are turned over together.
MIRROR_BLOCK = 32


@kernel
def read_sparse(L, nodes, s):
    """Columns, rows below, first row in `cross_ptr`, L_JJ and X of a sparse front."""
    m = nodes.first[s + 1] - nodes.first[s]
    r = nodes.row_ptr[s + 1] - nodes.row_ptr[s]
    at = nodes.panel_ptr[s] + m * m
    return m, r, nodes.cross_base[s], L[nodes.panel_ptr[s] : at], L[at : nodes.panel_ptr[s + 1]]


@kernel
def spread_panel(L, nodes, s, panel):
    """The panel of a sparse front with all its rows, (m + r) m, from the entries that L holds."""
    m, r, base, square, X = read_sparse(L, nodes, s)
    size = m + r
    for t in range(m * size):
        panel[t] = 0.0
    for c in range(m):
        for a in range(c, m):
            panel[c * size + a] = square[c * m + a]
    begin = nodes.cross_ptr[base]
    for a in range(r):
        for k in range(nodes.cross_ptr[base + a], nodes.cross_ptr[base + a + 1]):
            panel[nodes.cross[k] * size + m + a] = X[k - begin]


@kernel
def keep_panel(L, nodes, s, panel):
    """The entries of a whole panel into the storage of L."""
    m, r, base, square, X = read_sparse(L, nodes, s)
    size = m + r
    for c in range(m):
        for a in range(m):
            square[c * m + a] = panel[c * size + a] if a >= c else 0.0
    begin = nodes.cross_ptr[base]
    for a in range(r):
        for k in range(nodes.cross_ptr[base + a], nodes.cross_ptr[base + a + 1]):
            X[k - begin] = panel[nodes.cross[k] * size + m + a]


@kernel
def invert_square(blas, work, square, ld, m, K, turned):
    """K = L^-1 (m, m) with zeros above, and its transpose, from the lower triangular `square`."""
    for c in range(m):
        for a in range(m):
            K[c * m + a] = square[c * ld + a] if a >= c else 0.0
    invert_triangle(blas, work, np.int64(K.ctypes.data), m, m)
    for c in range(m):
        for a in range(m):
            turned[a * m + c] = K[c * m + a]


@kernel
def add_multiple(target, source, factor):
    """target += factor source."""
    for t in range(target.size):
        target[t] += factor * source[t]


@kernel
def add_columns(target, source, at, weights):
    """target (k,) += sum_j weights[j] source[at[j] : at[j] + k], four at a time for fewer passes."""
    n, j = target.size, 0
    while j + 4 <= at.size:
        a, b = source[at[j] : at[j] + n], source[at[j + 1] : at[j + 1] + n]
        c, d = source[at[j + 2] : at[j + 2] + n], source[at[j + 3] : at[j + 3] + n]
        w, x, y, z = weights[j], weights[j + 1], weights[j + 2], weights[j + 3]
        for t in range(n):
            target[t] += (w * a[t] + x * b[t]) + (y * c[t] + z * d[t])
        j += 4
    while j < at.size:
        a, w = source[at[j] : at[j] + n], weights[j]
        for t in range(n):
            target[t] += w * a[t]
        j += 1


@kernel
def turn(source, m, r, target):
    """The transpose of a column-major (m, r) into `target` (r, m), by squares that stay in the cache."""
    for left in range(0, r, MIRROR_BLOCK):
        for top in range(0, m, MIRROR_BLOCK):
            for b in range(left, min(left + MIRROR_BLOCK, r)):
                for a in range(top, min(top + MIRROR_BLOCK, m)):
                    target[a * r + b] = source[b * m + a]


@kernel
def list_entries(nodes, s, step):
    """Bounds of the rows of X among its entries, and `step` times the column of each, both int64."""
    r, base = nodes.row_ptr[s + 1] - nodes.row_ptr[s], nodes.cross_base[s]
    ptr = np.empty(r + 1, np.int64)
    begin = nodes.cross_ptr[base]
    for a in range(r + 1):
        ptr[a] = nodes.cross_ptr[base + a] - begin
    at = np.empty(ptr[r], np.int64)
    for k in range(at.size):
        at[k] = nodes.cross[begin + k] * step
    return ptr, at


@kernel
def eliminate_sparse(blas, work, nodes, s, L, panel, rest, base, ld_rest, room):
    """Factorize the columns of a sparse front and subtract U X' from its rest; False when C is not definite.

    `panel` holds the assembled front with all its rows, `rest` from `base` on the square below, or that of
    the host. `room` has place for 2 m (m + r) numbers.
    """
    m, r, _, square, X = read_sparse(L, nodes, s)
    size = m + r
    failed = factorize_columns(blas, work, np.int64(panel.ctypes.data), size, m, m)
    if failed != 0 or not panel[(m - 1) * (size + 1)] > 0.0:
        return False
    keep_panel(L, nodes, s, panel)
    K, turned, V = room[: m * m], room[m * m : 2 * m * m], room[2 * m * m : 2 * m * m + m * r]
    U = panel[: m * r]
    invert_square(blas, work, square, m, m, K, turned)
    ptr, at = list_entries(nodes, s, m)
    for i in range(r):  # V' = K X', by columns
        own = V[i * m : (i + 1) * m]
        for c in range(m):
            own[c] = 0.0
        add_columns(own, K, at[ptr[i] : ptr[i + 1]], X[ptr[i] : ptr[i + 1]])
    addresses = np.int64(turned.ctypes.data), np.int64(V.ctypes.data), np.int64(U.ctypes.data)
    multiply(blas, work, addresses[0], m, addresses[1], m, False, addresses[2], m, (m, r, m), False)
    turn(U, m, r, V)  # U' = K'V' to U by columns
    minus = np.empty(X.size)
    for k in range(X.size):
        minus[k] = -X[k]
        at[k] = at[k] // m * r
    places = nodes.relative[nodes.row_ptr[s] : nodes.row_ptr[s + 1]]
    start, place = cut_rows(nodes, s, nodes.row_ptr[s + 1], CACHED_ROWS)
    for block in range(place.size):
        first, last = start[block], start[block + 1]
        for i in range(last):
            column = base + (places[i] if nodes.guest[s] else i) * ld_rest + place[block] - first
            low = max(i, first)
            target = rest[column + low : column + last]
            add_columns(target, V[low:], at[ptr[i] : ptr[i + 1]], minus[ptr[i] : ptr[i + 1]])
    return True


@kernel
def mirror_lower(A, ld, n):
    """The upper triangle of A (n, n) from its lower one, by squares that stay in the cache."""
    for left in range(0, n, MIRROR_BLOCK):
        for top in range(left, n, MIRROR_BLOCK):
            for b in range(left, min(left + MIRROR_BLOCK, n)):
                for a in range(max(top, b + 1), min(top + MIRROR_BLOCK, n)):
                    A[a * ld + b] = A[b * ld + a]


@kernel
def invert_sparse(blas, work, nodes, s, m, end, L, front, stack, rest, ld_rest, room):
    """Complete a sparse front whose Z_II is in place with both triangles; `front` is flat, column-major.

    m columns and the rows up to `end` take part; below the columns only the places of X are filled.  `room`
    has place for 2 m (2 m + r) numbers.
    """
    width, below, _, square, X = read_sparse(L, nodes, s)
    size, r = width + below, end - nodes.row_ptr[s]
    address = np.int64(front.ctypes.data)
    if r == 0:
        for c in range(m):
            for a in range(c, m):
                front[c * size + a] = square[c * width + a]
        invert_from_cholesky(blas, work, address, size, m)
        return
    # rows take part only where all columns do
    K, turned = room[: m * m], room[m * m : 2 * m * m]
    G, H = room[2 * m * m : 3 * m * m], room[3 * m * m : 4 * m * m]
    T, P = room[4 * m * m : 4 * m * m + m * r], room[4 * m * m + m * r : 4 * m * m + 2 * m * r]
    invert_square(blas, work, square, width, m, K, turned)
    at_K, at_turned = np.int64(K.ctypes.data), np.int64(turned.ctypes.data)
    at_G, at_H = np.int64(G.ctypes.data), np.int64(H.ctypes.data)
    ptr, at = list_entries(nodes, s, 1)
    multiply_inverse(nodes, s, end, (ptr, at, X), stack[rest:], ld_rest, T)
    addresses = np.int64(T.ctypes.data), np.int64(P.ctypes.data)
    multiply(blas, work, at_K, m, addresses[0], r, True, addresses[1], m, (m, r, m), False)  # K X' Z_II
    for t in range(m * m):
        G[t] = 0.0
    for i in range(r):  # K X' Z_II X, by columns
        own = P[i * m : (i + 1) * m]
        for k in range(ptr[i], ptr[i + 1]):
            column, value = G[at[k] * m : (at[k] + 1) * m], X[k]
            for c in range(m):
                column[c] += value * own[c]
    multiply(blas, work, at_G, m, at_K, m, True, at_H, m, (m, m, m), False)
    for c in range(m):
        H[c * m + c] += 1.0
    multiply(blas, work, at_H, m, at_K, m, False, at_G, m, (m, m, m), False)
    multiply(blas, work, at_turned, m, at_G, m, False, address, size, (m, m, m), False)
    for i in range(r):
        own = P[i * m : (i + 1) * m]
        for k in range(ptr[i], ptr[i + 1]):
            b = at[k]
            front[b * size + m + i] = -multiply_rows(own[b:], K[b * m + b : (b + 1) * m])


@kernel
def multiply_rows(x, y):
    """x'y, in four sums beside each other, as one waits for its last addition."""
    a, b, c, d = 0.0, 0.0, 0.0, 0.0
    fours = x.size // 4 * 4
    for t in range(0, fours, 4):
        a += x[t] * y[t]
        b += x[t + 1] * y[t + 1]
        c += x[t + 2] * y[t + 2]
        d += x[t + 3] * y[t + 3]
    for t in range(fours, x.size):
        a += x[t] * y[t]
    return (a + b) + (c + d)


@kernel
def multiply_inverse(nodes, s, end, entries, Z, ld_Z, T):
    """T (r, m) <- Z_II X from both triangles of Z, for the rows below s up to `end`.

    `entries` are the bounds of the rows of X, the columns of its entries and these.
    """
    ptr, columns, X = entries
    r = end - nodes.row_ptr[s]
    m = T.size // r
    count = ptr[r]
    column_ptr = np.zeros(m + 1, np.int64)
    for k in range(count):
        column_ptr[columns[k] + 1] += 1
    filled = bound_runs(column_ptr)
    at, weights = np.empty(count, np.int64), np.empty(count)
    for h in range(r):
        column = (nodes.relative[nodes.row_ptr[s] + h] if nodes.guest[s] else h) * ld_Z
        for k in range(ptr[h], ptr[h + 1]):
            to = filled[columns[k]]
            at[to], weights[to] = column, X[k]
            filled[columns[k]] += 1
    start, place = cut_rows(nodes, s, end, CACHED_COLUMN)
    for block in range(place.size):
        first, last = start[block], start[block + 1]
        for c in range(m):
            target = T[c * r + first : c * r + last]
            for t in range(target.size):
                target[t] = 0.0
            k, stop = column_ptr[c], column_ptr[c + 1]
            add_columns(target, Z[place[block] :], at[k:stop], weights[k:stop])


@kernel
def read_sparse_inverse(nodes, s, m, r, front, C_indptr, position, C_inv):
    """Entries on the pattern of C out of a complete sparse front, of m columns and r rows below."""
    start = nodes.first[s]
    width = nodes.first[s + 1] - start
    size = width + nodes.row_ptr[s + 1] - nodes.row_ptr[s]
    base = nodes.cross_base[s]
    begin, end = nodes.cross_ptr[base], nodes.cross_ptr[base + r]
    # the row of every entry, found once
    row = np.empty(end - begin, np.int64)
    for a in range(r):
        for k in range(nodes.cross_ptr[base + a], nodes.cross_ptr[base + a + 1]):
            row[k - begin] = a
    for c in range(m):
        at = nodes.panel_ptr[s] + c * width
        for t in range(C_indptr[start + c], C_indptr[start + c + 1]):
            place = position[t] - at
            entry = position[t] - nodes.panel_ptr[s] - width * width
            if entry >= 0:
                if entry < end - begin:
                    C_inv[t] = front[c * size + width + row[entry]]
            elif place < m:
                C_inv[t] = front[c * size + place]


@kernel
def fill_below(blas, L, nodes, s, below):
    """L_IJ of a sparse front into `below` (r, m), column-major."""
    m, r, base, square, X = read_sparse(L, nodes, s)
    begin = nodes.cross_ptr[base]
    for t in range(r * m):
        below[t] = 0.0
    for a in range(r):
        for k in range(nodes.cross_ptr[base + a], nodes.cross_ptr[base + a + 1]):
            below[nodes.cross[k] * r + a] = X[k - begin]
    addresses = np.int64(square.ctypes.data), np.int64(below.ctypes.data)
    solve_triangular_right(blas, make_workspace(), addresses[0], m, True, addresses[1], r, r, m)


@kernel
def solve_sparse_vector(blas, L, nodes, s, y, held, upper):
    """The columns of a sparse front in y <- L^-1 y, or with `upper` in y <- L^-T y; `held` (m,) is room."""
    work = make_workspace()
    m, r, base, square, X = read_sparse(L, nodes, s)
    rows = nodes.rows[nodes.row_ptr[s] : nodes.row_ptr[s + 1]]
    start, begin = nodes.first[s], nodes.cross_ptr[base]
    address, here, there = (
        np.int64(square.ctypes.data), np.int64(y[start:].ctypes.data), np.int64(held.ctypes.data),
    )  # fmt: skip
    if not upper:
        solve_triangular_vector(blas, work, address, m, False, here, m)
        for c in range(m):
            held[c] = y[start + c]
        solve_triangular_vector(blas, work, address, m, True, there, m)
        for a in range(r):
            for k in range(nodes.cross_ptr[base + a], nodes.cross_ptr[base + a + 1]):
                y[rows[a]] -= X[k - begin] * held[nodes.cross[k]]
        return
    for c in range(m):
        held[c] = 0.0
    for a in range(r):
        for k in range(nodes.cross_ptr[base + a], nodes.cross_ptr[base + a + 1]):
            held[nodes.cross[k]] += X[k - begin] * y[rows[a]]
    solve_triangular_vector(blas, work, address, m, False, there, m)
    for c in range(m):
        y[start + c] -= held[c]
    solve_triangular_vector(blas, work, address, m, True, here, m)


@kernel
def solve_sparse_columns(blas, L, nodes, s, B, held, upper):
    """``solve_sparse_vector`` for all columns of a row-major B (n, k); `held` has room for m k numbers."""
    work = make_workspace()
    m, r, base, square, X = read_sparse(L, nodes, s)
    rows = nodes.rows[nodes.row_ptr[s] : nodes.row_ptr[s + 1]]
    start, begin, width = nodes.first[s], nodes.cross_ptr[base], B.shape[1]
    address, here, there = (
        np.int64(square.ctypes.data), np.int64(B[start:].ctypes.data), np.int64(held.ctypes.data),
    )  # fmt: skip
    if not upper:
        solve_triangular_right(blas, work, address, m, True, here, width, width, m)
        for c in range(m):
            for j in range(width):
                held[c, j] = B[start + c, j]
        solve_triangular_right(blas, work, address, m, False, there, width, width, m)
        for a in range(r):
            for k in range(nodes.cross_ptr[base + a], nodes.cross_ptr[base + a + 1]):
                add_multiple(B[rows[a]], held[nodes.cross[k]], -X[k - begin])
        return
    for c in range(m):
        for j in range(width):
            held[c, j] = 0.0
    for a in range(r):
        for k in range(nodes.cross_ptr[base + a], nodes.cross_ptr[base + a + 1]):
            add_multiple(held[nodes.cross[k]], B[rows[a]], X[k - begin])
    solve_triangular_right(blas, work, address, m, True, there, width, width, m)
    for c in range(m):
        for j in range(width):
            B[start + c, j] -= held[c, j]
    solve_triangular_right(blas, work, address, m, False, here, width, width, m)
