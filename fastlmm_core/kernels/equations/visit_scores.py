"""Sums over visit patterns in the matrices of all visits, where they serve every parameter of Sigma at once.

With R_g = Sigma[g, g] and a change S_t of Sigma, d R_g^-1 = -R_g^-1 S_t[g, g] R_g^-1, so that whatever is
linear or quadratic in it is a sum over patterns of (m, m) or (m m, m m) numbers, contracted with S_t after.
"""

from __future__ import annotations

import numpy as np

from fastlmm_core.kernels.compile import kernel
from fastlmm_core.kernels.equations.visit_products import most_visits, unpack_lower


@kernel
def multiply_leading(A, B, v, out):
    """out = A B of the leading (v, v)."""
    for a in range(v):
        for b in range(v):
            out[a, b] = 0.0
        for k in range(v):
            value = A[a, k]
            for b in range(v):
                out[a, b] += value * B[k, b]


@kernel
def multiply_both_sides(A, X, v, part, out):
    """out = A X A of the leading (v, v)."""
    multiply_leading(A, X, v, part)
    multiply_leading(part, A, v, out)


@kernel
def sum_precisions(patterns, coefficients, out):
    """out (arms, m, m) += R_g^-1 of every subject, in the places of its visits."""
    for g in range(patterns.arm.size):
        start, v = patterns.seen_ptr[g], patterns.seen_ptr[g + 1] - patterns.seen_ptr[g]
        count = (patterns.row_ptr[g + 1] - patterns.row_ptr[g]) // v
        total, at = out[patterns.arm[g]], patterns.first[g]
        for a in range(v):
            for b in range(a + 1):
                i, j = patterns.seen[start + a], patterns.seen[start + b]
                total[i, j] += count * coefficients[at]
                if a != b:
                    total[j, i] += count * coefficients[at]
                at += 1


@kernel
def subtract_weighted_precisions(patterns, coefficients, values, out):
    """out (arms, m, m) -= R_g^-1 Y_g R_g^-1 of every pattern, <Y_g, E_b> = `values` (pieces,)."""
    m = most_visits(patterns)
    inverse, Y, part, both = np.empty((m, m)), np.empty((m, m)), np.empty((m, m)), np.empty((m, m))
    for g in range(patterns.arm.size):
        start, v = patterns.seen_ptr[g], patterns.seen_ptr[g + 1] - patterns.seen_ptr[g]
        unpack_lower(coefficients, patterns.first[g], v, inverse)
        unpack_lower(values, patterns.first[g], v, Y)
        for a in range(v):
            for b in range(v):
                if a != b:
                    Y[a, b] *= 0.5
        multiply_both_sides(inverse, Y, v, part, both)
        total = out[patterns.arm[g]]
        for a in range(v):
            for b in range(v):
                total[patterns.seen[start + a], patterns.seen[start + b]] -= both[a, b]


@kernel
def fill_precision_products(patterns, lo, hi, coefficients, squares, left, right):
    """left (G, m m) = R_g^-1 and right = R_g^-1 X_g R_g^-1 of patterns from `lo` to `hi`, into zeros.

    In the places of their visits; X_g, packed in `squares` (pieces,), are sums of E_s E_s'.
    """
    most, m = most_visits(patterns), int(np.sqrt(left.shape[1]) + 0.5)
    inverse, X = np.empty((most, most)), np.empty((most, most))
    part, both = np.empty((most, most)), np.empty((most, most))
    for g in range(lo, hi):
        start, v = patterns.seen_ptr[g], patterns.seen_ptr[g + 1] - patterns.seen_ptr[g]
        unpack_lower(coefficients, patterns.first[g], v, inverse)
        unpack_lower(squares, patterns.first[g], v, X)
        multiply_both_sides(inverse, X, v, part, both)
        for a in range(v):
            for b in range(v):
                at = patterns.seen[start + a] * m + patterns.seen[start + b]
                left[g - lo, at] = inverse[a, b]
                right[g - lo, at] = both[a, b]


@kernel
def sum_scaled_products(patterns, coefficients, matrix, root, E, out):
    """out (arms, m, m, q) += (R_g^-1 W_s)_a (R_g^-1 E_s)_b over all subjects.

    Of the compressed rows of W (n, q), which `root` (n,) weights, and the weighted E (n,).
    """
    indptr, indices, data = matrix
    most, q = most_visits(patterns), out.shape[3]
    inverse, own = np.empty((most, most)), np.empty(most)
    sums, scaled = np.empty((most, most * q)), np.empty(most * q)
    for g in range(patterns.arm.size):
        start, v = patterns.seen_ptr[g], patterns.seen_ptr[g + 1] - patterns.seen_ptr[g]
        unpack_lower(coefficients, patterns.first[g], v, inverse)
        for k in range(v):
            for x in range(v * q):
                sums[k, x] = 0.0
        for s in range(patterns.row_ptr[g], patterns.row_ptr[g + 1], v):
            for b in range(v):
                own[b] = 0.0
            for k in range(v):
                value = E[patterns.rows[s + k]]
                for b in range(v):
                    own[b] += inverse[k, b] * value
            for k in range(v):
                i = patterns.rows[s + k]
                for t in range(indptr[i], indptr[i + 1]):
                    value = root[i] * data[t]
                    for b in range(v):
                        sums[k, b * q + indices[t]] += value * own[b]
        total = out[patterns.arm[g]]
        for a in range(v):
            for x in range(v * q):
                scaled[x] = 0.0
            for k in range(v):
                value = inverse[a, k]
                for x in range(v * q):
                    scaled[x] += value * sums[k, x]
            for b in range(v):
                into = total[patterns.seen[start + a], patterns.seen[start + b]]
                for j in range(q):
                    into[j] += scaled[b * q + j]
