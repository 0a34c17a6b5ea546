"""The spherical mixed model equations as scaled constant blocks, and what is read back from their inverse.

Nodes are in elimination order.  `term` (N,) int64 is the random term of each node, K for a column of X;
`start` (N + 1,) int64 its first scalar row.  `factors` (K + 1, m, m) holds the relative covariance factor
Lambda_k of each term, lower triangular and padded with zeros; factors[K, 0, 0] = 1.  G is the lower triangle
of [Z X]' W [Z X], `penalty` that of blockdiag(I (x) A_k^-1, 0); G, C and C^-1 share the pattern `indptr`.

    C = F' G F + penalty,     F = blockdiag(I (x) Lambda_k, I)

(Bates et al. 2015, eq. 18, with weights).
"""

from __future__ import annotations

import numpy as np

from fastlmm_core.kernels.compile import kernel


@kernel
def assemble_scalar(G, penalty, indptr, indices, scale, C):
    """C = F' G F + penalty where every term has one coefficient; `scale` (q + p,) is the diagonal of F."""
    for j in range(indptr.size - 1):
        factor = scale[j]
        for t in range(indptr[j], indptr[j + 1]):
            C[t] = G[t] * (factor * scale[indices[t]]) + penalty[t]


@kernel
def assemble_blocks(G, penalty, indptr, below_ptr, below, start, term, factors, C):
    """C = F' G F + penalty for terms of any number of coefficients."""
    width = factors.shape[1]
    block = np.empty((width, width))
    for j in range(term.size):
        m = start[j + 1] - start[j]
        right = factors[term[j]]
        for a in range(m):
            t = indptr[start[j] + a]
            for b in range(a, m):
                block[a, b] = G[t + b - a]
                block[b, a] = G[t + b - a]
        transform_block(right, block, right, m, m)
        for a in range(m):
            t = indptr[start[j] + a]
            for b in range(a, m):
                C[t + b - a] = block[b, a] + penalty[t + b - a]
        offset = 0
        for s in range(below_ptr[j], below_ptr[j + 1]):
            i = below[s]
            h = start[i + 1] - start[i]
            for c in range(m):
                t = indptr[start[j] + c] + m - c + offset
                for a in range(h):
                    block[a, c] = G[t + a]
            transform_block(factors[term[i]], block, right, h, m)
            for c in range(m):
                t = indptr[start[j] + c] + m - c + offset
                for a in range(h):
                    C[t + a] = block[a, c] + penalty[t + a]
            offset += h


@kernel
def transform_block(left, block, right, h, m):
    """block (h, m) <- left' block right, in place; `left` and `right` are lower triangular."""
    for a in range(h):
        for c in range(m):
            total = 0.0
            for k in range(c, m):
                total += block[a, k] * right[k, c]
            block[a, c] = total
    for c in range(m):
        for a in range(h):
            total = 0.0
            for k in range(a, h):
                total += left[k, a] * block[k, c]
            block[a, c] = total


@kernel
def scale_diagonal(start, term, factors):
    """Diagonal of F (q + p,) when every node is a scalar."""
    scale = np.empty(term.size)
    for j in range(term.size):
        scale[j] = factors[term[j], 0, 0]
    return scale


@kernel
def apply_factor(start, term, factors, B, out):
    """out = F B for B (q + p, r); `out` may be B itself."""
    r = B.shape[1]
    for j in range(term.size):
        first = start[j]
        m = start[j + 1] - first
        factor = factors[term[j]]
        for a in range(m - 1, -1, -1):
            for c in range(r):
                total = 0.0
                for k in range(a + 1):
                    total += factor[a, k] * B[first + k, c]
                out[first + a, c] = total


@kernel
def apply_factor_transposed(start, term, factors, B, out):
    """out = F' B for B (q + p, r); `out` may be B itself."""
    r = B.shape[1]
    for j in range(term.size):
        first = start[j]
        m = start[j + 1] - first
        factor = factors[term[j]]
        for a in range(m):
            for c in range(r):
                total = 0.0
                for k in range(a, m):
                    total += factor[k, a] * B[first + k, c]
                out[first + a, c] = total


@kernel
def multiply_symmetric(G, indptr, indices, B, out):
    """out = G B for the symmetric G given by its lower triangle; B, out (q + p, r)."""
    r = B.shape[1]
    out.fill(0.0)
    for j in range(indptr.size - 1):
        t = indptr[j]
        for c in range(r):
            out[j, c] += G[t] * B[j, c]
        for t in range(indptr[j] + 1, indptr[j + 1]):
            i = indices[t]
            value = G[t]
            if value != 0.0:
                for c in range(r):
                    out[i, c] += value * B[j, c]
                    out[j, c] += value * B[i, c]


