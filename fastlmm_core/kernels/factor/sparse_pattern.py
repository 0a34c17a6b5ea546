"""Where the entries are of fronts that have few in the rows below."""

from __future__ import annotations

import numpy as np

from fastlmm_core.kernels.compile import fill_integers, kernel


@kernel
def list_cross(C_indptr, C_indices, first, row_ptr, rows, relative, above, sparse):
    """`cross_base`, `cross_ptr` and `cross` of ``Supernodes``: entries of C, and what the children add."""
    n_super = above.size
    mark_ptr, cross_base = np.zeros(n_super + 1, np.int64), fill_integers(n_super, -1)
    held = 0
    for s in range(n_super):
        mark_ptr[s + 1] = mark_ptr[s]
        if sparse[s]:
            r = row_ptr[s + 1] - row_ptr[s]
            mark_ptr[s + 1] += r * (first[s + 1] - first[s])
            cross_base[s] = held
            held += r + 1
    mark = np.zeros(mark_ptr[n_super], np.bool_)
    for s in range(n_super):
        if sparse[s]:
            mark_entries(C_indptr, C_indices, first, row_ptr, rows, s, mark[mark_ptr[s] :])
        p = above[s]
        if p >= 0 and sparse[p]:
            mark_child(relative[row_ptr[s] : row_ptr[s + 1]], first[p + 1] - first[p], mark[mark_ptr[p] :])
    total = 0
    for t in range(mark.size):
        total += mark[t]
    cross_ptr, cross = np.zeros(held, np.int64), np.empty(total, np.int32)
    at = 0
    for s in range(n_super):
        if not sparse[s]:
            continue
        m = first[s + 1] - first[s]
        for a in range(row_ptr[s + 1] - row_ptr[s]):
            cross_ptr[cross_base[s] + a] = at
            for c in range(m):
                if mark[mark_ptr[s] + a * m + c]:
                    cross[at] = c
                    at += 1
        cross_ptr[cross_base[s] + row_ptr[s + 1] - row_ptr[s]] = at
    return cross_base, cross_ptr, cross


@kernel
def mark_entries(C_indptr, C_indices, first, row_ptr, rows, s, mark):
    """Entries of C in the rows below a front, row by row in `mark`."""
    start, end = first[s], first[s + 1]
    for j in range(start, end):
        at = row_ptr[s]
        for t in range(C_indptr[j], C_indptr[j + 1]):
            if C_indices[t] >= end:
                while rows[at] != C_indices[t]:
                    at += 1
                mark[(at - row_ptr[s]) * (end - start) + j - start] = True


@kernel
def mark_child(relative, m, mark):
    """Entries in the rows below a front of m columns that a child with the places `relative` adds."""
    for b in range(relative.size):
        if relative[b] >= m:
            break
        for a in range(b + 1, relative.size):
            if relative[a] >= m:
                mark[(relative[a] - m) * m + relative[b]] = True
