"""The whole REML/ML fit of a small system in one compiled call, without the interpreter and without the GIL.

Arrays come as the named tuples of ``kernels.equations.systems``.

The search is that of ``kernels.search.newton``, as for large systems.
"""

from __future__ import annotations

import numpy as np

from fastlmm_core.kernels.compile import kernel
from fastlmm_core.kernels.equations.assembly import (
    accumulate_outer,
    accumulate_score_blocks,
    apply_factor,
    apply_factor_transposed,
    assemble_blocks,
    assemble_scalar,
    multiply_symmetric,
    scale_diagonal,
)
from fastlmm_core.kernels.factor.simplicial import (
    factorize,
    invert_subset,
    log_determinant,
    solve_lower,
    solve_lower_vector,
    solve_upper,
)
from fastlmm_core.kernels.search.newton import (
    DECREMENT,
    DEVIANCE,
    END,
    EVALUATE,
    EVALUATIONS,
    HELD,
    ITERATION,
    STATUS,
    start_search,
    take_deviance,
    take_score,
)
from fastlmm_core.kernels.search.score import (
    combine_score,
    fill_factors,
    form_working_vectors,
    prepare_information,
    subtract_squares,
)

LOG_TWO_PI = np.log(2.0 * np.pi)


@kernel
def assemble(G, penalty, pattern, factors, C):
    """C at the given factors, by the scalar or the block kernel."""
    indptr, indices, below_ptr, below, start, term = pattern
    if factors.shape[1] == 1:
        assemble_scalar(G, penalty, indptr, indices, scale_diagonal(start, term, factors), C)
    else:
        assemble_blocks(G, penalty, indptr, below_ptr, below, start, term, factors, C)


@kernel
def evaluate_deviance(system, problem, factors, C, L, solution):
    """Factorize C at `factors` into `L`; return (deviance, r2); `solution` (q + p, 1) = C^-1 F' rhs.

    The deviance is inf where C is not numerically positive definite or r2 is not positive.
    """
    G, penalty, pattern, position, L_indptr, L_indices = system
    assemble(G, penalty, pattern, factors, C)
    if factorize(C, position, L_indptr, L_indices, L) >= 0:
        return np.inf, np.inf
    apply_factor_transposed(pattern.start, pattern.term, factors, problem.rhs, solution)
    solve_lower(L_indptr, L_indices, L, solution)
    r2 = problem.yy
    for i in range(solution.shape[0]):
        r2 -= solution[i, 0] * solution[i, 0]
    solve_upper(L_indptr, L_indices, L, solution)
    if not r2 > 0.0:
        return np.inf, r2
    dof = problem.dof
    log_C = log_determinant(L_indptr, L, problem.n_lead)
    return log_C + dof * (1.0 + LOG_TWO_PI + np.log(r2 / dof)), r2


@kernel
def evaluate_scalar_score(system, problem, parameters, factors, L, Z, solution, r2):
    """`evaluate_score` where every term has one coefficient: the same sums without blocks."""
    G, _, pattern, position, L_indptr, L_indices = system
    indptr, indices, _, _, start, term = pattern
    sizes, theta_term, theta_row, theta_col = parameters
    rhs, dof, n_lead = problem.rhs, problem.dof, problem.n_lead
    size, K = start[term.size], sizes.size
    scale = scale_diagonal(start, term, factors)
    q = np.empty(size)
    for i in range(size):
        q[i] = rhs[i, 0]
    for j in range(size):
        own = scale[j] * solution[j, 0]
        total = G[indptr[j]] * own
        for t in range(indptr[j] + 1, indptr[j + 1]):
            i = indices[t]
            q[i] -= G[t] * own
            total += G[t] * scale[i] * solution[i, 0]
        q[j] -= total
    invert_subset(L_indptr, L_indices, L, n_lead, Z)
    W = np.zeros((K + 1, 1, 1))
    Q = np.zeros((K, 1, 1))
    X = np.zeros(size)
    GX = np.zeros((K, size))
    for j in range(size):
        k = term[j]
        W[k, 0, 0] += G[indptr[j]] * Z[position[indptr[j]]] * scale[j]
        if k < K:
            X[j] = 2.0 * scale[j] * q[j]
            Q[k, 0, 0] += q[j] * q[j]
    for j in range(size):
        k = term[j]
        if k < K:
            GX[k, j] += G[indptr[j]] * X[j]
        for t in range(indptr[j] + 1, indptr[j + 1]):
            i = indices[t]
            g = G[t]
            if g == 0.0:
                continue
            z = g * Z[position[t]]
            W[k, 0, 0] += z * scale[i]
            W[term[i], 0, 0] += z * scale[j]
            if k < K:
                GX[k, i] += g * X[j]
            if term[i] < K:
                GX[term[i], j] += g * X[i]
    D = np.zeros((K, K))
    for s in range(K):
        for i in range(size):
            if term[i] < K:
                D[term[i], s] += X[i] * GX[s, i]
            GX[s, i] *= scale[i]
        solve_lower_vector(L_indptr, L_indices, L, GX[s])
    for s in range(K):
        for t in range(s + 1):
            total = 0.0
            for i in range(size):
                total += GX[s, i] * GX[t, i]
            D[s, t] -= total
            if t < s:
                D[t, s] -= total
    W_random = W[:K].copy()
    return combine_score(W_random, Q, D, factors, sizes, theta_term, theta_row, theta_col, r2 / dof, dof)


