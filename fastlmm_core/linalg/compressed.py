"""Sparse matrices as the kernels take them."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp

# indptr and indices (int64) and data of a matrix by rows.
CompressedRows = tuple[np.ndarray, np.ndarray, np.ndarray]


def compressed(matrix: sp.csr_array | sp.csc_array) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """indptr and indices (int64) and data of a compressed matrix."""
    return matrix.indptr.astype(np.int64), matrix.indices.astype(np.int64), matrix.data
