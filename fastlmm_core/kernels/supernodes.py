"""Supernodes of the factor: dense panels, the rows below them, and where each front meets its parent's.

A supernode is a run of columns of L with one structure below the diagonal.  Its front is the dense triangle
of its columns and the rows below them; the panel, the columns of the front, is what L keeps.  Everything here
depends on the pattern alone and is found once.
"""

from __future__ import annotations

import numpy as np

from fastlmm_core.kernels.compile import fill_integers, kernel

# Model of the seconds that a front costs in a factorization and an inverse subset; it decides which
# supernodes are merged.  Measured on one core with OpenBLAS: products with a panel of m columns run at
# PEAK m / (m + HALF_WIDTH) operations a second, an entry of the block below is copied three times at
# COPY_SECONDS, and the calls of a front take CALL_SECONDS.
PEAK = 3.5e10
HALF_WIDTH = 12.0
COPY_SECONDS = 1.2e-9
CALL_SECONDS = 4e-6
# Zeros may not take more than this share of a merged panel, unless it is small.
MOST_ZEROS = 0.25
SMALL_PANEL = 512


@kernel
def find_supernodes(parent, count):
    """First column of each supernode, (S + 1,) int64, from the elimination tree and the column counts."""
    n = parent.size
    first = np.empty(n + 1, np.int64)
    found = 0
    for j in range(n):
        if not (j > 0 and parent[j - 1] == j and count[j - 1] == count[j] + 1):
            first[found] = j
            found += 1
    first[found] = n
    return first[: found + 1].copy()


@kernel
def estimate_front(m, r):
    """Seconds of a front with m columns and r rows below them; see the constants of this module."""
    operations = 3.0 * m * ((m + r) * r + m * m / 3.0)
    if m == 1 and r < 64:
        return 2e-7 + COPY_SECONDS * r * r
    return operations / PEAK * (m + HALF_WIDTH) / m + COPY_SECONDS * r * r + CALL_SECONDS


@kernel
def merge_supernodes(first, parent, count):
    """Supernodes after merging those whose fronts are cheaper together, (S + 1,) int64.

    A supernode joins the one that starts right behind it and holds its parent (relaxed amalgamation, Ashcraft
    & Grimes 1989); the panel of the two then stores some zeros.
    """
    n_super = first.size - 1
    begin = np.empty(n_super + 1, np.int64)  # of the supernodes kept so far
    zeros = np.zeros(n_super + 1)
    kept = 0
    for s in range(n_super):
        start, end = first[s], first[s + 1]
        below = count[end - 1] - 1
        stored = 0.0
        while kept > 0 and start <= parent[start - 1] < end:
            before = begin[kept - 1]
            m, width = end - start, start - before
            r = count[start - 1] - 1
            added = stored + zeros[kept - 1] + width * (m + below - r)
            panel = (width + m) * (width + m + below)
            if added > MOST_ZEROS * panel and panel > SMALL_PANEL:
                break
            if estimate_front(width + m, below) > estimate_front(m, below) + estimate_front(width, r):
                break
            start, stored = before, added
            kept -= 1
        begin[kept] = start
        zeros[kept] = stored
        kept += 1
    begin[kept] = first[n_super]
    return begin[: kept + 1].copy()


@kernel
def find_owners(first):
    """Supernode of each column, (n,) int64."""
    owner = np.empty(first[first.size - 1], np.int64)
    for s in range(first.size - 1):
        for j in range(first[s], first[s + 1]):
            owner[j] = s
    return owner


@kernel
def fill_rows(indptr, indices, first, parent, count):
    """Rows below each supernode and the tree of supernodes.

    `indptr, indices` are the rows of the lower triangle of C, compressed by row.  Row i lies below every
    supernode on the tree paths from its entries up to the one that holds i; visited by ascending i, the rows
    of each supernode come sorted.

    Returns
    -------
    row_ptr : (S + 1,) int64, rows : int32
    above : (S,) int64
        Parent supernode, -1 for a root.
    """
    n_super = first.size - 1
    owner = find_owners(first)
    row_ptr = np.zeros(n_super + 1, np.int64)
    above = fill_integers(n_super, -1)
    for s in range(n_super):
        last = first[s + 1] - 1
        row_ptr[s + 1] = row_ptr[s] + count[last] - 1
        if parent[last] >= 0:
            above[s] = owner[parent[last]]
    rows = np.empty(row_ptr[n_super], np.int32)
    filled = row_ptr[:n_super].copy()
    mark = fill_integers(n_super, -1)
    for i in range(indptr.size - 1):
        top = owner[i]
        mark[top] = i
        for t in range(indptr[i], indptr[i + 1]):
            s = owner[indices[t]]
            while mark[s] != i:
                mark[s] = i
                rows[filled[s]] = i
                filled[s] += 1
                s = above[s]
    return row_ptr, rows, above


