"""Contrasts among the marginal means of one fitted unit, by weights."""

from __future__ import annotations

import numpy as np

from fastlmm_core.kernels.compile import kernel
from fastlmm_core.kernels.thresholds import ESTIMABLE
from fastlmm_core.kernels.trials.inference import judge_rows, multiply_pairs

BLOCK = 32  # contrasts that are judged at a time, so that what they are judged by stays in the cache


@kernel
def combine_rows(rows, weights, base, first, covariance, own_b, own_h, own_phi, out):
    """Estimates, column 0 of `out` (c, 3), and b, h and K Phi K' of the contrasts from `first` on.

    Parameters
    ----------
    weights : (ptr, mean, data) of `infer_contrasts`
    base : int
        The mean that is counted as 0.
    covariance : (k, k)
        K Phi K' of the means.
    """
    _, estimates, b, h, _, _, _ = rows
    ptr, mean, data = weights
    _, d, q = h.shape
    for c in range(own_phi.size):
        lo, hi = ptr[first + c], ptr[first + c + 1]
        estimate, variance = 0.0, 0.0
        for e in range(q):
            own_b[c, e] = 0.0
            for j in range(d):
                own_h[c, j, e] = 0.0
        for s in range(lo, hi):
            i, w = base + mean[s], data[s]
            estimate += w * estimates[i]
            for t in range(lo, hi):
                variance += w * data[t] * covariance[mean[s], mean[t]]
            for e in range(q):
                own_b[c, e] += w * b[i, e]
            for j in range(d):
                for e in range(q):
                    own_h[c, j, e] += w * h[i, j, e]
        out[c, 0], own_phi[c] = estimate, variance


@kernel
def infer_contrasts(weights, family, k, rows, variances, out_contrasts, first):
    """Figures of the contrasts among every k consecutive means; returns the number of contrasts.

    Parameters
    ----------
    weights : tuple
        Families one after another as sparse rows: family f has the rows start[f]:start[f + 1], and row c the
        weights data[ptr[c]:ptr[c + 1]] of the means mean[ptr[c]:ptr[c + 1]], counted within each k.
    family : int
    rows : UnitRows
        The means.
    variances : Variances
    out_contrasts : (., 3)
    first : int
        Its row where the unit's contrasts start.
    """
    inside, _, _, h, K_phi, products, norms = rows
    start, ptr, mean, data = weights
    r, d, q = h.shape
    covariance = np.empty((k, k))
    own_b, own_h, own_phi = np.empty((BLOCK, q)), np.empty((BLOCK, d, q)), np.empty(BLOCK)
    to = first
    for base in range(0, r, k):
        multiply_pairs(inside, K_phi, base, k, covariance)
        for c in range(start[family], start[family + 1], BLOCK):
            count = min(BLOCK, start[family + 1] - c)
            own = out_contrasts[to : to + count]
            combine_rows(rows, (ptr, mean, data), base, c, covariance, own_b, own_h, own_phi[:count], own)
            judge_rows(own_b, own_h, own_phi[:count], variances, own)
            for s in range(count):
                lo, hi = ptr[c + s], ptr[c + s + 1]
                if not combines_to_zero(products, norms, base, mean, data, lo, hi):
                    own[s, 0], own[s, 1], own[s, 2] = np.nan, np.nan, np.nan
            to += count
    return to - first


@kernel
def combines_to_zero(products, norms, base, mean, data, lo, hi):
    """Whether a combination of rows is orthogonal to every null vector."""
    size = 0.0
    for s in range(lo, hi):
        size += abs(data[s]) * norms[base + mean[s]]
    for a in range(products.shape[1]):
        total = 0.0
        for s in range(lo, hi):
            total += data[s] * products[base + mean[s], a]
        if abs(total) > ESTIMABLE * max(size, 1e-300):
            return False
    return True
