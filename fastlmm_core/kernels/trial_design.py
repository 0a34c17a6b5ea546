"""The design of one trial from coded columns: fixed columns, grouping levels, pattern and symbolic analysis.

The compiled counterpart of ``design.build_design`` and ``reml.equations.build_equations`` for plain columns;
the numbering of columns, levels and nodes is the same, and what follows from it comes from the same kernels.

A model is described by integer arrays:

    fixed = (intercept, term_ptr, atom_variable, atom_kind)
        Term t of the fixed part is the product of the atoms term_ptr[t]:term_ptr[t + 1]; atom_kind is 0 for a
        factor coded against its first level, 1 for a factor by all its levels, 2 for a numeric column.
    random = (group_ptr, group_variable, widths, coef_ptr, coef_variable, diagonal)
        Random term k groups by the factors group_ptr[k]:group_ptr[k + 1], the slowest first, and has
        widths[k] coefficients; coefficient c (numbered over all terms) is the product of the numeric columns
        coef_ptr[c]:coef_ptr[c + 1], none of them for the intercept.  diagonal[k] is 1 for independent
        coefficients.
"""

from __future__ import annotations

import numpy as np

from fastlmm_core.kernels.columns import list_entries, orthonormal_basis, standardize_columns
from fastlmm_core.kernels.compile import fill_integers, kernel
from fastlmm_core.kernels.crossproducts import (
    expand_pattern,
    fill_crossproducts,
    find_node_pattern,
    transpose_entries,
)
from fastlmm_core.kernels.ordering import fill_node_pattern, map_pattern, order_minimum_degree

# Why a trial is left to the general path.
OK, NO_ROWS, ONE_LEVEL, TOO_FEW_ROWS, TOO_LARGE, BAD_VALUES, DEPENDENT, NO_OPTIMUM, NO_INFERENCE = range(9)

LARGEST_GRAPH = 700
LARGEST_CELLS = 100_000
LARGEST_WORK = 4e7  # multiply-adds of a factorization
RANK_TOLERANCE, RANK_FLOOR = 1e-7, 1e-13  # as in design.rank


