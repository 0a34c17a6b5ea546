"""Gradient and curvature of the profiled REML/ML deviance in theta, from small per-term statistics.

`theta_term`, `theta_row`, `theta_col` (n_theta,) say where theta_t sits: Lambda_k[row, col] = theta_t.
With S_k = H_k - Q_k / sigma2 the derivative of the deviance in the relative covariance T_k, where
H_k = sum_a (Z_k' P Z_k)_aa and Q_k = sum_a q_a q_a', q = Z' P y:

    d dev / d theta_t          = tr(S_k dT_t),           dT = dLambda Lambda' + Lambda dLambda'
    d2 dev / d theta_s d theta_t ~ D_st / sigma2 + tr(S_k d2T_st) - a_s a_t / (sigma2^2 dof)

The first term is the average information (Gilmour, Thompson & Cullis 1995), D_st = f_s' P f_t with working
vectors f_t = Z_k dT_t q; the second is exact, and makes a variance at zero an ordinary smooth minimum in
theta; the third profiles sigma2 out, a_t = q' dT_t q.
"""

from __future__ import annotations

import numpy as np

from fastlmm_core.kernels.compile import kernel
from fastlmm_core.kernels.equations.assembly import apply_factor_transposed, multiply_symmetric

TINY_FACTOR = 1e-10


@kernel
def sum_squared_blocks(G, indptr, below_ptr, below, start, term, n_terms, half, out):
    """out[k c, h d] += tr(Z_kc' M Z_hd Z_hd' M Z_kc), coefficients of the moment equations for the variances.

    `out` (n_terms, m, n_terms, m); M = W - W X (X' W X)^-1 X' W takes the fixed part out.  `half` (size, p)
    has the rows h_i of L^-1 X' W Z, L L' = X' W X, beside the random effects, or none: M = W then.  With
    g_ij the entries of Z' W Z and P_kc = sum_i h_i h_i' over the levels of term k

        sum_ij (g_ij - h_i' h_j)^2 = sum_ij (g_ij^2 - 2 g_ij h_i' h_j) + tr(P_kc P_hd)
    """
    for j in range(term.size):
        if term[j] == n_terms:
            continue
        m = start[j + 1] - start[j]
        k = term[j]
        for a in range(m):
            t = indptr[start[j] + a]
            for b in range(a, m):
                square = squared_less_half(G[t + b - a], half, start[j] + a, start[j] + b)
                out[k, a, k, b] += square
                if a != b:
                    out[k, b, k, a] += square
        offset = 0
        for s in range(below_ptr[j], below_ptr[j + 1]):
            i = below[s]
            h = start[i + 1] - start[i]
            if term[i] < n_terms:
                for c in range(m):
                    t = indptr[start[j] + c] + m - c + offset
                    for a in range(h):
                        square = squared_less_half(G[t + a], half, start[j] + c, start[i] + a)
                        out[k, c, term[i], a] += square
                        out[term[i], a, k, c] += square
            offset += h
    p = half.shape[1]
    if p == 0:
        return
    width = out.shape[1]
    sums = np.zeros((n_terms, width, p, p))
    for j in range(term.size):
        if term[j] < n_terms:
            for s in range(start[j], start[j + 1]):
                add_square(half[s], sums[term[j], s - start[j]])
    for k in range(n_terms):
        for c in range(width):
            for h in range(n_terms):
                for d in range(width):
                    total = 0.0
                    for u in range(p):
                        total += sums[k, c, u, u] * sums[h, d, u, u]
                        for v in range(u):
                            total += 2.0 * sums[k, c, u, v] * sums[h, d, u, v]
                    out[k, c, h, d] += total


@kernel
def squared_less_half(g, half, i, j):
    """g^2 - 2 g h_i' h_j."""
    product = 0.0
    for u in range(half.shape[1]):
        product += half[i, u] * half[j, u]
    return g * g - 2.0 * g * product


@kernel
def add_square(row, out):
    """out (p, p) += row row', lower triangle."""
    for u in range(row.size):
        if row[u] != 0.0:
            for v in range(u + 1):
                out[u, v] += row[u] * row[v]


