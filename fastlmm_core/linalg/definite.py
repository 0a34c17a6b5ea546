"""Inverses of dense definite matrices, of which one triangle is computed and both are wanted."""

from __future__ import annotations

import numpy as np

from fastlmm_core.kernels.blas import ADDRESSES
from fastlmm_core.kernels.factor.whole_inverse import invert_dense


def inverse_from_factor(factor: np.ndarray, overwrite: bool = False) -> np.ndarray:
    """A^-1 (k, k) from the lower Cholesky factor of A, in whose place it may be computed.

    Nothing above the diagonal of the factor is read.
    """
    kept = overwrite and factor.flags.f_contiguous and factor.dtype == float
    columns = factor.T if kept else np.array(factor.T, dtype=float, order="C")
    invert_dense(ADDRESSES, columns)
    return columns
