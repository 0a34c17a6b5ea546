"""Multifrontal Cholesky factorization by supernodes.

Every front gathers the entries of C in its columns and the update matrices of its children, eliminates its
columns with BLAS and hands the rest, its own update matrix, to its parent (Duff & Reid 1983; Liu 1992).  The
columns of a front are assembled and eliminated in the place where the factor keeps them; only update matrices
pass through the stack.
"""

from __future__ import annotations

import numpy as np

from fastlmm_core.kernels.blas import make_workspace, multiply, subtract_outer_product
from fastlmm_core.kernels.compile import kernel
from fastlmm_core.kernels.factor.sparse_fronts import eliminate_sparse, spread_panel
from fastlmm_core.kernels.factor.supernodes import cut_rows
from fastlmm_core.kernels.factor.triangular import factorize_columns


@kernel
def clear_lower(target, n):
    """Zero the lower triangle of the square column-major `target`."""
    for b in range(n):
        for a in range(b * n + b, (b + 1) * n):
            target[a] = 0.0


@kernel
def add_update(update, count, ld_update, nodes, s, panel, rest, base, ld_rest):
    """Add the lower triangle of the update (count, count) of supernode s into the front of its parent.

    `panel` holds the columns of that front, `rest` from `base` on the square below and right of them.  With
    `ld_update` 0 the columns of `update` lie one behind the other without their upper parts.
    """
    p = nodes.above[s]
    m = nodes.first[p + 1] - nodes.first[p]
    size = m + nodes.row_ptr[p + 1] - nodes.row_ptr[p]
    relative = nodes.relative[nodes.row_ptr[s] : nodes.row_ptr[s + 1]]
    landing = nodes.landing[nodes.row_ptr[s] : nodes.row_ptr[s + 1]]
    relative_end, landing_end = find_runs(relative, count), find_runs(landing, count)
    at = 0
    for b in range(count):
        if ld_update > 0:
            at = b * ld_update
        else:
            at -= b  # so that at + a is the place of row a
        if relative[b] < m:
            add_column(update, at, b, count, relative, relative_end, panel, relative[b] * size)
        else:
            add_column(update, at, b, count, landing, landing_end, rest, base + landing[b] * ld_rest)
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
def eliminate_twig(column):
    """Factorize a supernode of one column in place; False when its pivot is not positive."""
    if not column[0] > 0.0:
        return False
    pivot = np.sqrt(column[0])
    column[0] = pivot
    for a in range(1, column.size):
        column[a] /= pivot
    return True


@kernel
def subtract_twig(column, places, l, factor):
    """Subtract l (k,) `factor` from `column` at `places` (k,); as unsigned indices they do not count back."""
    for t in range(l.size):
        column[np.uint32(places[t])] -= l[t] * factor


@kernel
def subtract_twigs(L, nodes, parent, panel, rest, base, ld_rest):
    """Subtract the outer products of the columns of all twigs from the front of their parent.

    Column by column of the front, which stays in the cache while the twigs that reach it pass by.  `panel`
    and `rest` are as in ``add_update``.
    """
    m = nodes.first[parent + 1] - nodes.first[parent]
    size = m + nodes.row_ptr[parent + 1] - nodes.row_ptr[parent]
    first_meet = nodes.meet_base[parent]
    for b in range(size):
        for k in range(nodes.meet_ptr[first_meet + b], nodes.meet_ptr[first_meet + b + 1]):
            s = nodes.meet_twig[k]
            g = nodes.meet[k]
            shift = nodes.panel_ptr[s] + 1 - nodes.row_ptr[s]
            end = nodes.row_ptr[s + 1]
            l, factor = L[shift + g : shift + end], L[shift + g]
            if b < m:
                subtract_twig(panel[b * size :], nodes.relative[g:end], l, factor)
            else:
                subtract_twig(rest[base + nodes.landing[g] * ld_rest :], nodes.landing[g:end], l, factor)


@kernel
def eliminate_front(blas, work, nodes, s, panel, rest, base, ld_rest, assembled):
    """Factorize the columns of a front in place and subtract their outer product from its rest.

    `assembled` says that `rest` from `base` on holds something already; it always does for a guest.
    """
    m = nodes.first[s + 1] - nodes.first[s]
    r = nodes.row_ptr[s + 1] - nodes.row_ptr[s]
    size = m + r
    address = np.int64(panel.ctypes.data)
    failed = factorize_columns(blas, work, address, size, m, size)
    if failed != 0 or not panel[(m - 1) * (size + 1)] > 0.0:
        return False
    if r == 0:
        return True
    below = address + 8 * m
    target = np.int64(rest.ctypes.data) + 8 * base
    if not nodes.guest[s]:
        subtract_outer_product(blas, work, below, size, target, ld_rest, r, m, assembled)
        return True
    start, place = cut_rows(nodes, s, nodes.row_ptr[s + 1], r)
    for b in range(place.size):
        B = below + 8 * start[b]
        columns = start[b + 1] - start[b]
        diagonal = target + 8 * (place[b] * ld_rest + place[b])
        subtract_outer_product(blas, work, B, size, diagonal, ld_rest, columns, m, True)
        for a in range(b + 1, place.size):
            out = target + 8 * (place[b] * ld_rest + place[a])
            sizes = (start[a + 1] - start[a], columns, m)
            multiply(blas, work, below + 8 * start[a], size, B, size, True, out, ld_rest, sizes, True)
    return True


