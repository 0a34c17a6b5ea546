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
from fastlmm_core.kernels.compile import fill_integers, kernel


@kernel
def find_supernodes(indptr, indices):
    """First column of each supernode, (S + 1,) int64: runs of columns of L with nested equal structure."""
    n = indptr.size - 1
    first = np.empty(n + 1, np.int64)
    count = 0
    for j in range(n):
        joined = False
        if j > 0:
            before = indptr[j] - indptr[j - 1]
            joined = (
                before > 1 and indices[indptr[j - 1] + 1] == j and indptr[j + 1] - indptr[j] == before - 1
            )
        if not joined:
            first[count] = j
            count += 1
    first[count] = n
    return first[: count + 1].copy()


@kernel
def map_fronts(indptr, indices, first):
    """Relative indices and stack offsets of the fronts.

    Returns
    -------
    parent : (S,) int64
        Parent supernode, -1 for a root.
    relative_ptr : (S + 1,) int64, relative : int32
        Positions in the parent's front of the rows below each supernode.
    offset : (S + 1,) int64
        Start of each front on the stack; the last entry is the size of the stack.
    order : (S,) int64
        The supernodes depth first from the roots, later columns first.
    """
    n_super = first.size - 1
    owner = np.empty(indptr.size - 1, np.int64)
    for s in range(n_super):
        for j in range(first[s], first[s + 1]):
            owner[j] = s
    parent = np.full(n_super, -1, np.int64)
    relative_ptr = np.zeros(n_super + 1, np.int64)
    for s in range(n_super):
        j = first[s]
        m = first[s + 1] - j
        rows = indptr[j + 1] - indptr[j]
        relative_ptr[s + 1] = relative_ptr[s] + rows - m
        if rows > m:
            parent[s] = owner[indices[indptr[j] + m]]
    relative = np.empty(relative_ptr[n_super], np.int32)
    heavy = find_heavy_children(parent, indptr, first)
    offset = np.zeros(n_super + 1, np.int64)
    top = 0
    for s in range(n_super - 1, -1, -1):
        p = parent[s]
        rows = indptr[first[s] + 1] - indptr[first[s]]
        if p >= 0:
            held = indptr[first[p] + 1] - indptr[first[p]]
            offset[s] = offset[p] if heavy[p] == s else offset[p] + held * held
            at = indptr[first[p]]
            base = at
            m = first[s + 1] - first[s]
            for t in range(rows - m):
                row = indices[indptr[first[s]] + m + t]
                while indices[at] != row:
                    at += 1
                relative[relative_ptr[s] + t] = at - base
        top = max(top, offset[s] + rows * rows)
    offset[n_super] = top
    return parent, relative_ptr, relative, offset, walk_depth_first(parent, heavy)


@kernel
def find_heavy_children(parent, indptr, first):
    """Child of each supernode whose subtree needs the largest stack, -1 for a leaf, (S,) int64.

    It is visited last and takes over its parent's place on the stack, which nobody reads any more.
    """
    n_super = parent.size
    heavy = fill_integers(n_super, -1)
    largest = np.zeros(n_super, np.int64)
    second = np.zeros(n_super, np.int64)
    for s in range(n_super):
        rows = indptr[first[s] + 1] - indptr[first[s]]
        need = max(rows * rows + second[s], largest[s])
        p = parent[s]
        if p >= 0:
            if need > largest[p]:
                second[p] = largest[p]
                largest[p] = need
                heavy[p] = s
            elif need > second[p]:
                second[p] = need
    return heavy


@kernel
def walk_depth_first(parent, heavy):
    """Every node after its parent, subtree by subtree, the heavy child last; `parent` (S,), -1 for a root."""
    n = parent.size
    child = np.full(n + 1, -1, np.int64)  # the roots are children of node n
    sibling = np.full(n, -1, np.int64)
    for s in range(n - 1, -1, -1):
        p = parent[s] if parent[s] >= 0 else n
        sibling[s] = child[p]
        child[p] = s
    order = np.empty(n, np.int64)
    stack = np.empty(n + 1, np.int64)
    stack[0] = n
    held = 1
    count = 0
    while held > 0:
        held -= 1
        s = stack[held]
        if s < n:
            order[count] = s
            count += 1
        last = heavy[s] if s < n else -1
        if last >= 0:
            stack[held] = last
            held += 1
        c = child[s]
        while c >= 0:
            if c != last:
                stack[held] = c
                held += 1
            c = sibling[c]
    return order


