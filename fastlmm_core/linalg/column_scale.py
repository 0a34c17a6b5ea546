"""Back from the standardized fixed columns of ``kernels.equations.columns.standardize_columns``."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp


def columns_to_user(shift: np.ndarray, scale: np.ndarray, first_value: float) -> sp.csc_array:
    """The upper triangular (p, p) matrix with beta_user = matrix @ beta_inside.

    Parameters
    ----------
    shift, scale : (p,) float64
        x_inside = (x_user - shift) / scale.
    first_value : float
        Value of the intercept, the first column, which takes up what the shifts take out.
    """
    p, moved = shift.size, np.flatnonzero(shift)
    rows = np.concatenate((np.arange(p), np.zeros(moved.size, np.int64)))
    columns = np.concatenate((np.arange(p), moved))
    entries = np.concatenate((1.0 / scale, -(shift / scale)[moved] / first_value))
    return sp.csc_array((entries, (rows, columns)), shape=(p, p))
