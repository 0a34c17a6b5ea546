"""One response of one trial: least squares start, fit, boundary decisions and figures at the optimum.

The compiled counterpart of ``reml.fitting.fit_equations``; whatever needs more than the plain case (a
variance that has to leave its boundary, a correlation of one, an optimum that is not certified) is reported
and left to it.
"""

from __future__ import annotations

import numpy as np

from fastlmm_core.kernels.compile import kernel
from fastlmm_core.kernels.eigenvalues import diagonalize
from fastlmm_core.kernels.equations.assembly import apply_factor, multiply_symmetric
from fastlmm_core.kernels.equations.columns import multiply_columns, multiply_columns_transposed
from fastlmm_core.kernels.equations.crossproducts import expand_coefficients, project_response
from fastlmm_core.kernels.equations.systems import Problem, TrialFit
from fastlmm_core.kernels.factor.simplicial import log_determinant, solve_lower, solve_upper
from fastlmm_core.kernels.outcomes import BAD_VALUES, NO_OPTIMUM, OK
from fastlmm_core.kernels.search.score import fill_factors
from fastlmm_core.kernels.search.slopes_alone import equal_theta, reach_of_slopes
from fastlmm_core.kernels.search.small_fit import LOG_TWO_PI, evaluate_deviance, search_optimum, unit_factors
from fastlmm_core.kernels.search.starting_values import start_from_moments
from fastlmm_core.kernels.search.zeros_of_ml import reach_beside_zeros
from fastlmm_core.kernels.thresholds import (
    BOUNDARY,
    EXPLAINED,
    FLAT,
    GROWTH,
    LARGEST_DECREMENT,
    LARGEST_RISE,
    LARGEST_SIZE,
)


@kernel
def subtract_least_squares(equations, design, weights, y, beta, residual):
    """Weighted least squares of y on the fixed columns, refined once; fills `beta` (p,), `residual` (n,)."""
    x_ptr, x_rows, x_data = equations.columns
    L_indptr, L_indices = equations.system.L_indptr, equations.system.L_indices
    L_fixed, fixed_rows = design.L_fixed, design.fixed_rows
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
    """Whether fourth powers of the response stay within the number range, or all of it is zero.

    Others are fitted in units of their own, by ``reml.objective``.
    """
    largest = 0.0
    for i in range(y.size):
        largest = max(largest, np.sqrt(weights[i]) * abs(y[i]))
    return largest == 0.0 or 1.0 / LARGEST_SIZE < largest < LARGEST_SIZE


@kernel
def settle_boundary(theta, parameters, hessian, S):
    """Set variances at a boundary minimum to exact zero; returns (status, whether one was moved)."""
    widths, theta_term, theta_row, theta_col = parameters
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
        if theta[t] * theta[t] <= 1e-12 and score < -GROWTH * (1.0 + largest):
            return NO_OPTIMUM, moved
    return OK, moved


@kernel
def is_certified(status, decrement, hessian):
    """The tests of ``reml.fitting.Certificate`` on the end of the iteration.

    A flat curvature may be that of a term within the fixed part, which the general path tells.
    """
    if (status != 0 and status != 3) or not decrement <= LARGEST_DECREMENT:
        return False
    values, _ = diagonalize(hessian)
    return values.min() >= FLAT


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
    start, term = equations.system.pattern.start, equations.system.pattern.term
    L_indptr, L_ptr, L_below = equations.system.L_indptr, equations.L_ptr, equations.L_below
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
def search_from_starts(
    system, problem, parameters, reml, reach, theta, max_iterations, tolerance, L, Z, solution
):  # fmt: skip
    """The deeper end of `search_optimum` from `theta` and, where `reach` > 0, from variances of reach^2;
    of ML from variances of one too where the first has one at zero.

    Returns
    -------
    status, numbers, hessian, S, fresh
        As of `search_optimum`; `theta`, `L`, `Z` and `solution` are overwritten as by it.
    """
    end, figures, _, hessian, S, _, fresh = search_optimum(
        system, problem, parameters, theta, max_iterations, tolerance, L, Z, solution
    )
    reach = max(reach, reach_beside_zeros(theta, parameters, reml))
    if reach == 0.0:
        return end, figures, hessian, S, fresh
    first = theta.copy()
    theta[:] = equal_theta(parameters, reach)
    again, lower, _, curvature, scores, _, held = search_optimum(
        system, problem, parameters, theta, max_iterations, tolerance, L, Z, solution
    )
    if (again == 0 or again == 3) and lower[0] < figures[0] - LARGEST_RISE:
        return again, lower, curvature, scores, held
    theta[:] = first
    return end, figures, hessian, S, False


