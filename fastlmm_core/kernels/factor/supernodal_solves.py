"""Determinant of and solves with a factor by supernodes."""

from __future__ import annotations

import numpy as np

from fastlmm_core.kernels.blas import (
    make_workspace,
    multiply,
    multiply_vector,
    solve_triangular_vector,
)
from fastlmm_core.kernels.compile import kernel
from fastlmm_core.kernels.factor.sparse_fronts import solve_sparse_columns, solve_sparse_vector
from fastlmm_core.kernels.factor.triangular import solve_triangular_right

# Panels with fewer entries are solved by loops: a call of BLAS costs more.
LOOP_ENTRIES = 256


@kernel
def log_determinant(L, nodes, n_lead):
    """log |C| of the leading `n_lead` rows and columns."""
    total = 0.0
    for s in range(nodes.above.size):
        start, end = nodes.first[s], nodes.first[s + 1]
        size = end - start
        if not nodes.sparse[s]:
            size += nodes.row_ptr[s + 1] - nodes.row_ptr[s]
        for c in range(min(end, n_lead) - start):
            total += np.log(L[nodes.panel_ptr[s] + c * (size + 1)])
    return 2.0 * total


@kernel
def read_front(L, nodes, s):
    """First column, number of columns, rows below, number of all rows, and panel of a supernode."""
    start = nodes.first[s]
    m = nodes.first[s + 1] - start
    rows = nodes.rows[nodes.row_ptr[s] : nodes.row_ptr[s + 1]]
    return start, m, rows, m + rows.size, L[nodes.panel_ptr[s] : nodes.panel_ptr[s + 1]]


@kernel
def solve_lower_vector(blas, L, nodes, y, held):
    """y <- L^-1 y in place, y (n,); `held` (largest front,) is a work array."""
    work = make_workspace()
    for s in range(nodes.above.size):
        if nodes.sparse[s]:
            solve_sparse_vector(blas, L, nodes, s, y, held, False)
            continue
        start, m, rows, size, panel = read_front(L, nodes, s)
        if m == 1 or panel.size < LOOP_ENTRIES:
            for c in range(m):
                y[start + c] /= panel[c * size + c]
                value = y[start + c]
                for a in range(c + 1, m):
                    y[start + a] -= panel[c * size + a] * value
                for a in range(rows.size):
                    y[rows[a]] -= panel[c * size + m + a] * value
            continue
        address, here = np.int64(panel.ctypes.data), np.int64(y[start:].ctypes.data)
        solve_triangular_vector(blas, work, address, size, False, here, m)
        if rows.size > 0:
            below, product = address + 8 * m, np.int64(held.ctypes.data)
            multiply_vector(blas, work, below, size, False, here, product, rows.size, m)
            for a in range(rows.size):
                y[rows[a]] -= held[a]


@kernel
def solve_upper_vector(blas, L, nodes, y, held):
    """y <- L^-T y in place, y (n,); `held` (largest front,) is a work array."""
    work = make_workspace()
    for s in range(nodes.above.size - 1, -1, -1):
        if nodes.sparse[s]:
            solve_sparse_vector(blas, L, nodes, s, y, held, True)
            continue
        start, m, rows, size, panel = read_front(L, nodes, s)
        if m == 1 or panel.size < LOOP_ENTRIES:
            for c in range(m - 1, -1, -1):
                value = y[start + c]
                for a in range(c + 1, m):
                    value -= panel[c * size + a] * y[start + a]
                for a in range(rows.size):
                    value -= panel[c * size + m + a] * y[rows[a]]
                y[start + c] = value / panel[c * size + c]
            continue
        address = np.int64(panel.ctypes.data)
        if rows.size > 0:
            for a in range(rows.size):
                held[m + a] = y[rows[a]]
            product = np.int64(held.ctypes.data)
            multiply_vector(blas, work, address + 8 * m, size, True, product + 8 * m, product, rows.size, m)
            for c in range(m):
                y[start + c] -= held[c]
        solve_triangular_vector(blas, work, address, size, True, np.int64(y[start:].ctypes.data), m)


@kernel
def is_zero(B, start, m):
    """Whether rows `start` to `start` + m of B are zeros."""
    for i in range(start, start + m):
        for c in range(B.shape[1]):
            if B[i, c] != 0.0:
                return False
    return True


@kernel
def solve_lower_columns(blas, L, nodes, B, held):
    """B <- L^-1 B in place, B (n, k) row-major; `held` (largest front, k) is a work array.

    Zeros are passed over: contrasts of fixed columns that are eliminated late begin there.
    """
    work = make_workspace()
    k = B.shape[1]
    for s in range(nodes.above.size):
        start, m, rows, size, panel = read_front(L, nodes, s)
        if is_zero(B, start, m):
            continue
        if nodes.sparse[s]:
            solve_sparse_columns(blas, L, nodes, s, B, held, False)
            continue
        if m == 1:
            for c in range(k):
                B[start, c] /= panel[0]
            for a in range(rows.size):
                for c in range(k):
                    B[rows[a], c] -= panel[1 + a] * B[start, c]
            continue
        # row-major B is its transpose to BLAS: k rows, one column for every equation
        address, here = np.int64(panel.ctypes.data), np.int64(B[start:].ctypes.data)
        solve_triangular_right(blas, work, address, size, True, here, k, k, m)
        if rows.size > 0:
            product, sizes = np.int64(held.ctypes.data), (k, rows.size, m)
            multiply(blas, work, here, k, address + 8 * m, size, True, product, k, sizes, False)
            for a in range(rows.size):
                for c in range(k):
                    B[rows[a], c] -= held[a, c]


@kernel
def solve_upper_columns(blas, L, nodes, B, held):
    """B <- L^-T B in place, B (n, k) row-major; `held` (largest front, k) is a work array."""
    work = make_workspace()
    k = B.shape[1]
    for s in range(nodes.above.size - 1, -1, -1):
        if nodes.sparse[s]:
            solve_sparse_columns(blas, L, nodes, s, B, held, True)
            continue
        start, m, rows, size, panel = read_front(L, nodes, s)
        if m == 1:
            for a in range(rows.size):
                for c in range(k):
                    B[start, c] -= panel[1 + a] * B[rows[a], c]
            for c in range(k):
                B[start, c] /= panel[0]
            continue
        address, here = np.int64(panel.ctypes.data), np.int64(B[start:].ctypes.data)
        if rows.size > 0:
            for a in range(rows.size):
                for c in range(k):
                    held[a, c] = B[rows[a], c]
            known, sizes = np.int64(held.ctypes.data), (k, m, rows.size)
            multiply(blas, work, known, k, address + 8 * m, size, False, here, k, sizes, True)
        solve_triangular_right(blas, work, address, size, False, here, k, k, m)
