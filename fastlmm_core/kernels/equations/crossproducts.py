"""Cross-products [Z X]' W [Z X] on a fixed block pattern.

A *node* is one level of one random term (its m coefficients together) or one column of X.  The graph whose
edges are "two nodes meet in an observation" is the pattern of Henderson's mixed model equations; working on
nodes keeps every m x m' block dense and contiguous.  Rows of [Z X] are stored as a list of entries
(node, values), in compressed row form:

    row_ptr (n + 1,)  int64      entries of observation i are row_ptr[i]:row_ptr[i + 1]
    row_node (e,)     int64      node of the entry
    row_val (e + 1,)  int64      its values are values[row_val[e]:row_val[e + 1]]
    values            float64

The pattern is the strict lower triangle over nodes in compressed column form (`below_ptr`, `below`), and the
scalar lower triangle `indptr, indices` in which every node block is full.
"""

from __future__ import annotations

import numpy as np

from fastlmm_core.kernels.compile import kernel


@kernel
def bound_runs(ptr):
    """Turn counts in ptr[1:] into bounds of runs, in place; returns the starts, where filling begins."""
    fill = np.empty(ptr.size - 1, np.int64)
    for j in range(ptr.size - 1):
        fill[j] = ptr[j]
        ptr[j + 1] += ptr[j]
    return fill


@kernel
def transpose_entries(row_ptr, row_node, n_nodes):
    """Entries by node: `node_ptr` (n_nodes + 1,), `node_entry` (e,), `entry_row` (e,)."""
    n_entries = row_node.size
    node_ptr = np.zeros(n_nodes + 1, np.int64)
    for e in range(n_entries):
        node_ptr[row_node[e] + 1] += 1
    fill = bound_runs(node_ptr)
    node_entry = np.empty(n_entries, np.int64)
    entry_row = np.empty(n_entries, np.int64)
    for i in range(row_ptr.size - 1):
        for e in range(row_ptr[i], row_ptr[i + 1]):
            entry_row[e] = i
            node_entry[fill[row_node[e]]] = e
            fill[row_node[e]] += 1
    return node_ptr, node_entry, entry_row


@kernel
def make_room(rows, used, more):
    """`rows` with room for `more` numbers behind the first `used`: itself, or a copy twice as long."""
    if used + more <= rows.size:
        return rows
    grown = np.empty(2 * rows.size + more, np.int64)
    for t in range(used):
        grown[t] = rows[t]
    return grown


@kernel
def find_node_pattern(row_ptr, row_node, node_ptr, node_entry, entry_row):
    """Strict lower triangle of the node graph: `below_ptr` (N + 1,), `below` (sorted rows of each column)."""
    n_nodes = node_ptr.size - 1
    seen = np.empty(n_nodes, np.int64)
    for j in range(n_nodes):
        seen[j] = -1
    below_ptr = np.zeros(n_nodes + 1, np.int64)
    below = np.empty(row_node.size + n_nodes, np.int64)
    for j in range(n_nodes):
        at = below_ptr[j]
        below = make_room(below, at, n_nodes)
        seen[j] = j
        for t in range(node_ptr[j], node_ptr[j + 1]):
            i = entry_row[node_entry[t]]
            for e in range(row_ptr[i], row_ptr[i + 1]):
                node = row_node[e]
                if node > j and seen[node] != j:
                    seen[node] = j
                    below[at] = node
                    at += 1
        below_ptr[j + 1] = at
    below = below[: below_ptr[n_nodes]]
    return below_ptr, sort_pattern(below_ptr, below)


@kernel
def sort_pattern(ptr, rows):
    """Rows of every column of a square pattern in ascending order, by transposing twice."""
    n = ptr.size - 1
    across = np.zeros(n + 1, np.int64)
    for t in range(rows.size):
        across[rows[t] + 1] += 1
    fill = bound_runs(across)
    columns = np.empty(rows.size, np.int64)
    for j in range(n):
        for t in range(ptr[j], ptr[j + 1]):
            columns[fill[rows[t]]] = j
            fill[rows[t]] += 1
    for j in range(n):
        fill[j] = ptr[j]
    out = np.empty(rows.size, np.int64)
    for i in range(n):
        for t in range(across[i], across[i + 1]):
            out[fill[columns[t]]] = i
            fill[columns[t]] += 1
    return out


@kernel
def permute_pattern(below_ptr, below, place):
    """Strict lower triangle of the same graph with node j renumbered to place[j]."""
    n = below_ptr.size - 1
    ptr = np.zeros(n + 1, np.int64)
    for j in range(n):
        for t in range(below_ptr[j], below_ptr[j + 1]):
            ptr[min(place[j], place[below[t]]) + 1] += 1
    fill = bound_runs(ptr)
    rows = np.empty(below.size, np.int64)
    for j in range(n):
        for t in range(below_ptr[j], below_ptr[j + 1]):
            a, b = place[j], place[below[t]]
            column = min(a, b)
            rows[fill[column]] = max(a, b)
            fill[column] += 1
    return ptr, sort_pattern(ptr, rows)


