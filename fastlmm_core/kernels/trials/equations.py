"""The equations of one trial: layout, cross-products and symbolic analysis, and what the search works on."""

from __future__ import annotations

import numpy as np

from fastlmm_core.kernels.compile import fill_integers, kernel
from fastlmm_core.kernels.equations.columns import list_entries, standardize_columns
from fastlmm_core.kernels.equations.crossproducts import expand_pattern
from fastlmm_core.kernels.equations.systems import Columns, Entries, Pattern, System, TrialEquations
from fastlmm_core.kernels.factor.ordering import map_pattern
from fastlmm_core.kernels.outcomes import DEPENDENT, OK, TOO_LARGE
from fastlmm_core.kernels.trials.pattern import mark_meetings, order_and_fill, read_patterns, sum_products

LARGEST_WORK = 4e7  # multiply-adds of a factorization
PIVOT = 1e-8  # relative squared residual of a fixed column below which the rank is decided elsewhere


@kernel
def build_small_equations(
    indptr, indices, data, codes, counts, values, widths, weights, intercept, fixed_last
):
    """Pattern, layout, cross-products and symbolic analysis of one trial.

    Returns
    -------
    status : int
    equations : TrialEquations
    """
    K, n = codes.shape
    p = indptr.size - 1
    x_ptr, x_rows, x_data, shift, scale = standardize_columns(indptr, indices, data, n, intercept)
    first_node = np.empty(K + 1, np.int64)
    first_node[0] = 0
    for k in range(K):
        first_node[k + 1] = first_node[k] + counts[k]
    n_nodes = first_node[K] + p
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
    met = mark_meetings(row_ptr, row_node, n_nodes)
    perm = order_and_fill(met, node_size, last)
    below_ptr, below, L_ptr, L_below = read_patterns(met, perm)
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
    C_indptr, C_indices = expand_pattern(below_ptr, below, start)
    L_indptr, L_indices = expand_pattern(L_ptr, L_below, start)
    position = map_pattern(C_indptr, C_indices, L_indptr, L_indices)
    G = sum_products(
        row_ptr, row_node, row_val, flat, weights, below_ptr, below, start, C_indptr, C_indices.size
    )
    penalty = np.zeros(G.size)
    for j in range(n_nodes):
        if term[j] < K:
            for s in range(start[j], start[j + 1]):
                penalty[C_indptr[s]] = 1.0
    work = 0.0
    for j in range(L_indptr.size - 1):
        work += float(L_indptr[j + 1] - L_indptr[j]) ** 2
    pattern = Pattern(C_indptr, C_indices, below_ptr, below, start, term)
    return OK if work <= LARGEST_WORK else TOO_LARGE, TrialEquations(
        Entries(row_ptr, row_node, row_val, flat),
        System(G, penalty, pattern, position, L_indptr, L_indices),
        level, Columns(x_ptr, x_rows, x_data), shift, scale, L_ptr, L_below,
    )  # fmt: skip


@kernel
def count_leading(term, n_terms):
    """Fixed nodes that come first in the order; none when all do."""
    first = 0
    while first < term.size and term[first] == n_terms:
        first += 1
    return first if first < term.size else 0


@kernel
def locate_fixed(equations, n_terms):
    """Scalar (p,) of each fixed column."""
    pattern = equations.system.pattern
    rows = np.empty(equations.columns.indptr.size - 1, np.int64)
    for j in range(pattern.term.size):
        if pattern.term[j] == n_terms:
            rows[equations.level[j]] = pattern.start[j]
    return rows


@kernel
def eliminate_columns(indptr, indices, first, last, work):
    """Factorize the columns first:last of `work` in place; those after them become the Schur complement."""
    for j in range(first, last):
        lo, hi = indptr[j], indptr[j + 1]
        pivot = np.sqrt(work[lo])
        for t in range(lo, hi):
            work[t] /= pivot
        for s in range(lo + 1, hi):
            value = work[s]
            if value != 0.0:
                at = indptr[indices[s]]
                for t in range(s, hi):
                    while indices[at] != indices[t]:
                        at += 1
                    work[at] -= value * work[t]


