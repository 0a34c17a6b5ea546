"""Expected information of the loadings of one term, level by level."""

from __future__ import annotations

import numpy as np

from fastlmm_core.kernels.compile import kernel


@kernel
def add_level(B, K, P, rows, columns, out):
    """out[t, u] += 2 (B[a, d] B[b, c] + K[c, d] P[a, b]) for u <= t.

    t is the entry (a, c) of Lambda and u the entry (b, d), as `rows` and `columns` have them.
    """
    for t in range(rows.size):
        a, c = rows[t], columns[t]
        for u in range(t + 1):
            b, d = rows[u], columns[u]
            out[t, u] += 2.0 * (B[a, d] * B[b, c] + K[c, d] * P[a, b])


@kernel
def sum_level_information(W, C_inv, indptr, natural, spherical, specific, rows, columns, out):
    """The sum over the levels l of ``add_level``, (t, t) and symmetric.

    B_l (m, r) are the rows natural[l] (m,) of W, K_l (r, r) is I less the block of the inverse at the scalars
    spherical[l] (r,) and P_l (m, m) is what is left of the last m columns of B_l divided by `specific` (m,).
    The inverse is given by columns from `indptr` on, the diagonal first and the scalars of a level behind it.
    """
    m, r = natural.shape[1], spherical.shape[1]
    B, K, P = np.empty((m, r)), np.empty((r, r)), np.empty((m, m))
    for k in range(natural.shape[0]):
        for c in range(r):
            for a in range(m):
                B[a, c] = W[natural[k, a], c]
            at = indptr[spherical[k, c]] - c
            for d in range(c, r):
                K[c, d] = K[d, c] = (1.0 if c == d else 0.0) - C_inv[at + d]
        for a in range(m):
            for b in range(a + 1):
                P[a, b] = P[b, a] = 0.5 * (B[a, r - m + b] / specific[b] + B[b, r - m + a] / specific[a])
        add_level(B, K, P, rows, columns, out)
    for t in range(rows.size):
        for u in range(t):
            out[u, t] = out[t, u]