@kernel
def expand_pattern(below_ptr, below, start):
    """Scalar lower-triangular CSC pattern of a node pattern.

    `start` (N + 1,) is the first scalar row of each node.  Returns `indptr` int64 and `indices` int32; a
    column holds its diagonal first, then the rest of its node, then the nodes below in order.
    """
    n_nodes = start.size - 1
    size = start[n_nodes]
    indptr = np.zeros(size + 1, np.int64)
    for j in range(n_nodes):
        m = start[j + 1] - start[j]
        rows = 0
        for t in range(below_ptr[j], below_ptr[j + 1]):
            rows += start[below[t] + 1] - start[below[t]]
        for c in range(m):
            indptr[start[j] + c + 1] = m - c + rows
    for j in range(size):
        indptr[j + 1] += indptr[j]
    indices = np.empty(indptr[size], np.int32)
    for j in range(n_nodes):
        for c in range(start[j], start[j + 1]):
            at = indptr[c]
            for row in range(c, start[j + 1]):
                indices[at] = row
                at += 1
            for t in range(below_ptr[j], below_ptr[j + 1]):
                for row in range(start[below[t]], start[below[t] + 1]):
                    indices[at] = row
                    at += 1
    return indptr, indices


@kernel
def fill_crossproducts(
    row_ptr, row_node, row_val, values, weights, node_ptr, node_entry, entry_row, start, indptr, indices
):
    """Data of the lower triangle of [Z X]' W [Z X] on the pattern `indptr, indices`.

    Column by column over the observations of a node (Gustavson 1978): a dense accumulator holds the column,
    so no position is searched for.
    """
    n_nodes = node_ptr.size - 1
    size = start[n_nodes]
    data = np.zeros(indices.size)
    column = np.zeros(size)
    for j in range(n_nodes):
        for c in range(start[j + 1] - start[j]):
            scalar = start[j] + c
            for t in range(node_ptr[j], node_ptr[j + 1]):
                entry = node_entry[t]
                i = entry_row[entry]
                factor = values[row_val[entry] + c] * weights[i]
                if factor == 0.0:
                    continue
                for e in range(row_ptr[i], row_ptr[i + 1]):
                    node = row_node[e]
                    if node < j:
                        continue
                    base = start[node] - row_val[e]
                    for v in range(row_val[e], row_val[e + 1]):
                        column[base + v] += factor * values[v]
            for at in range(indptr[scalar], indptr[scalar + 1]):
                data[at] = column[indices[at]]
                column[indices[at]] = 0.0
            for row in range(start[j], scalar):
                column[row] = 0.0
    return data


@kernel
def project_response(row_ptr, row_node, row_val, values, start, wy, out):
    """out += [Z X]' (W y), `out` (q + p,) in node order, `wy` (n,)."""
    for i in range(row_ptr.size - 1):
        if wy[i] == 0.0:
            continue
        for e in range(row_ptr[i], row_ptr[i + 1]):
            base = start[row_node[e]] - row_val[e]
            for v in range(row_val[e], row_val[e + 1]):
                out[base + v] += values[v] * wy[i]


@kernel
def expand_coefficients(row_ptr, row_node, row_val, values, start, coefficients, out):
    """out (n,) = [Z X] coefficients."""
    for i in range(row_ptr.size - 1):
        total = 0.0
        for e in range(row_ptr[i], row_ptr[i + 1]):
            base = start[row_node[e]] - row_val[e]
            for v in range(row_val[e], row_val[e + 1]):
                total += values[v] * coefficients[base + v]
        out[i] = total


@kernel
def select_block(indptr, indices, data, rows):
    """Entries of the lower triangle (indptr, indices, data) whose row and column are both among `rows` (p,).

    Returns
    -------
    row, column : (k,) int64
        Places in `rows`.
    value : (k,) float64
    """
    place = np.full(indptr.size - 1, -1)
    for a in range(rows.size):
        place[rows[a]] = a
    total = 0
    for a in range(rows.size):
        for t in range(indptr[rows[a]], indptr[rows[a] + 1]):
            total += place[indices[t]] >= 0
    row, column, value = np.empty(total, np.int64), np.empty(total, np.int64), np.empty(total)
    at = 0
    for a in range(rows.size):
        for t in range(indptr[rows[a]], indptr[rows[a] + 1]):
            b = place[indices[t]]
            if b >= 0:
                row[at], column[at], value[at] = b, a, data[t]
                at += 1
    return row, column, value
