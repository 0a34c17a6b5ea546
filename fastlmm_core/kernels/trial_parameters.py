"""Covariance of the variance parameters of fitted units, and where each unit's numbers are stored."""

from __future__ import annotations

import numpy as np

from fastlmm_core.kernels.compile import kernel
from fastlmm_core.kernels.trial_design import NO_INFERENCE, OK, place_theta
from fastlmm_core.kernels.trial_inference import KENWARD_ROGER, expected_information, invert_information
from fastlmm_core.kernels.trust_region import diagonalize

CONFOUNDED = 1e-11  # as reml.information.CONFOUNDED


@kernel
def index_theta(random, own, K):
    """Where theta sits (``trial_design.place_theta``) in a unit with the random terms in the order `own`."""
    widths = np.empty(K, np.int64)
    diagonal = np.empty(K, np.int64)
    for k in range(K):
        widths[k] = random[2][own[k]]
        diagonal[k] = random[5][own[k]]
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
def is_confounded(M, nodes, theta_index, bounds):
    """Whether a variance has tr(P V_j) = 0 to rounding: its term lies within the fixed part."""
    first, term = nodes
    theta_term, theta_row, theta_col = theta_index
    for j in range(bounds.size):
        if theta_row[j] != theta_col[j]:
            continue
        trace = 0.0
        for a in range(term.size):
            if term[a] == theta_term[j]:
                trace += M[first[a] + theta_row[j], first[a] + theta_row[j]]
        if trace <= CONFOUNDED * bounds[j]:
            return True
    return False


@kernel
def judge_parameters(
    mode, integers, figures, reml, random, theta, natural, average, bounds, store, store_at, places,
    places_at, out, status,
):  # fmt: skip
    """Covariance of (sigma2 t, sigma2) of every unit, out (U, d + 1, d + 1), for Kenward-Roger from the
    expected information, for Satterthwaite from the observed one.
    """
    K = random[2].size
    d = theta.shape[1]
    for u in range(integers.shape[0]):
        if integers[u, 0] != OK:
            continue
        n, p, p_full, q = integers[u, 1], integers[u, 2], integers[u, 3], integers[u, 4]
        _, nodes = read_nodes(places, places_at[u], p)
        theta_index = index_theta(random, integers[u, 5 : 5 + K], K)
        at = locate_numbers(p, p_full, q) + store_at[u]
        M = store[at[7] : at[8]].reshape(q, q)
        if is_confounded(M, nodes, theta_index, bounds[u]):
            status[u] = NO_INFERENCE
            continue
        dof = float(n - p) if reml else float(n)
        sigma2 = figures[u, 1]
        expected = expected_information(M, nodes, theta_index, natural[u], dof)
        if mode == KENWARD_ROGER:
            status[u], found = invert_information(expected, sigma2)
        else:
            Zy = store[at[8] : at[9]]
            found = invert_observed(
                M, Zy, nodes, theta_index, theta[u], natural[u], average[u], expected, sigma2, dof
            )
        for i in range(d + 1):
            for j in range(d + 1):
                out[u, i, j] = found[i, j]


@kernel
def differentiate_covariance(theta, theta_index):
    """J (d, d): derivative of the natural parameter t_j = T[row, col] in theta_s, T = Lambda Lambda'."""
    theta_term, theta_row, theta_col = theta_index
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
def invert_observed(M, Zy, nodes, theta_index, theta, natural, average, expected, sigma2, dof):
    """Covariance (d + 1, d + 1) as in ``satterthwaite.parameter_covariance``."""
    first, term = nodes
    theta_term, theta_row, theta_col = theta_index
    d = theta.size
    J = differentiate_covariance(theta, theta_index)
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
        if not values[k] > 1e-8:
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