@kernel
def fill_factors(theta, theta_term, theta_row, theta_col, factors):
    """Write theta into the factors; a diagonal at zero becomes tiny, so that scores there stay defined.

    At Lambda_cc = e the equations equal those at zero to rounding (they differ by e^2), while the statistics
    W = H Lambda stay proportional to e and can be divided by it.
    """
    for t in range(theta.size):
        value = theta[t]
        if theta_row[t] == theta_col[t] and abs(value) < TINY_FACTOR:
            value = TINY_FACTOR if value >= 0.0 else -TINY_FACTOR
        factors[theta_term[t], theta_row[t], theta_col[t]] = value


@kernel
def divide_by_factors(W, factors, sizes, H):
    """H[k] = W[k] Lambda_k^-1, symmetrised."""
    for k in range(sizes.size):
        m = sizes[k]
        for a in range(m):
            for c in range(m - 1, -1, -1):
                total = W[k, a, c]
                for d in range(c + 1, m):
                    total -= H[k, a, d] * factors[k, d, c]
                H[k, a, c] = total / factors[k, c, c]
        for a in range(m):
            for c in range(a):
                mean = 0.5 * (H[k, a, c] + H[k, c, a])
                H[k, a, c] = mean
                H[k, c, a] = mean


@kernel
def form_working_vectors(start, term, theta_term, theta_row, theta_col, factors, q, X):
    """X[:, t] = dT_t q on the levels of its term; `X` (q + p, n_theta)."""
    X.fill(0.0)
    for j in range(term.size):
        first = start[j]
        m = start[j + 1] - first
        for t in range(theta_term.size):
            if theta_term[t] == term[j]:
                row, col = theta_row[t], theta_col[t]
                projection = 0.0
                for a in range(m):
                    projection += factors[term[j], a, col] * q[first + a]
                X[first + row, t] += projection
                for a in range(m):
                    X[first + a, t] += factors[term[j], a, col] * q[first + row]


@kernel
def prepare_information(G, indptr, indices, start, term, factors, X):
    """Right-hand sides F' G X and inner products X' G X of the working vectors."""
    size, r = X.shape
    GX = np.empty((size, r))
    multiply_symmetric(G, indptr, indices, X, GX)
    inner = np.zeros((r, r))
    for i in range(size):
        for s in range(r):
            if X[i, s] != 0.0:
                for t in range(r):
                    inner[s, t] += X[i, s] * GX[i, t]
    B = np.empty((size, r))
    apply_factor_transposed(start, term, factors, GX, B)
    return B, inner


@kernel
def subtract_squares(D, half):
    """D (r, r) -= half' half for half (size, r)."""
    size, r = half.shape
    for i in range(size):
        for s in range(r):
            value = half[i, s]
            if value != 0.0:
                for t in range(r):
                    D[s, t] -= value * half[i, t]


@kernel
def combine_score(W, Q, D, factors, sizes, theta_term, theta_row, theta_col, sigma2, dof):
    """Gradient (n_theta,), curvature (n_theta, n_theta) and S (K, m, m); see the module's formulas."""
    d = theta_term.size
    S = np.zeros(W.shape)
    divide_by_factors(W, factors, sizes, S)
    for k in range(sizes.size):
        for b in range(sizes[k]):
            for c in range(sizes[k]):
                S[k, b, c] -= Q[k, b, c] / sigma2
    gradient = np.empty(d)
    a = np.empty(d)
    for t in range(d):
        k, row, col = theta_term[t], theta_row[t], theta_col[t]
        quadratic = 0.0
        for b in range(sizes[k]):
            quadratic += Q[k, row, b] * factors[k, b, col]
        a[t] = 2.0 * quadratic
        gradient[t] = 2.0 * W[k, row, col] - a[t] / sigma2
    hessian = np.empty((d, d))
    for s in range(d):
        for t in range(d):
            value = D[s, t] / sigma2 - a[s] * a[t] / (sigma2 * sigma2 * dof)
            if theta_term[s] == theta_term[t] and theta_col[s] == theta_col[t]:
                value += 2.0 * S[theta_term[s], theta_row[s], theta_row[t]]
            hessian[s, t] = value
    return gradient, hessian, S