@kernel
def place_entries(C_data, position, L):
    """Entries of C in the panels of the factor, zeros elsewhere."""
    L.fill(0.0)
    for t in range(C_data.size):
        L[position[t]] = C_data[t]


@kernel
def place_columns(indptr, indices, data, nodes, L):
    """A factor in compressed columns into the storage of L; the first column with a bad pivot, or -1.

    Rows ascend, the diagonal first.  Entries outside the panels are zeros of somebody else's supernodes and
    are left out.  A pivot that is not positive, NaN included, is bad.
    """
    L.fill(0.0)
    for s in range(nodes.above.size):
        start, end = nodes.first[s], nodes.first[s + 1]
        first, last = nodes.row_ptr[s], nodes.row_ptr[s + 1]
        for j in range(start, end):
            if not data[indptr[j]] > 0.0:
                return j
            column = nodes.panel_ptr[s] + (j - start) * (end - start + last - first)
            at = first
            for t in range(indptr[j], indptr[j + 1]):
                i = indices[t]
                if i < end:
                    L[column + i - start] = data[t]
                    continue
                while at < last and nodes.rows[at] < i:
                    at += 1
                if at < last and nodes.rows[at] == i:
                    L[column + end - start + at - first] = data[t]
    return -1


@kernel
def place_update(nodes, s, offset):
    """Where the update matrix of a front is, (start, rows): on the stack, for a guest in its host's panel."""
    p = nodes.above[s]
    if nodes.guest[s]:
        return nodes.panel_ptr[p], nodes.first[p + 1] - nodes.first[p]
    r, before = nodes.row_ptr[s + 1] - nodes.row_ptr[s], 0
    if nodes.sparse[s]:  # its panel, with all rows, comes first
        m = nodes.first[s + 1] - nodes.first[s]
        before = m * (m + r)
    return offset[s] + before, r


@kernel
def find_panel(L, nodes, s, offset, stack):
    """The columns of a front while it is assembled: of a sparse one with all its rows on the stack."""
    if not nodes.sparse[s]:
        return L[nodes.panel_ptr[s] : nodes.panel_ptr[s + 1]]
    m = nodes.first[s + 1] - nodes.first[s]
    return stack[offset[s] : offset[s] + m * (m + nodes.row_ptr[s + 1] - nodes.row_ptr[s])]


@kernel
def eliminate_fronts(blas, nodes, offset, fronts, assembled, L, stack, packed):
    """Eliminate `fronts`, children before parents; -1, or the supernode where C is not positive definite.

    `L` holds the entries of C at first and the factor at the end.  `offset` is that of ``place_fronts`` for
    the squares of rows below; `assembled` (S,) bool says whose square a child has begun.  `stack`
    (offset[-1],) and `packed` (r (r + 1) / 2 of a child that shares its parent's place, 2 m (m + r) of a
    sparse front) are work arrays.
    """
    work = make_workspace()
    for s in fronts:
        panel = find_panel(L, nodes, s, offset, stack)
        if nodes.twig[s]:
            if not eliminate_twig(panel):
                return s
            continue
        base, r = place_update(nodes, s, offset)
        rest = L if nodes.guest[s] else stack
        if nodes.meet_base[s] >= 0 or nodes.sparse[s]:
            begin_front(L, nodes, s, assembled, panel, rest, base, r)
        if nodes.meet_base[s] >= 0:
            subtract_twigs(L, nodes, s, panel, rest, base, r)
        if nodes.sparse[s]:
            definite = eliminate_sparse(blas, work, nodes, s, L, panel, rest, base, r, packed)
        else:
            definite = eliminate_front(blas, work, nodes, s, panel, rest, base, r, assembled[s])
        if not definite:
            return s
        p = nodes.above[s]
        if p < 0 or nodes.guest[s]:
            continue
        panel_above = find_panel(L, nodes, p, offset, stack)
        base_above, below = place_update(nodes, p, offset)
        rest_above = L if nodes.guest[p] else stack
        update, ld_update = stack[base : base + r * r], r
        if offset[s] == offset[p] and (nodes.sparse[p] or (below > 0 and not nodes.guest[p])):
            pack_lower(update, r, packed)  # it lies where the sum will be
            update, ld_update = packed, 0
        begin_front(L, nodes, p, assembled, panel_above, rest_above, base_above, below)
        add_update(update, r, ld_update, nodes, s, panel_above, rest_above, base_above, below)
    return -1


@kernel
def begin_front(L, nodes, s, assembled, panel, rest, base, r):
    """Zeros into an update matrix before the first child adds to it; a guest's has those of its host.

    The panel of a sparse front is begun with its entries of C.
    """
    if assembled[s] or (nodes.guest[s] and not nodes.sparse[s]):
        return
    if nodes.sparse[s]:
        spread_panel(L, nodes, s, panel)
    if not nodes.guest[s]:
        clear_lower(rest[base : base + r * r], r)
    assembled[s] = True
