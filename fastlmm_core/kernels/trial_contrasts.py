"""Contrasts among the marginal means of one fitted unit, by weights."""

from __future__ import annotations

import numpy as np

from fastlmm_core.kernels.compile import kernel
from fastlmm_core.kernels.trial_inference import judge_row, multiply_row

ESTIMABLE = 1e-8  # as linear_functions.ESTIMABLE_TOLERANCE


@kernel
def judge_function(b, h, variance, variances, part):
    """Standard error and df of a linear function from its b (q,), h (d, q) and K Phi K'; see `Variances`."""
    if variances.counted:
        return judge_row(
            b, h, variance, variances.nodes, variances.parameters, variances.natural, variances.covariance,
            variances.sigma2, part,
        )  # fmt: skip
    return np.sqrt(max(variances.sigma2 * variance, 0.0)), variances.plain


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
    inside, estimates, b, h, K_phi, products, norms = rows
    start, ptr, mean, data = weights
    r, d, q = h.shape
    covariance = np.empty((k, k))
    b_row = np.empty(q)
    h_row = np.empty((d, q))
    part = np.empty(q)
    to = first
    for base in range(0, r, k):
        for i in range(k):
            for j in range(i + 1):
                covariance[i, j] = multiply_row(inside, base + i, K_phi[base + j])
                covariance[j, i] = covariance[i, j]
        for c in range(start[family], start[family + 1]):
            estimate, variance = 0.0, 0.0
            b_row[:] = 0.0
            h_row[:] = 0.0
            for s in range(ptr[c], ptr[c + 1]):
                i, w = base + mean[s], data[s]
                estimate += w * estimates[i]
                for t in range(ptr[c], ptr[c + 1]):
                    variance += w * data[t] * covariance[mean[s], mean[t]]
                for e in range(q):
                    b_row[e] += w * b[i, e]
                    for j in range(d):
                        h_row[j, e] += w * h[i, j, e]
            if combines_to_zero(products, norms, base, mean, data, ptr[c], ptr[c + 1]):
                se, df = judge_function(b_row, h_row, variance, variances, part)
                out_contrasts[to, 0], out_contrasts[to, 1], out_contrasts[to, 2] = estimate, se, df
            else:
                out_contrasts[to, 0], out_contrasts[to, 1], out_contrasts[to, 2] = np.nan, np.nan, np.nan
            to += 1
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
