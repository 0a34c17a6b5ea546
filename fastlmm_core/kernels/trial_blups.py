"""BLUPs of one fitted trial with prediction error and conditional variances, and what heritability needs."""

from __future__ import annotations

import numpy as np

from fastlmm_core.kernels.compile import fill_integers, kernel
from fastlmm_core.kernels.simplicial import factorize, invert_subset, solve_lower, solve_upper
from fastlmm_core.kernels.small_fit import assemble
from fastlmm_core.kernels.trial_design import NO_INFERENCE, OK


@kernel
def subtract_fixed(equations, L, n_terms, p, Z):
    """(C_zz)^-1 where Z holds C^-1, for the blocks of the random nodes on the pattern of L; else as in Z.

    C_zz^-1 = Z_zz - Z_zx Z_xx^-1 Z_xz, from a solve for each fixed column.  In spherical coordinates no
    element of either inverse is above one, so that the difference keeps its digits.
    """
    start, term, L_indptr, L_indices = equations[4], equations[5], equations[14], equations[15]
    size = L_indptr.size - 1
    fixed = np.empty(p, np.int64)
    solution = np.zeros((size, p))
    count = 0
    for j in range(term.size):
        if term[j] == n_terms:
            fixed[count] = start[j]
            solution[start[j], count] = 1.0
            count += 1
    solve_lower(L_indptr, L_indices, L, solution)
    solve_upper(L_indptr, L_indices, L, solution)
    root = np.empty((p, p))  # lower Cholesky factor of Z_xx
    for i in range(p):
        for j in range(i + 1):
            total = solution[fixed[i], j]
            for k in range(j):
                total -= root[i, k] * root[j, k]
            root[i, j] = np.sqrt(total) if i == j else total / root[j, j]
    out = Z.copy()
    for node in range(term.size):
        if term[node] == n_terms:
            continue
        for s in range(start[node], start[node + 1]):
            for i in range(p):
                for k in range(i):
                    solution[s, i] -= root[i, k] * solution[s, k]
                solution[s, i] /= root[i, i]
        for s in range(start[node], start[node + 1]):
            for r in range(s, start[node + 1]):
                for i in range(p):
                    out[L_indptr[s] + r - s] -= solution[s, i] * solution[r, i]
    return out


