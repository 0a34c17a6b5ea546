"""One response of one trial: least squares start, fit, boundary decisions and figures at the optimum.

The compiled counterpart of ``reml.fitting.fit_equations``; whatever needs more than the plain case (a
variance that has to leave its boundary, a correlation of one, an optimum that is not certified) is reported
and left to it.
"""

from __future__ import annotations

import numpy as np

from fastlmm_core.kernels.assembly import apply_factor, multiply_symmetric
from fastlmm_core.kernels.columns import multiply_columns, multiply_columns_transposed
from fastlmm_core.kernels.compile import kernel
from fastlmm_core.kernels.crossproducts import expand_coefficients, project_response
from fastlmm_core.kernels.eigenvalues import diagonalize
from fastlmm_core.kernels.score import fill_factors
from fastlmm_core.kernels.simplicial import log_determinant, solve_lower, solve_upper
from fastlmm_core.kernels.small_fit import LOG_TWO_PI, evaluate_deviance, search_optimum
from fastlmm_core.kernels.starting_values import start_from_moments
from fastlmm_core.kernels.trial_design import BAD_VALUES, NO_OPTIMUM, OK

BOUNDARY = 1e-4  # as reml.boundary.BOUNDARY
# As reml.objective.LARGEST_SIZE: beyond it and its inverse the general path scales the response.
LARGEST_SIZE = 1e40
# As results.fit_warnings.FLAT: a curvature below it is that of a term within the fixed part, told there.
FLAT = 1e-6


@kernel
def subtract_least_squares(equations, L_fixed, fixed_rows, weights, y, beta, residual):
    """Weighted least squares of y on the fixed columns, refined once; fills `beta` (p,), `residual` (n,)."""
    L_indptr, L_indices, x_ptr, x_rows, x_data = (
        equations[14], equations[15], equations[16], equations[17], equations[18],
    )  # fmt: skip
    n, p = y.size, beta.size
    weighted = np.empty(n)
    right = np.empty((L_indptr.size - 1, 1))
    for i in range(n):
        residual[i] = y[i]
    for j in range(p):
        beta[j] = 0.0
    for _ in range(2):
        for i in range(n):
            weighted[i] = weights[i] * residual[i]
        product = multiply_columns_transposed(x_ptr, x_rows, x_data, weighted)
        right.fill(0.0)
        for j in range(p):
            right[fixed_rows[j], 0] = product[j]
        solve_lower(L_indptr, L_indices, L_fixed, right)
        solve_upper(L_indptr, L_indices, L_fixed, right)
        fitted = np.zeros(n)
        for j in range(p):
            beta[j] += right[fixed_rows[j], 0]
        multiply_columns(x_ptr, x_rows, x_data, beta, fitted)
        for i in range(n):
            residual[i] = y[i] - fitted[i]


@kernel
def has_ordinary_size(weights, y):
    """Whether fourth powers of the response stay within the number range, or all of it is zero."""
    largest = 0.0
    for i in range(y.size):
        largest = max(largest, np.sqrt(weights[i]) * abs(y[i]))
    return largest == 0.0 or 1.0 / LARGEST_SIZE < largest < LARGEST_SIZE


@kernel
def settle_boundary(theta, theta_term, theta_row, theta_col, widths, hessian, S):
    """Set variances at a boundary minimum to exact zero; returns (status, whether one was moved)."""
    moved = False
    largest = 0.0
    for k in range(S.shape[0]):
        for a in range(S.shape[1]):
            for b in range(S.shape[2]):
                largest = max(largest, abs(S[k, a, b]))
    for t in range(theta.size):
        if theta_row[t] != theta_col[t] or not abs(theta[t]) < BOUNDARY:
            continue
        k = theta_term[t]
        if widths[k] > 1:
            return NO_OPTIMUM, moved
        score = S[k, 0, 0]
        if 2.0 * score > 0.5 * hessian[t, t]:
            moved = moved or theta[t] != 0.0
            theta[t] = 0.0
        if theta[t] * theta[t] <= 1e-12 and score < -1e-6 * (1.0 + largest):
            return NO_OPTIMUM, moved
    return OK, moved


@kernel
def is_certified(status, decrement, hessian):
    """The tests of ``reml.fitting.Certificate`` on the end of the iteration."""
    if (status != 0 and status != 3) or not decrement <= 1e-6:
        return False
    values, _ = diagonalize(hessian)
    smallest = np.inf
    for k in range(values.size):
        smallest = min(smallest, values[k])
    largest = 1.0
    for a in range(hessian.shape[0]):
        for b in range(hessian.shape[1]):
            largest = max(largest, abs(hessian[a, b]))
    return smallest >= -1e-6 * largest and not abs(smallest) < FLAT


