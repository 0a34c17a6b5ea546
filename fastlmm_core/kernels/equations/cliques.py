"""Cliques of the node graph, and rows with a dense precision, which make them.

Everything that rows of one dense block of R^-1 meet is joined to everything else.  Taken as a list of nodes,
and the block as one matrix, that costs what the entries of the result are, not what pairs of rows would be.
"""

from __future__ import annotations

import numpy as np

from fastlmm_core.kernels.compile import fill_integers, kernel
from fastlmm_core.kernels.equations.crossproducts import bound_runs


@kernel
def join_cliques(below_ptr, below, clique_ptr, clique):
    """Strict lower triangle of a graph with edges between all nodes of every clique; rows in any order.

    Parameters
    ----------
    below_ptr (N + 1,), below : int64
        Strict lower triangle, compressed columns.
    clique_ptr (c + 1,), clique : int64
        Nodes of each clique, ascending.
    """
    n = below_ptr.size - 1
    member_ptr = np.zeros(n + 1, np.int64)  # places in `clique` of every node
    for t in range(clique.size):
        member_ptr[clique[t] + 1] += 1
    fill = bound_runs(member_ptr)
    place = np.empty(clique.size, np.int64)
    end = np.empty(clique.size, np.int64)
    for c in range(clique_ptr.size - 1):
        for t in range(clique_ptr[c], clique_ptr[c + 1]):
            j = clique[t]
            place[fill[j]], end[fill[j]] = t, clique_ptr[c + 1]
            fill[j] += 1
    seen = fill_integers(n, -1)
    ptr = np.zeros(n + 1, np.int64)
    room = below.size
    for c in range(clique_ptr.size - 1):
        size = clique_ptr[c + 1] - clique_ptr[c]
        room += size * (size - 1) // 2
    rows = np.empty(room, np.int64)
    for j in range(n):
        at = ptr[j]
        for t in range(below_ptr[j], below_ptr[j + 1]):
            seen[below[t]] = j
            rows[at] = below[t]
            at += 1
        for k in range(member_ptr[j], member_ptr[j + 1]):
            for t in range(place[k] + 1, end[k]):
                if seen[clique[t]] != j:
                    seen[clique[t]] = j
                    rows[at] = clique[t]
                    at += 1
        ptr[j + 1] = at
    return ptr, rows[: ptr[n]]


@kernel
def list_block_columns(matrix, rows):
    """Columns that the rows (k,) of W, compressed by row, have entries in: (c,) int64, ascending."""
    W_ptr, W_index, _ = matrix
    total = 0
    for i in rows:
        total += W_ptr[i + 1] - W_ptr[i]
    every = np.empty(total, np.int64)
    at = 0
    for i in rows:
        for s in range(W_ptr[i], W_ptr[i + 1]):
            every[at] = W_index[s]
            at += 1
    every.sort()
    found = 0
    for t in range(total):
        if found == 0 or every[t] != every[found - 1]:
            every[found] = every[t]
            found += 1
    return every[:found].copy()


@kernel
def add_block_products(matrix, rows, block, indptr, indices, place, out):
    """out (nnz,) += W_r' E W_r on a lower-triangular pattern, for the rows r (k,) of W and dense E (k, k).

    Column by column: the places of the pattern's column in `place` (q,), work space, make every product an
    addition without a search.
    """
    W_ptr, W_index, W_value = matrix
    columns = list_block_columns(matrix, rows)
    start = np.zeros(columns.size + 1, np.int64)  # W_r by columns
    for i in rows:
        for s in range(W_ptr[i], W_ptr[i + 1]):
            start[np.searchsorted(columns, W_index[s]) + 1] += 1
    fill = bound_runs(start)
    member = np.empty(start[columns.size], np.int64)
    weight = np.empty(start[columns.size])
    for k in range(rows.size):
        for s in range(W_ptr[rows[k]], W_ptr[rows[k] + 1]):
            c = np.searchsorted(columns, W_index[s])
            member[fill[c]], weight[fill[c]] = k, W_value[s]
            fill[c] += 1
    for c in range(columns.size):
        j = columns[c]
        for t in range(indptr[j], indptr[j + 1]):
            place[indices[t]] = t
        for t in range(start[c], start[c + 1]):
            for k in range(rows.size):
                value = weight[t] * block[member[t], k]
                for s in range(W_ptr[rows[k]], W_ptr[rows[k] + 1]):
                    if W_index[s] >= j:
                        out[place[W_index[s]]] += value * W_value[s]