@kernel
def map_rows(first, row_ptr, rows, above):
    """Position in the parent's front of every row below a supernode, (nnz(rows),) int32."""
    relative = np.empty(rows.size, np.int32)
    for s in range(first.size - 1):
        p = above[s]
        if p < 0:
            continue
        start, end = first[p], first[p + 1]
        at = row_ptr[p]
        for t in range(row_ptr[s], row_ptr[s + 1]):
            i = rows[t]
            if i < end:
                relative[t] = i - start
            else:
                while rows[at] != i:
                    at += 1
                relative[t] = end - start + at - row_ptr[p]
    return relative


@kernel
def place_panels(first, row_ptr):
    """Start of each panel in the storage of L, (S + 1,) int64; panels are column-major, m + r rows."""
    n_super = first.size - 1
    panel_ptr = np.zeros(n_super + 1, np.int64)
    for s in range(n_super):
        m = first[s + 1] - first[s]
        panel_ptr[s + 1] = panel_ptr[s] + m * (m + row_ptr[s + 1] - row_ptr[s])
    return panel_ptr


@kernel
def map_entries(C_indptr, C_indices, first, row_ptr, rows, panel_ptr):
    """Position in the storage of L of every entry of the lower triangle of C, (nnz(C),) int64."""
    position = np.empty(C_indices.size, np.int64)
    for s in range(first.size - 1):
        start, end = first[s], first[s + 1]
        size = end - start + row_ptr[s + 1] - row_ptr[s]
        for j in range(start, end):
            at = row_ptr[s]
            column = panel_ptr[s] + (j - start) * size
            for t in range(C_indptr[j], C_indptr[j + 1]):
                i = C_indices[t]
                if i < end:
                    position[t] = column + i - start
                else:
                    while rows[at] != i:
                        at += 1
                    position[t] = column + end - start + at - row_ptr[s]
    return position


@kernel
def place_fronts(above, side):
    """Where the fronts lie on one stack while the tree is walked depth first.

    A front has `side` (S,) rows and columns.  The child whose subtree needs the largest stack is visited next
    to its parent and takes over the parent's place.

    Returns
    -------
    offset : (S + 1,) int64
        Start of each front on the stack; the last entry is the size of the stack.
    heavy : (S,) int64
        The child that shares its parent's place, -1 for a leaf.
    """
    n_super = above.size
    heavy = fill_integers(n_super, -1)
    largest = fill_integers(n_super, -1)
    second = np.zeros(n_super, np.int64)
    for s in range(n_super):
        need = max(side[s] * side[s] + second[s], largest[s])
        p = above[s]
        if p >= 0:
            if need > largest[p]:
                second[p] = max(largest[p], 0)
                largest[p] = need
                heavy[p] = s
            elif need > second[p]:
                second[p] = need
    offset = np.zeros(n_super + 1, np.int64)
    top = 0
    for s in range(n_super - 1, -1, -1):
        p = above[s]
        if p >= 0:
            offset[s] = offset[p] if heavy[p] == s else offset[p] + side[p] * side[p]
        top = max(top, offset[s] + side[s] * side[s])
    offset[n_super] = top
    return offset, heavy


@kernel
def walk_depth_first(above, heavy):
    """Every supernode after its parent, subtree by subtree, the heavy child last, (S,) int64."""
    n = above.size
    child = fill_integers(n + 1, -1)  # the roots are children of node n
    sibling = fill_integers(n, -1)
    for s in range(n - 1, -1, -1):
        p = above[s] if above[s] >= 0 else n
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