@kernel
def factorize_fixed(equations, n_terms):
    """Take the fixed columns that come first in the order out of G, and factorize all fixed columns.

    Returns
    -------
    status : int
        DEPENDENT at a weak pivot among the fixed columns.
    work : (nnz(L),) float64
        Factor of the columns that come first, and the Schur complement of the others in G.
    L_fixed : (nnz(L),) float64
        Factor of blockdiag(I, X'WX), for least squares.
    """
    G, _, pattern, position, L_indptr, L_indices = equations.system
    C_indptr, start, term = pattern.indptr, pattern.start, pattern.term
    size = L_indptr.size - 1
    first = start[count_leading(term, n_terms)]
    work = np.zeros(L_indices.size)
    for t in range(G.size):
        work[position[t]] = G[t]
    eliminate_columns(L_indptr, L_indices, 0, first, work)
    fixed = np.zeros(size, np.bool_)
    for j in range(term.size):
        fixed[start[j]] = term[j] == n_terms
    L_fixed = np.empty(L_indices.size)
    for j in range(size):
        for t in range(L_indptr[j], L_indptr[j + 1]):
            L_fixed[t] = work[t] if fixed[j] and fixed[L_indices[t]] else 0.0
        if not fixed[j]:
            L_fixed[L_indptr[j]] = 1.0
    eliminate_columns(L_indptr, L_indices, first, size, L_fixed)
    for j in range(size):
        if fixed[j]:
            pivot = L_fixed[L_indptr[j]]
            if not pivot * pivot > PIVOT * G[C_indptr[j]]:
                return DEPENDENT, work, L_fixed
    return OK, work, L_fixed


@kernel
def separate_search(equations, n_terms, work):
    """The system that the search works on, from what `factorize_fixed` leaves.

    The part of the factor of fixed columns that come first does not depend on theta but for the scale of its
    rows, so what is left is again F' G F + penalty, of a smaller system with the Schur complement for G.

    Returns
    -------
    search : System
        What is left.
    lead : (first entries of L) float64
        Factor columns of the fixed columns taken out, on the pattern of L.
    log_lead : float
        Their part of log |C|.
    """
    pattern, L_indptr, L_indices = (
        equations.system.pattern, equations.system.L_indptr, equations.system.L_indices,
    )  # fmt: skip
    start, term, L_ptr, L_below = pattern.start, pattern.term, equations.L_ptr, equations.L_below
    n_nodes = term.size
    first = count_leading(term, n_terms)
    if first == 0:
        return equations.system, np.empty(0), 0.0
    size = start[first]
    left = L_indptr.size - 1 - size
    base = L_indptr[size]
    log_lead = 0.0
    for j in range(size):
        log_lead += 2.0 * np.log(work[L_indptr[j]])
    indptr = np.empty(left + 1, np.int64)
    for j in range(left + 1):
        indptr[j] = L_indptr[size + j] - base
    entries = L_indices.size - base
    indices = np.empty(entries, np.int32)
    places = np.empty(entries, np.int64)
    new_G = np.empty(entries)
    new_penalty = np.zeros(entries)
    for t in range(entries):
        indices[t] = L_indices[base + t] - size
        places[t] = t
        new_G[t] = work[base + t]
    nodes = n_nodes - first
    new_start = np.empty(nodes + 1, np.int64)
    new_term = np.empty(nodes, np.int64)
    new_ptr = np.empty(nodes + 1, np.int64)
    for j in range(nodes + 1):
        new_start[j] = start[first + j] - size
        new_ptr[j] = L_ptr[first + j] - L_ptr[first]
    for j in range(nodes):
        new_term[j] = term[first + j]
        if new_term[j] < n_terms:
            for s in range(new_start[j], new_start[j + 1]):
                new_penalty[indptr[s]] = 1.0
    new_below = np.empty(new_ptr[nodes], np.int64)
    for t in range(new_below.size):
        new_below[t] = L_below[L_ptr[first] + t] - first
    lead = np.empty(base)
    for t in range(base):
        lead[t] = work[t]
    rest = Pattern(indptr, indices, new_ptr, new_below, new_start, new_term)
    return System(new_G, new_penalty, rest, places, indptr, indices), lead, log_lead
