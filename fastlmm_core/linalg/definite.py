"""Dense definite matrices by LAPACK, where one triangle is computed and both are wanted."""

from __future__ import annotations

import numpy as np
from scipy.linalg.lapack import dpotri


def inverse_from_factor(factor: np.ndarray, overwrite: bool = False) -> np.ndarray:
    """A^-1 (k, k) from the lower Cholesky factor of A, in whose place it may be computed."""
    lower = np.tril(dpotri(factor, lower=1, overwrite_c=overwrite)[0])
    return np.asarray(lower + np.tril(lower, -1).T)
