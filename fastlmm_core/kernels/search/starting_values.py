"""Starting values of the variance parameters from moments."""

from __future__ import annotations

import numpy as np

from fastlmm_core.kernels.compile import kernel
from fastlmm_core.kernels.eigenvalues import diagonalize
from fastlmm_core.kernels.search.score import sum_squared_blocks


@kernel
def start_from_moments(G, pattern, parameters, rhs, yy, n):
    """Starting theta (n_theta,) from moments: MINQUE with V proportional to I (Rao 1971).

    The sums of squares of Z_k' r, r the least squares residual, are equated to their expectations
    sum_h T_h tr(Z_k' Z_h Z_h' Z_k) + sigma2 tr(Z_k' Z_k), the fixed part neglected.  The coefficients are
    read off the cross-products.  The moment equations A s = b are solved by their eigenvectors on unit
    diagonal, without those below 1e-8 of the largest eigenvalue (the least squares solution of least norm).
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
    sum_squared_blocks(G, indptr, below_ptr, below, start, term, K, squares)
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
                b[first[k] + c] += rhs[s, 0] * rhs[s, 0]
    for c in range(d):
        A[d, c] = A[c, d]
    A[d, d] = n
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
