"""Starting values of the variance parameters from moments."""

from __future__ import annotations

import numpy as np

from fastlmm_core.kernels.compile import kernel
from fastlmm_core.kernels.eigenvalues import diagonalize
from fastlmm_core.kernels.search.score import sum_squared_blocks

# Operations that taking the fixed part out of the moments may cost: so many, and a share of a factorization.
LEAST_BUDGET, SHARE = 1e5, 0.1
MOST_NUMBERS = 1e7
# Share of its column's square below which a pivot of X' W X is rounding.
SMALLEST_PIVOT = 1e-12


@kernel
def start_from_moments(G, pattern, parameters, rhs, yy, n, operations, reml):
    """Starting theta (n_theta,) from moments: MINQUE with V proportional to I (Rao 1971), or its ML sister.

    The sums of squares of Z_k' W r, r the least squares residual, are equated to their expectations sum_h
    T_h tr(Z_k' M Z_h Z_h' M Z_k) + sigma2 tr(Z_k' M Z_k), M = W - W X (X' W X)^-1 X' W for REML; for ML,
    which does not count what the fixed part takes, M = W. This is a step of scoring from V = sigma2 W^-1,
    and of balanced designs these are the estimates. Where M takes more than a share of the `operations` of
    a factorization REML neglects the fixed part too. The coefficients are read off the cross-products. The
    moment equations A s = b are solved by their eigenvectors on unit diagonal, without those below 1e-8 of
    the largest eigenvalue (the least squares solution of least norm).
    Variances that come out small or negative start at a hundredth of the residual, never at zero, where the
    search could not start.
    """
    indptr, _, below_ptr, below, start, term = pattern
    sizes, theta_term, theta_row, theta_col = parameters
    K = sizes.size
    width = 1
    first = np.zeros(K + 1, np.int64)
    for k in range(K):
        width = max(width, sizes[k])
        first[k + 1] = first[k] + sizes[k]
    d = first[K]
    squares = np.zeros((K, width, K, width))
    budget = LEAST_BUDGET + SHARE * operations if reml else 0.0
    half = halve_fixed_part(G, pattern, K, width, budget)
    sum_squared_blocks(G, indptr, below_ptr, below, start, term, K, half, squares)
    A = np.zeros((d + 1, d + 1))
    b = np.zeros(d + 1)
    for k in range(K):
        for c in range(sizes[k]):
            for h in range(K):
                for e in range(sizes[h]):
                    A[first[k] + c, first[h] + e] = squares[k, c, h, e]
    for j in range(term.size):
        k = term[j]
        if k < K:
            for c in range(sizes[k]):
                s = start[j] + c
                A[first[k] + c, d] += G[indptr[s]]
                for u in range(half.shape[1]):
                    A[first[k] + c, d] -= half[s, u] * half[s, u]
                b[first[k] + c] += rhs[s, 0] * rhs[s, 0]
    for c in range(d):
        A[d, c] = A[c, d]
    A[d, d] = n - half.shape[1]
    b[d] = yy
    scale = np.empty(d + 1)
    for i in range(d + 1):
        scale[i] = 1.0 / np.sqrt(A[i, i])
    for i in range(d + 1):
        b[i] *= scale[i]
        for j in range(d + 1):
            A[i, j] *= scale[i] * scale[j]
    values, vectors = diagonalize(A)
    largest = 0.0
    for k in range(d + 1):
        largest = max(largest, abs(values[k]))
    moments = np.zeros(d + 1)
    for k in range(d + 1):
        if abs(values[k]) > 1e-8 * largest:
            product = 0.0
            for i in range(d + 1):
                product += vectors[i, k] * b[i]
            for i in range(d + 1):
                moments[i] += vectors[i, k] * product / values[k] * scale[i]
    residual = max(moments[d], 0.05 * yy / n)
    theta = np.zeros(theta_term.size)
    for t in range(theta.size):
        if theta_row[t] == theta_col[t]:
            ratio = moments[first[theta_term[t]] + theta_row[t]] / residual
            theta[t] = np.sqrt(min(max(ratio, 0.01), 1e4))
    return theta


@kernel
def halve_fixed_part(G, pattern, K, width, budget):
    """The rows (size, p) of L^-1 X' W Z beside the random effects, L L' = X' W X, or (size, 0).

    None where they, and what `sum_squared_blocks` makes of them, take more operations than `budget`, or where
    a pivot is rounding.  Rows and L are sparse where the fixed columns are indicators, and zeros are skipped.
    """
    indptr, indices, _, _, start, term = pattern
    size = start[term.size]
    place = np.full(size, -1)
    p = 0
    for j in range(term.size):
        if term[j] == K:
            for s in range(start[j], start[j + 1]):
                place[s] = p
                p += 1
    none = np.zeros((size, 0))
    work = float(size + indices.size) * p + (float(K * width) * p) ** 2
    if p == 0 or work > budget or float(size) * p > MOST_NUMBERS:
        return none
    half, L = np.zeros((size, p)), np.zeros((p, p))
    for j in range(size):
        for t in range(indptr[j], indptr[j + 1]):
            i = indices[t]
            if place[i] >= 0 and place[j] >= 0:
                L[place[i], place[j]] = G[t]
            elif place[i] >= 0:
                half[j, place[i]] = G[t]
            elif place[j] >= 0:
                half[i, place[j]] = G[t]
    below, count, least = np.empty((p, p), np.int64), np.zeros(p, np.int64), np.empty(p)
    for u in range(p):
        least[u] = SMALLEST_PIVOT * L[u, u]
    for u in range(p):
        if not L[u, u] > least[u]:
            return none
        L[u, u] = np.sqrt(L[u, u])
        for v in range(u + 1, p):
            if L[v, u] != 0.0:
                L[v, u] /= L[u, u]
                below[u, count[u]] = v
                count[u] += 1
        work += p + count[u] ** 2
        if work > budget:
            return none
        for a in range(count[u]):
            v = below[u, a]
            for b in range(a + 1):
                L[v, below[u, b]] -= L[v, u] * L[below[u, b], u]
    for s in range(size):
        if place[s] >= 0:
            continue
        for u in range(p):
            if half[s, u] != 0.0:
                half[s, u] /= L[u, u]
                for a in range(count[u]):
                    half[s, below[u, a]] -= L[below[u, a], u] * half[s, u]
                work += p + count[u]
        if work > budget:
            return none
    return half
