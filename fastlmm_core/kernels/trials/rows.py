"""Coefficients, marginal means and contrasts of a run of fitted units.

Works on what ``kernels.trials.units`` leaves of every unit, so that one fit serves any number of tables.  The
formulas are those of ``kernels.trials.inference``; degrees of freedom are Kenward-Roger's (1997) or
Satterthwaite's, by the covariance of the variance parameters from ``kernels.trials.parameters``.
"""

from __future__ import annotations

import numpy as np

from fastlmm_core.kernels.compile import kernel
from fastlmm_core.kernels.equations.columns import multiply_columns_transposed
from fastlmm_core.kernels.outcomes import OK, TOO_LARGE
from fastlmm_core.kernels.thresholds import ESTIMABLE
from fastlmm_core.kernels.trials.arrays import TERMS, UnitRows, Variances
from fastlmm_core.kernels.trials.contrasts import infer_contrasts
from fastlmm_core.kernels.trials.design import start_terms
from fastlmm_core.kernels.trials.inference import (
    ASYMPTOTIC,
    KENWARD_ROGER,
    SATTERTHWAITE,
    compress_rows,
    judge_rows,
    list_directions,
    prepare_rows,
)
from fastlmm_core.kernels.trials.parameters import locate_numbers, place_parameters, read_nodes, read_sizes


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
def multiply_null(K, null, norm, products, norms):
    """K N (r, c) and the size it is judged against (r,), as ``Design.null_products``."""
    longest = 0.0
    for c in range(null.shape[1]):
        total = 0.0
        for j in range(norm.size):
            total += (norm[j] * null[j, c]) ** 2
        longest = max(longest, np.sqrt(total))
    for i in range(K.shape[0]):
        square = 0.0
        for j in range(norm.size):
            square += (K[i, j] / norm[j]) ** 2
            if K[i, j] != 0.0:
                for c in range(null.shape[1]):
                    products[i, c] += K[i, j] * null[j, c]
        norms[i] = longest * np.sqrt(square)


@kernel
def make_rows(coefficients, fixed, n_levels, spec, means, r, p_full):
    """Rows K (r, p_full) of the coefficients, or of the means over the levels of the factors `spec`."""
    K = np.zeros((r, p_full))
    if coefficients:
        for j in range(r):
            K[j, j] = 1.0
    else:
        fill_mean_rows(fixed, start_terms(fixed, n_levels), spec, n_levels, means, K)
    return K


@kernel
def judge_estimability(coefficients, K, kept, norm, null):
    """K N (r, c) and norms (r,) as `is_estimable` takes them; a coefficient is dropped or not."""
    r = K.shape[0]
    products = np.zeros((r, null.shape[1]))
    norms = np.ones(r)
    if coefficients:
        for j in range(r):
            norms[j] = -1.0
        for j in range(kept.size):
            norms[kept[j]] = 1.0
    elif null.shape[1] > 0:
        multiply_null(K, null, norm, products, norms)
    return products, norms


@kernel
def is_estimable(products, norms, i):
    """Whether row i is orthogonal to every null vector; a norm below zero marks a column that was dropped."""
    if norms[i] < 0.0:
        return False
    for c in range(products.shape[1]):
        if abs(products[i, c]) > ESTIMABLE * max(norms[i], 1e-300):
            return False
    return True


@kernel
def read_store(store, at, p, p_full, q, with_projection):
    """beta, shift, scale, Phi, norms, null vectors, B and Z'PZ (empty when not needed) of a unit."""
    lost = p_full - p
    M = store[at[7] : (at[8] if with_projection else at[7])].reshape(q if with_projection else 0, q)
    return (
        store[at[0] : at[1]], store[at[1] : at[2]], store[at[2] : at[3]], store[at[3] : at[4]].reshape(p, p),
        store[at[4] : at[5]], store[at[5] : at[6]].reshape(p_full if lost else 0, lost),
        store[at[6] : at[7]].reshape(p, q), M,
    )  # fmt: skip


@kernel
def diagonal_of(inside, K_phi):
    """K Phi K' of every row by itself (r,)."""
    ptr, column, value = inside
    out = np.zeros(ptr.size - 1)
    for i in range(out.size):
        for s in range(ptr[i], ptr[i + 1]):
            out[i] += value[s] * K_phi[i, column[s]]
    return out


@kernel
def infer_rows(question, results, cov_parameters, store, weights, families, into, status):
    """Figures of one table for every unit: the coefficients, or the marginal means of one specification.

    Parameters
    ----------
    question : RowQuestion
    results, store : UnitResults, UnitStore
    cov_parameters : (U, d + 1, d + 1)
        From ``trials.parameters.judge_parameters``.
    weights, families
        Families of contrasts as ``trials.contrasts.infer_contrasts`` takes them, and which of them each unit
        (U,) has; -1 for none.
    into : RowArrays
        Out, but for the means of one family in its sizes.
    status : (U,) int64
        Out; units that are not OK are left alone.
    """
    coefficients, mode, fixed, random, spec, shifts = question
    for u in range(status.size):
        if status[u] != OK:
            continue
        n, p, p_full, q = read_sizes(results.integers[u])
        n_levels = results.integers[u, TERMS + 2 * random[2].size :]
        r = p_full if coefficients else 1
        for s in range(spec.size):
            r *= n_levels[spec[s]]
        if r > n and not coefficients:
            status[u] = TOO_LARGE
            continue
        kept, nodes = read_nodes(store.places, store.places_at[u], p)
        parameters = place_parameters(random, results.integers[u])
        at = locate_numbers(p, p_full, q) + store.values_at[u]
        beta, shift, scale, phi, norm, null, B, M = read_store(
            store.values, at, p, p_full, q, mode == KENWARD_ROGER
        )
        K = make_rows(coefficients, fixed, n_levels, spec, results.numbers[u], r, p_full)
        products, norms = judge_estimability(coefficients, K, kept, norm, null)
        inside = compress_rows(K, kept, shift, scale)
        directions = list_directions(nodes[0], nodes[1], parameters)
        b, h, K_phi = prepare_rows(inside, B, phi, M, directions, mode == KENWARD_ROGER)
        variances = Variances(
            mode == KENWARD_ROGER or mode == SATTERTHWAITE, np.inf if mode == ASYMPTOTIC else float(n - p),
            directions, results.natural[u], cov_parameters[u], results.figures[u, 1],
        )  # fmt: skip
        estimates = multiply_columns_transposed(inside[0], inside[1], inside[2], beta)
        for i in range(r):
            estimates[i] += shifts[u]
        rows = UnitRows(inside, estimates, b, h, K_phi, products, norms)
        own = into.rows[into.offsets[u, 0] : into.offsets[u, 0] + r]
        judge_rows(b, h, diagonal_of(inside, K_phi), variances, own)
        for i in range(r):
            own[i, 0] = estimates[i]
            if not is_estimable(products, norms, i):
                own[i, 0], own[i, 1], own[i, 2] = np.nan, np.nan, np.nan
        into.sizes[u, 0] = r
        if families[u] >= 0:
            into.sizes[u, 1] = infer_contrasts(
                weights, families[u], into.sizes[u, 2], rows, variances, into.contrasts, into.offsets[u, 1]
            )
