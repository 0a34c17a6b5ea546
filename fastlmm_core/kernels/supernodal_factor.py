"""Multifrontal Cholesky factorization by supernodes, and solves with its factor.

Every front gathers the entries of C in its columns and the update matrices of its children, eliminates its
columns with BLAS and hands the rest, its own update matrix, to its parent (Duff & Reid 1983; Liu 1992).  The
columns of a front are assembled and eliminated in the place where the factor keeps them; only update matrices
pass through the stack.
"""

from __future__ import annotations

import numpy as np

from fastlmm_core.kernels.blas import (
    factorize_dense,
    make_workspace,
    multiply,
    multiply_vector,
    solve_triangular_right,
    solve_triangular_vector,
    subtract_outer_product,
)
from fastlmm_core.kernels.compile import kernel

# Panels with fewer entries are solved by loops: a call of BLAS costs more.
LOOP_ENTRIES = 256


@kernel
def clear_lower(target, n):
    """Zero the lower triangle of the square column-major `target`."""
    for b in range(n):
        for a in range(b * n + b, (b + 1) * n):
            target[a] = 0.0


@kernel
def add_update(update, count, ld_update, relative, panel, m, update_above):
    """Add the lower triangle of `update` (count, count) into the front of the parent.

    `panel` holds the m columns of that front, `update_above` the square below and right of them and its side.
    With `ld_update` 0 the columns of `update` lie one behind the other without their upper parts.
    """
    target, below = update_above
    size = m + below
    run_end = find_runs(relative, count)
    at = 0
    for b in range(count):
        if ld_update > 0:
            at = b * ld_update
        else:
            at -= b  # so that at + a is the place of row a
        column = relative[b]
        if column < m:
            add_column(update, at, b, count, relative, run_end, panel, column * size)
        else:
            add_column(update, at, b, count, relative, run_end, target, (column - m) * below - m)
        if ld_update == 0:
            at += count


@kernel
def find_runs(relative, count):
    """End of the run of consecutive numbers that each of `relative` is in, (count,) int64."""
    run_end = np.empty(count, np.int64)
    end = count
    for a in range(count - 1, -1, -1):
        if a + 1 < count and relative[a + 1] != relative[a] + 1:
            end = a + 1
        run_end[a] = end
    return run_end


@kernel
def add_column(source, at, first, count, relative, run_end, target, to):
    """target[to + relative[a]] += source[at + a] for a from `first`, run by run: a run is plain addition."""
    a = first
    while a < count:
        end = run_end[a]
        shift = to + relative[a] - a
        for k in range(a, end):
            target[shift + k] += source[at + k]
        a = end


@kernel
def pack_lower(source, n, packed):
    """Columns of the lower triangle of `source` (n, n), one behind the other."""
    at = 0
    for b in range(n):
        for a in range(b * n + b, (b + 1) * n):
            packed[at] = source[a]
            at += 1


@kernel
def eliminate_single(column, r, relative, panel, m, update_above):
    """A front of one column without children: factorize it and add its update where it belongs."""
    below = update_above[1]
    size = m + below
    if not column[0] > 0.0:
        return False
    pivot = np.sqrt(column[0])
    column[0] = pivot
    for a in range(1, r + 1):
        column[a] /= pivot
    for b in range(r):
        factor = column[1 + b]
        target_column = relative[b]
        if target_column < m:
            to = target_column * size
            for a in range(b, r):
                panel[to + relative[a]] -= column[1 + a] * factor
        else:
            target = update_above[0]
            to = (target_column - m) * below - m
            for a in range(b, r):
                target[to + relative[a]] -= column[1 + a] * factor
    return True


@kernel
def eliminate_front(blas, work, panel, m, r, update, assembled):
    """Factorize the m columns of a front in place; `update` (r, r) receives what is left of the rest."""
    size = m + r
    address = np.int64(panel.ctypes.data)
    if factorize_dense(blas, work, address, size, m) != 0:
        return False
    if r > 0:
        below = address + 8 * m
        solve_triangular_right(blas, work, address, size, True, below, size, r, m)
        subtract_outer_product(blas, work, below, size, np.int64(update.ctypes.data), r, r, m, assembled)
    return True


