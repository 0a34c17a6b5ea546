"""Sums over the subjects of every visit pattern, and the covariances of the patterns.

Symmetric (v, v) matrices of a pattern are packed by the rows of their lower triangle, their pieces:
(a, b) at a (a + 1) / 2 + b.  Every kernel runs over all patterns, because most have few visits and subjects.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from fastlmm_core.kernels.compile import kernel


class Patterns(NamedTuple):
    """Subjects by the visits they were seen at; G patterns, arrays that the kernels take as one argument.

    Attributes
    ----------
    arm : (G,) int64
    seen_ptr : (G + 1,) int64, seen : int64
        Visits of each pattern.
    row_ptr : (G + 1,) int64, rows : (n,) int64
        Rows of the table by pattern, within it by subject, within it by visit.
    first : (G + 1,) int64
        First piece of each pattern.
    square : (G + 1,) int64
        First entry of each pattern where full (v, v) matrices follow one another.
    """

    arm: np.ndarray
    seen_ptr: np.ndarray
    seen: np.ndarray
    row_ptr: np.ndarray
    rows: np.ndarray
    first: np.ndarray
    square: np.ndarray


@kernel
def factorize_lower(L, v):
    """Cholesky factor of the leading (v, v) of L in its place, from the lower triangle; log-determinant.

    NaN where it is not positive definite.
    """
    log = 0.0
    for j in range(v):
        pivot = L[j, j]
        for k in range(j):
            pivot -= L[j, k] * L[j, k]
        if not pivot > 0.0:
            return np.nan
        L[j, j] = np.sqrt(pivot)
        log += np.log(pivot)
        for i in range(j + 1, v):
            value = L[i, j]
            for k in range(j):
                value -= L[i, k] * L[j, k]
            L[i, j] = value / L[j, j]
    return log


@kernel
def invert_lower(L, v):
    """Inverse of the lower triangle of the leading (v, v) of L, in its place."""
    for j in range(v):
        L[j, j] = 1.0 / L[j, j]
        for i in range(j + 1, v):
            value = 0.0
            for k in range(j, i):
                value -= L[i, k] * L[k, j]
            L[i, j] = value / L[i, i]


@kernel
def invert_patterns(patterns, sigma, coefficients, logs):
    """Entries of R_g^-1 (pieces,) and log |R_g| (G,) of R_g = Sigma[g, g]; whether all have an inverse.

    `sigma` (arms, m, m) are the covariances of all visits.
    """
    L = np.empty((sigma.shape[1], sigma.shape[1]))
    for g in range(patterns.arm.size):
        start, v = patterns.seen_ptr[g], patterns.seen_ptr[g + 1] - patterns.seen_ptr[g]
        for a in range(v):
            for b in range(a + 1):
                L[a, b] = sigma[patterns.arm[g], patterns.seen[start + a], patterns.seen[start + b]]
        logs[g] = factorize_lower(L, v)
        if np.isnan(logs[g]):
            return False
        invert_lower(L, v)
        at = patterns.first[g]
        for a in range(v):
            for b in range(a + 1):
                value = 0.0
                for k in range(a, v):
                    value += L[k, a] * L[k, b]
                coefficients[at] = value
                at += 1
    return True


@kernel
def unpack_lower(packed, at, v, out):
    """The symmetric leading (v, v) of `out` from its lower triangle by rows at `at`."""
    for a in range(v):
        for b in range(a + 1):
            out[a, b] = packed[at]
            out[b, a] = packed[at]
            at += 1


@kernel
def differentiate_patterns(patterns, coefficients, slopes, place, jacobian):
    """Derivatives of the entries of R_g^-1 (t, pieces), into zeros.

    `slopes` (t, m, m) are dSigma of the arm that a parameter belongs to, whose parameters are
    `place[arm]:place[arm + 1]`.
    """
    m = slopes.shape[1]
    inverse, part = np.empty((m, m)), np.empty((m, m))
    for g in range(patterns.arm.size):
        start, v = patterns.seen_ptr[g], patterns.seen_ptr[g + 1] - patterns.seen_ptr[g]
        unpack_lower(coefficients, patterns.first[g], v, inverse)
        for t in range(place[patterns.arm[g]], place[patterns.arm[g] + 1]):
            for a in range(v):
                for b in range(v):
                    part[a, b] = 0.0
            for k in range(v):
                for b in range(v):  # most slopes have a row and a column
                    slope = slopes[t, patterns.seen[start + k], patterns.seen[start + b]]
                    if slope != 0.0:
                        for a in range(v):
                            part[a, b] += inverse[a, k] * slope
            at = patterns.first[g]
            for a in range(v):
                row = jacobian[t, at : at + a + 1]
                for k in range(v):
                    value = part[a, k]
                    for b in range(a + 1):
                        row[b] -= value * inverse[k, b]
                at += a + 1


@kernel
def most_visits(patterns):
    """Visits of the longest pattern."""
    most = 0
    for g in range(patterns.arm.size):
        most = max(most, patterns.seen_ptr[g + 1] - patterns.seen_ptr[g])
    return most


@kernel
def sum_squares(patterns, E, out):
    """out (pieces,) = sum over the subjects of E_sa E_sb, for E (n,), on and below the diagonal."""
    own = np.empty(most_visits(patterns))
    for g in range(patterns.arm.size):
        v = patterns.seen_ptr[g + 1] - patterns.seen_ptr[g]
        for at in range(patterns.first[g], patterns.first[g + 1]):
            out[at] = 0.0
        for s in range(patterns.row_ptr[g], patterns.row_ptr[g + 1], v):
            for a in range(v):
                own[a] = E[patterns.rows[s + a]]
            at = patterns.first[g]
            for a in range(v):
                row = out[at : at + a + 1]
                for b in range(a + 1):
                    row[b] += own[a] * own[b]
                at += a + 1


@kernel
def multiply_patterns(patterns, packed, root, V, out):
    """out (n, r) = W^(1/2) blockdiag(packed matrices) W^(1/2) V; `root` (n,) are the roots of the weights."""
    most, r = most_visits(patterns), V.shape[1]
    full, total, scaled = np.empty((most, most)), np.empty((most, r)), np.empty((most, r))
    for g in range(patterns.arm.size):
        v = patterns.seen_ptr[g + 1] - patterns.seen_ptr[g]
        unpack_lower(packed, patterns.first[g], v, full)
        for s in range(patterns.row_ptr[g], patterns.row_ptr[g + 1], v):
            for b in range(v):
                j = patterns.rows[s + b]
                for c in range(r):
                    scaled[b, c] = root[j] * V[j, c]
                    total[b, c] = 0.0
            if r == 1:
                for b in range(v):
                    for a in range(v):
                        total[a, 0] += full[b, a] * scaled[b, 0]
            else:
                for a in range(v):
                    for b in range(v):
                        for c in range(r):
                            total[a, c] += full[a, b] * scaled[b, c]
            for a in range(v):
                i = patterns.rows[s + a]
                for c in range(r):
                    out[i, c] = root[i] * total[a, c]


@kernel
def sum_visit_products(patterns, lo, hi, matrix, root, E, out):
    """out (q, pieces) += W' E_b' E of every piece of the patterns from `lo` to `hi`, columns from theirs on.

    Of the compressed rows of W (n, q) and the weighted E (n,): sum_s root_sa W_(sa, j) E_sb, with a and b in
    either order off the diagonal.
    """
    indptr, indices, data = matrix
    own = np.empty(most_visits(patterns))
    for g in range(lo, hi):
        v = patterns.seen_ptr[g + 1] - patterns.seen_ptr[g]
        base = patterns.first[g] - patterns.first[lo]
        for s in range(patterns.row_ptr[g], patterns.row_ptr[g + 1], v):
            for b in range(v):
                own[b] = E[patterns.rows[s + b]]
            for a in range(v):
                i = patterns.rows[s + a]
                for t in range(indptr[i], indptr[i + 1]):
                    value = root[i] * data[t]
                    row = out[indices[t]]
                    at = base + a * (a + 1) // 2
                    for b in range(a + 1):
                        row[at + b] += value * own[b]
                    at += a
                    for b in range(a + 1, v):
                        at += b
                        row[at] += value * own[b]


@kernel
def fill_score_factors(patterns, lo, hi, squares, sigma, pieces, left, right):
    """left (t, squares) = D_t X_g and right = R_g D_t of the patterns from `lo` to `hi`.

    X_g, packed in `squares` (pieces,), are sums of E_s E_s'; D_t are packed in `pieces` (t, pieces):
    <left_t, right_u> is the sum over the subjects of E_s' D_t R_g D_u E_s.
    """
    m = sigma.shape[1]
    X, D, S = np.empty((m, m)), np.empty((m, m)), np.empty((m, m))
    for g in range(lo, hi):
        start, v = patterns.seen_ptr[g], patterns.seen_ptr[g + 1] - patterns.seen_ptr[g]
        base = patterns.square[g] - patterns.square[lo]
        unpack_lower(squares, patterns.first[g], v, X)
        for a in range(v):
            for b in range(v):
                S[a, b] = sigma[patterns.arm[g], patterns.seen[start + a], patterns.seen[start + b]]
        for t in range(pieces.shape[0]):
            unpack_lower(pieces[t], patterns.first[g], v, D)
            for a in range(v):
                at = base + a * v
                one, other = left[t, at : at + v], right[t, at : at + v]
                for b in range(v):
                    one[b] = 0.0
                    other[b] = 0.0
                for k in range(v):
                    own, cross = D[a, k], S[a, k]
                    for b in range(v):
                        one[b] += own * X[k, b]
                        other[b] += cross * D[k, b]
