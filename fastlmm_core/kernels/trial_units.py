"""A run of trials x traits in one call without the interpreter: design and fit of each unit, and BLUPs.

Consecutive traits of a trial with the same missing rows share design, pattern, cross-products and symbolic
analysis; so do trials whose plots are laid out alike, which are worked on one after another.  What
inference on fixed effects needs is left behind as dense arrays for ``kernels.trial_rows``.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np

from fastlmm_core.kernels.compile import fill_integers, kernel
from fastlmm_core.kernels.trial_blups import infer_random
from fastlmm_core.kernels.trial_design import (
    BAD_VALUES,
    LARGEST_GRAPH,
    NO_ROWS,
    OK,
    ONE_LEVEL,
    TOO_FEW_ROWS,
    TOO_LARGE,
    code_columns,
    group_trial,
    number_levels,
    place_theta,
    standardize_values,
    start_terms,
)
from fastlmm_core.kernels.trial_equations import build_small_equations, factorize_fixed, separate_search
from fastlmm_core.kernels.trial_fit import fit_response
from fastlmm_core.kernels.trial_inference import (
    average_information,
    form_covariances,
    number_random,
    project_identity,
    solve_fixed,
)
from fastlmm_core.kernels.trial_layout import list_rows, same_covariates, same_numbers, same_rows
from fastlmm_core.kernels.trial_rank import find_dependent, has_nested_factor, select_columns

# Columns of `integers`.
STATUS, ROWS, RANK, COLUMNS, RANDOM, TERMS = range(6)


@kernel
def copy_numbers(values, store, at):
    """Append an array, flattened, to `store` from place `at` on; returns the place after it."""
    flat = values.reshape(values.size)
    for i in range(flat.size):
        store[at + i] = flat[i]
    return at + flat.size


@kernel
def sum_level_bounds(equations, theta_index, values, out):
    """out (d,) = sum over levels of g / (1 + t g), g = z'Wz: the most that tr(P V_j) can be."""
    start, term, indptr, G = equations[4], equations[5], equations[9], equations[11]
    theta_term, theta_row, theta_col = theta_index
    for j in range(values.size):
        total = 0.0
        for node in range(term.size):
            if term[node] == theta_term[j] and theta_row[j] == theta_col[j]:
                g = G[indptr[start[node] + theta_row[j]]]
                total += g / (1.0 + values[j] * g)
        out[j] = total


@kernel
def code_design(fixed, random, local, n_levels, numbers, rows):
    """Fixed columns and groupings: status, (indptr, indices, data), ``group_trial`` less its status."""
    n = rows.size
    status, order, counts, group_codes, cells, values, widths, diagonal = group_trial(
        random, local, n_levels, numbers, rows
    )
    groups = order, counts, group_codes, cells, values, widths, diagonal
    start = start_terms(fixed, n_levels)
    p = start[start.size - 1]
    nodes = p
    for k in range(counts.size):
        nodes += counts[k]
    if p >= n or p == 0:
        status = TOO_FEW_ROWS
    elif status == OK and nodes > LARGEST_GRAPH:
        status = TOO_LARGE
    for f in range(n_levels.size):
        if n_levels[f] < 2:
            status = ONE_LEVEL
    if status != OK:
        return status, (np.zeros(1, np.int32), np.empty(0, np.int32), np.empty(0)), groups
    return status, code_columns(fixed, start, local, n_levels, numbers, rows), groups


@kernel
def build_design(fixed, columns, groups, local, n_levels, w, reml, tables):
    """Equations and search system of a trial, without the columns that depend on others.

    Returns
    -------
    status : int
    design : tuple
        lead, log_lead (see ``trial_equations.separate_search``), L_fixed, rows of the fixed columns, places
        of theta, bases, columns kept, null vectors, norms, number of columns before any was dropped.
    equations, search : tuples of ``trial_equations``
    """
    _, counts, group_codes, _, values, widths, diagonal = groups
    x_ptr, x_rows, x_data = columns
    K = counts.size
    bases = standardize_values(values, widths, diagonal)
    p_full = x_ptr.size - 1
    kept = np.arange(p_full)
    null = np.empty((0, 0))
    norm = np.empty(0)
    for attempt in range(2):
        status, equations = build_small_equations(
            x_ptr, x_rows, x_data, group_codes, counts, values, widths, w, fixed[0] == 1, not reml
        )
        if status != OK:
            work, L_fixed = np.empty(0), np.empty(0)
            break
        status, work, L_fixed = factorize_fixed(equations, K)
        if status == OK or attempt == 1:
            break
        kept, null, norm = find_dependent(x_ptr, x_rows, x_data, w.size)
        if kept.size == p_full or (tables == 2 and has_nested_factor(fixed, local, n_levels)):
            break
        x_ptr, x_rows, x_data = select_columns(x_ptr, x_rows, x_data, kept)
    start, term, level = equations[4], equations[5], equations[6]
    fixed_rows = np.empty(x_ptr.size - 1, np.int64)
    for j in range(term.size):
        if term[j] == K:
            fixed_rows[level[j]] = start[j]
    if status != OK:
        work = np.ones(equations[15].size)
    search, lead, log_lead = separate_search(equations, K, work)
    theta_index = place_theta(widths, diagonal)
    design = lead, log_lead, L_fixed, fixed_rows, theta_index, bases, kept, null, norm, p_full
    return status, design, equations, search