@kernel
def sort_integers(values, count):
    """Sort values[:count] in place (heapsort)."""
    for root in range(count // 2 - 1, -1, -1):
        sift_down(values, root, count)
    for last in range(count - 1, 0, -1):
        values[0], values[last] = values[last], values[0]
        sift_down(values, 0, last)


@kernel
def sift_down(values, root, count):
    """Restore the heap below `root`."""
    while True:
        child = 2 * root + 1
        if child >= count:
            return
        if child + 1 < count and values[child + 1] > values[child]:
            child += 1
        if values[root] >= values[child]:
            return
        values[root], values[child] = values[child], values[root]
        root = child


@kernel
def number_levels(codes, rows, place, local, found):
    """Renumber codes[rows] by the levels that occur, in their order; returns how many there are.

    Parameters
    ----------
    codes : (N,) int32
    rows : (n,) int64
    place : (n_levels,) int64
        Work array, -1 everywhere before and after.
    local, found : (n,) int64
        Overwritten: new codes, and in `found[:count]` the old code of each new one.
    """
    count = 0
    for i in range(rows.size):
        code = codes[rows[i]]
        if place[code] < 0:
            place[code] = 0
            found[count] = code
            count += 1
    sort_integers(found, count)
    for r in range(count):
        place[found[r]] = r
    for i in range(rows.size):
        local[i] = place[codes[rows[i]]]
    for r in range(count):
        place[found[r]] = -1
    return count


@kernel
def start_terms(fixed, n_levels):
    """First column of every fixed term, and their number in all, (terms + 1,)."""
    intercept, term_ptr, atom_variable, atom_kind = fixed
    start = np.empty(term_ptr.size, np.int64)
    start[0] = intercept
    for t in range(term_ptr.size - 1):
        width = 1
        for a in range(term_ptr[t], term_ptr[t + 1]):
            if atom_kind[a] < 2:
                width *= n_levels[atom_variable[a]] - (1 if atom_kind[a] == 0 else 0)
        start[t + 1] = start[t] + width
    return start


@kernel
def code_columns(fixed, start, local, n_levels, numbers, rows):
    """Fixed columns of the rows, compressed: `indptr` (p + 1,), `indices`, `data`."""
    intercept, term_ptr, atom_variable, atom_kind = fixed
    n = rows.size
    n_terms = term_ptr.size - 1
    p = start[n_terms]
    column = np.empty((n_terms, n), np.int64)
    weight = np.empty((n_terms, n))
    count = np.zeros(p + 1, np.int64)
    if intercept:
        count[1] = n
    for t in range(n_terms):
        for i in range(n):
            at = 0
            stride = 1
            product = 1.0
            for a in range(term_ptr[t], term_ptr[t + 1]):
                v = atom_variable[a]
                if atom_kind[a] == 2:
                    product *= numbers[v, rows[i]]
                else:
                    code = local[v, i] - (1 if atom_kind[a] == 0 else 0)
                    if code < 0:
                        at = -1
                        break
                    at += code * stride
                    stride *= n_levels[v] - (1 if atom_kind[a] == 0 else 0)
            column[t, i] = at
            weight[t, i] = product
            if at >= 0:
                count[start[t] + at + 1] += 1
    for j in range(p):
        count[j + 1] += count[j]
    indptr = np.empty(p + 1, np.int32)
    fill = np.empty(p + 1, np.int64)
    for j in range(p + 1):
        indptr[j] = count[j]
        fill[j] = count[j]
    indices = np.empty(count[p], np.int32)
    data = np.empty(count[p])
    if intercept:
        for i in range(n):
            indices[i] = i
            data[i] = 1.0
    for t in range(n_terms):
        for i in range(n):
            if column[t, i] >= 0:
                j = start[t] + column[t, i]
                indices[fill[j]] = i
                data[fill[j]] = weight[t, i]
                fill[j] += 1
    return indptr, indices, data


@kernel
def find_dependent(indptr, indices, data, n):
    """Columns that depend on earlier ones, as ``design.rank`` decides it, by Gram-Schmidt from the left.

    Returns
    -------
    kept : (r,) int64
    null : (p, p - r) float64
        Null vectors with entry 1 at the columns dropped, in their order.
    norm : (p,) float64
        Lengths of the columns, sqrt(n) for empty ones.
    """
    p = indptr.size - 1
    norm = np.empty(p)
    Q = np.zeros((min(n, p), n))
    R = np.zeros((p, p))
    v = np.empty(n)
    kept = np.empty(p, np.int64)
    dropped = np.empty(p, np.int64)
    r = 0
    for j in range(p):
        square = 0.0
        total = 0.0
        for t in range(indptr[j], indptr[j + 1]):
            square += data[t] * data[t]
            total += data[t]
        norm[j] = np.sqrt(square)
        safe = norm[j] if norm[j] > 0.0 else 1.0
        centred = (n - indptr[j + 1] + indptr[j]) * (total / n) ** 2
        for i in range(n):
            v[i] = 0.0
        for t in range(indptr[j], indptr[j + 1]):
            v[indices[t]] = data[t] / safe
            centred += (data[t] - total / n) ** 2
        tolerance = max(RANK_TOLERANCE * np.sqrt(centred) / safe, RANK_FLOOR)
        for _ in range(2):
            for k in range(r):
                product = 0.0
                for i in range(n):
                    product += Q[k, i] * v[i]
                R[k, j] += product
                for i in range(n):
                    v[i] -= product * Q[k, i]
        size = 0.0
        for i in range(n):
            size += v[i] * v[i]
        size = np.sqrt(size)
        if size > tolerance and r < n:
            for i in range(n):
                Q[r, i] = v[i] / size
            R[r, j] = size
            kept[r] = j
            r += 1
        else:
            dropped[j - r] = j
    null = np.zeros((p, p - r))
    for c in range(p - r):
        j = dropped[c]
        null[j, c] = 1.0
        for a in range(r - 1, -1, -1):
            total = -R[a, j]
            for b in range(a + 1, r):
                total -= R[a, kept[b]] * null[kept[b], c]
            null[kept[a], c] = total / R[a, kept[a]]
        for a in range(r):
            if abs(null[kept[a], c]) < 1e-11:
                null[kept[a], c] = 0.0
        own = norm[j] if norm[j] > 0.0 else 1.0
        for a in range(r):
            null[kept[a], c] *= own / norm[kept[a]]
    for j in range(p):
        if norm[j] == 0.0:
            norm[j] = np.sqrt(n)
    return kept[:r].copy(), null, norm


@kernel
def has_nested_factor(fixed, local, n_levels):
    """Whether a factor of the fixed part has each of its levels with one level of another factor only."""
    variable, kind = fixed[2], fixed[3]
    for a in range(variable.size):
        for b in range(variable.size):
            inner, outer = variable[a], variable[b]
            if kind[a] == 2 or kind[b] == 2 or inner == outer:
                continue
            partner = fill_integers(n_levels[inner], -1)
            nested = True
            for i in range(local.shape[1]):
                level = local[inner, i]
                if partner[level] < 0:
                    partner[level] = local[outer, i]
                elif partner[level] != local[outer, i]:
                    nested = False
                    break
            if nested:
                return True
    return False


@kernel
def select_columns(indptr, indices, data, kept):
    """The columns `kept` of compressed columns."""
    new_indptr = np.zeros(kept.size + 1, np.int32)
    for j in range(kept.size):
        new_indptr[j + 1] = new_indptr[j] + indptr[kept[j] + 1] - indptr[kept[j]]
    new_indices = np.empty(new_indptr[kept.size], np.int32)
    new_data = np.empty(new_indptr[kept.size])
    at = 0
    for j in range(kept.size):
        for t in range(indptr[kept[j]], indptr[kept[j] + 1]):
            new_indices[at] = indices[t]
            new_data[at] = data[t]
            at += 1
    return new_indptr, new_indices, new_data


@kernel
def group_rows(group_ptr, group_variable, k, local, n_levels, codes, cells):
    """Levels of the grouping of term k: fills `codes` (n,) and `cells` (levels,), returns their number.

    A cell is the combined code over the grouping factors, the first varying slowest; only those that occur
    count. Returns -1 where there are too many combinations to tabulate.
    """
    n = codes.size
    total = 1
    for g in range(group_ptr[k], group_ptr[k + 1]):
        total *= n_levels[group_variable[g]]
        if total > LARGEST_CELLS:
            return -1
    place = fill_integers(total, -1)
    for i in range(n):
        cell = 0
        for g in range(group_ptr[k], group_ptr[k + 1]):
            v = group_variable[g]
            cell = cell * n_levels[v] + local[v, i]
        codes[i] = cell
        place[cell] = 0
    count = 0
    for cell in range(total):
        if place[cell] == 0:
            if count < n:
                cells[count] = cell
            place[cell] = count
            count += 1
    for i in range(n):
        codes[i] = place[codes[i]]
    return count


@kernel
def order_random_terms(counts, order):
    """lme4's order: as written if the numbers of levels never increase, else falling, last first."""
    K = counts.size
    sorted_already = True
    for k in range(K):
        order[k] = k
        if k > 0 and counts[k] > counts[k - 1]:
            sorted_already = False
    if sorted_already:
        return
    for a in range(1, K):  # insertion: larger count first, among equals the later term first
        k = order[a]
        b = a - 1
        while b >= 0 and (counts[order[b]] < counts[k] or (counts[order[b]] == counts[k] and order[b] < k)):
            order[b + 1] = order[b]
            b -= 1
        order[b + 1] = k


@kernel
def group_trial(random, local, n_levels, numbers, rows):
    """Codes, cells and values of the random terms in lme4's order.

    Returns
    -------
    status : int
    order : (K,) int64
        The term of the formula at each place.
    counts : (K,) int64
    codes : (K, n) int64
    cells : (K, n) int64
        cells[k, :counts[k]].
    values : (n, sum of widths) float64
    widths : (K,) int64
    diagonal : (K,) int64
    """
    group_ptr, group_variable, all_widths, coef_ptr, coef_variable, all_diagonal = random
    n = rows.size
    K = all_widths.size
    given = np.empty((K, n), np.int64)
    given_cells = np.empty((K, n), np.int64)
    given_counts = np.empty(K, np.int64)
    first = np.zeros(K + 1, np.int64)
    status = OK
    for k in range(K):
        count = group_rows(group_ptr, group_variable, k, local, n_levels, given[k], given_cells[k])
        given_counts[k] = count
        first[k + 1] = first[k] + all_widths[k]
        if count < 0:
            status = TOO_LARGE
        elif count < 2 or count >= n or count * all_widths[k] >= n:
            status = ONE_LEVEL
    order = np.empty(K, np.int64)
    order_random_terms(given_counts, order)
    counts = np.empty(K, np.int64)
    widths = np.empty(K, np.int64)
    diagonal = np.empty(K, np.int64)
    codes = np.empty((K, n), np.int64)
    cells = np.empty((K, n), np.int64)
    values = np.empty((n, first[K]))
    column = 0
    for at in range(K):
        k = order[at]
        counts[at], widths[at], diagonal[at] = given_counts[k], all_widths[k], all_diagonal[k]
        for i in range(n):
            codes[at, i] = given[k, i]
            cells[at, i] = given_cells[k, i]
        for c in range(first[k], first[k + 1]):
            for i in range(n):
                product = 1.0
                for s in range(coef_ptr[c], coef_ptr[c + 1]):
                    product *= numbers[coef_variable[s], rows[i]]
                values[i, column] = product
            column += 1
    return status, order, counts, codes, cells, values, widths, diagonal


@kernel
def place_theta(widths, diagonal):
    """Where theta sits: (term, row, column), each (n_theta,), column by column of every factor."""
    total = 0
    for k in range(widths.size):
        total += widths[k] if diagonal[k] else widths[k] * (widths[k] + 1) // 2
    term = np.empty(total, np.int64)
    row = np.empty(total, np.int64)
    col = np.empty(total, np.int64)
    t = 0
    for k in range(widths.size):
        for c in range(widths[k]):
            for r in range(c, c + 1 if diagonal[k] else widths[k]):
                term[t], row[t], col[t] = k, r, c
                t += 1
    return term, row, col


@kernel
def standardize_values(values, widths, diagonal):
    """Scale the coefficients of every term in place; returns the bases (K, w, w), zero padded."""
    n = values.shape[0]
    width = 1
    for k in range(widths.size):
        width = max(width, widths[k])
    bases = np.zeros((widths.size, width, width))
    first = 0
    for k in range(widths.size):
        m = widths[k]
        own = np.empty((n, m))
        for i in range(n):
            for c in range(m):
                own[i, c] = values[i, first + c]
        basis = orthonormal_basis(own, diagonal[k] == 1)
        for i in range(n):
            for c in range(m):
                total = 0.0
                for b in range(m):
                    total += own[i, b] * basis[b, c]
                values[i, first + c] = total
        for a in range(m):
            for b in range(m):
                bases[k, a, b] = basis[a, b]
        first += m
    return bases


@kernel
def build_small_equations(
    indptr, indices, data, codes, counts, values, widths, weights, intercept, fixed_last
):
    """Pattern, layout, cross-products and symbolic analysis of one trial.

    Returns
    -------
    status : int
    equations : tuple
        row_ptr, row_node, row_val, flat, start, term, level, below_ptr, below, C_indptr, C_indices, G,
        penalty, position, L_indptr, L_indices, columns indptr, indices, data, shift, scale, L_ptr, L_below.
    """
    K, n = codes.shape
    p = indptr.size - 1
    x_ptr, x_rows, x_data, shift, scale = standardize_columns(indptr, indices, data, n, intercept)
    first_node = np.empty(K + 1, np.int64)
    first_node[0] = 0
    for k in range(K):
        first_node[k + 1] = first_node[k] + counts[k]
    n_nodes = first_node[K] + p
    status = OK if n_nodes <= LARGEST_GRAPH else TOO_LARGE
    row_ptr, row_node, row_val, flat = list_entries(x_ptr, x_rows, x_data, codes, values, widths, first_node)
    node_size = fill_integers(n_nodes, 1)
    node_term = fill_integers(n_nodes, K)
    last = np.zeros(n_nodes, np.bool_)
    for k in range(K):
        for j in range(first_node[k], first_node[k + 1]):
            node_size[j] = widths[k]
            node_term[j] = k
    for j in range(first_node[K], n_nodes):
        last[j] = fixed_last
    node_ptr, node_entry, entry_row = transpose_entries(row_ptr, row_node, n_nodes)
    below_ptr, below = find_node_pattern(row_ptr, row_node, node_ptr, node_entry, entry_row)
    if status == OK:
        perm = order_minimum_degree(below_ptr, below, node_size, last)
    else:
        perm = np.arange(n_nodes)
    place = np.empty(n_nodes, np.int64)
    start = np.empty(n_nodes + 1, np.int64)
    term = np.empty(n_nodes, np.int64)
    level = np.empty(n_nodes, np.int64)
    start[0] = 0
    for j in range(n_nodes):
        node = perm[j]
        place[node] = j
        term[j] = node_term[node]
        level[j] = node - first_node[node_term[node]]
        start[j + 1] = start[j] + node_size[node]
    for e in range(row_node.size):
        row_node[e] = place[row_node[e]]
    node_ptr, node_entry, entry_row = transpose_entries(row_ptr, row_node, n_nodes)
    below_ptr, below = find_node_pattern(row_ptr, row_node, node_ptr, node_entry, entry_row)
    C_indptr, C_indices = expand_pattern(below_ptr, below, start)
    G = fill_crossproducts(
        row_ptr, row_node, row_val, flat, weights, node_ptr, node_entry, entry_row, start, C_indptr, C_indices
    )
    penalty = np.zeros(G.size)
    for j in range(n_nodes):
        if term[j] < K:
            for s in range(start[j], start[j + 1]):
                penalty[C_indptr[s]] = 1.0
    L_ptr, L_below = fill_node_pattern(below_ptr, below)
    L_indptr, L_indices = expand_pattern(L_ptr, L_below, start)
    position = map_pattern(C_indptr, C_indices, L_indptr, L_indices)
    work = 0.0
    for j in range(L_indptr.size - 1):
        work += float(L_indptr[j + 1] - L_indptr[j]) ** 2
    if work > LARGEST_WORK:
        status = TOO_LARGE
    return status, (
        row_ptr, row_node, row_val, flat, start, term, level, below_ptr, below, C_indptr, C_indices, G,
        penalty, position, L_indptr, L_indices, x_ptr, x_rows, x_data, shift, scale, L_ptr, L_below,
    )  # fmt: skip


@kernel
def eliminate_fixed(equations, n_terms):
    """Take the fixed columns that come first in the order out of G, once for all steps of the search.

    Their part of the factor does not depend on theta but for the scale of its rows, so what is left is again
    F' G F + penalty, of a smaller system with the Schur complement in the place of G.

    Returns
    -------
    search : tuple
        G, penalty, indptr, indices, below_ptr, below, start, term, position, L_indptr, L_indices of the
        system that is left.
    lead : (first entries of L) float64
        Factor columns of the fixed columns taken out, on the pattern of L.
    log_lead : float
        Their part of log |C|.
    """
    start, term, below_ptr, below, C_indptr, C_indices, G, penalty, position, L_indptr, L_indices = (
        equations[4], equations[5], equations[7], equations[8], equations[9], equations[10], equations[11],
        equations[12], equations[13], equations[14], equations[15],
    )  # fmt: skip
    L_ptr, L_below = equations[21], equations[22]
    n_nodes = term.size
    first = 0
    while first < n_nodes and term[first] == n_terms:
        first += 1
    if first == 0 or first == n_nodes:
        whole = (
            G, penalty, C_indptr, C_indices, below_ptr, below, start, term, position, L_indptr, L_indices,
        )  # fmt: skip
        return whole, np.empty(0), 0.0
    size = start[first]
    left = L_indptr.size - 1 - size
    base = L_indptr[size]
    work = np.zeros(L_indices.size)
    ones = np.zeros(L_indices.size)
    for t in range(G.size):
        work[position[t]] = G[t]
        ones[position[t]] = penalty[t]
    log_lead = 0.0
    for j in range(size):
        lo, hi = L_indptr[j], L_indptr[j + 1]
        pivot = np.sqrt(work[lo])
        log_lead += 2.0 * np.log(pivot)
        for t in range(lo, hi):
            work[t] /= pivot
        for s in range(lo + 1, hi):
            value = work[s]
            at = L_indptr[L_indices[s]]
            for t in range(s, hi):
                while L_indices[at] != L_indices[t]:
                    at += 1
                work[at] -= value * work[t]
    indptr = np.empty(left + 1, np.int64)
    for j in range(left + 1):
        indptr[j] = L_indptr[size + j] - base
    entries = L_indices.size - base
    indices = np.empty(entries, np.int32)
    places = np.empty(entries, np.int64)
    for t in range(entries):
        indices[t] = L_indices[base + t] - size
        places[t] = t
    nodes = n_nodes - first
    new_start = np.empty(nodes + 1, np.int64)
    new_term = np.empty(nodes, np.int64)
    new_ptr = np.empty(nodes + 1, np.int64)
    for j in range(nodes + 1):
        new_start[j] = start[first + j] - size
        new_ptr[j] = L_ptr[first + j] - L_ptr[first]
    for j in range(nodes):
        new_term[j] = term[first + j]
    new_below = np.empty(new_ptr[nodes], np.int64)
    for t in range(new_below.size):
        new_below[t] = L_below[L_ptr[first] + t] - first
    new_G = np.empty(entries)
    new_penalty = np.empty(entries)
    for t in range(entries):
        new_G[t] = work[base + t]
        new_penalty[t] = ones[base + t]
    lead = np.empty(base)
    for t in range(base):
        lead[t] = work[t]
    rest = (
        new_G, new_penalty, indptr, indices, new_ptr, new_below, new_start, new_term, places, indptr, indices,
    )  # fmt: skip
    return rest, lead, log_lead
