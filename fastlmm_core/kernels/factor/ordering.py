"""Elimination order and pattern of the factor, for systems small enough to keep their graph dense.

Larger graphs stay sparse (``quotient_graph``), and several orders are compared (``fastlmm_core.linalg``).
"""

from __future__ import annotations

import numpy as np

from fastlmm_core.kernels.compile import fill_integers, kernel
from fastlmm_core.kernels.equations.crossproducts import bound_runs, make_room, sort_pattern


@kernel
def order_minimum_degree(below_ptr, below, node_size, last):
    """Minimum-degree order of a node graph, by scalar size of the front; ties go to the lower node.

    Parameters
    ----------
    below_ptr, below : int64 arrays
        Strict lower triangle of the graph, compressed columns.
    node_size : (N,) int64
        Number of scalars of each node.
    last : (N,) bool
        Nodes that must come after all others (X for ML fits).

    Returns
    -------
    perm : (N,) int64
        perm[k] is the node eliminated k-th.
    """
    n_nodes = node_size.size
    adjacent = np.zeros((n_nodes, n_nodes), np.bool_)
    degree = np.zeros(n_nodes, np.int64)
    for j in range(n_nodes):
        for t in range(below_ptr[j], below_ptr[j + 1]):
            i = below[t]
            adjacent[i, j] = True
            adjacent[j, i] = True
            degree[i] += node_size[j]
            degree[j] += node_size[i]
    n_last = 0
    for j in range(n_nodes):
        if last[j]:
            n_last += 1
    alive = np.ones(n_nodes, np.bool_)
    perm = np.empty(n_nodes, np.int64)
    front = np.empty(n_nodes, np.int64)
    clique = False  # all that are left are joined to each other, and nothing fills in any more
    for k in range(n_nodes):
        pivot = -1
        for j in range(n_nodes):
            if alive[j] and (not last[j] or k >= n_nodes - n_last):
                if pivot < 0 or degree[j] < degree[pivot]:
                    pivot = j
        perm[k] = pivot
        alive[pivot] = False
        if clique:
            for i in range(n_nodes):
                degree[i] -= node_size[pivot]
            continue
        size = 0
        for i in range(n_nodes):
            if alive[i] and adjacent[i, pivot]:
                front[size] = i
                size += 1
        clique = size == n_nodes - k - 1
        for s in range(size):
            i = front[s]
            degree[i] -= node_size[pivot]
            for t in range(s):
                j = front[t]
                if not adjacent[i, j]:
                    adjacent[i, j] = True
                    adjacent[j, i] = True
                    degree[i] += node_size[j]
                    degree[j] += node_size[i]
    return perm


@kernel
def fill_node_pattern(below_ptr, below):
    """Strict lower pattern of the Cholesky factor of a node graph (elimination order = node order).

    The rows of column j are its own and, through the elimination tree, those of the columns whose first
    row below the diagonal is j (George & Liu 1981).
    """
    n_nodes = below_ptr.size - 1
    children = fill_integers(n_nodes, -1)
    sibling = fill_integers(n_nodes, -1)
    seen = fill_integers(n_nodes, -1)
    ptr = np.zeros(n_nodes + 1, np.int64)
    rows = np.empty(2 * below.size + n_nodes, np.int64)
    for j in range(n_nodes):
        at = ptr[j]
        rows = make_room(rows, at, n_nodes)
        seen[j] = j
        for t in range(below_ptr[j], below_ptr[j + 1]):
            seen[below[t]] = j
            rows[at] = below[t]
            at += 1
        child = children[j]
        while child >= 0:
            for t in range(ptr[child], ptr[child + 1]):
                i = rows[t]
                if i > j and seen[i] != j:
                    seen[i] = j
                    rows[at] = i
                    at += 1
            child = sibling[child]
        ptr[j + 1] = at
        if at > ptr[j]:
            parent = rows[ptr[j]]
            for t in range(ptr[j] + 1, at):
                parent = min(parent, rows[t])
            sibling[j] = children[parent]
            children[parent] = j
    return ptr, sort_pattern(ptr, rows[: ptr[n_nodes]])