@kernel
def map_entries(C_indptr, C_indices, indptr, indices, first):
    """Row within the front of every entry of C, (nnz(C),) int32."""
    place = np.empty(C_indices.size, np.int32)
    for s in range(first.size - 1):
        base = indptr[first[s]]
        for j in range(first[s], first[s + 1]):
            at = base
            for t in range(C_indptr[j], C_indptr[j + 1]):
                while indices[at] != C_indices[t]:
                    at += 1
                place[t] = at - base
    return place


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
def invert_front(blas, work, L, start, m, r, front, Y):
    """Complete one front whose Z_II is in place; `front` is flat, column-major, (m + r) square, lower
    triangle.

    `L` from `start` holds the m columns of the factor, each without its leading zeros; `Y` has room for r m.
    """
    size = m + r
    at = start
    for c in range(m):
        for a in range(c, m):
            front[c * size + a] = L[at + a - c]
        for a in range(r):
            Y[c * r + a] = L[at + m - c + a]
        at += size - c
    address = np.int64(front.ctypes.data)
    Y_address = np.int64(Y.ctypes.data)
    if r > 0:
        if m == 1:
            invert_single(front, Y, r)
            return
        solve_triangular_right(blas, work, address, size, Y_address, r, r, m)
        below = address + 8 * m
        multiply_symmetric_left(
            blas, work, address + 8 * (m * size + m), size, Y_address, r, below, size, r, m
        )
        invert_from_cholesky(blas, work, address, size, m)
        subtract_transposed_product(blas, work, Y_address, r, below, size, address, size, r, m)
    else:
        invert_from_cholesky(blas, work, address, size, m)


@kernel
def invert_single(front, Y, r):
    """`invert_front` for a supernode of one column."""
    size = r + 1
    pivot = front[0]
    for a in range(r):
        Y[a] /= pivot
        front[1 + a] = 0.0
    for b in range(r):
        column = (b + 1) * size + 1
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
def invert_leaf(source, ld_source, relative, L, start, r, y, total):
    """Column of Z of a leaf of one column from the parent's front: `total` (r + 1,), diagonal first.

    Nobody reads the front of a leaf, so its Z_II is used where it lies and never stored.
    """
    pivot = L[start]
    for a in range(r):
        y[a] = L[start + 1 + a] / pivot
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
def invert_supernodes(
    blas, L, indptr, first, parent, relative_ptr, relative, offset, order, C_indptr, place, stack, Y, C_inv
):
    """C^-1 on the pattern of C into `C_inv` (nnz(C),).

    `stack` (offset[-1],) and `Y` (largest r m, and r (r + 1) / 2 of a heavy child) are work arrays.
    """
    work = make_workspace()
    n_super = first.size - 1
    leaf = np.ones(n_super, np.bool_)
    longest = 1
    for s in range(n_super):
        if parent[s] >= 0:
            leaf[parent[s]] = False
        longest = max(longest, indptr[first[s] + 1] - indptr[first[s]])
    column = np.empty(longest)
    for s in order:
        j = first[s]
        m = first[s + 1] - j
        size = indptr[j + 1] - indptr[j]
        r = size - m
        front = stack[offset[s] : offset[s] + size * size]
        p = parent[s]
        if p >= 0:
            held = indptr[first[p] + 1] - indptr[first[p]]
            source = stack[offset[p] : offset[p] + held * held]
            rows = relative[relative_ptr[s] : relative_ptr[s + 1]]
            if m == 1 and leaf[s]:
                invert_leaf(source, held, rows, L, indptr[j], r, Y, column)
                for t in range(C_indptr[j], C_indptr[j + 1]):
                    C_inv[t] = column[place[t]]
                continue
            if offset[s] == offset[p]:  # the heavy child overwrites the front it reads
                gather_packed(source, held, rows, r, Y)
                unpack_lower(Y, r, front[m * size + m :], size)
            else:
                gather_lower(source, held, rows, r, front[m * size + m :], size)
        invert_front(blas, work, L, indptr[j], m, r, front, Y)
        for c in range(m):
            for t in range(C_indptr[j + c], C_indptr[j + c + 1]):
                C_inv[t] = front[c * size + place[t]]