@kernel
def weigh_blocks(G, indptr, below_ptr, below, start, term, weights, out):
    """Mix the entries of every block of G, lower triangle to lower triangle of `out`, (nnz,) each.

    `weights` (K + 1, m, m, K + 1, m, m): the block of a level of term k and one of term h becomes
    sum_bd weights[k, a, b, h, c, d] G_bd at (a, c); weights[k, a, b, h, c, d] = weights[h, c, d, k, a, b].
    """
    for j in range(term.size):
        m = start[j + 1] - start[j]
        first = start[j]
        tj = term[j]
        for c in range(m):
            for a in range(c, m):
                total = 0.0
                for d in range(m):
                    for b in range(m):
                        total += weights[tj, a, b, tj, c, d] * G[indptr[first + min(b, d)] + abs(b - d)]
                out[indptr[first + c] + a - c] = total
        offset = 0
        for s in range(below_ptr[j], below_ptr[j + 1]):
            i = below[s]
            ti = term[i]
            h = start[i + 1] - start[i]
            for c in range(m):
                for a in range(h):
                    total = 0.0
                    for d in range(m):
                        column = indptr[first + d] + m - d + offset
                        for b in range(h):
                            total += weights[ti, a, b, tj, c, d] * G[column + b]
                    out[indptr[first + c] + m - c + offset + a] = total
            offset += h


@kernel
def accumulate_score_blocks(G, C_inv, indptr, below_ptr, below, start, term, factors, n_terms, W):
    """W[k] = sum over the levels a of term k of (G F C^-1)_aa, an (m, m) matrix for each random term.

    Because G F C^-1 on the random rows equals Z' P Z Lambda, W[k] = H_k Lambda_k with
    H_k = sum_a (Z_k' P Z_k)_aa, so d log|C| / d Lambda_k = 2 W[k].  Nothing is subtracted: W keeps its
    relative accuracy as a variance goes to zero.
    """
    W.fill(0.0)
    for j in range(term.size):
        m = start[j + 1] - start[j]
        tj = term[j]
        right = factors[tj]
        if tj < n_terms:
            for a in range(m):
                for b in range(m):
                    total = 0.0
                    for k in range(m):
                        g = G[indptr[start[j] + min(a, k)] + abs(a - k)]
                        for d in range(k + 1):
                            total += g * right[k, d] * C_inv[indptr[start[j] + min(d, b)] + abs(d - b)]
                    W[tj, a, b] += total
        offset = 0
        for s in range(below_ptr[j], below_ptr[j + 1]):
            i = below[s]
            ti = term[i]
            h = start[i + 1] - start[i]
            left = factors[ti]
            if h == 1 and m == 1:
                t = indptr[start[j]] + 1 + offset
                product = G[t] * C_inv[t]
                if ti < n_terms:
                    W[ti, 0, 0] += product * right[0, 0]
                if tj < n_terms:
                    W[tj, 0, 0] += product * left[0, 0]
            else:
                if ti < n_terms:
                    for a in range(h):
                        for b in range(h):
                            total = 0.0
                            for k in range(m):
                                g = G[indptr[start[j] + k] + m - k + offset + a]
                                for d in range(k + 1):
                                    at = indptr[start[j] + d] + m - d + offset + b
                                    total += g * right[k, d] * C_inv[at]
                            W[ti, a, b] += total
                if tj < n_terms:
                    for a in range(m):
                        ga = indptr[start[j] + a] + m - a + offset
                        for b in range(m):
                            zb = indptr[start[j] + b] + m - b + offset
                            total = 0.0
                            for k in range(h):
                                for d in range(k + 1):
                                    total += G[ga + k] * left[k, d] * C_inv[zb + d]
                            W[tj, a, b] += total
            offset += h


@kernel
def accumulate_scalar_scores(G, C_inv, indptr, indices, term, scale, n_terms, W):
    """`accumulate_score_blocks` where every node is a scalar; `scale` (q + p,) is the diagonal of F."""
    sums = np.zeros(n_terms + 1)
    for j in range(indptr.size - 1):
        factor = scale[j]
        own = G[indptr[j]] * C_inv[indptr[j]] * factor
        for t in range(indptr[j] + 1, indptr[j + 1]):
            i = indices[t]
            product = G[t] * C_inv[t]
            sums[term[i]] += product * factor
            own += product * scale[i]
        sums[term[j]] += own
    for k in range(n_terms):
        W[k, 0, 0] = sums[k]


@kernel
def accumulate_outer(start, term, n_terms, A, B, Q):
    """Q[k] += sum over the levels of term k of a_level b_level', for vectors A, B (q + p,)."""
    for j in range(term.size):
        k = term[j]
        if k < n_terms:
            first = start[j]
            m = start[j + 1] - first
            for a in range(m):
                for b in range(m):
                    Q[k, a, b] += A[first + a] * B[first + b]