@kernel
def factorize_supernodes(
    blas, C_data, position, first, row_ptr, relative, above, panel_ptr, offset, order, L, stack, packed
):
    """Factor of C in the panels of `L`; -1, or the supernode at which C is not positive definite.

    `offset` and `order` are those of ``place_fronts`` and ``walk_depth_first`` for the rows below; fronts are
    visited in the reverse order, children first.  `stack` (offset[-1],) and `packed` (r (r + 1) / 2 of a
    child that shares its parent's place) are work arrays.
    """
    work = make_workspace()
    n_super = first.size - 1
    L.fill(0.0)
    for t in range(C_data.size):
        L[position[t]] = C_data[t]
    assembled = np.zeros(n_super, np.bool_)  # whether the update matrix has been begun by a child
    leaf = np.ones(n_super, np.bool_)
    for s in range(n_super):
        if above[s] >= 0:
            leaf[above[s]] = False
    for k in range(n_super - 1, -1, -1):
        s = order[k]
        m = first[s + 1] - first[s]
        r = row_ptr[s + 1] - row_ptr[s]
        panel = L[panel_ptr[s] : panel_ptr[s + 1]]
        update = stack[offset[s] : offset[s] + r * r]
        single = m == 1 and leaf[s]
        if not single and not eliminate_front(blas, work, panel, m, r, update, assembled[s]):
            return s
        p = above[s]
        if p < 0:
            if single:
                if not panel[0] > 0.0:
                    return s
                panel[0] = np.sqrt(panel[0])
            continue
        places = relative[row_ptr[s] : row_ptr[s + 1]]
        panel_above = L[panel_ptr[p] : panel_ptr[p + 1]]
        wide = first[p + 1] - first[p]
        below = row_ptr[p + 1] - row_ptr[p]
        update_above = stack[offset[p] : offset[p] + below * below], below
        shared = offset[s] == offset[p] and below > 0 and not single  # it lies where the sum will be
        if shared:
            pack_lower(update, r, packed)
        if not assembled[p]:
            clear_lower(update_above[0], below)
            assembled[p] = True
        if single:
            if not eliminate_single(panel, r, places, panel_above, wide, update_above):
                return s
        elif shared:
            add_update(packed, r, 0, places, panel_above, wide, update_above)
        else:
            add_update(update, r, r, places, panel_above, wide, update_above)
    return -1


@kernel
def log_determinant(L, first, row_ptr, panel_ptr, n_lead):
    """log |C| of the leading `n_lead` rows and columns."""
    total = 0.0
    for s in range(first.size - 1):
        size = first[s + 1] - first[s] + row_ptr[s + 1] - row_ptr[s]
        for c in range(min(first[s + 1], n_lead) - first[s]):
            total += np.log(L[panel_ptr[s] + c * (size + 1)])
    return 2.0 * total


@kernel
def solve_lower_vector(blas, L, first, row_ptr, rows, panel_ptr, y):
    """y <- L^-1 y in place, y (n,)."""
    work = make_workspace()
    longest = 1
    for s in range(first.size - 1):
        longest = max(longest, row_ptr[s + 1] - row_ptr[s])
    update = np.empty(longest)
    for s in range(first.size - 1):
        start = first[s]
        m = first[s + 1] - start
        base = row_ptr[s]
        r = row_ptr[s + 1] - base
        size = m + r
        at = panel_ptr[s]
        if m * size < LOOP_ENTRIES or m == 1:
            for c in range(m):
                y[start + c] /= L[at + c]
                value = y[start + c]
                for a in range(c + 1, m):
                    y[start + a] -= L[at + a] * value
                for a in range(r):
                    y[rows[base + a]] -= L[at + m + a] * value
                at += size
            continue
        panel = np.int64(L[at:].ctypes.data)
        here = np.int64(y[start:].ctypes.data)
        solve_triangular_vector(blas, work, panel, size, False, here, m)
        if r > 0:
            multiply_vector(
                blas, work, panel + 8 * m, size, False, here, np.int64(update.ctypes.data), r, m
            )
            for a in range(r):
                y[rows[base + a]] -= update[a]


