"""Sums over subjects of products of two visits."""

from __future__ import annotations

from fastlmm_core.kernels.compile import kernel


@kernel
def accumulate_visit_products(indptr, indices, data, rows, root, E, out):
    """out[j, a, b] += sum_s root_sa W_(rows_sa, j) E_sb, for the compressed rows of W (n, q).

    Parameters
    ----------
    rows : (subjects, v) int64
        Rows of W of every subject of a pattern, by visit.
    root, E : (subjects, v)
    out : (q, v, v)
    """
    v = rows.shape[1]
    for s in range(rows.shape[0]):
        for a in range(v):
            for t in range(indptr[rows[s, a]], indptr[rows[s, a] + 1]):
                value = root[s, a] * data[t]
                j = indices[t]
                for b in range(v):
                    out[j, a, b] += value * E[s, b]
