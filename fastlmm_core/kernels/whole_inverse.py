"""The whole inverse of a system of some hundreds, from the panels of its factor."""

from __future__ import annotations

import numpy as np

from fastlmm_core.kernels.blas import invert_from_cholesky, make_workspace
from fastlmm_core.kernels.compile import kernel

# Rows and columns that are turned over together: both of their squares stay in the cache.
MIRROR_BLOCK = 32


@kernel
def copy_panels(L, nodes, n, out):
    """The leading n rows and columns of the factor into the lower triangle of `out` (n n,), by columns.

    Entries outside the panels are left as they are.
    """
    for s in range(nodes.above.size):
        start = nodes.first[s]
        m = nodes.first[s + 1] - start
        first, last = nodes.row_ptr[s], nodes.row_ptr[s + 1]
        size = m + last - first
        for c in range(min(m, n - start)):
            panel, column = nodes.panel_ptr[s] + c * size, (start + c) * n
            for a in range(c, min(m, n - start)):
                out[column + start + a] = L[panel + a]
            for t in range(first, last):
                if nodes.rows[t] < n:
                    out[column + nodes.rows[t]] = L[panel + m + t - first]


@kernel
def mirror_lower(A, n):
    """The lower triangle of A (n n,), by columns, into its upper one."""
    for first in range(0, n, MIRROR_BLOCK):
        for top in range(first, n, MIRROR_BLOCK):
            for b in range(first, min(first + MIRROR_BLOCK, n)):
                for a in range(max(top, b + 1), min(top + MIRROR_BLOCK, n)):
                    A[a * n + b] = A[b * n + a]


@kernel
def invert_whole(blas, L, nodes, n, out):
    """Inverse of the leading n rows and columns of C, (n n,), into zeros; `L, nodes` hold its factor."""
    copy_panels(L, nodes, n, out)
    invert_from_cholesky(blas, make_workspace(), np.int64(out.ctypes.data), n, n)
    mirror_lower(out, n)
