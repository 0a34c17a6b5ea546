"""Sparse inverse subset from a supernodal factor, front by front from the root down.

For a supernode with columns J and rows I below, L_JJ and L_IJ give (Takahashi, Fagan & Chin 1973; supernodal
form Masuda et al. 2014)

    Y = L_IJ L_JJ^-1,    Z_IJ = -Z_II Y,    Z_JJ = (L_JJ L_JJ')^-1 - Y' Z_IJ.

All of Z_II lies in the front (J, I) of the parent, so a supernode copies the lower triangle of its Z_II out
of one dense block through relative indices that are found once per pattern; guests read it where it is, and
twigs never have a front.  Fronts of a path live one behind
the other on a stack whose offsets are fixed too; nothing of Z is kept but the entries on the pattern of C.
Siblings share their place on the stack, so the tree is walked depth first: a subtree is finished before the
next one starts, whether or not the elimination order is a postorder.
"""

from __future__ import annotations

import numpy as np

from fastlmm_core.kernels.blas import (
    make_workspace,
    multiply_symmetric_left,
    subtract_transposed_product,
)
from fastlmm_core.kernels.compile import kernel
from fastlmm_core.kernels.factor.sparse_fronts import invert_sparse, mirror_lower, read_sparse_inverse
from fastlmm_core.kernels.factor.supernodes import cut_rows
from fastlmm_core.kernels.factor.triangular import invert_from_cholesky, solve_triangular_right

# Side of the blocks in which a large symmetric matrix is multiplied.
SYMMETRIC_BLOCK = 512


@kernel
def gather_lower(stack, nodes, s, count, base, size, rest, ld_rest, target, at, ld_target):
    """Lower triangle of Z for the leading `count` rows below supernode s, out of the front of its parent.

    Columns of the parent are read from `base` of `stack` on (`size` rows), those below them from `rest`.
    Column b goes to target[at + b ld_target] on; with `ld_target` 0 columns lie one behind the other.
    """
    p = nodes.above[s]
    m = nodes.first[p + 1] - nodes.first[p]
    first = nodes.row_ptr[s]
    for b in range(count):
        if ld_target == 0:
            at -= b
        if nodes.relative[first + b] < m:
            column = base + nodes.relative[first + b] * size
            for a in range(b, count):
                target[at + a] = stack[column + nodes.relative[first + a]]
        else:
            column = rest + nodes.landing[first + b] * ld_rest
            for a in range(b, count):
                target[at + a] = stack[column + nodes.landing[first + a]]
        at += ld_target if ld_target > 0 else count


@kernel
def unpack_lower(packed, count, target, start, ld_target):
    """Packed columns into a column-major square from `start` on."""
    at = 0
    for b in range(count):
        to = start + b * ld_target
        for a in range(b, count):
            target[to + a] = packed[at]
            at += 1


@kernel
def invert_front(blas, work, nodes, s, m, end, panel, front, stack, rest, ld_rest, Y):
    """Complete one front whose Z_II is in place; `front` is flat, column-major, lower triangle.

    m columns and the rows up to `end` take part.  `panel` holds the columns of the factor, Z_II lies from
    `rest` of the stack on; `Y` has room for r m.
    """
    size = nodes.first[s + 1] - nodes.first[s] + nodes.row_ptr[s + 1] - nodes.row_ptr[s]
    r = end - nodes.row_ptr[s]
    for c in range(m):
        for a in range(c, m):
            front[c * size + a] = panel[c * size + a]
    address = np.int64(front.ctypes.data)
    if r == 0:
        invert_from_cholesky(blas, work, address, size, m)
        return
    for c in range(m):
        for a in range(r):
            Y[c * r + a] = panel[c * size + m + a]
    if m == 1 and not nodes.guest[s]:
        invert_single(front, size, Y, r)
        return
    Y_address = np.int64(Y.ctypes.data)
    solve_triangular_right(blas, work, address, size, False, Y_address, r, r, m)
    below, Z = address + 8 * m, np.int64(stack.ctypes.data) + 8 * rest
    start, place = cut_rows(nodes, s, end, SYMMETRIC_BLOCK if r >= 2 * SYMMETRIC_BLOCK else r)
    multiply_symmetric_left(blas, work, Z, ld_rest, start, place, Y_address, r, below, size, m)
    invert_from_cholesky(blas, work, address, size, m)
    subtract_transposed_product(blas, work, Y_address, r, below, size, address, size, r, m)


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
def multiply_twig(column, places, l, factor, total):
    """z'l for z = `column` at the `places` (k,) of the column l (k,) of a twig, and total (k,) += z `factor`.

    Four sums run beside each other, as one waits for its last addition; an unsigned index is not looked at
    for counting from the end.
    """
    a, b, c, d = 0.0, 0.0, 0.0, 0.0
    fours = l.size // 4 * 4
    for t in range(0, fours, 4):
        p, q = column[np.uint32(places[t])], column[np.uint32(places[t + 1])]
        r, s = column[np.uint32(places[t + 2])], column[np.uint32(places[t + 3])]
        total[t] += p * factor
        total[t + 1] += q * factor
        total[t + 2] += r * factor
        total[t + 3] += s * factor
        a += p * l[t]
        b += q * l[t + 1]
        c += r * l[t + 2]
        d += s * l[t + 3]
    for t in range(fours, l.size):
        p = column[np.uint32(places[t])]
        total[t] += p * factor
        a += p * l[t]
    return a + b + c + d