@kernel
def store_fixed(
    equations, factors, L, fixed_rows, K, norm, null, projected, with_projection, store, to, places, at_places
):  # fmt: skip
    """Leave Phi, null vectors, B and, where wanted, Z'PZ and Z'Py; returns the number of random scalars."""
    at, q, first, own_term = number_random(equations[4], equations[5], K)
    places[at_places] = first.size
    for j in range(first.size):
        places[at_places + 1 + j] = first[j]
        places[at_places + 1 + first.size + j] = own_term[j]
    B, phi = solve_fixed(equations, factors, L, fixed_rows, at, q)
    to = copy_numbers(phi, store, to)
    to = copy_numbers(norm, store, to)
    to = copy_numbers(null, store, to)
    to = copy_numbers(B, store, to)
    if with_projection:
        to = copy_numbers(project_identity(equations, factors, L, at, q), store, to)
        for s in range(at.size):
            if at[s] >= 0:
                store[to + at[s]] = projected[s, 0]
    return q


@cache
def unit_kernel(with_blups: bool) -> Callable[..., Any]:
    """The kernel ``fit_units``, with what BLUPs need compiled only for plans that want them."""

    @kernel
    def fit_units(
        first_unit, last_unit, sequence, n_labels, ptr, ok, y, codes, numbers, weights, level_counts, fixed,
        random, reml, tables, with_projection, tolerance, max_iterations, offsets, integers, figures,
        out_levels, out_theta, out_natural, out_average, out_bases, out_bounds, out_numbers, store, store_at,
        places, places_at, out_cells, out_blups, out_terms,
    ):  # fmt: skip
        """Fit the units first_unit:last_unit.

        Parameters
        ----------
        sequence : (U,) int64
            The units in the order they are worked on, so that those laid out alike follow each other.
        ptr : (T + 1,) int64; ok : (N,) bool
            Rows of every trial; rows whose explanatory columns are complete.
        y : (n_labels, N); codes : (n_factors, N) int32; numbers : (n_numeric, N); weights : (N,)
        level_counts : (n_factors,) int64
            Levels of each factor in the whole table.
        fixed, random : tuples of ``kernels.trial_design``
        tables : int
            1 when fixed effects are wanted, 2 when means are: leave what ``kernels.trial_rows`` needs.
        with_projection : bool
            Z'PZ is needed, too.
        offsets : (U, 1 + n_factors) int64
            Where the unit's rows start in out_blups, and in out_levels by factor.
        integers : (U, 5 + 2 K + n_factors) int64
            Out: status, n, rank, fixed columns, random coefficients; order and number of levels of the
            random terms; levels of the factors.
        figures : (U, 4)
            Out: criterion, sigma2, iterations, singular.
        out_levels : codes in the table of the levels that occur
        out_theta, out_natural : (U, d); out_average : (U, d + 1, d + 1); out_bases : (U, K, w, w)
        out_bounds : (U, d)
            See `sum_level_bounds`.
        out_numbers : (U, n_numeric)
            Means of the numeric columns.
        store, places, store_at, places_at : float64, int64, (U,), (U,)
            Out: numbers and integers for ``kernels.trial_rows``, and where each unit's start.
        out_cells (rows as out_blups) : cells of the groupings
        out_blups : (., 3) estimate, prediction error variance, conditional variance
        out_terms : (U, K, 4) prior variance of the first coefficient, trace and total of the prediction
            error covariance, mean of the reciprocal replications
        """
        K = random[2].size
        n_factors = codes.shape[0]
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
        local = np.empty((n_factors, 0), np.int64)
        found = np.empty((n_factors, 0), np.int64)
        n_levels = np.zeros(n_factors, np.int64)
        w = np.empty(0)
        for unit in sequence:
            trial, trait = unit // n_labels, unit % n_labels
            u = unit - first_unit
            count = list_rows(ok, y[trait], ptr[trial], ptr[trial + 1], candidate)
            if not (design_trial == trial and count == n and same_rows(rows, candidate, n)):
                design_trial = trial
                earlier, w_earlier, local_earlier, levels_earlier = rows, w, local, n_levels
                n = count
                valid = n > 0
                rows = np.empty(n, np.int64)
                w = np.empty(n)
                for i in range(n):
                    rows[i] = candidate[i]
                    w[i] = weights[rows[i]]
                    valid = valid and w[i] > 0.0 and w[i] < np.inf
                local = np.empty((n_factors, n), np.int64)
                found = np.empty((n_factors, n), np.int64)
                n_levels = np.zeros(n_factors, np.int64)
                for f in range(n_factors):
                    n_levels[f] = number_levels(codes[f], rows, place, local[f], found[f])
                shared = (
                    valid and status == OK and earlier.size == n
                    and same_numbers(w, w_earlier) and same_numbers(n_levels, levels_earlier)
                    and same_numbers(local, local_earlier) and same_covariates(numbers, rows, earlier)
                )  # fmt: skip
                if not shared:
                    status = OK if valid else NO_ROWS if n == 0 else BAD_VALUES
                    if status == OK:
                        status, columns, groups = code_design(fixed, random, local, n_levels, numbers, rows)
                    if status == OK:
                        status, design, equations, search = build_design(
                            fixed, columns, groups, local, n_levels, w, reml, tables
                        )
            integers[u, ROWS] = n
            if status != OK:
                integers[u, STATUS] = status
                continue
            own_y = np.empty(n)
            for i in range(n):
                own_y[i] = y[trait, rows[i]]
            order, counts, group_codes, cells, _, widths, _ = groups
            lead, log_lead, L_fixed, fixed_rows, theta_index, bases, kept, null, norm, p_full = design
            end, numbers_out, theta, factors, L, coefficients, projected, beta, Z = fit_response(
                equations, search, lead, log_lead, L_fixed, fixed_rows, widths, theta_index, w, own_y, reml,
                tolerance, max_iterations,
            )  # fmt: skip
            if end != OK:
                integers[u, STATUS] = end
                continue
            p = fixed_rows.size
            sigma2 = numbers_out[1]
            natural = form_covariances(theta, theta_index, factors)
            integers[u, RANK], integers[u, COLUMNS] = p, p_full
            for c in range(4):
                figures[u, c] = numbers_out[c]
            for k in range(K):
                integers[u, TERMS + k] = order[k]
                integers[u, TERMS + K + k] = counts[k]
            for f in range(n_factors):
                integers[u, TERMS + 2 * K + f] = n_levels[f]
                for r in range(n_levels[f]):
                    out_levels[offsets[u, 1 + f] + r] = found[f, r]
            copy_numbers(bases, out_bases[u].reshape(bases.size), 0)
            copy_numbers(theta, out_theta[u], 0)
            copy_numbers(natural, out_natural[u], 0)
            average = average_information(
                equations, factors, L, theta_index, projected, natural,
                sigma2 * (float(n - p) if reml else float(n)), sigma2,
            )  # fmt: skip
            copy_numbers(average, out_average[u].reshape(average.size), 0)
            for j in range(p):
                places[places_at[u] + j] = kept[j]
            if tables > 0:
                for v in range(numbers.shape[0]):
                    total = 0.0
                    for i in range(n):
                        total += numbers[v, rows[i]]
                    out_numbers[u, v] = total / n
                to = store_at[u]
                for part in (beta, equations[19], equations[20]):
                    to = copy_numbers(part, store, to)
                integers[u, RANDOM] = store_fixed(
                    equations, factors, L, fixed_rows, K, norm, null, projected, with_projection, store, to,
                    places, places_at[u] + p,
                )  # fmt: skip
                if with_projection:
                    sum_level_bounds(equations, theta_index, natural, out_bounds[u])
            if with_blups:
                integers[u, STATUS] = infer_random(
                    u, equations, factors, L, Z, p, K, widths, bases, natural, theta_index, counts, cells,
                    group_codes, sigma2, coefficients, offsets, out_cells, out_blups, out_terms,
                )  # fmt: skip

    return fit_units
