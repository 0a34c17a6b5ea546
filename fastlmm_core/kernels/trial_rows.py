"""Inference on fixed effects of a run of fitted units: coefficients, marginal means and contrasts.

Works on what ``kernels.trial_units`` leaves of every unit, so that one fit serves any number of tables.  The
formulas are those of ``kernels.trial_inference``; degrees of freedom are Kenward-Roger's (1997) or
Satterthwaite's, by the covariance of the variance parameters made beforehand.
"""

from __future__ import annotations

import numpy as np

from fastlmm_core.kernels.compile import kernel
from fastlmm_core.kernels.trial_design import (
    BAD_VALUES,
    NO_INFERENCE,
    OK,
    TOO_LARGE,
    place_theta,
    start_terms,
)
from fastlmm_core.kernels.trial_inference import (
    ASYMPTOTIC,
    KENWARD_ROGER,
    SATTERTHWAITE,
    compress_rows,
    expected_information,
    invert_information,
    judge_row,
    multiply_row,
    prepare_rows,
)
from fastlmm_core.kernels.trust_region import diagonalize

PAIRWISE, REVERSED, CONTROL, CONTROL_FIRST, CONTROL_LAST, CONSECUTIVE = 1, 2, 3, 4, 5, 6
CONFOUNDED = 1e-11  # as reml.information.CONFOUNDED
ESTIMABLE = 1e-8  # as linear_functions.ESTIMABLE_TOLERANCE


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
def find_control(kind, wanted, levels, first, r):
    """Place of the control among the r means of one factor, -1 where its level does not occur."""
    if kind == CONTROL:
        for s in range(r):
            if levels[first + s] == wanted:
                return s
        return -1
    return r - 1 if kind == CONTROL_LAST else 0


