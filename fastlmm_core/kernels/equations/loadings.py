"""The mixed model equations with rectangular loadings: C = F' G F on node blocks, and what is read from C^-1.

A node is one level of a term, one fixed column, or one missing plot.  It has m natural scalars, its
coefficients as the rows of the table meet them, and r spherical ones, u = Lambda s with Lambda (m, r).  C and
its inverse have a full block for every pair of nodes of a graph (`below_ptr`, `below`). G and M = F C^-1 F'
may lie on fewer entries of the same blocks, by columns with ascending rows; where all nodes have one natural
and one spherical scalar they lie on the pattern of C.

    natural     first scalar of each node (N + 1,)      indptr_G, indices_G
    spherical   first scalar of each node (N + 1,)      indptr_C
    loadings    (T, m, r) padded with zeros, by `term` of the node
"""

from __future__ import annotations

import numpy as np

from fastlmm_core.kernels.compile import kernel


@kernel
def list_columns(loadings):
    """Columns of the entries of Lambda that are not zero, by rows (T, m, r), and their number (T, m)."""
    count = np.zeros(loadings.shape[:2], np.int64)
    columns = np.empty(loadings.shape, np.int64)
    for k in range(loadings.shape[0]):
        for a in range(loadings.shape[1]):
            for c in range(loadings.shape[2]):
                if loadings[k, a, c] != 0.0:
                    columns[k, a, count[k, a]] = c
                    count[k, a] += 1
    return columns, count


@kernel
def take_entries(natural, j, i, cursor, found):
    """Entries of G in the columns of node j and the rows of node i: place, row and column, in `found`.

    Returns their number.  `cursor` (m,) has the next place of each column, and is moved behind node i.
    """
    first, indptr, indices = natural
    count = 0
    for b in range(first[j + 1] - first[j]):
        at, end = cursor[b], indptr[first[j] + b + 1]
        while at < end and indices[at] < first[i + 1]:
            found[count, 0], found[count, 1], found[count, 2] = at, indices[at] - first[i], b
            count += 1
            at += 1
        cursor[b] = at
    return count


@kernel
def start_columns(natural, j, cursor):
    """cursor[b] = place of the diagonal in the columns of node j."""
    first, indptr, _ = natural
    for b in range(first[j + 1] - first[j]):
        cursor[b] = indptr[first[j] + b]


@kernel
def multiply_right(G, found, number, rows, k, r, half):
    """half[a, :r] += G_ij Lambda_k (h, r), for the `number` entries of G_ij that were found.

    `rows` is (Lambda of all terms, columns, count), see `list_columns`. Whole arrays are passed, here and
    below: a view of a row costs more than what is done with it.
    """
    loadings, columns, count = rows
    for s in range(number):
        value, a, b = G[found[s, 0]], found[s, 1], found[s, 2]
        for t in range(count[k, b]):
            c = columns[k, b, t]
            half[a, c] += value * loadings[k, b, c]


@kernel
def multiply_block(G, natural, j, i, cursor, rows, k, half):
    """half += G_ij Lambda_k (h, r) for the term k of node j; whether G_ij has an entry. `cursor` as above."""
    first, indptr, indices = natural
    loadings, columns, count = rows
    occurs = False
    for b in range(first[j + 1] - first[j]):
        at, end = cursor[b], indptr[first[j] + b + 1]
        while at < end and indices[at] < first[i + 1]:
            value, a = G[at], indices[at] - first[i]
            for t in range(count[k, b]):
                c = columns[k, b, t]
                half[a, c] += value * loadings[k, b, c]
            if i == j and a != b:  # also the entry above the diagonal
                for t in range(count[k, a]):
                    c = columns[k, a, t]
                    half[b, c] += value * loadings[k, a, c]
            occurs = True
            at += 1
        cursor[b] = at
    return occurs


@kernel
def multiply_left(rows, k, h, block, r, mixed):
    """mixed[:h, :r] = Lambda_k block (h, r), for a block of the inverse (t, r)."""
    loadings, columns, count = rows
    for a in range(h):
        for c in range(r):
            mixed[a, c] = 0.0
        for s in range(count[k, a]):
            d = columns[k, a, s]
            value = loadings[k, a, d]
            for c in range(r):
                mixed[a, c] += value * block[d, c]


@kernel
def mirror_entries(found, number, mirrored):
    """The entries of a diagonal block above its diagonal, as those found below it; their number."""
    count = 0
    for s in range(number):
        if found[s, 1] != found[s, 2]:
            mirrored[count, 0], mirrored[count, 1], mirrored[count, 2] = found[s, 0], found[s, 2], found[s, 1]
            count += 1
    return count


