"""Parts of a graph beside a separator, and nodes of few neighbours (``fastlmm_core.linalg.separator``)."""

from __future__ import annotations

import numpy as np

from fastlmm_core.kernels.compile import kernel


@kernel
def number_parts(below_ptr, below, separates):
    """Number of the connected part of every node, in the order of their first nodes; -1 in the separator.

    Parameters
    ----------
    below_ptr, below : int64 arrays
        Strict lower triangle of the graph in compressed columns.
    separates : (N,) bool

    Returns
    -------
    part : (N,) int64
    """
    n = separates.size
    above = np.arange(n)  # a node of the same part that comes earlier, or itself
    for j in range(n):
        if separates[j]:
            continue
        for t in range(below_ptr[j], below_ptr[j + 1]):
            i = below[t]
            if separates[i]:
                continue
            a, b = i, j
            while above[a] != a:
                above[a] = above[above[a]]
                a = above[a]
            while above[b] != b:
                above[b] = above[above[b]]
                b = above[b]
            if a < b:
                above[b] = a
            else:
                above[a] = b
    part = np.empty(n, np.int64)
    parts = 0
    for j in range(n):
        if separates[j]:
            part[j] = -1
        elif above[j] == j:
            part[j] = parts
            parts += 1
        else:
            part[j] = part[above[j]]
    return part


@kernel
def choose_apart(indptr, indices, most):
    """Nodes of which none meets another, those of few neighbours first and `most` at most, (N,) bool.

    `indptr, indices` are the rows of both triangles of the graph.
    """
    n = indptr.size - 1
    chosen, met = np.zeros(n, np.bool_), np.zeros(n, np.bool_)
    for degree in range(most + 1):
        for j in range(n):
            if met[j] or indptr[j + 1] - indptr[j] != degree:
                continue
            chosen[j] = True
            for t in range(indptr[j], indptr[j + 1]):
                met[indices[t]] = True
    return chosen