@kernel
def infer_rows(
    coefficients, mode, level_offsets, integers, figures, fixed, random, natural, cov_parameters, numbers,
    store, store_at, places, places_at, levels, spec, family, offsets, sizes, out_rows, out_contrasts, status,
):  # fmt: skip
    """Figures of one table for every unit: the coefficients, or the marginal means of one specification.

    Parameters
    ----------
    coefficients : bool
        The table of coefficients; else `spec` (factors of the means) and `family` (kind of contrast, code of
        the control in the table) count.
    level_offsets : (U, n_factors) int64
        Where each factor's levels start in `levels`.
    integers, figures, natural, numbers, store, store_at, places, places_at, levels
        As ``trial_units.fit_units`` leaves them.
    cov_parameters : (U, d + 1, d + 1)
        From `judge_parameters`.
    offsets : (U, 2) int64
        Where the unit's rows start in out_rows and out_contrasts.
    sizes : (U, 3) int64
        Out: rows, contrasts, control.
    out_rows, out_contrasts : (., 3) estimate, standard error, df; NaN where not estimable
    status : (U,) int64
        Out; units that are not OK are left alone.
    """
    K_terms = random[2].size
    n_factors = level_offsets.shape[1]
    d = natural.shape[1]
    with_variances = mode == KENWARD_ROGER or mode == SATTERTHWAITE
    for u in range(integers.shape[0]):
        if status[u] != OK:
            continue
        n, p, p_full, q = integers[u, 1], integers[u, 2], integers[u, 3], integers[u, 4]
        n_levels = integers[u, 5 + 2 * K_terms : 5 + 2 * K_terms + n_factors]
        r = 1
        for s in range(spec.size):
            r *= n_levels[spec[s]]
        if coefficients:
            r = p_full
        elif r > n:
            status[u] = TOO_LARGE
            continue
        K = np.zeros((r, p_full))
        if coefficients:
            for j in range(r):
                K[j, j] = 1.0
        else:
            fill_mean_rows(fixed, start_terms(fixed, n_levels), spec, n_levels, numbers[u], K)
        kept, nodes = read_nodes(places, places_at[u], p)
        theta_index = index_theta(random, integers[u, 5 : 5 + K_terms], K_terms)
        at = locate_numbers(p, p_full, q) + store_at[u]
        beta, shift, scale = store[at[0] : at[1]], store[at[1] : at[2]], store[at[2] : at[3]]
        phi = store[at[3] : at[4]].reshape(p, p)
        lost = p_full - p
        products = np.zeros((r, lost))
        norms = np.ones(r)
        if coefficients:
            for j in range(r):
                norms[j] = -1.0
            for j in range(p):
                norms[kept[j]] = 1.0
        elif lost:
            multiply_null(
                K, store[at[5] : at[6]].reshape(p_full, lost), store[at[4] : at[5]], products, norms
            )
        B = store[at[6] : at[7]].reshape(p, q)
        M = store[at[7] : (at[8] if mode == KENWARD_ROGER else at[7])].reshape(
            q if mode == KENWARD_ROGER else 0, q
        )
        inside = compress_rows(K, kept, shift, scale)
        b, h, K_phi = prepare_rows(inside, B, phi, M, nodes, theta_index, d, mode == KENWARD_ROGER)
        sigma2 = figures[u, 1]
        part = np.empty(q)
        plain = np.inf if mode == ASYMPTOTIC else float(n - p)
        for i in range(r):
            to = offsets[u, 0] + i
            if not is_estimable(products, norms, i):
                out_rows[to, 0], out_rows[to, 1], out_rows[to, 2] = np.nan, np.nan, np.nan
                continue
            variance = multiply_row(inside, i, K_phi[i])
            se, df = np.sqrt(max(sigma2 * variance, 0.0)), plain
            if with_variances:
                se, df = judge_row(
                    b[i], h[i], variance, nodes, theta_index, natural[u], cov_parameters[u], sigma2, part
                )
            out_rows[to, 0], out_rows[to, 1], out_rows[to, 2] = multiply_row(inside, i, beta), se, df
        sizes[u, 0] = r
        kind = family[0]
        if coefficients or kind == 0:
            continue
        control = find_control(kind, family[1], levels, level_offsets[u, spec[0]], r)
        if control < 0:
            status[u] = BAD_VALUES
            continue
        n_contrasts = r * (r - 1) // 2 if kind == PAIRWISE or kind == REVERSED else r - 1
        sizes[u, 1], sizes[u, 2] = n_contrasts, control
        infer_contrasts(
            kind, control, n_contrasts, inside, beta, b, h, K_phi, products, norms, with_variances, nodes,
            theta_index, natural[u], cov_parameters[u], sigma2, plain, offsets[u, 1], out_contrasts,
        )  # fmt: skip


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
def infer_contrasts(
    kind, control, n_contrasts, inside, beta, b, h, K_phi, products, norms, with_variances, nodes,
    theta_index, natural, cov_parameters, sigma2, plain, first, out_contrasts,
):  # fmt: skip
    """Figures of the contrasts among a unit's means, from the rows `first` of `out_contrasts` on."""
    r, d, q = h.shape
    part = np.empty(q)
    b_row = np.empty(q)
    h_row = np.empty((d, q))
    for c in range(n_contrasts):
        plus, minus = list_contrast(kind, control, r, c)
        to = first + c
        good = True
        for a in range(products.shape[1]):
            difference = products[plus, a] - products[minus, a]
            if abs(difference) > ESTIMABLE * (norms[plus] + norms[minus]):
                good = False
        if not good:
            out_contrasts[to, 0], out_contrasts[to, 1], out_contrasts[to, 2] = np.nan, np.nan, np.nan
            continue
        variance = (
            multiply_row(inside, plus, K_phi[plus]) - 2.0 * multiply_row(inside, plus, K_phi[minus])
            + multiply_row(inside, minus, K_phi[minus])
        )  # fmt: skip
        se, df = np.sqrt(max(sigma2 * variance, 0.0)), plain
        if with_variances:
            for s in range(q):
                b_row[s] = b[plus, s] - b[minus, s]
                for t in range(d):
                    h_row[t, s] = h[plus, t, s] - h[minus, t, s]
            se, df = judge_row(
                b_row, h_row, variance, nodes, theta_index, natural, cov_parameters, sigma2, part
            )
        estimate = multiply_row(inside, plus, beta) - multiply_row(inside, minus, beta)
        out_contrasts[to, 0], out_contrasts[to, 1], out_contrasts[to, 2] = estimate, se, df