@kernel
def read_own(C_inv, spherical, j, block):
    """block[:r, :r] = (C^-1)_jj from its lower triangle."""
    first, indptr = spherical
    for c in range(first[j + 1] - first[j]):
        at = indptr[first[j] + c] - c
        for d in range(c, first[j + 1] - first[j]):
            block[c, d] = C_inv[at + d]
            block[d, c] = C_inv[at + d]


@kernel
def read_below(C_inv, spherical, j, offset, t, block):
    """block[:t, :r] = (C^-1)_ij of a node i of t scalars, `offset` scalars below node j."""
    first, indptr = spherical
    r = first[j + 1] - first[j]
    for c in range(r):
        at = indptr[first[j] + c] + r - c + offset
        for d in range(t):
            block[d, c] = C_inv[at + d]


@kernel
def assemble_scalars(G, graph, indptr, loadings, C):
    """`assemble_loadings` where every node has one natural and one spherical scalar, on one pattern."""
    below_ptr, below, term = graph
    for j in range(term.size):
        right = loadings[term[j], 0, 0]
        at = indptr[j]
        C[at] += right * G[at] * right
        shift = at + 1 - below_ptr[j]
        for s in range(below_ptr[j], below_ptr[j + 1]):
            C[shift + s] += loadings[term[below[s]], 0, 0] * (G[shift + s] * right)


@kernel
def assemble_loadings(G, graph, natural, spherical, loadings, C):
    """C += F' G F, (nnz(C),); `graph` is (below_ptr, below, term).

    What is zero in G or in Lambda is left out: factor loadings and specific deviations have k + 1 entries
    in a row, and a block in one environment meets one coefficient of a genotype.
    """
    if loadings.shape[1] == 1 and loadings.shape[2] == 1:
        assemble_scalars(G, graph, natural[1], loadings, C)
        return
    below_ptr, below, term = graph
    first_G = natural[0]
    first_C, indptr_C = spherical
    columns, count = list_columns(loadings)
    rows = loadings, columns, count
    m_max, r_max = loadings.shape[1], loadings.shape[2]
    half, cursor = np.zeros((m_max, r_max)), np.empty(m_max, np.int64)
    for j in range(term.size):
        k = term[j]
        r = first_C[j + 1] - first_C[j]
        start_columns(natural, j, cursor)
        multiply_block(G, natural, j, j, cursor, rows, k, half)
        add_products(half, first_G[j + 1] - first_G[j], rows, k, (indptr_C, first_C[j], r, -1), C)
        offset = 0
        for s in range(below_ptr[j], below_ptr[j + 1]):
            i = below[s]
            if multiply_block(G, natural, j, i, cursor, rows, k, half):
                place = indptr_C, first_C[j], r, offset
                add_products(half, first_G[i + 1] - first_G[i], rows, term[i], place, C)
            offset += first_C[i + 1] - first_C[i]


@kernel
def add_products(half, h, rows, k, block, C):
    """C_ij += Lambda_k' half (h, r), and half = 0; below the diagonal alone where i is j, an offset of -1.

    `block` is (indptr_C, first scalar of node j, r, scalars between node j and node i).
    """
    loadings, columns, count = rows
    indptr, first, r, offset = block
    for a in range(h):
        for c in range(r):
            value = half[a, c]
            if value == 0.0:
                continue
            half[a, c] = 0.0
            at = indptr[first + c] - c + (0 if offset < 0 else r + offset)
            for s in range(count[k, a]):
                d = columns[k, a, s]
                if offset >= 0 or d >= c:
                    C[at + d] += loadings[k, a, d] * value


@kernel
def contract_rows(mixed, found, number, rows, k, M):
    """M_ij = mixed Lambda_k' at the entries that were found."""
    loadings, columns, count = rows
    for s in range(number):
        a, b = found[s, 1], found[s, 2]
        total = 0.0
        for t in range(count[k, b]):
            total += mixed[a, columns[k, b, t]] * loadings[k, b, columns[k, b, t]]
        M[found[s, 0]] = total


@kernel
def read_scalars(G, C_inv, graph, indptr, loadings, W):
    """W of `read_inverse`, summed over the levels, where every node has one natural and one spherical scalar.

    The sum of a term is added in the row of its first node.  The nodes below come in runs of one term, whose
    products are summed before they meet their loading.
    """
    below_ptr, below, term = graph
    sums, first = np.zeros(loadings.shape[0]), np.full(loadings.shape[0], -1)
    for j in range(term.size):
        own = term[j]
        if first[own] < 0:
            first[own] = j
        right = loadings[own, 0, 0]
        at = indptr[j]
        sums[own] += G[at] * right * C_inv[at]
        shift = at + 1 - below_ptr[j]
        s = below_ptr[j]
        while s < below_ptr[j + 1]:
            other = term[below[s]]
            total = 0.0
            while s < below_ptr[j + 1] and term[below[s]] == other:
                total += G[shift + s] * C_inv[shift + s]
                s += 1
            sums[other] += total * right
            sums[own] += total * loadings[other, 0, 0]
    for k in range(sums.size):
        if first[k] >= 0:
            W[first[k], 0] += sums[k]


