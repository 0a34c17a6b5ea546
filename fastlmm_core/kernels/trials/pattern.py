"""Elimination order, patterns and cross-products of one trial, with its graph of nodes kept dense.

A trial has some hundred nodes, so that a matrix of them is the fastest index there is: it holds the graph,
then the fill, and another one where each block of the cross-products lies.
"""

from __future__ import annotations

import numpy as np

from fastlmm_core.kernels.compile import kernel


@kernel
def mark_meetings(row_ptr, row_node, n_nodes):
    """met (N, N) int8: 1 where two nodes meet in an observation, or are the same."""
    met = np.zeros((n_nodes, n_nodes), np.int8)
    for i in range(row_ptr.size - 1):
        for e in range(row_ptr[i], row_ptr[i + 1]):
            met[row_node[e], row_node[e]] = 1
            for f in range(row_ptr[i], e):
                met[row_node[e], row_node[f]] = 1
                met[row_node[f], row_node[e]] = 1
    return met


@kernel
def order_and_fill(met, node_size, last):
    """Minimum-degree order as ``ordering.order_minimum_degree``; marks what fills in with 2 in `met`.

    No degree falls below the last pivot's but those of its neighbours, so that the search ends at the first
    node as low as that.  Once the nodes left are all neighbours, nothing fills in any more.
    """
    n_nodes = node_size.size
    degree = np.zeros(n_nodes, np.int64)
    alive = np.empty(n_nodes, np.int64)
    front = np.empty(n_nodes + 1, np.int64)
    perm = np.empty(n_nodes, np.int64)
    scalars = 0
    n_free = 0
    for j in range(n_nodes):
        alive[j] = j
        scalars += node_size[j]
        if not last[j]:
            n_free += 1
        total = -node_size[j]
        for i in range(n_nodes):
            total += met[j, i] * node_size[i]
        degree[j] = total
    clique = False
    lowest = np.int64(0)
    for k in range(n_nodes):
        left = n_nodes - k
        pivot = -1
        for s in range(left):
            j = alive[s]
            if (pivot < 0 or degree[j] < degree[pivot]) and (k >= n_free or not last[j]):
                pivot = j
                if degree[j] == lowest:
                    break
        perm[k] = pivot
        if not clique and degree[pivot] + node_size[pivot] == scalars:
            clique = True
            for s in range(left):
                clique = clique and degree[alive[s]] + node_size[alive[s]] == scalars
        scalars -= node_size[pivot]
        at = 0
        while alive[at] != pivot:
            at += 1
        size = 0
        for s in range(at):
            front[size] = alive[s]
            size += met[pivot, alive[s]] != 0
        for s in range(at, left - 1):
            i = alive[s + 1]
            alive[s] = i
            front[size] = i
            size += met[pivot, i] != 0
        for s in range(size):
            degree[front[s]] -= node_size[pivot]
        for s in range(0 if clique else size):
            i = front[s]
            for t in range(s):
                j = front[t]
                if met[i, j] == 0:
                    met[i, j] = 2
                    met[j, i] = 2
                    degree[i] += node_size[j]
                    degree[j] += node_size[i]
        if k < n_free - 1:
            lowest = degree[pivot]
            for s in range(size):
                lowest = min(lowest, degree[front[s]])
        else:  # nodes that were held back may have any degree
            lowest = np.int64(0)
    return perm


@kernel
def read_patterns(met, perm):
    """Strict lower patterns over nodes in elimination order, of the graph and of its factor.

    Returns
    -------
    below_ptr, below, L_ptr, L_below : compressed columns, rows ascending
    """
    n_nodes = perm.size
    below_ptr = np.zeros(n_nodes + 1, np.int64)
    L_ptr = np.zeros(n_nodes + 1, np.int64)
    count = 0
    for j in range(n_nodes):
        for i in range(n_nodes):
            if met[j, i] != 0:
                count += 1
    below = np.empty(count, np.int64)
    L_below = np.empty(count, np.int64)
    at = 0
    filled = 0
    for j in range(n_nodes):
        own = met[perm[j]]
        for i in range(j + 1, n_nodes):
            mark = own[perm[i]]
            if mark != 0:
                L_below[filled] = i
                filled += 1
                if mark == 1:
                    below[at] = i
                    at += 1
        below_ptr[j + 1] = at
        L_ptr[j + 1] = filled
    return below_ptr, below[:at].copy(), L_ptr, L_below[:filled].copy()


@kernel
def sum_products(row_ptr, row_node, row_val, values, weights, below_ptr, below, start, indptr, size):
    """Data (size,) of the lower triangle of [Z X]' W [Z X] on the pattern `indptr`, row by row of the data.

    Sums and their order are those of ``crossproducts.fill_crossproducts``; `row_node` counts in the order of
    elimination.
    """
    n_nodes = start.size - 1
    data = np.zeros(size)
    offset = np.empty((n_nodes, n_nodes), np.int32)
    if values.size == row_node.size:
        for j in range(n_nodes):
            offset[j, j] = indptr[j]
            for t in range(below_ptr[j], below_ptr[j + 1]):
                offset[j, below[t]] = indptr[j] + 1 + t - below_ptr[j]
                offset[below[t], j] = offset[j, below[t]]
        sum_scalar_products(row_ptr, row_node, values, weights, offset, data)
        return data
    for j in range(n_nodes):
        rows = start[j + 1] - start[j]
        for t in range(below_ptr[j], below_ptr[j + 1]):
            offset[j, below[t]] = rows
            rows += start[below[t] + 1] - start[below[t]]
    for i in range(row_ptr.size - 1):
        lo, hi = row_ptr[i], row_ptr[i + 1]
        for e in range(lo, hi):
            j = row_node[e]
            for c in range(row_val[e + 1] - row_val[e]):
                factor = values[row_val[e] + c] * weights[i]
                if factor == 0.0:
                    continue
                column = indptr[start[j] + c] - c
                for v in range(row_val[e] + c, row_val[e + 1]):
                    data[column + v - row_val[e]] += factor * values[v]
                for f in range(lo, hi):
                    node = row_node[f]
                    if node > j:
                        base = column + offset[j, node] - row_val[f]
                        for v in range(row_val[f], row_val[f + 1]):
                            data[base + v] += factor * values[v]
    return data


@kernel
def sum_scalar_products(row_ptr, row_node, values, weights, place, data):
    """`sum_products` where every node is one scalar; place[j, i] is that of entry (i, j) or (j, i)."""
    for i in range(row_ptr.size - 1):
        weight = weights[i]
        for e in range(row_ptr[i], row_ptr[i + 1]):
            j = row_node[e]
            value = values[e]
            data[place[j, j]] += value * weight * value
            for f in range(row_ptr[i], e):
                node, other = row_node[f], values[f]
                low, high = (other, value) if node < j else (value, other)
                data[place[j, node]] += low * weight * high
