"""Whole inverses: of a system of some hundreds from the panels of its factor, and of dense matrices."""

from __future__ import annotations

import numpy as np

from fastlmm_core.kernels.blas import make_workspace
from fastlmm_core.kernels.compile import kernel
from fastlmm_core.kernels.factor.sparse_fronts import fill_below
from fastlmm_core.kernels.factor.triangular import invert_from_cholesky

# Rows and columns that are turned over together: both of their squares stay in the cache.
MIRROR_BLOCK = 32


@kernel
def copy_panels(blas, L, nodes, n, out):
    """The leading n rows and columns of the factor into the lower triangle of `out` (n n,), by columns.

    Entries outside the panels are left as they are.
    """
    for s in range(nodes.above.size):
        start = nodes.first[s]
        m = nodes.first[s + 1] - start
        first, last = nodes.row_ptr[s], nodes.row_ptr[s + 1]
        r = last - first
        panel = L[nodes.panel_ptr[s] : nodes.panel_ptr[s + 1]]
        below, size, ld_below = panel[m:], m + r, m + r
        if nodes.sparse[s]:
            below, size, ld_below = np.empty(m * r), m, r
            fill_below(blas, L, nodes, s, below)
        for c in range(min(m, n - start)):
            column = (start + c) * n
            for a in range(c, min(m, n - start)):
                out[column + start + a] = panel[c * size + a]
            for t in range(first, last):
                if nodes.rows[t] < n:
                    out[column + nodes.rows[t]] = below[c * ld_below + t - first]


@kernel
def place_symmetric(A, n, place, out):
    """The symmetric matrix of the lower triangle of A (n n,), row and column j of it at `place`[j], in `out`.

    By squares, both of which stay in the cache.
    """
    for first in range(0, n, MIRROR_BLOCK):
        for top in range(first, n, MIRROR_BLOCK):
            for b in range(first, min(first + MIRROR_BLOCK, n)):
                for a in range(max(top, b), min(top + MIRROR_BLOCK, n)):
                    value = A[b * n + a]
                    out[place[a], place[b]] = value
                    out[place[b], place[a]] = value


@kernel
def invert_whole(blas, L, nodes, n, place, A, out):
    """Inverse of the leading n rows and columns of C into `out` (n, n); `L, nodes` hold its factor.

    Row and column j stand at `place`[j]; A (n n,) comes with zeros.
    """
    copy_panels(blas, L, nodes, n, A)
    invert_from_cholesky(blas, make_workspace(), np.int64(A.ctypes.data), n, n)
    place_symmetric(A, n, place, out)


@kernel
def invert_dense(blas, A):
    """(L L')^-1 in place of the lower triangular L, whose columns are the rows of A (n, n)."""
    n = A.shape[0]
    invert_from_cholesky(blas, make_workspace(), np.int64(A.ctypes.data), n, n)
    place_symmetric(A.reshape(n * n), n, np.arange(n), A)
