"""Sparse inverse subset from a supernodal factor, front by front from the root down.

For a supernode with columns J and rows I below, L_JJ and L_IJ give (Takahashi, Fagan & Chin 1973; supernodal
form Masuda et al. 2014)

    Y = L_IJ L_JJ^-1,    Z_IJ = -Z_II Y,    Z_JJ = (L_JJ L_JJ')^-1 - Y' Z_IJ.

All of Z_II lies in the front (J, I) of the parent, so a supernode copies the lower triangle of its Z_II out
of one dense block through relative indices that are found once per pattern.  Fronts of a path live one behind
the other on a stack whose offsets are fixed too; nothing of Z is kept but the entries on the pattern of C.
Siblings share their place on the stack, so the tree is walked depth first: a subtree is finished before the
next one starts, whether or not the elimination order is a postorder.
"""

from __future__ import annotations

import numpy as np

from fastlmm_core.kernels.blas import (
    invert_from_cholesky,
    make_workspace,
    multiply_symmetric_left,
    solve_triangular_right,
    subtract_transposed_product,
)
from fastlmm_core.kernels.compile import kernel


@kernel
def gather_lower(source, ld_source, relative, count, target, ld_target):
    """Lower triangle of source[relative, relative] into target (column-major, flat views)."""
    for b in range(count):
        column = relative[b] * ld_source
        to = b * ld_target
        for a in range(b, count):
            target[to + a] = source[column + relative[a]]


@kernel
def gather_packed(source, ld_source, relative, count, packed):
    """Lower triangle of source[relative, relative], columns one behind the other."""
    at = 0
    for b in range(count):
        column = relative[b] * ld_source
        for a in range(b, count):
            packed[at] = source[column + relative[a]]
            at += 1


@kernel
def unpack_lower(packed, count, target, ld_target):
    """Undo the packing of ``gather_packed`` into a column-major square."""
    at = 0
    for b in range(count):
        to = b * ld_target
        for a in range(b, count):
            target[to + a] = packed[at]
            at += 1


@kernel
def invert_front(blas, work, panel, ld_panel, m, r, front, ld_front, Y):
    """Complete one front whose Z_II is in place; `front` is flat, column-major, lower triangle.

    `panel` holds the columns of the factor; `Y` has room for r m.
    """
    for c in range(m):
        for a in range(c, m):
            front[c * ld_front + a] = panel[c * ld_panel + a]
    address = np.int64(front.ctypes.data)
    if r > 0:
        for c in range(m):
            for a in range(r):
                Y[c * r + a] = panel[c * ld_panel + m + a]
        if m == 1:
            invert_single(front, ld_front, Y, r)
            return
        Y_address = np.int64(Y.ctypes.data)
        solve_triangular_right(blas, work, address, ld_front, False, Y_address, r, r, m)
        below = address + 8 * m
        rest = address + 8 * (m * ld_front + m)
        multiply_symmetric_left(blas, work, rest, ld_front, Y_address, r, below, ld_front, r, m)
        invert_from_cholesky(blas, work, address, ld_front, m)
        subtract_transposed_product(
            blas, work, Y_address, r, below, ld_front, address, ld_front, r, m
        )
    else:
        invert_from_cholesky(blas, work, address, ld_front, m)


@kernel
def invert_single(front, ld_front, Y, r):
    """`invert_front` for a supernode of one column."""
    pivot = front[0]
    for a in range(r):
        Y[a] /= pivot
        front[1 + a] = 0.0
    for b in range(r):
        column = (b + 1) * ld_front + 1
        y = Y[b]
        total = front[column + b] * y
        for a in range(b + 1, r):
            value = front[column + a]
            front[1 + a] -= value * y
            total += value * Y[a]
        front[1 + b] -= total
    diagonal = 1.0 / (pivot * pivot)
    for a in range(r):
        diagonal -= Y[a] * front[1 + a]
    front[0] = diagonal


@kernel
def invert_leaf(source, ld_source, relative, panel, r, y, total):
    """Column of Z of a leaf of one column from the parent's front: `total` (r + 1,), diagonal first.

    Nobody reads the front of a leaf, so its Z_II is used where it lies and never stored.
    """
    pivot = panel[0]
    for a in range(r):
        y[a] = panel[1 + a] / pivot
        total[1 + a] = 0.0
    for b in range(r):
        column = relative[b] * ld_source
        yb = y[b]
        own = source[column + relative[b]] * yb
        for a in range(b + 1, r):
            value = source[column + relative[a]]
            total[1 + a] -= value * yb
            own += value * y[a]
        total[1 + b] -= own
    diagonal = 1.0 / (pivot * pivot)
    for a in range(r):
        diagonal -= y[a] * total[1 + a]
    total[0] = diagonal


@kernel
def count_leading(first, row_ptr, rows, s, n_lead):
    """Columns of a supernode, and rows below it, among the leading `n_lead`."""
    m = min(first[s + 1], n_lead) - first[s]
    r = row_ptr[s + 1] - row_ptr[s]
    while r > 0 and rows[row_ptr[s] + r - 1] >= n_lead:
        r -= 1
    return m, r


@kernel
def invert_supernodes(
    blas, L, n_lead, first, row_ptr, rows, relative, above, panel_ptr, offset, order,
    C_indptr, position, stack, Y, C_inv,
):  # fmt: skip
    """Inverse of the leading `n_lead` rows and columns of C on the pattern of C into `C_inv` (nnz(C),).

    Entries outside the leading block become zero.  `offset` and `order` are those of ``place_fronts`` and
    ``walk_depth_first`` for whole fronts.  `stack` (offset[-1],) and `Y` (largest r m, and r (r + 1) / 2 of a
    child that shares its parent's place) are work arrays.
    """
    work = make_workspace()
    n_super = first.size - 1
    leaf = np.ones(n_super, np.bool_)
    longest = 1
    for s in range(n_super):
        if above[s] >= 0:
            leaf[above[s]] = False
        longest = max(longest, first[s + 1] - first[s] + row_ptr[s + 1] - row_ptr[s])
    column = np.empty(longest)
    C_inv.fill(0.0)
    for s in order:
        start = first[s]
        size = first[s + 1] - start + row_ptr[s + 1] - row_ptr[s]
        m, r = count_leading(first, row_ptr, rows, s, n_lead)
        if m <= 0:
            continue
        panel = L[panel_ptr[s] : panel_ptr[s + 1]]
        front = stack[offset[s] : offset[s] + size * size]
        p = above[s]
        if r > 0:
            held = first[p + 1] - first[p] + row_ptr[p + 1] - row_ptr[p]
            source = stack[offset[p] : offset[p] + held * held]
            places = relative[row_ptr[s] : row_ptr[s] + r]
            if m == 1 and leaf[s]:
                invert_leaf(source, held, places, panel, r, Y, column)
                for t in range(C_indptr[start], C_indptr[start + 1]):
                    row = position[t] - panel_ptr[s]
                    if row <= r:
                        C_inv[t] = column[row]
                continue
            if offset[s] == offset[p]:  # the heavy child overwrites the front it reads
                gather_packed(source, held, places, r, Y)
                unpack_lower(Y, r, front[m * size + m :], size)
            else:
                gather_lower(source, held, places, r, front[m * size + m :], size)
        invert_front(blas, work, panel, size, m, r, front, size, Y)
        for c in range(m):
            at = panel_ptr[s] + c * size
            for t in range(C_indptr[start + c], C_indptr[start + c + 1]):
                if position[t] - at < m + r:
                    C_inv[t] = front[position[t] - panel_ptr[s]]
