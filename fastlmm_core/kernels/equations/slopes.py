"""Products with the derivatives of F s by the parameters, of which a row knows few.

H (q, t) has h_t = dF_t s in its columns: a row belongs to one coefficient of one level, which only the
parameters in its own row of Lambda move.  It is held by rows as (pointers (q + 1,), parameters, values).
"""

from __future__ import annotations

from fastlmm_core.kernels.compile import kernel


@kernel
def multiply_slopes(G, indptr, indices, H, out):
    """out = G H (q, t) for the symmetric G given by its lower triangle."""
    out.fill(0.0)
    for j in range(indptr.size - 1):
        for at in range(indptr[j], indptr[j + 1]):
            i, value = indices[at], G[at]
            add_slopes(value, H, j, i, out)
            if i != j:
                add_slopes(value, H, i, j, out)


@kernel
def add_slopes(value, H, source, target, out):
    """Row `target` of out += value times row `source` of H."""
    pointers, parameters, values = H
    for s in range(pointers[source], pointers[source + 1]):
        out[target, parameters[s]] += value * values[s]


@kernel
def contract_slopes(H, B, out):
    """out (t, r) += H' B for B (q, r)."""
    pointers, parameters, values = H
    for i in range(pointers.size - 1):
        for s in range(pointers[i], pointers[i + 1]):
            for c in range(B.shape[1]):
                out[parameters[s], c] += values[s] * B[i, c]