@kernel
def map_pattern(indptr, indices, L_indptr, L_indices):
    """Position in the pattern of L of every entry of a sub-pattern; rows ascend within columns in both."""
    position = np.empty(indices.size, np.int64)
    for j in range(indptr.size - 1):
        at = L_indptr[j]
        for t in range(indptr[j], indptr[j + 1]):
            while L_indices[at] != indices[t]:
                at += 1
            position[t] = at
    return position


@kernel
def find_parents(indptr, indices):
    """Elimination tree (n,) int64, -1 for a root, of rows of a lower triangle by rows (Liu 1990)."""
    n = indptr.size - 1
    parent = fill_integers(n, -1)
    ancestor = fill_integers(n, -1)
    for i in range(n):
        for t in range(indptr[i], indptr[i + 1]):
            k = np.int64(indices[t])
            while k != -1 and k < i:
                following = ancestor[k]
                ancestor[k] = i
                if following == -1:
                    parent[k] = i
                k = following
    return parent


@kernel
def list_children(parent):
    """Children of every node of a forest as linked lists, ascending.

    Returns
    -------
    child : (n + 1,) int64
        First child of each node, -1 for none; the roots are the children of node n.
    sibling : (n,) int64
        Next child of the same parent, -1 after the last.
    """
    n = parent.size
    child = fill_integers(n + 1, -1)
    sibling = fill_integers(n, -1)
    for s in range(n - 1, -1, -1):
        p = parent[s] if parent[s] >= 0 else n
        sibling[s] = child[p]
        child[p] = s
    return child, sibling


@kernel
def order_postfix(parent):
    """Postorder of a forest: perm (n,) with every subtree contiguous and children before their parent.

    Of the children the one with the largest subtree comes last, next to its parent: a path of the tree, which
    is a supernode where its columns are alike, is not cut by leaves beside it.
    """
    n = parent.size
    size = np.ones(n, np.int64)
    heavy = fill_integers(n + 1, -1)  # of the children of each node, the roots being those of node n
    for s in range(n):
        p = parent[s] if parent[s] >= 0 else n
        if p < n:
            size[p] += size[s]
        if heavy[p] < 0 or size[s] > size[heavy[p]]:
            heavy[p] = s
    child = fill_integers(n + 1, -1)
    sibling = fill_integers(n, -1)
    for p in range(n + 1):
        child[p] = heavy[p]
    for s in range(n - 1, -1, -1):
        p = parent[s] if parent[s] >= 0 else n
        if s != heavy[p]:
            sibling[s] = child[p]
            child[p] = s
    perm = np.empty(n, np.int64)
    count = 0
    path = np.empty(n + 1, np.int64)
    depth = 0
    path[0] = n
    while depth >= 0:
        s = path[depth]
        c = child[s]
        if c >= 0:
            child[s] = sibling[c]
            depth += 1
            path[depth] = c
        else:
            if s < n:
                perm[count] = s
                count += 1
            depth -= 1
    return perm


