"""Fixed columns of one trial that depend on others, found and left out."""

from __future__ import annotations

import numpy as np

from fastlmm_core.kernels.compile import fill_integers, kernel
from fastlmm_core.kernels.thresholds import NULL_ROUNDING, RANK_FLOOR, RANK_TOLERANCE


@kernel
def find_dependent(indptr, indices, data, n):
    """Columns that depend on earlier ones, as ``design.coding.rank`` decides it, by Gram-Schmidt.

    Returns
    -------
    kept : (r,) int64
    null : (p, p - r) float64
        Null vectors with entry 1 at the columns dropped, in their order.
    norm : (p,) float64
        Lengths of the columns, sqrt(n) for empty ones.
    """
    p = indptr.size - 1
    norm = np.empty(p)
    Q = np.zeros((min(n, p), n))
    R = np.zeros((p, p))
    v = np.empty(n)
    kept = np.empty(p, np.int64)
    dropped = np.empty(p, np.int64)
    r = 0
    for j in range(p):
        square = 0.0
        total = 0.0
        for t in range(indptr[j], indptr[j + 1]):
            square += data[t] * data[t]
            total += data[t]
        norm[j] = np.sqrt(square)
        safe = norm[j] if norm[j] > 0.0 else 1.0
        centred = (n - indptr[j + 1] + indptr[j]) * (total / n) ** 2
        for i in range(n):
            v[i] = 0.0
        for t in range(indptr[j], indptr[j + 1]):
            v[indices[t]] = data[t] / safe
            centred += (data[t] - total / n) ** 2
        tolerance = max(RANK_TOLERANCE * np.sqrt(centred) / safe, RANK_FLOOR)
        for _ in range(2):
            for k in range(r):
                product = 0.0
                for i in range(n):
                    product += Q[k, i] * v[i]
                R[k, j] += product
                for i in range(n):
                    v[i] -= product * Q[k, i]
        size = 0.0
        for i in range(n):
            size += v[i] * v[i]
        size = np.sqrt(size)
        if size > tolerance and r < n:
            for i in range(n):
                Q[r, i] = v[i] / size
            R[r, j] = size
            kept[r] = j
            r += 1
        else:
            dropped[j - r] = j
    null = np.zeros((p, p - r))
    for c in range(p - r):
        j = dropped[c]
        null[j, c] = 1.0
        for a in range(r - 1, -1, -1):
            total = -R[a, j]
            for b in range(a + 1, r):
                total -= R[a, kept[b]] * null[kept[b], c]
            null[kept[a], c] = total / R[a, kept[a]]
        for a in range(r):
            if abs(null[kept[a], c]) < NULL_ROUNDING:
                null[kept[a], c] = 0.0
        own = norm[j] if norm[j] > 0.0 else 1.0
        for a in range(r):
            null[kept[a], c] *= own / norm[kept[a]]
    for j in range(p):
        if norm[j] == 0.0:
            norm[j] = np.sqrt(n)
    return kept[:r].copy(), null, norm


@kernel
def has_nested_factor(fixed, local, n_levels):
    """Whether a factor of the fixed part has each of its levels with one level of another factor only."""
    variable, kind = fixed[2], fixed[3]
    for a in range(variable.size):
        for b in range(variable.size):
            inner, outer = variable[a], variable[b]
            if kind[a] == 2 or kind[b] == 2 or inner == outer:
                continue
            partner = fill_integers(n_levels[inner], -1)
            nested = True
            for i in range(local.shape[1]):
                level = local[inner, i]
                if partner[level] < 0:
                    partner[level] = local[outer, i]
                elif partner[level] != local[outer, i]:
                    nested = False
                    break
            if nested:
                return True
    return False


@kernel
def select_columns(indptr, indices, data, kept):
    """The columns `kept` of compressed columns."""
    new_indptr = np.zeros(kept.size + 1, np.int32)
    for j in range(kept.size):
        new_indptr[j + 1] = new_indptr[j] + indptr[kept[j] + 1] - indptr[kept[j]]
    new_indices = np.empty(new_indptr[kept.size], np.int32)
    new_data = np.empty(new_indptr[kept.size])
    at = 0
    for j in range(kept.size):
        for t in range(indptr[kept[j]], indptr[kept[j] + 1]):
            new_indices[at] = indices[t]
            new_data[at] = data[t]
            at += 1
    return new_indptr, new_indices, new_data
