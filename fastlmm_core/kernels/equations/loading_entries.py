"""C = F' G F and what is read from C^-1 by the entries of a sparse F (q, q').

The general form beside `loadings`, where a natural scalar may stand for several spherical ones of different
nodes. F comes by rows as (indptr, indices, values); G and C are lower triangles by columns, and a place in C
is searched for: an entry of G costs as many searches as F has pairs of entries in its row and its column.
"""

from __future__ import annotations

from fastlmm_core.kernels.compile import kernel
from fastlmm_core.kernels.equations.piece_products import find_entry


@kernel
def place_of(pattern, a, b):
    """Place of the pair of spherical scalars a and b, in either order, in the pattern of C."""
    return find_entry(pattern[0], pattern[1], max(a, b), min(a, b))


@kernel
def assemble_entries(G, natural, spherical, F, C):
    """C += F' G F, (nnz(C),)."""
    G_ptr, G_row = natural
    F_ptr, F_col, F_value = F
    for j in range(G_ptr.size - 1):
        for p in range(G_ptr[j], G_ptr[j + 1]):
            g = G[p]
            if g == 0.0:
                continue
            i = G_row[p]
            for s in range(F_ptr[i], F_ptr[i + 1]):
                for t in range(F_ptr[j], F_ptr[j + 1]):
                    a, b = F_col[s], F_col[t]
                    if i == j and a < b:
                        continue
                    twice = 2.0 if i != j and a == b else 1.0
                    C[place_of(spherical, a, b)] += twice * g * F_value[s] * F_value[t]


@kernel
def read_inverse_entries(G, C_inv, natural, spherical, F, place, W, M):
    """W[place[s]] += (G F C^-1) at entry s of F, and M = F C^-1 F' on the pattern of G, (nnz(G),) or (0,).

    `place` (nnz(F),) are the entries of F in the flat loadings W; C^-1 lies on the pattern of C.
    """
    G_ptr, G_row = natural
    F_ptr, F_col, F_value = F
    for j in range(G_ptr.size - 1):
        for p in range(G_ptr[j], G_ptr[j + 1]):
            g, i = G[p], G_row[p]
            total = 0.0
            for s in range(F_ptr[i], F_ptr[i + 1]):
                for t in range(F_ptr[j], F_ptr[j + 1]):
                    value = C_inv[place_of(spherical, F_col[s], F_col[t])]
                    W[place[s]] += g * value * F_value[t]
                    if i != j:
                        W[place[t]] += g * value * F_value[s]
                    total += F_value[s] * F_value[t] * value
            if M.size:
                M[p] = total
