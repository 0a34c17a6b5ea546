"""Where the search for the variance parameters begins."""

from __future__ import annotations

import numpy as np

from fastlmm_core.kernels.score import sum_squared_blocks
from fastlmm_core.reml.equations import MixedModelEquations
from fastlmm_core.reml.objective import Response


def starting_values(equations: MixedModelEquations, response: Response) -> np.ndarray:
    """Starting theta (n_theta,) from moments: MINQUE with V proportional to I (Rao 1971).

    The sums of squares of Z_k' r, r the least squares residual, are equated to their expectations
    sum_h T_h tr(Z_k' Z_h Z_h' Z_k) + sigma2 tr(Z_k' Z_k), the fixed part neglected.  The coefficients
    are read off the cross-products.  Variances that come out small or negative start at a hundredth of the
    residual, never at zero, where the search could not start.
    """
    e, K = equations, len(equations.terms)
    width = e.width
    squares = np.zeros((K, width, K, width))
    layout = e.layout
    sum_squared_blocks(e.G, e.indptr, e.below_ptr, e.below, layout.start, layout.term, K, squares)
    used = np.concatenate([k * width + np.arange(t.m) for k, t in enumerate(e.terms)])
    d = used.size
    diagonal = np.concatenate([e.G[e.indptr[rows]].sum(axis=0) for rows in layout.random_rows])
    observed = np.concatenate([(response.rhs[rows, 0] ** 2).sum(axis=0) for rows in layout.random_rows])
    A = np.empty((d + 1, d + 1))
    A[:d, :d] = squares.reshape(K * width, K * width)[np.ix_(used, used)]
    A[:d, d] = A[d, :d] = diagonal
    A[d, d] = e.n
    b = np.append(observed, response.yy)
    scale = 1.0 / np.sqrt(np.diag(A))
    moments = scale * np.linalg.lstsq(A * np.outer(scale, scale), scale * b, rcond=1e-8)[0]
    residual = max(float(moments[d]), 0.05 * response.yy / e.n)
    ratio = np.clip(moments[:d] / residual, 0.01, 1e4)
    theta = np.concatenate([t.structure.theta_of(np.eye(t.m)) for t in e.terms])
    theta[e.theta_row == e.theta_col] = np.sqrt(ratio)
    return theta
