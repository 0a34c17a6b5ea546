"""A run of trials x traits in one call without the interpreter: design, fit and inference of each unit.

Consecutive traits of a trial with the same missing rows share design, pattern and symbolic analysis.
"""

from __future__ import annotations

import numpy as np

from fastlmm_core.kernels.compile import fill_integers, kernel
from fastlmm_core.kernels.simplicial import invert_subset, solve_lower
from fastlmm_core.kernels.trial_design import (
    BAD_VALUES,
    NO_ROWS,
    OK,
    ONE_LEVEL,
    TOO_FEW_ROWS,
    TOO_LARGE,
    build_small_equations,
    code_columns,
    group_trial,
    number_levels,
    place_theta,
    standardize_values,
)
from fastlmm_core.kernels.trial_fit import factorize_fixed, fit_response
from fastlmm_core.kernels.trial_inference import (
    KENWARD_ROGER,
    average_information,
    compress_rows,
    expected_information,
    form_covariances,
    invert_conditional,
    invert_information,
    judge_row,
    level_variance,
    mark_term,
    multiply_row,
    number_random,
    prepare_rows,
    project_identity,
    solve_fixed,
)

PAIRWISE, REVERSED, CONTROL, CONTROL_FIRST, CONTROL_LAST, CONSECUTIVE = 1, 2, 3, 4, 5, 6


@kernel
def count_levels(codes, ok, ptr, n_levels, out):
    """Levels of one factor that occur in the usable rows of every trial: out (T,)."""
    seen = fill_integers(n_levels, -1)
    for t in range(ptr.size - 1):
        count = 0
        for i in range(ptr[t], ptr[t + 1]):
            if ok[i] and seen[codes[i]] != t:
                seen[codes[i]] = t
                count += 1
        out[t] = count


@kernel
def list_rows(ok, y, lo, hi, rows):
    """Usable rows of a unit into `rows`; returns their number."""
    n = 0
    for i in range(lo, hi):
        if ok[i] and y[i] == y[i]:
            rows[n] = i
            n += 1
    return n


@kernel
def fill_mean_rows(fixed, start, spec, n_levels, means, K):
    """Rows K (r, p) of the marginal means over the levels of the factors `spec`, the first varying fastest.

    Factors outside `spec` are averaged with equal weights, numeric columns held at `means`.
    """
    intercept, term_ptr, atom_variable, atom_kind = fixed
    code = np.empty(max(1, spec.size), np.int64)
    for i in range(K.shape[0]):
        rest = i
        for s in range(spec.size):
            code[s] = rest % n_levels[spec[s]]
            rest //= n_levels[spec[s]]
        if intercept:
            K[i, 0] = 1.0
        for t in range(term_ptr.size - 1):
            for column in range(start[t + 1] - start[t]):
                rest = column
                value = 1.0
                for a in range(term_ptr[t], term_ptr[t + 1]):
                    v = atom_variable[a]
                    if atom_kind[a] == 2:
                        value *= means[v]
                        continue
                    base = 1 if atom_kind[a] == 0 else 0
                    own = rest % (n_levels[v] - base) + base
                    rest //= n_levels[v] - base
                    chosen = -1
                    for s in range(spec.size):
                        if spec[s] == v:
                            chosen = code[s]
                    if chosen < 0:
                        value /= n_levels[v]
                    elif chosen != own:
                        value = 0.0
                K[i, start[t] + column] = value


@kernel
def list_contrast(kind, control, r, index):
    """Number `index` of a family among r means: (mean, mean subtracted)."""
    if kind == PAIRWISE:
        i = 0
        while index >= r - 1 - i:
            index -= r - 1 - i
            i += 1
        return i, i + 1 + index
    if kind == REVERSED:
        i = 1
        while index >= i:
            index -= i
            i += 1
        return i, index
    if kind == CONSECUTIVE:
        return index + 1, index
    return (index if index < control else index + 1), control