@kernel
def solve_upper_vector(blas, L, first, row_ptr, rows, panel_ptr, y):
    """y <- L^-T y in place, y (n,)."""
    work = make_workspace()
    longest = 1
    widest = 1
    for s in range(first.size - 1):
        longest = max(longest, row_ptr[s + 1] - row_ptr[s])
        widest = max(widest, first[s + 1] - first[s])
    held = np.empty(longest)
    product = np.empty(widest)
    for s in range(first.size - 2, -1, -1):
        start = first[s]
        m = first[s + 1] - start
        base = row_ptr[s]
        r = row_ptr[s + 1] - base
        size = m + r
        if m * size < LOOP_ENTRIES or m == 1:
            for c in range(m - 1, -1, -1):
                at = panel_ptr[s] + c * size
                value = y[start + c]
                for a in range(c + 1, m):
                    value -= L[at + a] * y[start + a]
                for a in range(r):
                    value -= L[at + m + a] * y[rows[base + a]]
                y[start + c] = value / L[at + c]
            continue
        panel = np.int64(L[panel_ptr[s] :].ctypes.data)
        if r > 0:
            for a in range(r):
                held[a] = y[rows[base + a]]
            multiply_vector(
                blas, work, panel + 8 * m, size, True, np.int64(held.ctypes.data),
                np.int64(product.ctypes.data), r, m,
            )  # fmt: skip
            for c in range(m):
                y[start + c] -= product[c]
        solve_triangular_vector(blas, work, panel, size, True, np.int64(y[start:].ctypes.data), m)


@kernel
def solve_lower_columns(blas, L, first, row_ptr, rows, panel_ptr, B, update):
    """B <- L^-1 B in place, B (n, k) row-major; `update` (longest r, k) is a work array."""
    work = make_workspace()
    k = B.shape[1]
    for s in range(first.size - 1):
        start = first[s]
        m = first[s + 1] - start
        base = row_ptr[s]
        r = row_ptr[s + 1] - base
        size = m + r
        at = panel_ptr[s]
        if m == 1:
            for c in range(k):
                B[start, c] /= L[at]
            for a in range(r):
                value = L[at + 1 + a]
                for c in range(k):
                    B[rows[base + a], c] -= value * B[start, c]
            continue
        # row-major B is its transpose to BLAS: k rows, one column for every equation
        panel = np.int64(L[at:].ctypes.data)
        here = np.int64(B[start:].ctypes.data)
        solve_triangular_right(blas, work, panel, size, True, here, k, k, m)
        if r > 0:
            multiply(
                blas, work, here, k, panel + 8 * m, size, True, np.int64(update.ctypes.data), k,
                (k, r, m), False,
            )  # fmt: skip
            for a in range(r):
                for c in range(k):
                    B[rows[base + a], c] -= update[a, c]


@kernel
def solve_upper_columns(blas, L, first, row_ptr, rows, panel_ptr, B, held):
    """B <- L^-T B in place, B (n, k) row-major; `held` (longest r, k) is a work array."""
    work = make_workspace()
    k = B.shape[1]
    for s in range(first.size - 2, -1, -1):
        start = first[s]
        m = first[s + 1] - start
        base = row_ptr[s]
        r = row_ptr[s + 1] - base
        size = m + r
        at = panel_ptr[s]
        if m == 1:
            for a in range(r):
                value = L[at + 1 + a]
                for c in range(k):
                    B[start, c] -= value * B[rows[base + a], c]
            for c in range(k):
                B[start, c] /= L[at]
            continue
        panel = np.int64(L[at:].ctypes.data)
        here = np.int64(B[start:].ctypes.data)
        if r > 0:
            for a in range(r):
                for c in range(k):
                    held[a, c] = B[rows[base + a], c]
            multiply(
                blas, work, np.int64(held.ctypes.data), k, panel + 8 * m, size, False, here, k, (k, m, r), True
            )
        solve_triangular_right(blas, work, panel, size, False, here, k, k, m)