@kernel
def count_columns(indptr, indices, size):
    """Entries of each column of the Cholesky factor, diagonal included (Gilbert, Ng & Peyton 1994).

    A node of `size` (n,) int64 stands for as many rows, and its column for the first of as many columns.

    `indptr, indices` are the rows of the lower triangle, compressed by row; row i of L is the set of columns
    on the paths from its entries to i in the elimination tree. Only the leaves of that subtree are counted,
    +1 each and -1 where two of its paths meet, so that the time grows with the entries of the matrix and not
    with those of L.
    """
    n = indptr.size - 1
    parent = find_parents(indptr, indices)
    order = order_postfix(parent)
    below_ptr, below = list_below(indptr, indices)
    first = fill_integers(n, -1)  # postorder number of the first descendant
    weight = np.empty(n, np.int64)
    for k in range(n):
        j = order[k]
        weight[j] = size[j] if first[j] == -1 else 0
        while j != -1 and first[j] == -1:
            first[j] = k
            j = parent[j]
    last = fill_integers(n, -1)  # first descendant of the last leaf of each row's subtree
    leaf = fill_integers(n, -1)  # that leaf
    ancestor = np.empty(n, np.int64)
    for j in range(n):
        ancestor[j] = j
    for k in range(n):
        j = order[k]
        if parent[j] != -1:
            weight[parent[j]] -= size[j]
        for t in range(below_ptr[j], below_ptr[j + 1]):
            i = below[t]
            if first[j] <= last[i]:
                continue  # not a leaf of the subtree of row i
            last[i] = first[j]
            previous = leaf[i]
            leaf[i] = j
            weight[j] += size[i]
            if previous != -1:
                meeting = previous
                while ancestor[meeting] != meeting:
                    meeting = ancestor[meeting]
                while ancestor[previous] != meeting:
                    following = ancestor[previous]
                    ancestor[previous] = meeting
                    previous = following
                weight[meeting] -= size[i]
        if parent[j] != -1:
            ancestor[j] = parent[j]
    for k in range(n):
        j = order[k]
        if parent[j] != -1:
            weight[parent[j]] += weight[j]
    return weight


@kernel
def mix_neighbours(below_ptr, below, keys):
    """Exclusive or of the `keys` (N,) int64 of every node and all it is joined to, (N,) int64.

    Nodes that are joined to each other and to the same others get the same number, and with random keys
    nobody else does.
    """
    mixed = keys.copy()
    for j in range(below_ptr.size - 1):
        own = mixed[j]
        for t in range(below_ptr[j], below_ptr[j + 1]):
            own ^= keys[below[t]]
            mixed[below[t]] ^= keys[j]
        mixed[j] = own
    return mixed


@kernel
def select_nodes(below_ptr, below, number, count):
    """Strict lower triangle of a graph on the nodes with a number, ascending; -1 for the rest."""
    ptr = np.zeros(count + 1, np.int64)
    rows = np.empty(below.size, np.int64)
    at = 0
    for j in range(below_ptr.size - 1):
        if number[j] >= 0:
            for t in range(below_ptr[j], below_ptr[j + 1]):
                if number[below[t]] >= 0:
                    rows[at] = number[below[t]]
                    at += 1
            ptr[number[j] + 1] = at
    return ptr, rows[:at].copy()


@kernel
def list_below(indptr, indices):
    """Rows below the diagonal of every column, from the rows of a lower triangle compressed by row."""
    n = indptr.size - 1
    ptr = np.zeros(n + 1, np.int64)
    for i in range(n):
        for t in range(indptr[i], indptr[i + 1]):
            if indices[t] < i:
                ptr[indices[t] + 1] += 1
    fill = np.empty(n, np.int64)
    for j in range(n):
        fill[j] = ptr[j]
        ptr[j + 1] += ptr[j]
    below = np.empty(ptr[n], np.int64)
    for i in range(n):
        for t in range(indptr[i], indptr[i + 1]):
            j = indices[t]
            if j < i:
                below[fill[j]] = i
                fill[j] += 1
    return ptr, below


@kernel
def list_left(below_ptr, below):
    """Columns left of the diagonal of every row, ascending, from the strict lower triangle by columns."""
    n = below_ptr.size - 1
    ptr = np.zeros(n + 1, np.int64)
    for t in range(below.size):
        ptr[below[t] + 1] += 1
    fill = bound_runs(ptr)
    columns = np.empty(below.size, np.int64)
    for j in range(n):
        for t in range(below_ptr[j], below_ptr[j + 1]):
            i = below[t]
            columns[fill[i]] = j
            fill[i] += 1
    return ptr, columns
