"""One response of one trial: least squares start, fit, boundary decisions and figures at the optimum.

The compiled counterpart of ``reml.solved.fit_equations``; whatever needs more than the plain case (a variance
that has to leave its boundary, a correlation of one, an optimum that is not certified) is reported and left
to it.
"""

from __future__ import annotations

import numpy as np

from fastlmm_core.kernels.assembly import apply_factor, multiply_symmetric
from fastlmm_core.kernels.columns import multiply_columns, multiply_columns_transposed
from fastlmm_core.kernels.compile import kernel
from fastlmm_core.kernels.crossproducts import expand_coefficients, project_response
from fastlmm_core.kernels.score import fill_factors
from fastlmm_core.kernels.simplicial import factorize, log_determinant, solve_lower, solve_upper
from fastlmm_core.kernels.small_fit import LOG_TWO_PI, assemble, evaluate_deviance, fit_small
from fastlmm_core.kernels.starting_values import start_from_moments
from fastlmm_core.kernels.trial_design import BAD_VALUES, DEPENDENT, NO_OPTIMUM, OK
from fastlmm_core.kernels.trust_region import diagonalize

BOUNDARY = 1e-4  # as reml.solved.BOUNDARY
FLAT = 1e-6  # as api.FLAT: a curvature below it is that of a term within the fixed part, which is told there
PIVOT = 1e-8  # relative squared residual of a fixed column below which the rank is decided elsewhere


@kernel
def factorize_fixed(equations, n_terms, width):
    """Factor of blockdiag(I, X'WX) on the pattern of C, for least squares; DEPENDENT at a weak pivot."""
    (_, _, _, _, start, term, _, below_ptr, below, C_indptr, C_indices, G, penalty, position, L_indptr,
    L_indices,
     _, _, _, _, _, _, _) = equations  # fmt: skip
    factors = np.zeros((n_terms + 1, width, width))
    factors[n_terms, 0, 0] = 1.0
    C = np.empty(C_indices.size)
    L = np.empty(L_indices.size)
    assemble(G, penalty, C_indptr, C_indices, below_ptr, below, start, term, factors, C)
    if factorize(C, position, L_indptr, L_indices, L) >= 0:
        return DEPENDENT, L
    for j in range(term.size):
        if term[j] == n_terms:
            pivot = L[L_indptr[start[j]]]
            if not pivot * pivot > PIVOT * G[C_indptr[start[j]]]:
                return DEPENDENT, L
    return OK, L


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
    """The tests of ``reml.solved.Certificate`` on the end of the iteration."""
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
    """Right-hand side (size, 1) and yy without the columns that `eliminate_fixed` took out."""
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
    return left, yy


@kernel
def fit_response(
    equations, search, lead, log_lead, L_fixed, fixed_rows, widths, theta_index, weights, y, reml, tolerance,
    max_iterations,
):  # fmt: skip
    """Fit one response; `search`, `lead` and `log_lead` are those of ``trial_design.eliminate_fixed``.

    Returns
    -------
    status : int
    numbers : (4,) float64
        criterion, sigma2, iterations, singular.
    theta, factors, L, coefficients, projected, beta
        At the optimum, in the inside parametrisation, as attributes of ``reml.solved.SolvedEquations``;
        `beta` includes the least squares start.
    """
    (row_ptr, row_node, row_val, flat, start, term, _, below_ptr, below, C_indptr, C_indices, G, penalty,
    position,
     L_indptr, L_indices, _, _, _, _, scale, _, _) = equations  # fmt: skip
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
    log_weights = 0.0
    for i in range(n):
        weighted[i] = weights[i] * residual[i]
        yy += weighted[i] * residual[i]
        whole += weights[i] * y[i] * y[i]
        log_weights += np.log(weights[i])
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
    coefficients = np.empty((size, 1))
    projected = np.empty((size, 1))
    if not np.isfinite(yy):
        return BAD_VALUES, numbers, theta, factors, L, coefficients, projected, beta
    if yy <= 1e-28 * whole:
        return NO_OPTIMUM, numbers, theta, factors, L, coefficients, projected, beta
    dof = float(n - p) if reml else float(n)
    n_lead = size if reml else size - p
    best = np.inf
    moved = False
    if K > 0:
        size_left = search[9].size - 1
        rhs_left, yy_left = reduce_response(lead, L_indptr, L_indices, rhs, yy, size_left)
        end, figures, _, hessian, S, _ = fit_small(
            search[0], search[1], search[2], search[3], search[4], search[5], search[6], search[7], search[8],
            search[9], search[10], rhs_left, yy_left, dof, size_left if reml else size_left - p, widths,
            theta_term, theta_row, theta_col, theta, max_iterations, tolerance,
        )  # fmt: skip
        status, moved = settle_boundary(theta, theta_term, theta_row, theta_col, widths, hessian, S)
        if status == OK and not is_certified(end, figures[2], hessian):
            status = NO_OPTIMUM
        if status != OK:
            return status, numbers, theta, factors, L, coefficients, projected, beta
        best = figures[0] + (log_lead if reml else 0.0)
        numbers[2] = figures[3]
    C = np.empty(C_indices.size)
    solution = np.empty((size, 1))
    fill_factors(theta, theta_term, theta_row, theta_col, factors)
    deviance, _ = evaluate_deviance(
        G, penalty, C_indptr, C_indices, below_ptr, below, start, term, position, L_indptr, L_indices, rhs,
        yy, dof, n_lead, factors, C, L, solution,
    )  # fmt: skip
    if not np.isfinite(deviance) or (moved and deviance > best + 1e-7):
        return NO_OPTIMUM, numbers, theta, factors, L, coefficients, projected, beta
    apply_factor(start, term, factors, solution, coefficients)
    multiply_symmetric(G, C_indptr, C_indices, coefficients, projected)
    for j in range(size):
        projected[j, 0] = rhs[j, 0] - projected[j, 0]
    fitted = np.empty(n)
    expand_coefficients(row_ptr, row_node, row_val, flat, start, coefficients.reshape(size), fitted)
    r2 = 0.0
    for i in range(n):
        r2 += weights[i] * (residual[i] - fitted[i]) ** 2
    for j in range(term.size):
        if term[j] < K:
            for s in range(start[j], start[j + 1]):
                r2 += solution[s, 0] ** 2
    for j in range(p):
        projected[fixed_rows[j], 0] = 0.0
        beta[j] += coefficients[fixed_rows[j], 0]
    criterion = log_determinant(L_indptr, L, n_lead) - log_weights
    if reml:
        for j in range(p):
            criterion += 2.0 * np.log(scale[j])
    sigma2 = r2 / dof
    numbers[0] = criterion + dof * (1.0 + LOG_TWO_PI + np.log(sigma2))
    if K == 0:  # a linear model has the likelihood of R's lm
        numbers[0] = n * (1.0 + LOG_TWO_PI + np.log(r2 / n)) - log_weights
    numbers[1] = sigma2
    for t in range(theta.size):
        if theta_row[t] == theta_col[t] and abs(theta[t]) < BOUNDARY:
            numbers[3] = 1.0
    return OK, numbers, theta, factors, L, coefficients, projected, beta
