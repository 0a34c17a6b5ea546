"""Inference for one fitted trial: what rows of fixed effects need, and their Kenward-Roger figures.

The compiled counterpart of ``inference.kenward_roger`` and ``reml.natural`` for systems small enough to hold
Z'PZ densely; formulas and references are there.  Random scalars are numbered in the order of elimination
(`number_random`), and E_j, the direction of a natural parameter on all levels of its term, is a list of pairs
of them (`list_directions`).

What is asked once for every row stands in one kernel with the loop inside: taking a tuple of arrays apart
counts the references to each of them, which for a row of a trial costs as much as its arithmetic.
"""

from __future__ import annotations

import numpy as np

from fastlmm_core.kernels.compile import fill_integers, kernel
from fastlmm_core.kernels.equations.assembly import apply_factor, apply_factor_transposed, multiply_symmetric
from fastlmm_core.kernels.factor.simplicial import solve_lower, solve_upper
from fastlmm_core.kernels.search.information import eliminate_residual
from fastlmm_core.kernels.search.score import subtract_squares
from fastlmm_core.kernels.trials.arrays import Directions

KENWARD_ROGER, RESIDUAL, ASYMPTOTIC, SATTERTHWAITE = 0, 1, 2, 3


@kernel
def number_random(start, term, n_terms):
    """Numbers of the random scalars in the order of elimination.

    Returns
    -------
    at : (q + p,) int64
        Number of each random scalar, -1 for fixed rows.
    q : int
    first, own_term : (random nodes,) int64
        Number of the first scalar, and the term, of every random node.
    """
    at = fill_integers(start[term.size], -1)
    first = np.empty(term.size, np.int64)
    own_term = np.empty(term.size, np.int64)
    q = 0
    nodes = 0
    for j in range(term.size):
        if term[j] < n_terms:
            first[nodes] = q
            own_term[nodes] = term[j]
            nodes += 1
            for s in range(start[j], start[j + 1]):
                at[s] = q
                q += 1
    return at, q, first[:nodes].copy(), own_term[:nodes].copy()


@kernel
def form_covariances(theta, parameters, factors):
    """Natural parameters t_j = T[row, col] at the places of theta, exact zeros where theta is zero."""
    _, theta_term, theta_row, theta_col = parameters
    values = np.zeros(theta.size)
    for j in range(theta.size):
        k = theta_term[j]
        for s in range(theta.size):
            if theta_term[s] == k and theta_row[s] == theta_row[j]:
                for t in range(theta.size):
                    if theta_term[t] == k and theta_row[t] == theta_col[j] and theta_col[t] == theta_col[s]:
                        values[j] += theta[s] * theta[t]
    return values


@kernel
def project_identity(equations, factors, L, at, q):
    """Z'PZ (q, q) by one solve for every random scalar."""
    G, _, pattern, _, L_indptr, L_indices = equations.system
    C_indptr, C_indices, _, _, start, term = pattern
    size = at.size
    X = np.zeros((size, q))
    for s in range(size):
        if at[s] >= 0:
            X[s, at[s]] = 1.0
    GX = np.empty((size, q))
    multiply_symmetric(G, C_indptr, C_indices, X, GX)
    apply_factor_transposed(start, term, factors, GX, X)
    solve_lower(L_indptr, L_indices, L, X)
    M = np.empty((q, q))
    for s in range(size):
        if at[s] >= 0:
            for j in range(q):
                M[at[s], j] = GX[s, j]
    subtract_squares(M, X)  # G F C^-1 F' G = H' H with H = L^-1 F' G
    return M


@kernel
def list_directions(first, own_term, parameters):
    """E_j of every natural parameter as pairs of random scalars; `Directions`.

    Parameters
    ----------
    first, own_term : (random nodes,) int64
        Of `number_random`.
    """
    _, theta_term, theta_row, theta_col = parameters
    ptr = np.zeros(theta_term.size + 1, np.int64)
    for j in range(theta_term.size):
        for node in range(own_term.size):
            if own_term[node] == theta_term[j]:
                ptr[j + 1] += 1
        ptr[j + 1] += ptr[j]
    left = np.empty(ptr[theta_term.size], np.int64)
    right = np.empty(ptr[theta_term.size], np.int64)
    at = 0
    for j in range(theta_term.size):
        for node in range(own_term.size):
            if own_term[node] == theta_term[j]:
                left[at] = first[node] + theta_row[j]
                right[at] = first[node] + theta_col[j]
                at += 1
    return Directions(ptr, left, right)


@kernel
def solve_fixed(equations, factors, L, fixed_rows, at, q):
    """Z' V^-1 X Phi (p, q) and Phi (p, p), relative V."""
    G, _, pattern, _, L_indptr, L_indices = equations.system
    C_indptr, C_indices, _, _, start, term = pattern
    size, p = at.size, fixed_rows.size
    solution = np.zeros((size, p))
    for j in range(p):
        solution[fixed_rows[j], j] = 1.0
    solve_lower(L_indptr, L_indices, L, solution)
    solve_upper(L_indptr, L_indices, L, solution)
    phi = np.empty((p, p))
    for i in range(p):
        for j in range(p):
            phi[i, j] = solution[fixed_rows[i], j]
    coefficients = np.empty((size, p))
    apply_factor(start, term, factors, solution, coefficients)
    multiply_symmetric(G, C_indptr, C_indices, coefficients, solution)
    B = np.empty((p, q))
    for s in range(size):
        if at[s] >= 0:
            for j in range(p):
                B[j, at[s]] = solution[s, j]
    return B, phi


