"""Supernodes of the factor: dense panels, the rows below them, and where each front meets its parent's.

A supernode is a run of columns of L with one structure below the diagonal.  Its front is the dense triangle
of its columns and the rows below them; the panel, the columns of the front, is what L keeps.  Everything here
depends on the pattern alone and is found once.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from fastlmm_core.kernels.compile import fill_integers, kernel
from fastlmm_core.kernels.factor.ordering import list_children

# Model of the seconds that a front costs in a factorization and an inverse subset; it decides which
# supernodes are merged.  Measured on one core with OpenBLAS: products with a panel of m columns run at
# PEAK m / (m + HALF_WIDTH) operations a second, an entry of the block below is copied three times at
# COPY_SECONDS, and the calls of a front take CALL_SECONDS.
PEAK = 3.5e10
HALF_WIDTH = 12.0
COPY_SECONDS = 1.2e-9
CALL_SECONDS = 4e-6
TWIG_SECONDS = 2e-7
# Zeros may not take more than this share of a merged panel, unless it is small.
MOST_ZEROS = 0.25
SMALL_PANEL = 512


class Supernodes(NamedTuple):
    """Pattern of the factor; S supernodes, arrays that the kernels take as one argument.

    Attributes
    ----------
    first : (S + 1,) int64
        First column of each supernode.
    row_ptr : (S + 1,) int64, rows : int32
        Rows below each.
    relative : int32
        Place of each of `rows` in the front of the parent.
    above : (S,) int64
        Parent, -1 for a root.
    panel_ptr : (S + 1,) int64
        Start of each panel in the storage of L; panels are column-major, m + r rows.
    twig : (S,) bool
        Of one column, without children, with a parent.  Twigs are most of the supernodes of a mixed model
        (levels of the terms that are eliminated first) and have no front of their own: the parent takes in
        all of its twigs at once, row by row of its front.
    guest : (S,) bool
        A front without a place for its rest, the square of the rows below: their rows and columns are a few
        runs in the front of the parent, a root, and are worked on there.  The large fronts of trials (an
        environment each, below the block of all genotypes) are guests.
    landing : int32
        Where each of `rows` lies in the rest of the parent: its own square, or for a guest the front of the
        root; -1 in the parent's columns.
    meet_base : (S,) int64
        Where the rows of the front of each supernode begin in `meet_ptr`; -1 without twigs.
    meet_ptr : int64
        Bounds in `meet` of the twigs' entries in each such row.
    meet : int32
        Place of each entry in `rows`.
    meet_twig : int32
        The twig it belongs to.
    sparse : (S,) bool
        A front whose rows below keep the few entries they have (``sparse_fronts``): its panel holds L of its
        columns, without rows below, and those entries row by row.
    mirrored : (S,) bool
        A front whose inverse is kept with both triangles, as sparse guests read it.
    cross_base : (S,) int64
        Where the rows below a sparse front begin in `cross_ptr`; -1 for others.
    cross_ptr : int64
        Bounds in `cross` of the entries of each such row.
    cross : int32
        Column of each entry in its front.
    """

    first: np.ndarray
    row_ptr: np.ndarray
    rows: np.ndarray
    relative: np.ndarray
    above: np.ndarray
    panel_ptr: np.ndarray
    twig: np.ndarray
    guest: np.ndarray
    landing: np.ndarray
    meet_base: np.ndarray
    meet_ptr: np.ndarray
    meet: np.ndarray
    meet_twig: np.ndarray
    sparse: np.ndarray
    mirrored: np.ndarray
    cross_base: np.ndarray
    cross_ptr: np.ndarray
    cross: np.ndarray


@kernel
def find_supernodes(parent, count, place):
    """First node of each supernode, (S + 1,) int64, from the elimination tree and the entries of the columns.

    Of a matrix a node is a column; of a graph it stands for several, from place[j] to place[j + 1].
    """
    n = parent.size
    first = np.empty(n + 1, np.int64)
    found = 0
    for j in range(n):
        if not (j > 0 and parent[j - 1] == j and count[j - 1] == count[j] + place[j] - place[j - 1]):
            first[found] = j
            found += 1
    first[found] = n
    return first[: found + 1].copy()


@kernel
def estimate_front(m, r, leaf):
    """Seconds of a front with m columns and r rows below them; see the constants of this module."""
    if m == 1 and leaf:
        return TWIG_SECONDS + COPY_SECONDS * r * r
    operations = 3.0 * m * ((m + r) * r + m * m / 3.0)
    return operations / PEAK * (m + HALF_WIDTH) / m + COPY_SECONDS * r * r + CALL_SECONDS


@kernel
def merge_supernodes(first, parent, count, place, alone):
    """Supernodes after merging those whose fronts are cheaper together, (S + 1,) int64.

    A supernode joins the one that starts right behind it and holds its parent (relaxed amalgamation, Ashcraft
    & Grimes 1989); the panel of the two then stores some zeros.  Those that begin with a node marked in
    `alone` (n,) bool stay as they are. `place` is that of ``find_supernodes``.
    """
    n_super = first.size - 1
    leaf = np.ones(parent.size, np.bool_)
    for j in range(parent.size):
        if parent[j] >= 0:
            leaf[parent[j]] = False
    begin = np.empty(n_super + 1, np.int64)  # of the supernodes kept so far
    zeros = np.zeros(n_super + 1)
    kept = 0
    for s in range(n_super):
        start, end = first[s], first[s + 1]
        below = count[end - 1] - (place[end] - place[end - 1])
        stored = 0.0
        while kept > 0 and start <= parent[start - 1] < end:
            before = begin[kept - 1]
            if alone[start] or alone[before]:
                break
            m, width = place[end] - place[start], place[start] - place[before]
            r = count[start - 1] - (place[start] - place[start - 1])
            added = stored + zeros[kept - 1] + width * (m + below - r)
            panel = (width + m) * (width + m + below)
            if added > MOST_ZEROS * panel and panel > SMALL_PANEL:
                break
            apart = estimate_front(m, below, False) + estimate_front(width, r, leaf[before])
            if estimate_front(width + m, below, False) > apart:
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
    """`row_ptr`, `rows` and `above` of ``Supernodes``.

    `indptr, indices` are the rows of the lower triangle of C, compressed by row.  Row i lies below every
    supernode on the tree paths from its entries up to the one that holds i; visited by ascending i, the rows
    of each supernode come sorted.
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
    """`relative` of ``Supernodes``."""
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
def place_panels(first, row_ptr, cross_base, cross_ptr):
    """`panel_ptr` of ``Supernodes``."""
    n_super = first.size - 1
    panel_ptr = np.zeros(n_super + 1, np.int64)
    for s in range(n_super):
        m, r = first[s + 1] - first[s], row_ptr[s + 1] - row_ptr[s]
        below = m * r
        if cross_base[s] >= 0:
            below = cross_ptr[cross_base[s] + r] - cross_ptr[cross_base[s]]
        panel_ptr[s + 1] = panel_ptr[s] + m * m + below
    return panel_ptr


