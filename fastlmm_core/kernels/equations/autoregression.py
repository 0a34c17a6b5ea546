"""Products with the correlation matrix of an autoregression, by its recursion instead of its L^2 entries."""

from __future__ import annotations

import numpy as np

from fastlmm_core.kernels.compile import kernel


@kernel
def correlate_positions(decay, V):
    """R V along the middle axis of V (b, L, r): neighbours i - 1 and i have the correlation decay_i, and R_ij
    is the product.

    What comes from before a position, with it, and from behind: both run f_i = v_i + decay_i f_(i-1), which
    for decay > 0 and v > 0 subtracts nothing, as exact at a correlation of 1 as elsewhere, where a solve with
    the tridiagonal inverse is not. A decay of 0 begins another series; that of the first is not read.
    """
    blocks, size, count = V.shape
    out = np.empty_like(V)
    carried = np.empty(count)
    for b in range(blocks):
        carried[:] = 0.0
        for i in range(size):
            for c in range(count):
                carried[c] = V[b, i, c] + decay[i] * carried[c]
                out[b, i, c] = carried[c]
        carried[:] = 0.0
        for i in range(size - 2, -1, -1):
            for c in range(count):
                carried[c] = decay[i + 1] * (V[b, i + 1, c] + carried[c])
                out[b, i, c] += carried[c]
    return out
