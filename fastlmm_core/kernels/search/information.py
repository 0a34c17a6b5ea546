"""Information about the natural variance parameters of a fit: what is added for the residual, and inverses.

Formulas and references stand in ``reml.information``.  The kernels on whole trials hold Z'PZ densely, and
directions of parameters as pairs of random scalars (``trials.inference.list_directions``).
"""

from __future__ import annotations

import numpy as np

from fastlmm_core.kernels.compile import kernel
from fastlmm_core.kernels.eigenvalues import diagonalize
from fastlmm_core.kernels.factor.simplicial import solve_lower
from fastlmm_core.kernels.outcomes import NO_INFERENCE, OK
from fastlmm_core.kernels.search.score import prepare_information, subtract_squares
from fastlmm_core.kernels.thresholds import SINGULAR


@kernel
def append_residual(inner, single, values, total):
    """Information (d + 1, d + 1) about the natural parameters and, last, the residual.

    V_e = V - sum_j t_j V_j, and P V P = P, so that the residual needs no forms of its own.

    Parameters
    ----------
    inner : (d, d)
        tr(P V_i P V_j), or y' P V_i P V_j P y.
    single : (d,)
        tr(P V_i), or y' P V_i P y.
    values : (d,)
        t.
    total : float
        tr(P V), or y' P y.
    """
    d = values.size
    out = np.zeros((d + 1, d + 1))
    out[d, d] = total
    for i in range(d):
        out[i, d] = single[i]
        for j in range(d):
            out[i, j] = inner[i, j]
            out[i, d] -= inner[i, j] * values[j]
        out[d, i] = out[i, d]
        out[d, d] -= values[i] * (single[i] + out[i, d])
    return out


@kernel
def eliminate_residual(values, covariance):
    """Weights (d, d) of the forms U' V_i P V_j U in Kenward & Roger's adjustment, without the residual's.

    P V U = 0 gives V_e = -sum_j t_j V_j there; `covariance` (d + 1, d + 1) is that of (sigma2 t, sigma2).
    """
    d = values.size
    weights = np.empty((d, d))
    for i in range(d):
        for j in range(d):
            weights[i, j] = (
                covariance[i, j] - values[i] * covariance[d, j] - covariance[i, d] * values[j]
                + values[i] * covariance[d, d] * values[j]
            )  # fmt: skip
    return weights


@kernel
def sum_traces(M, directions):
    """tr(M E_j) of every natural parameter (d,)."""
    ptr, left, right = directions
    out = np.zeros(ptr.size - 1)
    for j in range(out.size):
        for s in range(ptr[j], ptr[j + 1]):
            out[j] += M[left[s], right[s]] * (1.0 if left[s] == right[s] else 2.0)
    return out


@kernel
def expected_information(M, directions, values, dof):
    """tr(P V_i P V_j) over the natural parameters and, last, the residual (d + 1, d + 1)."""
    ptr, left, right = directions
    d = values.size
    inner = np.zeros((d, d))
    for i in range(d):
        for j in range(i + 1):
            total = 0.0
            for s in range(ptr[i], ptr[i + 1]):
                x, y = left[s], right[s]
                for t in range(ptr[j], ptr[j + 1]):
                    u, v = left[t], right[t]
                    total += M[v, x] * M[y, u]
                    if x != y:
                        total += M[v, y] * M[x, u]
                    if u != v:
                        total += M[u, x] * M[y, v]
                        if x != y:
                            total += M[u, y] * M[x, v]
            inner[i, j] = total
            inner[j, i] = total
    return append_residual(inner, sum_traces(M, directions), values, dof)


@kernel
def invert_information(matrix, sigma2):
    """(status, covariance of (sigma2 t, sigma2)) from traces (d + 1, d + 1), as in
    ``inference.component_figures``."""
    d = matrix.shape[0]
    out = np.zeros((d, d))
    scale = np.empty(d)
    for i in range(d):
        if not matrix[i, i] > 0.0:
            return NO_INFERENCE, out
        scale[i] = 1.0 / np.sqrt(matrix[i, i])
    scaled = np.empty((d, d))
    for i in range(d):
        for j in range(d):
            scaled[i, j] = matrix[i, j] * scale[i] * scale[j]
    values, vectors = diagonalize(scaled)
    for k in range(d):
        if not values[k] > SINGULAR:
            return NO_INFERENCE, out
    for i in range(d):
        for j in range(d):
            for k in range(d):
                out[i, j] += vectors[i, k] / values[k] * vectors[j, k]
            out[i, j] *= scale[i] * scale[j] * 2.0 * sigma2 * sigma2
    return OK, out


@kernel
def average_information(equations, factors, L, parameters, projected, values, r2, sigma2):
    """y' P V_i P V_j P y / sigma2 over the natural parameters and, last, the residual (d + 1, d + 1)."""
    G, _, pattern, _, L_indptr, L_indices = equations.system
    C_indptr, C_indices, _, _, start, term = pattern
    _, theta_term, theta_row, theta_col = parameters
    d = values.size
    size = projected.shape[0]
    F = np.zeros((size, d))
    first = np.zeros(d)
    for node in range(term.size):
        base = start[node]
        for j in range(d):
            if theta_term[j] == term[node]:
                row, col = base + theta_row[j], base + theta_col[j]
                F[row, j] += projected[col, 0]
                if row != col:
                    F[col, j] += projected[row, 0]
                first[j] += projected[row, 0] * projected[col, 0] * (1.0 if row == col else 2.0)
    B, D = prepare_information(G, C_indptr, C_indices, start, term, factors, F)
    solve_lower(L_indptr, L_indices, L, B)
    subtract_squares(D, B)
    out = append_residual(D, first, values, r2)
    for i in range(d + 1):
        for j in range(d + 1):
            out[i, j] /= sigma2
    return out