@kernel
def evaluate_score(system, problem, parameters, factors, L, Z, solution, r2):
    """Gradient, curvature and S at a factorized point; `Z` becomes C^-1 on the pattern of L."""
    if factors.shape[1] == 1:
        return evaluate_scalar_score(system, problem, parameters, factors, L, Z, solution, r2)
    G, _, pattern, position, L_indptr, L_indices = system
    indptr, indices, below_ptr, below, start, term = pattern
    sizes, theta_term, theta_row, theta_col = parameters
    rhs, dof, n_lead = problem.rhs, problem.dof, problem.n_lead
    size = start[term.size]
    n_terms = sizes.size
    width = factors.shape[1]
    coefficients = np.empty((size, 1))
    apply_factor(start, term, factors, solution, coefficients)
    q = np.empty((size, 1))
    multiply_symmetric(G, indptr, indices, coefficients, q)
    for i in range(size):
        q[i, 0] = rhs[i, 0] - q[i, 0]
    invert_subset(L_indptr, L_indices, L, n_lead, Z)
    C_inv = np.empty(position.size)
    for t in range(position.size):
        C_inv[t] = Z[position[t]]
    W = np.zeros((n_terms, width, width))
    accumulate_score_blocks(G, C_inv, indptr, below_ptr, below, start, term, factors, n_terms, W)
    Q = np.zeros((n_terms, width, width))
    accumulate_outer(start, term, n_terms, q[:, 0], q[:, 0], Q)
    X = np.empty((size, theta_term.size))
    form_working_vectors(start, term, theta_term, theta_row, theta_col, factors, q[:, 0], X)
    B, D = prepare_information(G, indptr, indices, start, term, factors, X)
    solve_lower(L_indptr, L_indices, L, B)
    subtract_squares(D, B)
    return combine_score(W, Q, D, factors, sizes, theta_term, theta_row, theta_col, r2 / dof, dof)


@kernel
def unit_factors(sizes):
    """Room for Lambda of every term, (K + 1, w, w), with the 1 of the fixed columns in place."""
    width = 1
    for k in range(sizes.size):
        width = max(width, sizes[k])
    factors = np.zeros((sizes.size + 1, width, width))
    factors[sizes.size, 0, 0] = 1.0
    return factors


@kernel
def search_optimum(system, problem, parameters, theta, max_iterations, tolerance, L, Z, solution):
    """Minimise the deviance from `theta` (overwritten by the optimum).

    `L`, `Z` and `solution` are overwritten by the factor, the inverse subset (of the leading `n_lead` rows)
    and C^-1 F' rhs at the result, where `fresh`.

    Returns
    -------
    status : int
        0 converged (decrement below `tolerance`), 1 iteration limit, 2 no positive definite start,
        3 stalled at rounding level above the tolerance.
    numbers : (5,) float64
        deviance, r2, decrement, iterations, evaluations.
    gradient, hessian, S : arrays of ``combine_score`` at the result
    trace : (iterations, 3 + n_theta) float64
        deviance, decrement, radius, theta of every iteration.
    fresh : bool
    """
    factors = unit_factors(parameters.sizes)
    C = np.empty(system.G.size)
    trial = np.empty_like(solution)
    S = np.zeros_like(factors[1:])
    r2 = np.inf
    state = start_search(theta, problem.dof, tolerance, max_iterations)
    action = EVALUATE
    while action != END:
        if action == EVALUATE:
            fill_factors(state.moved, parameters.term, parameters.row, parameters.col, factors)
            deviance, trial_r2 = evaluate_deviance(system, problem, factors, C, L, trial)
            action = take_deviance(state, deviance)
            if state.counts[HELD]:
                r2 = trial_r2
                for i in range(solution.shape[0]):
                    solution[i, 0] = trial[i, 0]
        else:
            gradient, curvature, S = evaluate_score(
                system, problem, parameters, factors, L, Z, solution, r2
            )  # fmt: skip
            action = take_score(state, gradient, curvature)
    for t in range(theta.size):
        theta[t] = state.theta[t]
    numbers = np.array([state.numbers[DEVIANCE], r2, state.numbers[DECREMENT], 0.0, 0.0])
    numbers[3], numbers[4] = state.counts[ITERATION], state.counts[EVALUATIONS]
    status = state.counts[STATUS]
    rows = 0 if status == 2 else state.counts[ITERATION] + 1
    fresh = state.counts[HELD] == 1 and status != 2
    return status, numbers, state.gradient, state.hessian, S, state.trace[:rows], fresh


@kernel
def fit_small(system, problem, parameters, theta, max_iterations, tolerance):
    """`search_optimum` without the factor: (status, numbers, gradient, hessian, S, trace)."""
    L = np.empty(system.L_indices.size)
    Z = np.empty(system.L_indices.size)
    solution = np.empty_like(problem.rhs)
    return search_optimum(
        system, problem, parameters, theta, max_iterations, tolerance, L, Z, solution
    )[:6]  # fmt: skip
