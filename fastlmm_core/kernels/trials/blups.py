"""BLUPs of one fitted trial with prediction error and conditional variances, and what heritability needs."""

from __future__ import annotations

import numpy as np

from fastlmm_core.kernels.compile import fill_integers, kernel
from fastlmm_core.kernels.factor.simplicial import factorize, invert_subset, solve_lower, solve_upper
from fastlmm_core.kernels.outcomes import NO_INFERENCE, OK
from fastlmm_core.kernels.search.small_fit import assemble

INDICATOR = 1e-12  # rounding of a column of ones and zeros that was scaled and is scaled back


@kernel
def subtract_fixed(equations, L, n_terms, p, Z):
    """(C_zz)^-1 where Z holds C^-1, for the blocks of the random nodes on the pattern of L; else as in Z.

    C_zz^-1 = Z_zz - Z_zx Z_xx^-1 Z_xz, from a solve for each fixed column.  In spherical coordinates no
    element of either inverse is above one, so that the difference keeps its digits.
    """
    _, _, pattern, _, L_indptr, L_indices = equations.system
    start, term = pattern.start, pattern.term
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
    G, penalty, pattern, position, L_indptr, L_indices = equations.system
    C_indptr, C_indices, start, term = pattern.indptr, pattern.indices, pattern.start, pattern.term
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
    assemble(G, penalty, pattern, factors, C)
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
def count_rows(codes, count, z, scale):
    """Rows (count,) in which each level has an effect, and how many levels have some.

    z (n,) is the column of the term's one coefficient times `scale`; the number of levels is zero where it
    holds anything but ones and zeros, as then the variance between the levels depends on a covariate.
    """
    tally = fill_integers(count, 0)
    used = 0
    for i in range(codes.size):
        value = z[i] / scale
        if abs(value - 1.0) > INDICATOR and abs(value) > INDICATOR:
            used = -count
        if value != 0.0:
            used += tally[codes[i]] == 0
            tally[codes[i]] += 1
    return tally, max(used, 0)


@kernel
def infer_random(equations, design, groups, fit, natural, base, blups, out_terms):
    """BLUPs with prediction error and conditional variances from row `base` of `blups` on; a status.

    Parameters
    ----------
    natural : (d,)
        Variances and covariances relative to sigma2.
    blups : trials.arrays.UnitBlups
    out_terms : (K, 5)
        The sums behind heritability, over the levels that have an effect in some row.
    """
    _, _, pattern, _, L_indptr, L_indices = equations.system
    start, term, level = pattern.start, pattern.term, equations.level
    factors, L, Z, sigma2, bases = fit.factors, fit.L, fit.Z, fit.numbers[1], design.bases
    K, p, widths = groups.counts.size, design.fixed_rows.size, groups.widths
    if Z.size != L.size:
        Z = np.empty(L.size)
        invert_subset(L_indptr, L_indices, L, L_indptr.size - 1, Z)
    status, Z_given = invert_conditional(equations, factors, L, K, p, Z)
    if status != OK:
        return status
    width = bases.shape[1]
    transform = np.empty((width, width))
    column = 0
    for k in range(K):
        m = widths[k]
        tally, used = count_rows(groups.codes[k], groups.counts[k], groups.values[:, column], bases[k, 0, 0])
        column += m
        prior = 0.0
        zero = True
        for t in range(natural.size):
            if design.parameters.term[t] == k and natural[t] != 0.0:
                zero = False
                prior = sigma2 * bases[k, 0, 0] ** 2 * natural[t]
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
                    estimate += bases[k, a, b] * fit.coefficients[first + b, 0]
                blups.cells[to] = groups.cells[k, level[node]]
                blups.rows[to, 0] = estimate
                blups.rows[to, 1] = 0.0
                blups.rows[to, 2] = 0.0
                if not zero:
                    pev = sigma2 * level_variance(Z, L_indptr, first, m, transform, a)
                    blups.rows[to, 1] = pev
                    blups.rows[to, 2] = sigma2 * level_variance(Z_given, L_indptr, first, m, transform, a)
                    if a == 0 and tally[level[node]] > 0:
                        trace += pev
        base += groups.counts[k] * m
        out_terms[k, 0] = prior if m == 1 else out_terms[k, 0]
        out_terms[k, 1] = trace
        out_terms[k, 2] = 0.0
        if m == 1 and not zero:
            out_terms[k, 2] = sigma2 * transform[0, 0] ** 2 * sum_inverse(equations, L, k, tally)
        out_terms[k, 3] = mean_reciprocal(tally)
        out_terms[k, 4] = used if m == 1 else 0
    return OK


@kernel
def sum_inverse(equations, L, k, tally):
    """Sum of all elements of C^-1 over the levels of term k, of one scalar each, that have a tally."""
    pattern, level, system = equations.system.pattern, equations.level, equations.system
    half = np.zeros((pattern.start[pattern.term.size], 1))
    for j in range(pattern.term.size):
        if pattern.term[j] == k and tally[level[j]] > 0:
            half[pattern.start[j], 0] = 1.0
    solve_lower(system.L_indptr, system.L_indices, L, half)
    total = 0.0
    for s in range(half.shape[0]):
        total += half[s, 0] ** 2
    return total


@kernel
def mean_reciprocal(tally):
    """Mean of 1 / their number of rows over the levels that have some."""
    total = 0.0
    levels = 0
    for count in tally:
        if count > 0:
            total += 1.0 / count
            levels += 1
    return total / levels