@kernel
def fit_trial_units(
    first_unit, last_unit, n_labels, ptr, ok, y, codes, numbers, weights, level_counts, fixed, random, spec,
    options, tolerance, max_iterations, offsets, integers, figures, out_levels, out_cells, out_fixed,
    out_means, out_contrasts, out_blups, out_terms, out_theta, out_average, out_bases,
):  # fmt: skip
    """Fit the units first_unit:last_unit.

    Parameters
    ----------
    ptr : (T + 1,) int64; ok : (N,) bool
        Rows of every trial; rows whose explanatory columns are complete.
    y : (n_labels, N); codes : (n_factors, N) int32; numbers : (n_numeric, N); weights : (N,)
    level_counts : (n_factors,) int64
        Levels of each factor in the whole table.
    fixed, random : tuples of ``kernels.trial_design``
    spec : int64 array
        Factors of the marginal means.
    options : (8,) int64
        REML, fixed wanted, means wanted, contrast family, code of the control in the table, BLUPs wanted, df
        method, whether any covariance of fixed effects is wanted.
    offsets : (U, 4 + n_factors) int64
        Where the unit's rows start in out_fixed, out_means, out_contrasts, out_blups, and in out_levels by
        factor.
    integers : (U, 6 + 2 K + n_factors) int64
        Out: status, n, p, means, contrasts, control; order and number of levels of the random terms; levels
        of the factors.
    figures : (U, 4)
        Out: criterion, sigma2, iterations, singular.
    out_levels : codes in the table of the levels that occur; out_cells (rows as out_blups): cells of the
    groupings
    out_fixed, out_means, out_contrasts : (., 3) estimate, standard error, df
    out_blups : (., 3) estimate, prediction error variance, conditional variance
    out_terms : (U, K, 4) prior variance of the first coefficient, trace and total of the prediction error
        covariance, mean of the reciprocal replications
    out_theta : (U, d), out_average : (U, d + 1, d + 1), out_bases : (U, K, w, w)
    """
    intercept = fixed[0]
    widths_given = random[2]
    K = widths_given.size
    n_factors = codes.shape[0]
    reml = options[0] == 1
    longest = 0
    for t in range(first_unit // n_labels, (last_unit - 1) // n_labels + 1):
        longest = max(longest, ptr[t + 1] - ptr[t])
    most = 1
    for f in range(n_factors):
        most = max(most, level_counts[f])
    place = fill_integers(most, -1)
    candidate = np.empty(longest, np.int64)
    rows = np.empty(0, np.int64)
    design_trial = -1
    status = NO_ROWS
    n = 0
    p = 0
    local = np.empty((n_factors, 0), np.int64)
    found = np.empty((n_factors, 0), np.int64)
    n_levels = np.zeros(n_factors, np.int64)
    w = np.empty(0)
    fixed_rows = np.empty(0, np.int64)
    for unit in range(first_unit, last_unit):
        trial, trait = unit // n_labels, unit % n_labels
        u = unit - first_unit
        count = list_rows(ok, y[trait], ptr[trial], ptr[trial + 1], candidate)
        same = design_trial == trial and count == n
        if same:
            for i in range(n):
                if rows[i] != candidate[i]:
                    same = False
                    break
        if not same:
            design_trial = trial
            n = count
            status = OK
            rows = np.empty(n, np.int64)
            w = np.empty(n)
            for i in range(n):
                rows[i] = candidate[i]
                w[i] = weights[rows[i]]
                if not (w[i] > 0.0 and w[i] < np.inf):
                    status = BAD_VALUES
            local = np.empty((n_factors, n), np.int64)
            found = np.empty((n_factors, n), np.int64)
            for f in range(n_factors):
                n_levels[f] = number_levels(codes[f], rows, place, local[f], found[f])
                if n_levels[f] < 2:
                    status = ONE_LEVEL
            if n == 0:
                status = NO_ROWS
            if status == OK:
                n_columns = intercept
                for t in range(fixed[1].size - 1):
                    width = 1
                    for a in range(fixed[1][t], fixed[1][t + 1]):
                        if fixed[3][a] < 2:
                            width *= n_levels[fixed[2][a]] - (1 if fixed[3][a] == 0 else 0)
                    n_columns += width
                if n_columns >= n or n_columns == 0:
                    status = TOO_FEW_ROWS
            if status == OK:
                x_ptr, x_rows, x_data, start_columns = code_columns(
                    intercept, fixed[1], fixed[2], fixed[3], local, n_levels, numbers, rows
                )
                p = x_ptr.size - 1
                status, order, counts, group_codes, cells, values, widths, diagonal = group_trial(
                    random, local, n_levels, numbers, rows
                )
            if status == OK:
                theta_index = place_theta(widths, diagonal)
                bases = standardize_values(values, widths, diagonal)
                status, equations = build_small_equations(
                    x_ptr, x_rows, x_data, group_codes, counts, values, widths, w, intercept == 1, not reml
                )
            if status == OK:
                start, term, level = equations[4], equations[5], equations[6]
                fixed_rows = np.empty(p, np.int64)
                for j in range(term.size):
                    if term[j] == K:
                        fixed_rows[level[j]] = start[j]
                status, L_fixed = factorize_fixed(equations, K, bases.shape[1])
                at, q = number_random(start, term, K)
        integers[u, 1] = n
        if status != OK:
            integers[u, 0] = status
            continue
        own_y = np.empty(n)
        for i in range(n):
            own_y[i] = y[trait, rows[i]]
        end, numbers_out, theta, factors, L, coefficients, projected, beta = fit_response(
            equations, L_fixed, fixed_rows, widths, theta_index, w, own_y, reml, tolerance, max_iterations
        )
        if end != OK:
            integers[u, 0] = end
            continue
        shift, scale = equations[19], equations[20]
        sigma2 = numbers_out[1]
        dof = float(n - p) if reml else float(n)
        for c in range(4):
            figures[u, c] = numbers_out[c]
        integers[u, 2] = p
        for k in range(K):
            integers[u, 6 + k] = order[k]
            integers[u, 6 + K + k] = counts[k]
            for a in range(bases.shape[1]):
                for b in range(bases.shape[1]):
                    out_bases[u, k, a, b] = bases[k, a, b]
        for f in range(n_factors):
            integers[u, 6 + 2 * K + f] = n_levels[f]
            for r in range(n_levels[f]):
                out_levels[offsets[u, 4 + f] + r] = found[f, r]
        natural = form_covariances(theta, theta_index, factors)
        average = average_information(
            equations, factors, L, theta_index, projected, natural, sigma2 * dof, sigma2
        )
        for i in range(natural.size):
            out_theta[u, i] = natural[i]
        for i in range(natural.size + 1):
            for j in range(natural.size + 1):
                out_average[u, i, j] = average[i, j]
        if options[7]:
            integers[u, 0] = infer_fixed(
                u, equations, factors, L, fixed_rows, at, q, theta_index, natural, sigma2, dof, n - p, beta,
                shift, scale, fixed, start_columns, spec, n_levels, found, numbers, rows, options, offsets,
                integers, out_fixed, out_means, out_contrasts,
            )  # fmt: skip
        if options[5]:
            done = infer_random(
                u, equations, factors, L, K, widths, bases, natural, theta_index, counts, cells, group_codes,
                sigma2, coefficients, offsets, out_cells, out_blups, out_terms,
            )  # fmt: skip
            if integers[u, 0] == OK:
                integers[u, 0] = done


@kernel
def infer_fixed(
    u, equations, factors, L, fixed_rows, at, q, theta_index, natural, sigma2, dof, df_residual, beta, shift,
    scale, fixed, start_columns, spec, n_levels, found, numbers, rows, options, offsets, integers, out_fixed,
    out_means, out_contrasts,
):  # fmt: skip
    """Fixed effects, marginal means and contrasts of one fitted unit; returns a status."""
    start, term = equations[4], equations[5]
    p = fixed_rows.size
    d = natural.size
    mode = options[6]
    r = 1
    for s in range(spec.size):
        r *= n_levels[spec[s]]
    if options[2] == 0:
        r = 0
    if r > rows.size:
        return TOO_LARGE
    first_mean = p if options[1] else 0
    K = np.zeros((first_mean + r, p))
    for j in range(first_mean):
        K[j, j] = 1.0
    if r:
        means = np.zeros(numbers.shape[0])
        for v in range(means.size):
            for i in range(rows.size):
                means[v] += numbers[v, rows[i]]
            means[v] /= rows.size
        K_means = np.zeros((r, p))
        fill_mean_rows(fixed, start_columns, spec, n_levels, means, K_means)
        for i in range(r):
            for j in range(p):
                K[first_mean + i, j] = K_means[i, j]
    rows_inside = compress_rows(K, shift, scale)
    B, phi = solve_fixed(equations, factors, L, fixed_rows, at, q)
    cov_parameters = np.zeros((d + 1, d + 1))
    if mode == KENWARD_ROGER:
        M = project_identity(equations, factors, L, at, q)
        traces = expected_information(M, start, term, theta_index, at, natural, dof)
        status, cov_parameters = invert_information(traces, sigma2)
        if status != OK:
            return status
        b, h, K_phi = prepare_rows(rows_inside, B, phi, M, start, term, theta_index, at, d)
    else:
        b, h, K_phi = prepare_rows(rows_inside, B, phi, np.zeros((0, 0)), start, term, theta_index, at, 0)
    part = np.empty(q)
    df = np.inf if mode == 2 else float(df_residual)
    for i in range(K.shape[0]):
        variance = multiply_row(rows_inside, i, K_phi[i])
        se = np.sqrt(max(sigma2 * variance, 0.0))
        if mode == KENWARD_ROGER:
            se, df = judge_row(
                b[i], h[i], variance, start, term, theta_index, at, natural, cov_parameters, sigma2, part
            )
        estimate = multiply_row(rows_inside, i, beta)
        if i < first_mean:
            to = offsets[u, 0] + i
            out_fixed[to, 0], out_fixed[to, 1], out_fixed[to, 2] = estimate, se, df
        else:
            to = offsets[u, 1] + i - first_mean
            out_means[to, 0], out_means[to, 1], out_means[to, 2] = estimate, se, df
    integers[u, 3] = r
    kind = options[3]
    if kind == 0:
        return OK
    control = -1
    if kind == CONTROL:
        for s in range(r):
            if found[spec[0], s] == options[4]:
                control = s
        if control < 0:
            return BAD_VALUES
    elif kind == CONTROL_FIRST:
        control = 0
    elif kind == CONTROL_LAST:
        control = r - 1
    n_contrasts = r * (r - 1) // 2 if kind == PAIRWISE or kind == REVERSED else r - 1
    integers[u, 4], integers[u, 5] = n_contrasts, control
    b_row = np.empty(q)
    h_row = np.empty(h.shape[1:])
    for c in range(n_contrasts):
        plus, minus = list_contrast(kind, control, r, c)
        i, j = first_mean + plus, first_mean + minus
        variance = (
            multiply_row(rows_inside, i, K_phi[i]) - 2.0 * multiply_row(rows_inside, i, K_phi[j])
            + multiply_row(rows_inside, j, K_phi[j])
        )  # fmt: skip
        se = np.sqrt(max(sigma2 * variance, 0.0))
        if mode == KENWARD_ROGER:
            for s in range(q):
                b_row[s] = b[i, s] - b[j, s]
                for t in range(d):
                    h_row[t, s] = h[i, t, s] - h[j, t, s]
            se, df = judge_row(
                b_row, h_row, variance, start, term, theta_index, at, natural, cov_parameters, sigma2, part
            )
        to = offsets[u, 2] + c
        out_contrasts[to, 0] = out_means[offsets[u, 1] + plus, 0] - out_means[offsets[u, 1] + minus, 0]
        out_contrasts[to, 1] = se
        out_contrasts[to, 2] = df
    return OK


@kernel
def infer_random(
    u, equations, factors, L, K, widths, bases, natural, theta_index, counts, cells, group_codes, sigma2,
    coefficients, offsets, out_cells, out_blups, out_terms,
):  # fmt: skip
    """BLUPs with prediction error and conditional variances, and the sums behind heritability; a status."""
    start, term, level, C_indptr, position, L_indptr, L_indices = (
        equations[4], equations[5], equations[6], equations[9], equations[13], equations[14], equations[15],
    )  # fmt: skip
    size = L_indptr.size - 1
    Z = np.empty(L_indices.size)
    invert_subset(L_indptr, L_indices, L, size, Z)
    status, Z_given = invert_conditional(equations, factors, K)
    if status != OK:
        return status
    width = bases.shape[1]
    transform = np.empty((width, width))
    base = offsets[u, 3]
    for k in range(K):
        m = widths[k]
        zero = True
        for t in range(natural.size):
            if theta_index[0][t] == k and natural[t] != 0.0:
                zero = False
        for a in range(m):
            for b in range(m):
                transform[a, b] = 0.0
                for c in range(m):
                    transform[a, b] += bases[k, a, c] * factors[k, c, b]
        trace = 0.0
        for node in range(term.size):
            if term[node] != k:
                continue
            first = start[node]
            for a in range(m):
                to = base + level[node] * m + a
                estimate = 0.0
                for b in range(m):
                    estimate += bases[k, a, b] * coefficients[first + b, 0]
                out_cells[to] = cells[k, level[node]]
                out_blups[to, 0] = estimate
                out_blups[to, 1] = 0.0
                out_blups[to, 2] = 0.0
                if not zero:
                    pev = sigma2 * level_variance(Z, C_indptr, position, first, m, transform, a)
                    out_blups[to, 1] = pev
                    out_blups[to, 2] = sigma2 * level_variance(
                        Z_given, C_indptr, position, first, m, transform, a
                    )
                    if a == 0:
                        trace += pev
        base += counts[k] * m
        out_terms[u, k, 1] = trace
        out_terms[u, k, 2] = 0.0
        if m == 1:
            prior = 0.0
            for t in range(natural.size):
                if theta_index[0][t] == k:
                    prior = sigma2 * bases[k, 0, 0] ** 2 * natural[t]
            out_terms[u, k, 0] = prior
            if not zero:
                ones = mark_term(start, term, k)
                spherical = np.empty((size, 1))
                for s in range(size):
                    spherical[s, 0] = ones[s, 0]
                solve_lower(L_indptr, L_indices, L, spherical)
                total = 0.0
                for s in range(size):
                    total += spherical[s, 0] ** 2
                out_terms[u, k, 2] = total * sigma2 * transform[0, 0] ** 2
            tally = fill_integers(counts[k], 0)
            for i in range(group_codes.shape[1]):
                tally[group_codes[k, i]] += 1
            mean = 0.0
            for a in range(counts[k]):
                mean += 1.0 / tally[a]
            out_terms[u, k, 3] = mean / counts[k]
    return OK