@kernel
def reduce_response(lead, lead_ptr, lead_rows, rhs, yy, size):
    """Right-hand side of the search (size, 1), the whole one (q + p, 1), and yy, less the columns taken out.

    The first entries of the whole side are those before the division by the pivots.
    """
    first = rhs.shape[0] - size
    right = rhs.copy()
    for j in range(first):
        value = right[j, 0] / lead[lead_ptr[j]]
        yy -= value * value
        for t in range(lead_ptr[j] + 1, lead_ptr[j + 1]):
            right[lead_rows[t], 0] -= lead[t] * value
    left = np.empty((size, 1))
    for j in range(size):
        left[j, 0] = right[first + j, 0]
    return left, right, yy


@kernel
def complete_factor(equations, lead, L_left, right, solution_left, factors, L, solution):
    """Factor of the whole system and C^-1 F' rhs from those of the search, which are at `factors`."""
    start, term, L_indptr, L_ptr, L_below = (
        equations[4], equations[5], equations[14], equations[21], equations[22],
    )  # fmt: skip
    base = lead.size
    for t in range(L_left.size):
        L[base + t] = L_left[t]
    first = solution.shape[0] - solution_left.shape[0]
    for s in range(solution_left.shape[0]):
        solution[first + s, 0] = solution_left[s, 0]
    for j in range(first - 1, -1, -1):  # nodes of one row each
        t = L_indptr[j]
        pivot = lead[t]
        L[t] = pivot
        t += 1
        total = right[j, 0] / pivot
        for s in range(L_ptr[j], L_ptr[j + 1]):
            node = L_below[s]
            m = start[node + 1] - start[node]
            for a in range(m):
                value = 0.0
                for k in range(a, m):
                    value += factors[term[node], k, a] * lead[t + k]
                L[t + a] = value
                total -= value * solution[start[node] + a, 0]
            t += m
        solution[j, 0] = total / pivot


@kernel
def fit_response(
    equations, search, lead, log_lead, L_fixed, fixed_rows, widths, theta_index, weights, y, reml, tolerance,
    max_iterations,
):  # fmt: skip
    """Fit one response; `search`, `lead` and `log_lead` are those of ``trial_equations.separate_search``.

    Returns
    -------
    status : int
    numbers : (4,) float64
        criterion, sigma2, iterations, singular.
    theta, factors, L, coefficients, projected, beta
        At the optimum, in the inside parametrisation, as attributes of ``reml.solved.SolvedEquations``;
        `beta` includes the least squares start.
    Z : (nnz(L),) float64
        C^-1 on the pattern of L, where the search has left it; else empty.
    """
    row_ptr, row_node, row_val, flat, start, term, below_ptr, below, C_indptr, C_indices, G = (
        equations[0], equations[1], equations[2], equations[3], equations[4], equations[5], equations[7],
        equations[8], equations[9], equations[10], equations[11],
    )  # fmt: skip
    L_indptr, L_indices = equations[14], equations[15]
    theta_term, theta_row, theta_col = theta_index
    n, p, K = y.size, fixed_rows.size, widths.size
    size = L_indptr.size - 1
    width = 1
    for k in range(K):
        width = max(width, widths[k])
    beta = np.empty(p)
    residual = np.empty(n)
    subtract_least_squares(equations, L_fixed, fixed_rows, weights, y, beta, residual)
    weighted = np.empty(n)
    yy = 0.0
    whole = 0.0
    for i in range(n):
        weighted[i] = weights[i] * residual[i]
        yy += weighted[i] * residual[i]
        whole += weights[i] * y[i] * y[i]
    flat_rhs = np.zeros(size)
    project_response(row_ptr, row_node, row_val, flat, start, weighted, flat_rhs)
    rhs = flat_rhs.reshape(size, 1)
    theta = start_from_moments(
        G, C_indptr, below_ptr, below, start, term, widths, theta_term, theta_row, theta_col, rhs, yy, n
    )
    numbers = np.zeros(4)
    factors = np.zeros((K + 1, width, width))
    factors[K, 0, 0] = 1.0
    L = np.empty(L_indices.size)
    Z = np.empty(0)
    coefficients = np.empty((size, 1))
    projected = np.empty((size, 1))
    if not has_ordinary_size(weights, y):
        return NO_OPTIMUM, numbers, theta, factors, L, coefficients, projected, beta, Z
    if not np.isfinite(yy):
        return BAD_VALUES, numbers, theta, factors, L, coefficients, projected, beta, Z
    if yy <= 1e-28 * whole:
        return NO_OPTIMUM, numbers, theta, factors, L, coefficients, projected, beta, Z
    dof = float(n - p) if reml else float(n)
    solution = np.empty((size, 1))
    best = np.inf
    moved, fresh = False, False
    if K > 0:
        left = search[9].size - 1
        rhs_left, right, yy_left = reduce_response(lead, L_indptr, L_indices, rhs, yy, left)
        L_left = np.empty(search[10].size)
        Z_left = np.empty(search[10].size)
        solution_left = np.empty((left, 1))
        end, figures, _, hessian, S, _, fresh = search_optimum(
            search[0], search[1], search[2], search[3], search[4], search[5], search[6], search[7], search[8],
            search[9], search[10], rhs_left, yy_left, dof, left if reml else left - p, widths,
            theta_term, theta_row, theta_col, theta, max_iterations, tolerance, L_left, Z_left, solution_left,
        )  # fmt: skip
        status, moved = settle_boundary(theta, theta_term, theta_row, theta_col, widths, hessian, S)
        if status == OK and not is_certified(end, figures[2], hessian):
            status = NO_OPTIMUM
        if status != OK:
            return status, numbers, theta, factors, L, coefficients, projected, beta, Z
        best = figures[0] + (log_lead if reml else 0.0)
        numbers[2] = figures[3]
    fill_factors(theta, theta_term, theta_row, theta_col, factors)
    if fresh and not moved:
        complete_factor(equations, lead, L_left, right, solution_left, factors, L, solution)
        if reml and left == size:
            Z = Z_left
    else:
        deviance, _ = evaluate_deviance(
            G, equations[12], C_indptr, C_indices, below_ptr, below, start, term, equations[13], L_indptr,
            L_indices, rhs, yy, dof, size if reml else size - p, factors, np.empty(C_indices.size), L,
            solution,
        )  # fmt: skip
        if not np.isfinite(deviance) or (moved and deviance > best + 1e-7):
            return NO_OPTIMUM, numbers, theta, factors, L, coefficients, projected, beta, Z
    describe_optimum(
        equations, fixed_rows, K, weights, residual, rhs, solution, factors, L, theta, theta_index, reml, dof,
        coefficients, projected, beta, numbers,
    )  # fmt: skip
    return OK, numbers, theta, factors, L, coefficients, projected, beta, Z