@kernel
def add_rows(G, found, number, mixed, first, r, W):
    """W += G_ji mixed (m, r) from row `first` on, for the entries of G_ij that were found."""
    for s in range(number):
        value, a, row = G[found[s, 0]], found[s, 1], first + found[s, 2]
        for c in range(r):
            W[row, c] += value * mixed[a, c]


@kernel
def read_inverse(G, C_inv, graph, natural, spherical, loadings, W, M):
    """What the criterion's derivatives need of C^-1, given on the pattern of C.

    To W (q, max r) are added the blocks (G F C^-1)_jj (m, r) of every node, in the rows of its natural
    scalars: their sum over the levels of a term is half of d log|C| / d Lambda. Nothing is subtracted, so
    that W keeps its relative accuracy as a variance goes to zero. M = F C^-1 F' on the pattern of G,
    (nnz(G),), unless M is empty. Where all nodes are scalars only those sums are right (`read_scalars`).
    """
    if loadings.shape[1] == 1 and loadings.shape[2] == 1:
        read_scalars(G, C_inv, graph, natural[1], loadings, W)
        if M.size:
            M.fill(0.0)
            assemble_scalars(C_inv, graph, natural[1], loadings, M)
        return
    below_ptr, below, term = graph
    first_G, first_C = natural[0], spherical[0]
    columns, count = list_columns(loadings)
    rows = loadings, columns, count
    m_max, r_max = loadings.shape[1], loadings.shape[2]
    found, mirrored = np.empty((m_max * m_max, 3), np.int64), np.empty((m_max * m_max, 3), np.int64)
    half, cursor = np.zeros((m_max, r_max)), np.empty(m_max, np.int64)
    block, mixed = np.empty((r_max, r_max)), np.empty((m_max, r_max))
    for j in range(term.size):
        k = term[j]
        r = first_C[j + 1] - first_C[j]
        start_columns(natural, j, cursor)
        number = take_entries(natural, j, j, cursor, found)
        read_own(C_inv, spherical, j, block)
        multiply_left(rows, k, first_G[j + 1] - first_G[j], block, r, mixed)
        add_rows(G, found, number, mixed, first_G[j], r, W)
        add_rows(G, mirrored, mirror_entries(found, number, mirrored), mixed, first_G[j], r, W)
        if M.size:
            contract_rows(mixed, found, number, rows, k, M)
        offset = 0
        for s in range(below_ptr[j], below_ptr[j + 1]):
            i = below[s]
            h, t = first_G[i + 1] - first_G[i], first_C[i + 1] - first_C[i]
            number = take_entries(natural, j, i, cursor, found)
            if number > 0:
                read_below(C_inv, spherical, j, offset, t, block)
                multiply_left(rows, term[i], h, block, r, mixed)
                add_rows(G, found, number, mixed, first_G[j], r, W)  # G_ji Lambda_i (C^-1)_ij
                multiply_right(G, found, number, rows, k, r, half)
                add_inverse(half, block, first_G[i], h, t, r, W)  # G_ij Lambda_j (C^-1)_ji
                if M.size:
                    contract_rows(mixed, found, number, rows, k, M)
            offset += t


@kernel
def add_inverse(half, block, first, h, t, r, W):
    """W += half (h, r) block' (r, t) from row `first` on, and half = 0."""
    for a in range(h):
        for c in range(r):
            value = half[a, c]
            if value != 0.0:
                half[a, c] = 0.0
                for d in range(t):
                    W[first + a, d] += value * block[d, c]


@kernel
def apply_loadings(term, first_out, first_in, loadings, B, out):
    """out = F B, natural (q, k) from spherical (q', k); F' B with sides and loadings turned."""
    columns, count = list_columns(loadings)
    for j in range(term.size):
        k = term[j]
        for a in range(first_out[j + 1] - first_out[j]):
            row = first_out[j] + a
            for c in range(B.shape[1]):
                out[row, c] = 0.0
            for s in range(count[k, a]):
                d = columns[k, a, s]
                value, source = loadings[k, a, d], first_in[j] + d
                for c in range(B.shape[1]):
                    out[row, c] += value * B[source, c]
