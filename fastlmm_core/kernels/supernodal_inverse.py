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
        subtract_transposed_product(blas, work, Y_address, r, below, ld_front, address, ld_front, r, m)
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
def invert_twigs(L, nodes, parent, row_end, columns, front, ld_front, total):
    """Products Z_II l of the columns l of all twigs of a supernode from its complete front.

    Column by column of the front, as ``subtract_twigs``.  `columns` are those of the front that take part,
    `row_end` (S,) bounds the rows of each twig that do, and `total` takes the products at the places of those
    rows.
    """
    base = nodes.meet_base[parent]
    for k in range(nodes.meet_ptr[base], nodes.meet_ptr[base + columns]):
        total[nodes.meet[k]] = 0.0
    for b in range(columns):
        column = b * ld_front
        for k in range(nodes.meet_ptr[base + b], nodes.meet_ptr[base + b + 1]):
            s = nodes.meet_twig[k]
            g = nodes.meet[k]
            shift = nodes.panel_ptr[s] + 1 - nodes.row_ptr[s]
            factor = L[shift + g]
            own = front[column + b] * factor
            for t in range(g + 1, row_end[s]):
                value = front[column + nodes.relative[t]]
                total[t] += value * factor
                own += value * L[shift + t]
            total[g] += own


@kernel
def read_twig(L, nodes, s, end, total, C_indptr, position, C_inv):
    """Column of the inverse of a twig on the pattern of C, from its product with Z_II.

    `end` bounds the rows that take part.
    """
    at, start, j = nodes.panel_ptr[s], nodes.row_ptr[s], nodes.first[s]
    pivot = L[at]
    diagonal = 1.0
    for t in range(start, end):
        diagonal += L[at + 1 + t - start] * total[t]
    for t in range(C_indptr[j], C_indptr[j + 1]):
        row = position[t] - at
        if row == 0:
            C_inv[t] = diagonal / pivot / pivot
        elif row <= end - start:
            C_inv[t] = -total[start + row - 1] / pivot


@kernel
def end_leading_rows(nodes, n_lead):
    """End of the rows below each supernode that are among the leading `n_lead`, (S,) int64."""
    row_end = nodes.row_ptr[1:].copy()
    for s in range(row_end.size):
        while row_end[s] > nodes.row_ptr[s] and nodes.rows[row_end[s] - 1] >= n_lead:
            row_end[s] -= 1
    return row_end


@kernel
def take_rest(nodes, s, row_end, offset, stack, front, ld_front, m, packed):
    """Z_II of a front out of that of its parent."""
    p = nodes.above[s]
    held = nodes.first[p + 1] - nodes.first[p] + nodes.row_ptr[p + 1] - nodes.row_ptr[p]
    source = stack[offset[p] : offset[p] + held * held]
    places = nodes.relative[nodes.row_ptr[s] : row_end[s]]
    rest = front[m * ld_front + m :]
    if offset[s] == offset[p]:  # the heavy child overwrites the front it reads
        gather_packed(source, held, places, places.size, packed)
        unpack_lower(packed, places.size, rest, ld_front)
    else:
        gather_lower(source, held, places, places.size, rest, ld_front)


@kernel
def invert_fronts(
    blas, L, n_lead, nodes, offset, fronts, row_end, C_indptr, position, stack, Y, total, C_inv
):  # fmt: skip
    """Inverse of the leading `n_lead` rows and columns of C on the pattern of C, `fronts` from the roots down.

    `C_inv` (nnz(C),) comes with zeros, which stay outside the leading block.  `offset` is that of
    ``place_fronts`` for whole fronts, `row_end` that of ``end_leading_rows``.  `stack` (offset[-1],), `Y`
    (largest r m, and r (r + 1) / 2 of a child that shares its parent's place) and `total` (all rows below)
    are work arrays that keep their contents from call to call.
    """
    work = make_workspace()
    for s in fronts:
        start = nodes.first[s]
        m = min(nodes.first[s + 1], n_lead) - start
        if m <= 0:
            continue
        if nodes.twig[s]:  # its product was formed with the front of the parent
            read_twig(L, nodes, s, row_end[s], total, C_indptr, position, C_inv)
            continue
        size = nodes.first[s + 1] - start + nodes.row_ptr[s + 1] - nodes.row_ptr[s]
        r = row_end[s] - nodes.row_ptr[s]
        panel = L[nodes.panel_ptr[s] : nodes.panel_ptr[s + 1]]
        front = stack[offset[s] : offset[s] + size * size]
        if r > 0:
            take_rest(nodes, s, row_end, offset, stack, front, size, m, Y)
        invert_front(blas, work, panel, size, m, r, front, size, Y)
        if nodes.meet_base[s] >= 0:
            invert_twigs(L, nodes, s, row_end, m + r, front, size, total)
        for c in range(m):
            at = nodes.panel_ptr[s] + c * size
            for t in range(C_indptr[start + c], C_indptr[start + c + 1]):
                if position[t] - at < m + r:
                    C_inv[t] = front[position[t] - nodes.panel_ptr[s]]
