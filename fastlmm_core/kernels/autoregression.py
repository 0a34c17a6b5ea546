"""Products with the correlation matrix of an autoregression, by its recursion instead of its L^2 entries."""

from __future__ import annotations

import numpy as np

from fastlmm_core.kernels.compile import kernel


@kernel
def correlate_positions(rho, V):
    """R V for V (L, r), R_ij = rho^|i - j|: what comes from before a position, with it, and from behind.

    Both run f_i = v_i + rho f_(i-1), which for rho > 0 and v > 0 subtracts nothing: as exact at rho = 1 as
    elsewhere, where a solve with the tridiagonal inverse is not.
    """
    size, count = V.shape
    out = np.empty_like(V)
    carried = np.zeros(count)
    for i in range(size):
        for c in range(count):
            carried[c] = V[i, c] + rho * carried[c]
            out[i, c] = carried[c]
    carried[:] = 0.0
    for i in range(size - 1, -1, -1):
        for c in range(count):
            out[i, c] += rho * carried[c]
            carried[c] = V[i, c] + rho * carried[c]
    return out