@kernel
def invert_conditional(equations, factors, L, n_terms, p, Z):
    """(C_zz)^-1 for the random nodes on the pattern of L, where Z holds C^-1; status first.

    By `subtract_fixed`, or without the fixed rows by a factorization of its own, whichever takes less.
    """
    (_, _, _, _, start, term, _, below_ptr, below, C_indptr, C_indices, G, penalty, position, L_indptr,
    L_indices,
     _, _, _, _, _, _, _) = equations  # fmt: skip
    size = L_indptr.size - 1
    work = 0
    for j in range(size):
        work += 2 * (L_indptr[j + 1] - L_indptr[j]) ** 2
    if p * (2 * L_indices.size + p * size // 2) <= work:
        return OK, subtract_fixed(equations, L, n_terms, p, Z)
    is_fixed = np.zeros(size, np.bool_)
    for j in range(term.size):
        if term[j] == n_terms:
            is_fixed[start[j]] = True
    C = np.empty(C_indices.size)
    assemble(G, penalty, C_indptr, C_indices, below_ptr, below, start, term, factors, C)
    for j in range(size):
        for t in range(C_indptr[j], C_indptr[j + 1]):
            if is_fixed[j] or is_fixed[C_indices[t]]:
                C[t] = 1.0 if C_indices[t] == j else 0.0
    L_given = np.empty(L_indices.size)
    Z_given = np.empty(L_indices.size)
    status = OK if factorize(C, position, L_indptr, L_indices, L_given) < 0 else NO_INFERENCE
    if status == OK:
        invert_subset(L_indptr, L_indices, L_given, size, Z_given)
    return status, Z_given


@kernel
def level_variance(Z, indptr, first, m, transform, a):
    """Element (a, a) of transform (C^-1)_levels transform' for the level whose scalars start at `first`."""
    total = 0.0
    for i in range(m):
        for j in range(m):
            low, high = min(i, j), max(i, j)
            total += transform[a, i] * transform[a, j] * Z[indptr[first + low] + high - low]
    return total


@kernel
def mark_term(start, term, k):
    """Indicator (q + p, 1) of the scalars of term k."""
    out = np.zeros((start[term.size], 1))
    for j in range(term.size):
        if term[j] == k:
            for s in range(start[j], start[j + 1]):
                out[s, 0] = 1.0
    return out


@kernel
def infer_random(
    equations, factors, L, Z, p, K, widths, bases, natural, theta_index, counts, cells, group_codes,
    sigma2, coefficients, base, out_cells, out_blups, out_terms,
):  # fmt: skip
    """BLUPs with prediction error and conditional variances from row `base` on, and the sums behind
    heritability, out_terms (K, 4); a status.
    """
    start, term, level, L_indptr, L_indices = (
        equations[4], equations[5], equations[6], equations[14], equations[15],
    )  # fmt: skip
    size = L_indptr.size - 1
    if Z.size != L.size:
        Z = np.empty(L.size)
        invert_subset(L_indptr, L_indices, L, size, Z)
    status, Z_given = invert_conditional(equations, factors, L, K, p, Z)
    if status != OK:
        return status
    width = bases.shape[1]
    transform = np.empty((width, width))
    for k in range(K):
        m = widths[k]
        zero = True
        for t in range(natural.size):
            if theta_index[0][t] == k and natural[t] != 0.0:
                zero = False
        for a in range(m):
            for b in range(m):
                transform[a, b] = 0.0
                for c in range(m):
                    transform[a, b] += bases[k, a, c] * factors[k, c, b]
        trace = 0.0
        for node in range(term.size):
            if term[node] != k:
                continue
            first = start[node]
            for a in range(m):
                to = base + level[node] * m + a
                estimate = 0.0
                for b in range(m):
                    estimate += bases[k, a, b] * coefficients[first + b, 0]
                out_cells[to] = cells[k, level[node]]
                out_blups[to, 0] = estimate
                out_blups[to, 1] = 0.0
                out_blups[to, 2] = 0.0
                if not zero:
                    pev = sigma2 * level_variance(Z, L_indptr, first, m, transform, a)
                    out_blups[to, 1] = pev
                    out_blups[to, 2] = sigma2 * level_variance(Z_given, L_indptr, first, m, transform, a)
                    if a == 0:
                        trace += pev
        base += counts[k] * m
        out_terms[k, 1] = trace
        summarize_term(
            k, start, term, L_indptr, L_indices, L, zero, theta_index, natural, sigma2, bases[k, 0, 0],
            transform[0, 0], m, group_codes[k], counts[k], out_terms[k],
        )  # fmt: skip
    return OK


@kernel
def summarize_term(
    k, start, term, L_indptr, L_indices, L, zero, theta_index, natural, sigma2, base, scale, m, codes, count,
    out,
):  # fmt: skip
    """Sums behind heritability into out (4,): prior variance, (trace is there,) total of the prediction error
    covariance, mean of the reciprocal replications.
    """
    out[2] = 0.0
    if m == 1:
        out[0] = 0.0
        for t in range(natural.size):
            if theta_index[0][t] == k:
                out[0] = sigma2 * base**2 * natural[t]
        if not zero:
            half = mark_term(start, term, k)
            solve_lower(L_indptr, L_indices, L, half)
            for s in range(half.shape[0]):
                out[2] += half[s, 0] ** 2
            out[2] *= sigma2 * scale**2
    tally = fill_integers(count, 0)
    for i in range(codes.size):
        tally[codes[i]] += 1
    mean = 0.0
    for a in range(count):
        mean += 1.0 / tally[a]
    out[3] = mean / count