@kernel
def invert_twigs(L, nodes, parent, row_end, columns, stack, base, size, rest, ld_rest, total):
    """Products Z_II l of the columns l of all twigs of a supernode from its complete front.

    Column by column of the front, as ``subtract_twigs``.  `columns` are those of the front that take part,
    `row_end` (S,) bounds the rows of each twig that do, and `total` takes the products at the places of those
    rows.  `base`, `size`, `rest` and `ld_rest` are as in ``gather_lower``.
    """
    m = nodes.first[parent + 1] - nodes.first[parent]
    first_meet = nodes.meet_base[parent]
    for k in range(nodes.meet_ptr[first_meet], nodes.meet_ptr[first_meet + columns]):
        total[nodes.meet[k]] = 0.0
    for b in range(columns):
        places, column = (nodes.relative, base + b * size) if b < m else (nodes.landing, rest)
        for k in range(nodes.meet_ptr[first_meet + b], nodes.meet_ptr[first_meet + b + 1]):
            s = nodes.meet_twig[k]
            g = nodes.meet[k]
            from_column = column if b < m else column + nodes.landing[g] * ld_rest
            shift = nodes.panel_ptr[s] + 1 - nodes.row_ptr[s]
            end, factor = row_end[s], L[shift + g]
            own = multiply_twig(
                stack[from_column:], places[g + 1 : end], L[shift + g + 1 : shift + end], factor,
                total[g + 1 : end],
            )  # fmt: skip
            total[g] += stack[from_column + places[g]] * factor + own


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
def place_inverse(nodes, s, offset):
    """Where Z_II of a front is on the stack, (start, rows): in the front, for a guest in that of its host."""
    m = nodes.first[s + 1] - nodes.first[s]
    size = m + nodes.row_ptr[s + 1] - nodes.row_ptr[s]
    p = nodes.above[s]
    if nodes.guest[s]:
        return offset[p], nodes.first[p + 1] - nodes.first[p]
    return offset[s] + m * size + m, size


@kernel
def take_inverse(nodes, s, count, offset, stack, packed):
    """Z_II of a front for `count` rows out of that of its parent."""
    p = nodes.above[s]
    size = nodes.first[p + 1] - nodes.first[p] + nodes.row_ptr[p + 1] - nodes.row_ptr[p]
    rest, ld_rest = place_inverse(nodes, p, offset)
    to, ld_to = place_inverse(nodes, s, offset)
    if offset[s] == offset[p]:  # the heavy child overwrites the front it reads
        gather_lower(stack, nodes, s, count, offset[p], size, rest, ld_rest, packed, 0, 0)
        unpack_lower(packed, count, stack, to, ld_to)
    else:
        gather_lower(stack, nodes, s, count, offset[p], size, rest, ld_rest, stack, to, ld_to)


@kernel
def invert_fronts(
    blas, L, n_lead, nodes, offset, fronts, row_end, C_indptr, position, stack, Y, total, C_inv
):  # fmt: skip
    """Inverse of the leading `n_lead` rows and columns of C on the pattern of C; `fronts` from the roots on.

    `C_inv` (nnz(C),) comes with zeros, which stay outside the leading block.  `offset` is that of
    ``place_fronts`` for whole fronts, `row_end` that of ``end_leading_rows``.  `stack` (offset[-1],), `Y`
    (largest r m, r (r + 1) / 2 of a child that shares its parent's place, 2 m (2 m + r) of a sparse front)
    and `total` (all rows below) are work arrays that keep their contents from call to call.
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
        front = stack[offset[s] :]
        if r > 0 and not nodes.guest[s]:
            take_inverse(nodes, s, r, offset, stack, Y)
        rest, ld_rest = place_inverse(nodes, s, offset)
        if nodes.sparse[s]:
            if r > 0 and not nodes.guest[s]:
                mirror_lower(stack[rest:], ld_rest, r)
            invert_sparse(blas, work, nodes, s, m, row_end[s], L, front, stack, rest, ld_rest, Y)
        else:
            invert_front(blas, work, nodes, s, m, row_end[s], panel, front, stack, rest, ld_rest, Y)
        if nodes.mirrored[s]:
            mirror_lower(front, size, m)
        if nodes.meet_base[s] >= 0:
            invert_twigs(L, nodes, s, row_end, m + r, stack, offset[s], size, rest, ld_rest, total)
        if nodes.sparse[s]:
            read_sparse_inverse(nodes, s, m, r, front, C_indptr, position, C_inv)
            continue
        for c in range(m):
            at = nodes.panel_ptr[s] + c * size
            for t in range(C_indptr[start + c], C_indptr[start + c + 1]):
                if position[t] - at < m + r:
                    C_inv[t] = front[position[t] - nodes.panel_ptr[s]]
