"""Sparse Cholesky, solves and inverse subset, column by column, for small systems.

All arrays describe lower triangles in compressed columns with the diagonal first and rows ascending.
"""

from __future__ import annotations

import numpy as np

from fastlmm_core.kernels.compile import fill_integers, kernel


@kernel
def find_dense_tail(indptr):
    """First column of the trailing block in which every column reaches down to the last row."""
    size = indptr.size - 1
    first = size
    while first > 0 and indptr[first] - indptr[first - 1] == size - first + 1:
        first -= 1
    return first


@kernel
def factorize(C_data, position, indptr, indices, L):
    """Cholesky factor of C on a known pattern.

    Columns before the dense tail are gathered from those to their left; each is then taken out of the tail,
    whose entries need no search, and the tail is factorized densely.

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
    L.fill(0.0)
    for t in range(C_data.size):
        L[position[t]] = C_data[t]
    tail = find_dense_tail(indptr)
    failed = factorize_leading(indptr, indices, tail, L)
    if failed >= 0:
        return failed
    return factorize_tail(indptr, tail, L)


@kernel
def factorize_leading(indptr, indices, tail, L):
    """Factorize the columns before `tail` in place and subtract them from those after it."""
    size = indptr.size - 1
    work = np.zeros(size)
    head = fill_integers(tail, -1)  # columns whose next row to be used is this one
    link = fill_integers(tail, -1)
    cursor = np.empty(tail, np.int64)
    for j in range(tail):
        lo, hi = indptr[j], indptr[j + 1]
        k = head[j]
        if k >= 0:
            for t in range(lo, hi):
                work[indices[t]] = L[t]
            while k >= 0:
                following = link[k]
                at = cursor[k]
                factor = L[at]
                for t in range(at, indptr[k + 1]):
                    work[indices[t]] -= factor * L[t]
                if at + 1 < indptr[k + 1] and indices[at + 1] < tail:
                    cursor[k] = at + 1
                    row = indices[at + 1]
                    link[k] = head[row]
                    head[row] = k
                k = following
            for t in range(lo, hi):
                L[t] = work[indices[t]]
        if not L[lo] > 0.0:
            return j
        pivot = np.sqrt(L[lo])
        L[lo] = pivot
        reciprocal = 1.0 / pivot
        for t in range(lo + 1, hi):
            L[t] *= reciprocal
        at = lo + 1
        if at < hi and indices[at] < tail:
            cursor[j] = at
            row = indices[at]
            link[j] = head[row]
            head[row] = j
            while at < hi and indices[at] < tail:
                at += 1
        for s in range(at, hi):
            row = np.int64(indices[s])
            base = indptr[row] - row
            factor = L[s]
            for t in range(s, hi):
                L[base + indices[t]] -= factor * L[t]
    return -1


@kernel
def factorize_tail(indptr, tail, L):
    """Factorize the dense columns from `tail` on in place; -1, or the column whose pivot is not positive."""
    size = indptr.size - 1
    for j in range(tail, size):
        lo = indptr[j]
        rows = size - j
        k = tail
        while k + 4 <= j:  # four at a time, so that column j is loaded and stored less often
            a, b, c, d = (
                indptr[k] + j - k, indptr[k + 1] + j - k - 1, indptr[k + 2] + j - k - 2,
                indptr[k + 3] + j - k - 3,
            )  # fmt: skip
            fa, fb, fc, fd = L[a], L[b], L[c], L[d]
            for i in range(rows):
                L[lo + i] -= (fa * L[a + i] + fb * L[b + i]) + (fc * L[c + i] + fd * L[d + i])
            k += 4
        while k < j:
            a = indptr[k] + j - k
            fa = L[a]
            for i in range(rows):
                L[lo + i] -= fa * L[a + i]
            k += 1
        if not L[lo] > 0.0:
            return j
        pivot = np.sqrt(L[lo])
        L[lo] = pivot
        reciprocal = 1.0 / pivot
        for i in range(1, rows):
            L[lo + i] *= reciprocal
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
    if r == 1:
        solve_lower_vector(indptr, indices, L, B.reshape(B.size))
        return
    for j in range(indptr.size - 1):
        lo = indptr[j]
        for c in range(r):
            B[j, c] /= L[lo]
        for t in range(lo + 1, indptr[j + 1]):
            i = indices[t]
            for c in range(r):
                B[i, c] -= L[t] * B[j, c]


@kernel
def solve_lower_vector(indptr, indices, L, b):
    """b <- L^-1 b in place, b (size,)."""
    for j in range(b.size):
        lo = indptr[j]
        value = b[j] / L[lo]
        b[j] = value
        for t in range(lo + 1, indptr[j + 1]):
            b[indices[t]] -= L[t] * value


@kernel
def solve_upper(indptr, indices, L, B):
    """B <- L^-T B in place, B (size, r)."""
    r = B.shape[1]
    if r == 1:
        solve_upper_vector(indptr, indices, L, B.reshape(B.size))
        return
    for j in range(indptr.size - 2, -1, -1):
        lo = indptr[j]
        for t in range(lo + 1, indptr[j + 1]):
            i = indices[t]
            for c in range(r):
                B[j, c] -= L[t] * B[i, c]
        for c in range(r):
            B[j, c] /= L[lo]


@kernel
def solve_upper_vector(indptr, indices, L, b):
    """b <- L^-T b in place, b (size,)."""
    for j in range(b.size - 1, -1, -1):
        lo = indptr[j]
        total = b[j]
        for t in range(lo + 1, indptr[j + 1]):
            total -= L[t] * b[indices[t]]
        b[j] = total / L[lo]


@kernel
def invert_tail(indptr, tail, size, L, Z):
    """Inverse of the rows tail:size, whole (size - tail, size - tail), and its lower triangle into Z."""
    n = size - tail
    inverse = np.zeros((n, n))
    l = np.empty(n)
    total = np.empty(n)
    for j in range(n - 1, -1, -1):
        lo = indptr[tail + j] - j
        reciprocal = 1.0 / L[lo + j]
        for i in range(j + 1, n):
            l[i] = L[lo + i] * reciprocal
            total[i] = 0.0
        for k in range(j + 1, n):
            factor = l[k]
            for i in range(j + 1, n):
                total[i] += factor * inverse[k, i]
        diagonal = reciprocal * reciprocal
        for i in range(j + 1, n):
            diagonal += total[i] * l[i]
            inverse[i, j] = -total[i]
            inverse[j, i] = -total[i]
            Z[lo + i] = -total[i]
        inverse[j, j] = diagonal
        Z[lo + j] = diagonal
    return inverse


@kernel
def invert_subset(indptr, indices, L, size, Z):
    """C^-1 on the pattern of L (Takahashi, Fagan & Chin 1973; Erisman & Tinney 1975).

    Only the leading `size` rows and columns take part (the inverse of that leading block); other entries
    of `Z` (nnz(L),) are set to zero.  With l = L[:, j] / L[j, j] below the diagonal, column j of the inverse
    is -Z l below it and 1 / L[j, j]^2 + l'Z l on it.
    """
    Z.fill(0.0)
    tail = min(find_dense_tail(indptr), size)
    inverse = invert_tail(indptr, tail, size, L, Z)
    where = fill_integers(indptr.size - 1, -1)
    rows = np.empty(size, np.int64)
    l = np.empty(size)
    total = np.empty(size)
    for j in range(tail - 1, -1, -1):
        lo = indptr[j]
        reciprocal = 1.0 / L[lo]
        count, sparse = 0, 0
        for t in range(lo + 1, indptr[j + 1]):
            i = indices[t]
            if i >= size:
                break
            rows[count] = i - tail
            l[count] = L[t] * reciprocal
            total[count] = 0.0
            count += 1
            if i < tail:
                sparse = count
        for s in range(sparse, count):
            k = rows[s]
            product = inverse[k, k] * l[s]
            for w in range(sparse, s):
                value = inverse[k, rows[w]]
                product += value * l[w]
                total[w] += value * l[s]
            total[s] += product
        if sparse > 0:  # columns k of Z hold rows i >= k: each pair is met once
            for s in range(count):
                where[rows[s] + tail] = s
            for s in range(sparse):
                k = rows[s] + tail
                own = Z[indptr[k]] * l[s]
                left = count - s - 1
                t = indptr[k] + 1
                while left > 0:
                    w = where[indices[t]]
                    if w >= 0:
                        total[w] += Z[t] * l[s]
                        own += Z[t] * l[w]
                        left -= 1
                    t += 1
                total[s] += own
            for s in range(count):
                where[rows[s] + tail] = -1
        diagonal = reciprocal * reciprocal
        for s in range(count):
            Z[lo + 1 + s] = -total[s]
            diagonal += total[s] * l[s]
        Z[lo] = diagonal