@kernel
def fit_response(equations, design, weights, y, reml, tolerance, max_iterations):
    """Fit one response.

    Returns
    -------
    status : int
    fit : TrialFit
    """
    system, parameters = equations.system, design.parameters
    n, p, K = y.size, design.fixed_rows.size, parameters.sizes.size
    size = system.L_indptr.size - 1
    residual, weighted = np.empty(n), np.empty(n)
    beta = np.empty(p)
    subtract_least_squares(equations, design, weights, y, beta, residual)
    yy = 0.0
    whole = 0.0
    for i in range(n):
        weighted[i] = weights[i] * residual[i]
        yy += weighted[i] * residual[i]
        whole += weights[i] * y[i] * y[i]
    flat_rhs = np.zeros(size)
    row_ptr, row_node, row_val, flat = equations.entries
    project_response(row_ptr, row_node, row_val, flat, system.pattern.start, weighted, flat_rhs)
    rhs = flat_rhs.reshape(size, 1)
    operations = 0.0
    for j in range(size):
        operations += float(system.L_indptr[j + 1] - system.L_indptr[j]) ** 2
    theta = start_from_moments(system.G, system.pattern, parameters, rhs, yy, n, operations, reml)
    fit = TrialFit(
        np.zeros(4), theta, unit_factors(parameters.sizes), np.empty(system.L_indices.size),
        np.empty((size, 1)), np.empty((size, 1)), beta, np.empty(0),
    )  # fmt: skip
    if not has_ordinary_size(weights, y):
        return NO_OPTIMUM, fit
    if not np.isfinite(yy):
        return BAD_VALUES, fit
    if yy <= EXPLAINED * whole:
        return NO_OPTIMUM, fit
    dof = float(n - p) if reml else float(n)
    solution = np.empty((size, 1))
    best = np.inf
    moved, fresh = False, False
    if K > 0:
        search, lead = design.search, design.lead
        left = search.L_indptr.size - 1
        rhs_left, right, yy_left = reduce_response(lead, system.L_indptr, system.L_indices, rhs, yy, left)
        L_left = np.empty(search.L_indices.size)
        Z_left = np.empty(search.L_indices.size)
        solution_left = np.empty((left, 1))
        problem = Problem(rhs_left, yy_left, dof, left if reml else left - p)
        reach = reach_of_slopes(equations.entries, system.pattern.term, parameters.sizes)
        end, figures, hessian, S, fresh = search_from_starts(
            search, problem, parameters, reml, reach, theta, max_iterations, tolerance, L_left, Z_left,
            solution_left,
        )  # fmt: skip
        status, moved = settle_boundary(theta, parameters, hessian, S)
        if status == OK and not is_certified(end, figures[2], hessian):
            status = NO_OPTIMUM
        if status != OK:
            return status, fit
        best = figures[0] + (design.log_lead if reml else 0.0)
        fit.numbers[2] = figures[3]
    fill_factors(theta, parameters.term, parameters.row, parameters.col, fit.factors)
    if fresh and not moved:
        complete_factor(equations, lead, L_left, right, solution_left, fit.factors, fit.L, solution)
        if reml and left == size:
            fit = TrialFit(
                fit.numbers, theta, fit.factors, fit.L, fit.coefficients, fit.projected, beta, Z_left
            )  # fmt: skip
    else:
        problem = Problem(rhs, yy, dof, size if reml else size - p)
        C = np.empty(system.G.size)
        deviance, _ = evaluate_deviance(system, problem, fit.factors, C, fit.L, solution)
        if not np.isfinite(deviance) or (moved and deviance > best + LARGEST_RISE):
            return NO_OPTIMUM, fit
    describe_optimum(equations, design, weights, residual, rhs, solution, reml, fit)
    return OK, fit


@kernel
def describe_optimum(equations, design, weights, residual, rhs, solution, reml, fit):
    """Fill coefficients, Z'Py, `beta` and the figures of a fit from the solution at its optimum."""
    row_ptr, row_node, row_val, flat = equations.entries
    system, fixed_rows = equations.system, design.fixed_rows
    pattern, start, term = system.pattern, system.pattern.start, system.pattern.term
    sizes, _, theta_row, theta_col = design.parameters
    numbers, theta, factors, L, coefficients, projected, beta, _ = fit
    n, p, size, K = residual.size, fixed_rows.size, solution.shape[0], sizes.size
    dof = float(n - p) if reml else float(n)
    apply_factor(start, term, factors, solution, coefficients)
    multiply_symmetric(system.G, pattern.indptr, pattern.indices, coefficients, projected)
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
    criterion = log_determinant(system.L_indptr, L, size if reml else size - p) - log_weights
    if reml:
        for j in range(p):
            criterion += 2.0 * np.log(equations.scale[j])
    sigma2 = r2 / dof
    numbers[0] = criterion + dof * (1.0 + LOG_TWO_PI + np.log(sigma2))
    if K == 0:  # a linear model has the likelihood of R's lm
        numbers[0] = n * (1.0 + LOG_TWO_PI + np.log(r2 / n)) - log_weights
    numbers[1] = sigma2
    for t in range(theta.size):
        if theta_row[t] == theta_col[t] and abs(theta[t]) < BOUNDARY:
            numbers[3] = 1.0
