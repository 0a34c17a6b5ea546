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

from fastlmm_core.kernels.compile import fill_integers, kernel
from fastlmm_core.kernels.equations.columns import orthonormal_basis
from fastlmm_core.kernels.equations.systems import Groups, Parameters
from fastlmm_core.kernels.outcomes import OK, ONE_LEVEL, TOO_LARGE
from fastlmm_core.kernels.thresholds import FAR

LARGEST_GRAPH = 700
LARGEST_CELLS = 100_000


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
    groups : Groups
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
    return status, Groups(order, counts, codes, cells, values, widths, diagonal)


@kernel
def place_theta(widths, diagonal):
    """Where theta sits, column by column of every factor: Parameters."""
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
    return Parameters(widths, term, row, col)


@kernel
def standardize_values(values, widths, diagonal):
    """Scale the coefficients of every term in place.

    Returns
    -------
    bases : (K, w, w)
        Zero padded.
    near : bool
        No columns of a term are so close to dependence that they lose digits in the product with its basis.
    """
    n = values.shape[0]
    width = 1
    for k in range(widths.size):
        width = max(width, widths[k])
    bases = np.zeros((widths.size, width, width))
    first = 0
    near = True
    for k in range(widths.size):
        m = widths[k]
        own = np.empty((n, m))
        for i in range(n):
            for c in range(m):
                own[i, c] = values[i, first + c]
        basis = orthonormal_basis(own, diagonal[k] == 1)
        for a in range(m):
            for c in range(a + 1, m):
                square = 0.0
                for i in range(n):
                    square += own[i, a] * own[i, a]
                near = near and abs(basis[a, c]) * np.sqrt(square / n) <= FAR
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
    return bases, near