@kernel
def with_fixed_part(M, B, phi):
    """Z' V^-1 Z (q, q) = Z'PZ + B' Phi^-1 B, of ML, from those of `solve_fixed` and `project_identity`."""
    out, rest, pivots = M.copy(), B.copy(), phi.copy()
    p, q = B.shape
    for k in range(p):
        for a in range(q):
            share = rest[k, a] / pivots[k, k]
            for b in range(q):
                out[a, b] += share * rest[k, b]
        for i in range(k + 1, p):
            factor = pivots[i, k] / pivots[k, k]
            if factor != 0.0:
                for j in range(k + 1, p):
                    pivots[i, j] -= factor * pivots[k, j]
                for a in range(q):
                    rest[i, a] -= factor * rest[k, a]
    return out


@kernel
def compress_rows(K, kept, shift, scale):
    """Rows K (r, p_full) of user coefficients as sparse rows of inside coefficients: ptr, column, value."""
    r, p = K.shape[0], kept.size
    ptr = np.zeros(r + 1, np.int64)
    column = np.empty(r * p, np.int64)
    value = np.empty(r * p)
    at = 0
    for i in range(r):
        for j in range(p):
            x = K[i, kept[j]] / scale[j]
            if shift[j] != 0.0:
                x -= K[i, 0] * shift[j] / scale[j]
            if x != 0.0:
                column[at] = j
                value[at] = x
                at += 1
        ptr[i + 1] = at
    return ptr, column[:at], value[:at]


@kernel
def prepare_rows(rows, B, phi, M, directions, spread):
    """For sparse K: (b (r, q) with U = V^-1 X Phi K' projected, h (r, d, q) = Z'PZ E_j b, K Phi (r, p)).

    `h` stays zero unless `spread` is asked for.
    """
    ptr, column, value = rows
    pairs, left, right = directions
    r, d = ptr.size - 1, pairs.size - 1
    p, q = B.shape
    b = np.zeros((r, q))
    K_phi = np.zeros((r, p))
    h = np.zeros((r, d, q))
    for i in range(r):
        for s in range(ptr[i], ptr[i + 1]):
            j, x = column[s], value[s]
            for k in range(q):
                b[i, k] += x * B[j, k]
            for k in range(p):
                K_phi[i, k] += x * phi[j, k]
        for j in range(d if spread else 0):
            for t in range(pairs[j], pairs[j + 1]):
                u, v = left[t], right[t]
                x, y = b[i, v], b[i, u]
                for k in range(q):
                    h[i, j, k] += x * M[u, k]
                if u != v:
                    for k in range(q):
                        h[i, j, k] += y * M[v, k]
    return b, h, K_phi


@kernel
def multiply_pairs(rows, K_phi, base, k, out):
    """K Phi K' of the k rows from `base` on, out (k, k)."""
    ptr, column, value = rows
    for i in range(k):
        for j in range(i + 1):
            total = 0.0
            for s in range(ptr[base + i], ptr[base + i + 1]):
                total += value[s] * K_phi[base + j, column[s]]
            out[i, j] = total
            out[j, i] = total


@kernel
def judge_rows(b, h, phi, variances, out):
    """Standard error and df of linear functions, columns 1 and 2 of `out` (r, 3), by Kenward and Roger.

    With `h` of zeros they are Satterthwaite's, for the covariance of the variance parameters that he uses.

    Parameters
    ----------
    b : (r, q); h : (r, d, q); phi : (r,)
        K Phi K' relative to sigma2.
    variances : Variances
    """
    counted, plain, directions, values, cov_parameters, sigma2 = variances
    ptr, left, right = directions
    d = values.size
    gradient = np.empty(d + 1)
    weights = eliminate_residual(values, cov_parameters)
    for r in range(phi.size):
        unadjusted = sigma2 * phi[r]
        if not counted:
            out[r, 1], out[r, 2] = np.sqrt(max(unadjusted, 0.0)), plain
            continue
        gradient[d] = phi[r]
        adjustment = 0.0
        for i in range(d):
            total = 0.0
            for s in range(ptr[i], ptr[i + 1]):
                total += b[r, left[s]] * b[r, right[s]] * (1.0 if left[s] == right[s] else 2.0)
            gradient[i] = total
            gradient[d] -= values[i] * total
            for j in range(d):
                spread = 0.0
                for s in range(ptr[i], ptr[i + 1]):
                    x, y = left[s], right[s]
                    spread += b[r, y] * h[r, j, x]
                    if x != y:
                        spread += b[r, x] * h[r, j, y]
                adjustment += weights[i, j] * spread
        variance = 0.0
        for i in range(d + 1):
            for j in range(d + 1):
                variance += gradient[i] * cov_parameters[i, j] * gradient[j]
        out[r, 1] = np.sqrt(max(unadjusted + 2.0 / sigma2 * adjustment, 0.0))
        out[r, 2] = 2.0 * unadjusted * unadjusted / variance
