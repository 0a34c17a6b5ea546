"""A run of trials x traits in one call without the interpreter: design and fit of each unit, and BLUPs.

Consecutive traits of a trial with the same missing rows share design, pattern, cross-products and symbolic
analysis; so do trials whose plots are laid out alike, which are worked on one after another.  What
inference on fixed effects needs is left behind as dense arrays for ``kernels.trials.rows``.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np

from fastlmm_core.kernels.compile import fill_integers, kernel
from fastlmm_core.kernels.equations.systems import TrialDesign
from fastlmm_core.kernels.outcomes import (
    BAD_VALUES,
    DEPENDENT,
    NO_ROWS,
    OK,
    ONE_LEVEL,
    TOO_FEW_ROWS,
    TOO_LARGE,
)
from fastlmm_core.kernels.search.information import average_information
from fastlmm_core.kernels.trials.arrays import COLUMNS, RANDOM, RANK, ROWS, STATUS, TERMS
from fastlmm_core.kernels.trials.blups import infer_random
from fastlmm_core.kernels.trials.design import (
    LARGEST_GRAPH,
    code_columns,
    group_trial,
    number_levels,
    place_theta,
    standardize_values,
    start_terms,
)
from fastlmm_core.kernels.trials.equations import (
    build_small_equations,
    factorize_fixed,
    locate_fixed,
    separate_search,
)
from fastlmm_core.kernels.trials.fit import fit_response
from fastlmm_core.kernels.trials.inference import (
    form_covariances,
    number_random,
    project_identity,
    solve_fixed,
)
from fastlmm_core.kernels.trials.layout import (
    largest_count,
    list_rows,
    same_covariates,
    same_numbers,
    same_rows,
)
from fastlmm_core.kernels.trials.rank import find_dependent, has_nested_factor, select_columns


@kernel
def copy_numbers(values, store, at):
    """Append an array, flattened, to `store` from place `at` on; returns the place after it."""
    flat = values.reshape(values.size)
    for i in range(flat.size):
        store[at + i] = flat[i]
    return at + flat.size


@kernel
def code_design(fixed, random, local, n_levels, numbers, rows):
    """Fixed columns and groupings: status, (indptr, indices, data), ``group_trial`` less its status."""
    n = rows.size
    status, groups = group_trial(random, local, n_levels, numbers, rows)
    start = start_terms(fixed, n_levels)
    p = start[start.size - 1]
    nodes = p
    for k in range(groups.counts.size):
        nodes += groups.counts[k]
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
    """status, TrialDesign and TrialEquations of a trial, without the columns that depend on others."""
    _, counts, group_codes, _, values, widths, diagonal = groups
    x_ptr, x_rows, x_data = columns
    K = counts.size
    bases, near = standardize_values(values, widths, diagonal)
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
    if not near:
        status = DEPENDENT
    fixed_rows = locate_fixed(equations, K)
    if status != OK:
        work = np.ones(equations.system.L_indices.size)
    search, lead, log_lead = separate_search(equations, K, work)
    parameters = place_theta(widths, diagonal)
    design = TrialDesign(
        search, lead, log_lead, L_fixed, fixed_rows, parameters, bases, kept, null, norm, p_full
    )  # fmt: skip
    return status, design, equations


@kernel
def store_fixed(equations, design, fit, with_projection, store, u):
    """Leave of unit u what ``trials.rows`` needs: beta, shift, scale, Phi, norms, null vectors, B and, where
    wanted, Z'PZ and Z'Py; returns the number of random scalars.
    """
    pattern = equations.system.pattern
    K, p = design.parameters.sizes.size, design.fixed_rows.size
    at, q, first, own_term = number_random(pattern.start, pattern.term, K)
    places, at_places = store.places, store.places_at[u] + p
    places[at_places] = first.size
    for j in range(first.size):
        places[at_places + 1 + j] = first[j]
        places[at_places + 1 + first.size + j] = own_term[j]
    B, phi = solve_fixed(equations, fit.factors, fit.L, design.fixed_rows, at, q)
    to = store.values_at[u]
    for part in (fit.beta, equations.shift, equations.scale):
        to = copy_numbers(part, store.values, to)
    to = copy_numbers(phi, store.values, to)
    to = copy_numbers(design.norm, store.values, to)
    to = copy_numbers(design.null, store.values, to)
    to = copy_numbers(B, store.values, to)
    if with_projection:
        to = copy_numbers(project_identity(equations, fit.factors, fit.L, at, q), store.values, to)
        for s in range(at.size):
            if at[s] >= 0:
                store.values[to + at[s]] = fit.projected[s, 0]
    return q


@kernel
def read_rows(table, candidate, count, place):
    """Rows of a unit from the first `count` candidates, with weights and levels numbered anew.

    Returns
    -------
    valid : bool
        There are rows, and their weights are positive.
    rows : (n,) int64; w : (n,)
    local : (n_factors, n) int64
        Codes among the levels that occur.
    found : (n_factors, n) int64
        Codes in the table of these levels.
    n_levels : (n_factors,) int64
    """
    n_factors = table.codes.shape[0]
    valid = count > 0
    rows = np.empty(count, np.int64)
    w = np.empty(count)
    for i in range(count):
        rows[i] = candidate[i]
        w[i] = table.weights[rows[i]]
        valid = valid and w[i] > 0.0 and w[i] < np.inf
    local = np.empty((n_factors, count), np.int64)
    found = np.empty((n_factors, count), np.int64)
    n_levels = np.zeros(n_factors, np.int64)
    for f in range(n_factors):
        n_levels[f] = number_levels(table.codes[f], rows, place, local[f], found[f])
    return valid, rows, w, local, found, n_levels


@kernel
def write_levels(u, n_levels, found, order, counts, results):
    """Order and sizes of the random terms, and the levels of the factors, of a unit."""
    integers, K = results.integers[u], order.size
    for k in range(K):
        integers[TERMS + k] = order[k]
        integers[TERMS + K + k] = counts[k]
    for f in range(n_levels.size):
        integers[TERMS + 2 * K + f] = n_levels[f]
        for r in range(n_levels[f]):
            results.levels[results.offsets[u, 1 + f] + r] = found[f, r]


@kernel
def write_parameters(u, numbers, theta, natural, bases, average, results):
    """Figures and variance parameters of a unit."""
    copy_numbers(numbers, results.figures[u], 0)
    copy_numbers(theta, results.theta[u], 0)
    copy_numbers(natural, results.natural[u], 0)
    copy_numbers(bases, results.bases[u].reshape(bases.size), 0)
    copy_numbers(average, results.average[u].reshape(average.size), 0)


@kernel
def average_numbers(numbers, rows, out):
    """Means of the numeric columns (n_numeric, N) over the rows of a unit."""
    for v in range(numbers.shape[0]):
        total = 0.0
        for i in range(rows.size):
            total += numbers[v, rows[i]]
        out[v] = total / rows.size


@cache
def unit_kernel(with_blups: bool) -> Callable[..., Any]:
    """The kernel ``fit_units``, with what BLUPs need compiled only for plans that want them."""

    @kernel
    def fit_units(first, sequence, longest, table, fixed, random, options, results, store, blups):
        """Fit units.

        Parameters
        ----------
        first : int
            Unit of the first row of the results.
        sequence : (U,) int64
            The units in the order they are worked on, so that those laid out alike follow each other.
        longest : int
            Rows of the longest trial among them.
        table : TrialRows
        fixed, random : tuples of ``kernels.trials.design``
        options : FitOptions
        results, store, blups : UnitResults, UnitStore, UnitBlups
            Out.
        """
        integers = results.integers
        place = fill_integers(largest_count(table.level_counts), -1)
        candidate = np.empty(longest, np.int64)
        n_factors = table.codes.shape[0]
        rows, w = np.empty(0, np.int64), np.empty(0)
        local, n_levels = np.empty((n_factors, 0), np.int64), np.zeros(n_factors, np.int64)
        design_trial = -1
        status = NO_ROWS
        for unit in sequence:
            if options.stop[0]:
                break
            trial, trait = unit // table.n_labels, unit % table.n_labels
            u = unit - first
            y = table.y[trait]
            n = list_rows(table.ok, y, table.ptr[trial], table.ptr[trial + 1], candidate)
            if not (design_trial == trial and n == rows.size and same_rows(rows, candidate, n)):
                design_trial = trial
                earlier, w_earlier, local_earlier, levels_earlier = rows, w, local, n_levels
                valid, rows, w, local, found, n_levels = read_rows(table, candidate, n, place)
                shared = (
                    valid and status == OK and earlier.size == n
                    and same_numbers(w, w_earlier) and same_numbers(n_levels, levels_earlier)
                    and same_numbers(local, local_earlier) and same_covariates(table.numbers, rows, earlier)
                )  # fmt: skip
                if not shared:
                    status = OK if valid else NO_ROWS if n == 0 else BAD_VALUES
                    if status == OK:
                        status, columns, groups = code_design(
                            fixed, random, local, n_levels, table.numbers, rows
                        )
                    if status == OK:
                        status, design, equations = build_design(
                            fixed, columns, groups, local, n_levels, w, options.reml, options.tables
                        )
            integers[u, ROWS] = n
            integers[u, STATUS] = status
            if status != OK:
                continue
            own_y = np.empty(n)
            for i in range(n):
                own_y[i] = y[rows[i]]
            integers[u, STATUS], fit = fit_response(
                equations, design, w, own_y, options.reml, options.tolerance, options.max_iterations
            )
            if integers[u, STATUS] != OK:
                continue
            p, sigma2 = design.fixed_rows.size, fit.numbers[1]
            natural = form_covariances(fit.theta, design.parameters, fit.factors)
            average = average_information(
                equations, fit.factors, fit.L, design.parameters, fit.projected, natural,
                sigma2 * (float(n - p) if options.reml else float(n)), sigma2,
            )  # fmt: skip
            integers[u, RANK], integers[u, COLUMNS] = p, design.p_full
            write_levels(u, n_levels, found, groups.order, groups.counts, results)
            write_parameters(u, fit.numbers, fit.theta, natural, design.bases, average, results)
            for j in range(p):
                store.places[store.places_at[u] + j] = design.kept[j]
            if options.tables > 0:
                average_numbers(table.numbers, rows, results.numbers[u])
                integers[u, RANDOM] = store_fixed(equations, design, fit, options.with_projection, store, u)
            if with_blups:
                integers[u, STATUS] = infer_random(
                    equations, design, groups, fit, natural, results.offsets[u, 0], blups, blups.terms[u]
                )

    return fit_units
