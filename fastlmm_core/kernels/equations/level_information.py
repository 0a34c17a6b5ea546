"""Expected information of the loadings of one term, level by level."""

from __future__ import annotations

from fastlmm_core.kernels.compile import kernel


@kernel
def sum_level_information(B, K, P, rows, columns, out):
    """out[t, u] += 2 sum_l (B_l[a, d] B_l[b, c] + K_l[c, d] P_l[a, b]), (t, t) and symmetric.

    t is the entry (a, c) of Lambda and u the entry (b, d), as `rows` and `columns` have them; B (L, m, r),
    K (L, r, r), P (L, m, m).
    """
    for k in range(B.shape[0]):
        for t in range(rows.size):
            a, c = rows[t], columns[t]
            for u in range(t + 1):
                b, d = rows[u], columns[u]
                out[t, u] += 2.0 * (B[k, a, d] * B[k, b, c] + K[k, c, d] * P[k, a, b])
    for t in range(rows.size):
        for u in range(t):
            out[u, t] = out[t, u]
