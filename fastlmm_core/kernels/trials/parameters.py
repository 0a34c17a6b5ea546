"""Covariance of the variance parameters of fitted units, and where each unit's numbers are stored."""

from __future__ import annotations

import numpy as np

from fastlmm_core.kernels.compile import kernel
from fastlmm_core.kernels.eigenvalues import diagonalize
from fastlmm_core.kernels.outcomes import OK
from fastlmm_core.kernels.search.information import expected_information, invert_information
from fastlmm_core.kernels.thresholds import UNCURVED
from fastlmm_core.kernels.trials.arrays import COLUMNS, RANDOM, RANK, ROWS, STATUS, TERMS
from fastlmm_core.kernels.trials.design import place_theta
from fastlmm_core.kernels.trials.inference import KENWARD_ROGER, list_directions, with_fixed_part


@kernel
def read_sizes(integers):
    """Rows, rank, fixed columns and random coefficients of a unit."""
    return integers[ROWS], integers[RANK], integers[COLUMNS], integers[RANDOM]


@kernel
def place_parameters(random, integers):
    """Where theta sits (``trials.design.place_theta``) in a unit with its own order of the random terms."""
    K = random[2].size
    widths = np.empty(K, np.int64)
    diagonal = np.empty(K, np.int64)
    for k in range(K):
        widths[k] = random[2][integers[TERMS + k]]
        diagonal[k] = random[5][integers[TERMS + k]]
    return place_theta(widths, diagonal)


@kernel
def read_nodes(places, at, p):
    """Kept columns (p,) and the random nodes (first, own_term) of a unit."""
    kept = np.empty(p, np.int64)
    for j in range(p):
        kept[j] = places[at + j]
    count = places[at + p]
    first = np.empty(count, np.int64)
    term = np.empty(count, np.int64)
    for j in range(count):
        first[j] = places[at + p + 1 + j]
        term[j] = places[at + p + 1 + count + j]
    return kept, (first, term)


@kernel
def locate_numbers(p, p_full, q):
    """Places of beta, shift, scale, Phi, norms, null vectors, B, Z'PZ and Z'Py in a unit's `store`."""
    at = np.zeros(10, np.int64)
    lost = p_full - p
    sizes = (p, p, p, p * p, p_full if lost else 0, p_full * lost, p * q, q * q, q)
    for k in range(9):
        at[k + 1] = at[k] + sizes[k]
    return at


@kernel
def judge_parameters(mode, reml, random, results, store, out, status):
    """Covariance of (sigma2 t, sigma2) of every unit, out (U, d + 1, d + 1), for Kenward-Roger from the
    expected information, for Satterthwaite from the observed one.

    `results`, `store` : ``trials.arrays.UnitResults``, ``trials.arrays.UnitStore``.
    """
    d = results.theta.shape[1]
    for u in range(status.size):
        if results.integers[u, STATUS] != OK:
            continue
        n, p, p_full, q = read_sizes(results.integers[u])
        _, nodes = read_nodes(store.places, store.places_at[u], p)
        parameters = place_parameters(random, results.integers[u])
        at = locate_numbers(p, p_full, q) + store.values_at[u]
        M = store.values[at[7] : at[8]].reshape(q, q)
        if not reml:
            phi = store.values[at[3] : at[4]].reshape(p, p)
            M = with_fixed_part(M, store.values[at[6] : at[7]].reshape(p, q), phi)
        directions = list_directions(nodes[0], nodes[1], parameters)
        dof = float(n - p) if reml else float(n)
        sigma2 = results.figures[u, 1]
        natural = results.natural[u]
        expected = expected_information(M, directions, natural, dof)
        if mode == KENWARD_ROGER:
            status[u], found = invert_information(expected, sigma2)
        else:
            found = invert_observed(
                M, store.values[at[8] : at[9]], nodes, parameters, results.theta[u], natural,
                results.average[u], expected, sigma2, dof,
            )  # fmt: skip
        for i in range(d + 1):
            for j in range(d + 1):
                out[u, i, j] = found[i, j]


@kernel
def differentiate_covariance(theta, parameters):
    """J (d, d): derivative of the natural parameter t_j = T[row, col] in theta_s, T = Lambda Lambda'."""
    _, theta_term, theta_row, theta_col = parameters
    d = theta.size
    J = np.zeros((d, d))
    for j in range(d):
        for s in range(d):
            if theta_term[s] != theta_term[j]:
                continue
            for t in range(d):  # Lambda[row of t, col of s]
                if theta_term[t] == theta_term[s] and theta_col[t] == theta_col[s]:
                    if theta_row[s] == theta_row[j] and theta_row[t] == theta_col[j]:
                        J[j, s] += theta[t]
                    if theta_row[s] == theta_col[j] and theta_row[t] == theta_row[j]:
                        J[j, s] += theta[t]
    return J


@kernel
def invert_observed(M, Zy, nodes, parameters, theta, natural, average, expected, sigma2, dof):
    """Covariance (d + 1, d + 1) as in ``satterthwaite.parameter_covariance``."""
    first, term = nodes
    _, theta_term, theta_row, theta_col = parameters
    d = theta.size
    J = differentiate_covariance(theta, parameters)
    S = np.zeros((d, d))
    quadratic = np.zeros(d)
    for s in range(d):
        for a in range(term.size):
            if term[a] == theta_term[s]:
                x, y = first[a] + theta_row[s], first[a] + theta_col[s]
                quadratic[s] += Zy[x] * Zy[y] * (1.0 if x == y else 2.0)
        for t in range(d):
            if theta_term[s] == theta_term[t] and theta_col[s] == theta_col[t]:
                for a in range(term.size):
                    if term[a] == theta_term[s]:
                        x, y = first[a] + theta_row[s], first[a] + theta_row[t]
                        S[s, t] += M[x, y] - Zy[x] * Zy[y] / sigma2
    H = np.zeros((d + 1, d + 1))
    for s in range(d):
        for t in range(d):
            H[s, t] = 2.0 * S[s, t]
            for i in range(d):
                for j in range(d):
                    H[s, t] += J[i, s] * (2.0 * average[i, j] - expected[i, j]) * J[j, t]
        for j in range(d):
            H[s, d] += quadratic[j] * J[j, s] / (sigma2 * sigma2)
        H[d, s] = H[s, d]
    H[d, d] = dof / (sigma2 * sigma2)
    scale = np.empty(d + 1)
    for i in range(d + 1):
        scale[i] = np.sqrt(abs(H[i, i])) if H[i, i] != 0.0 else 1.0
    for i in range(d + 1):
        for j in range(d + 1):
            H[i, j] = 0.5 * (H[i, j] + H[j, i]) if i < j else H[i, j]
            if i < j:
                H[j, i] = H[i, j]
    for i in range(d + 1):
        for j in range(d + 1):
            H[i, j] /= scale[i] * scale[j]
    values, vectors = diagonalize(H)
    out = np.zeros((d + 1, d + 1))
    half = np.empty(d + 1)
    for k in range(d + 1):
        if not values[k] > UNCURVED:
            continue
        for i in range(d):
            half[i] = natural[i] * vectors[d, k] / scale[d]
            for s in range(d):
                half[i] += sigma2 * J[i, s] * vectors[s, k] / scale[s]
        half[d] = vectors[d, k] / scale[d]
        for i in range(d + 1):
            for j in range(d + 1):
                out[i, j] += 2.0 * half[i] * half[j] / values[k]
    return out