@kernel
def map_entries(C_indptr, C_indices, nodes):
    """Position in the storage of L of every entry of the lower triangle of C, (nnz(C),) int64."""
    position = np.empty(C_indices.size, np.int64)
    for s in range(nodes.above.size):
        start, end = nodes.first[s], nodes.first[s + 1]
        m = end - start
        size = m if nodes.sparse[s] else m + nodes.row_ptr[s + 1] - nodes.row_ptr[s]
        for j in range(start, end):
            at = nodes.row_ptr[s]
            column = nodes.panel_ptr[s] + (j - start) * size
            for t in range(C_indptr[j], C_indptr[j + 1]):
                i = C_indices[t]
                if i < end:
                    position[t] = column + i - start
                    continue
                while nodes.rows[at] != i:
                    at += 1
                below = at - nodes.row_ptr[s]
                if nodes.sparse[s]:
                    position[t] = nodes.panel_ptr[s] + m * m + find_cross(nodes, s, below, j - start)
                else:
                    position[t] = column + m + below
    return position


@kernel
def find_cross(nodes, s, row, column):
    """Number of an entry among those in the rows below a sparse front."""
    at = nodes.cross_base[s] + row
    low, high = nodes.cross_ptr[at], nodes.cross_ptr[at + 1]
    while high - low > 1:
        middle = (low + high) // 2
        if nodes.cross[middle] <= column:
            low = middle
        else:
            high = middle
    return low - nodes.cross_ptr[nodes.cross_base[s]]


@kernel
def place_fronts(above, guest, area):
    """Where the fronts lie on one stack while the tree is walked depth first.

    A front takes `area` (S,) numbers there.  The child whose subtree needs the largest stack is visited next
    to its parent and takes over the parent's place; a guest leaves it to its host.

    Returns
    -------
    offset : (S + 1,) int64
        Start of each front on the stack; the last entry is the size of the stack.
    heavy : (S,) int64
        The child that shares its parent's place, -1 for none.
    """
    n_super = above.size
    heavy = fill_integers(n_super, -1)
    largest = fill_integers(n_super, -1)
    second = np.zeros(n_super, np.int64)
    for s in range(n_super):
        need = max(area[s] + second[s], largest[s])
        p = above[s]
        if p >= 0:
            if need > largest[p] and not guest[s]:
                second[p] = max(largest[p], second[p])
                largest[p] = need
                heavy[p] = s
            elif need > second[p]:
                second[p] = need
    offset = np.zeros(n_super + 1, np.int64)
    top = 0
    for s in range(n_super - 1, -1, -1):
        p = above[s]
        if p >= 0:
            offset[s] = offset[p] if heavy[p] == s else offset[p] + area[p]
        top = max(top, offset[s] + area[s])
    offset[n_super] = top
    return offset, heavy


@kernel
def cut_rows(nodes, s, end, longest):
    """Rows below a supernode, up to `end`, in blocks for BLAS.

    Returns
    -------
    start : int64
        First row of each block, and the number of rows.
    place : int64
        Where each block begins in the rest of the supernode (see `landing` of ``Supernodes``).
    """
    base = nodes.row_ptr[s]
    count = end - base
    start = np.empty(count + 1, np.int64)
    place = np.empty(count, np.int64)
    blocks = 0
    for t in range(count):
        at = nodes.relative[base + t] if nodes.guest[s] else t
        follows = blocks > 0 and at == place[blocks - 1] + t - start[blocks - 1]
        if not follows or t - start[blocks - 1] == longest:
            start[blocks], place[blocks] = t, at
            blocks += 1
    start[blocks] = count
    return start[: blocks + 1].copy(), place[:blocks].copy()


@kernel
def walk_depth_first(above, heavy):
    """Every supernode after its parent, subtree by subtree, the heavy child last, (S,) int64."""
    n = above.size
    child, sibling = list_children(above)
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