@kernel
def describe_optimum(
    equations, fixed_rows, K, weights, residual, rhs, solution, factors, L, theta, theta_index, reml, dof,
    coefficients, projected, beta, numbers,
):  # fmt: skip
    """Fill coefficients, Z'Py, `beta` and the figures of `fit_response` from the solution at the optimum."""
    row_ptr, row_node, row_val, flat, start, term, C_indptr, C_indices, G, L_indptr, scale = (
        equations[0], equations[1], equations[2], equations[3], equations[4], equations[5], equations[9],
        equations[10], equations[11], equations[14], equations[20],
    )  # fmt: skip
    n, p, size = residual.size, fixed_rows.size, solution.shape[0]
    apply_factor(start, term, factors, solution, coefficients)
    multiply_symmetric(G, C_indptr, C_indices, coefficients, projected)
    for j in range(size):
        projected[j, 0] = rhs[j, 0] - projected[j, 0]
    fitted = np.empty(n)
    expand_coefficients(row_ptr, row_node, row_val, flat, start, coefficients.reshape(size), fitted)
    r2 = 0.0
    log_weights = 0.0
    for i in range(n):
        r2 += weights[i] * (residual[i] - fitted[i]) ** 2
        if weights[i] != 1.0:
            log_weights += np.log(weights[i])
    for j in range(term.size):
        if term[j] < K:
            for s in range(start[j], start[j + 1]):
                r2 += solution[s, 0] ** 2
    for j in range(p):
        projected[fixed_rows[j], 0] = 0.0
        beta[j] += coefficients[fixed_rows[j], 0]
    criterion = log_determinant(L_indptr, L, size if reml else size - p) - log_weights
    if reml:
        for j in range(p):
            criterion += 2.0 * np.log(scale[j])
    sigma2 = r2 / dof
    numbers[0] = criterion + dof * (1.0 + LOG_TWO_PI + np.log(sigma2))
    if K == 0:  # a linear model has the likelihood of R's lm
        numbers[0] = n * (1.0 + LOG_TWO_PI + np.log(r2 / n)) - log_weights
    numbers[1] = sigma2
    for t in range(theta.size):
        if theta_index[1][t] == theta_index[2][t] and abs(theta[t]) < BOUNDARY:
            numbers[3] = 1.0
