"""Sparse Cholesky, solves and inverse subset, column by column, for small systems.

All arrays describe lower triangles in compressed columns with the diagonal first and rows ascending.
"""

from __future__ import annotations

import numpy as np

from fastlmm_core.kernels.compile import fill_integers, kernel


@kernel
def factorize(C_data, position, indptr, indices, L):
    """Left-looking Cholesky factor of C on a known pattern.

    Parameters
    ----------
    C_data : (nnz(C),) float64
    position : (nnz(C),) int64
        Where each entry of C lies in the pattern of L.
    indptr, indices : pattern of L
    L : (nnz(L),) float64
        Overwritten by the factor.

    Returns
    -------
    int
        -1 on success, else the column whose pivot is not positive.
    """
    size = indptr.size - 1
    L.fill(0.0)
    for t in range(C_data.size):
        L[position[t]] = C_data[t]
    work = np.zeros(size)
    head = fill_integers(size, -1)  # columns whose next row to be used is this one
    link = fill_integers(size, -1)
    cursor = np.zeros(size, np.int64)
    for j in range(size):
        lo, hi = indptr[j], indptr[j + 1]
        for t in range(lo, hi):
            work[indices[t]] = L[t]
        k = head[j]
        while k >= 0:
            following = link[k]
            at = cursor[k]
            factor = L[at]
            for t in range(at, indptr[k + 1]):
                work[indices[t]] -= factor * L[t]
            if at + 1 < indptr[k + 1]:
                cursor[k] = at + 1
                row = indices[at + 1]
                link[k] = head[row]
                head[row] = k
            k = following
        pivot = work[j]
        if not pivot > 0.0:
            return j
        pivot = np.sqrt(pivot)
        L[lo] = pivot
        work[j] = 0.0
        for t in range(lo + 1, hi):
            L[t] = work[indices[t]] / pivot
            work[indices[t]] = 0.0
        if lo + 1 < hi:
            cursor[j] = lo + 1
            row = indices[lo + 1]
            link[j] = head[row]
            head[row] = j
    return -1


@kernel
def log_determinant(indptr, L, size):
    """log |C| of the leading `size` rows and columns, from the factor."""
    total = 0.0
    for j in range(size):
        total += np.log(L[indptr[j]])
    return 2.0 * total


@kernel
def solve_lower(indptr, indices, L, B):
    """B <- L^-1 B in place, B (size, r)."""
    r = B.shape[1]
    for j in range(indptr.size - 1):
        lo = indptr[j]
        for c in range(r):
            B[j, c] /= L[lo]
        for t in range(lo + 1, indptr[j + 1]):
            i = indices[t]
            for c in range(r):
                B[i, c] -= L[t] * B[j, c]


@kernel
def solve_upper(indptr, indices, L, B):
    """B <- L^-T B in place, B (size, r)."""
    r = B.shape[1]
    for j in range(indptr.size - 2, -1, -1):
        lo = indptr[j]
        for t in range(lo + 1, indptr[j + 1]):
            i = indices[t]
            for c in range(r):
                B[j, c] -= L[t] * B[i, c]
        for c in range(r):
            B[j, c] /= L[lo]


@kernel
def invert_subset(indptr, indices, L, size, Z):
    """C^-1 on the pattern of L (Takahashi, Fagan & Chin 1973; Erisman & Tinney 1975).

    Only the leading `size` rows and columns take part (the inverse of that leading block); other entries
    of `Z` (nnz(L),) are set to zero.
    """
    n = indptr.size - 1
    where = fill_integers(n, -1)
    rows = np.empty(n, np.int64)
    coefficient = np.empty(n)
    total = np.empty(n)
    Z.fill(0.0)
    for j in range(size - 1, -1, -1):
        lo = indptr[j]
        count = 0
        pivot = L[lo]
        for t in range(lo + 1, indptr[j + 1]):
            i = indices[t]
            if i >= size:
                break
            rows[count] = i
            coefficient[count] = L[t] / pivot
            total[count] = 0.0
            where[i] = count
            count += 1
        # total_i = sum_k Z_ik l_k: the columns k of Z hold rows i >= k, each pair is met once
        for s in range(count):
            k = rows[s]
            own = Z[indptr[k]] * coefficient[s]
            left = count - s - 1
            t = indptr[k] + 1
            while left > 0:
                w = where[indices[t]]
                if w >= 0:
                    total[w] += Z[t] * coefficient[s]
                    own += Z[t] * coefficient[w]
                    left -= 1
                t += 1
            total[s] += own
        diagonal = 1.0 / (pivot * pivot)
        for s in range(count):
            Z[lo + 1 + s] = -total[s]
            diagonal += total[s] * coefficient[s]
            where[rows[s]] = -1
        Z[lo] = diagonal
