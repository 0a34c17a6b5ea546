"""Fixed columns as they are used inside: centred, of mean square one, and apart from each other.

x_inside = (x_user - shift) / scale, and of columns that nearly depend on others what they add. Both engines
take theirs from here; ``kernels.trials.design`` does the same for the trials of a batch.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import scipy.sparse as sp

from fastlmm_core.engine.equations.near_dependence import Columns, Separation, separate_columns
from fastlmm_core.kernels.equations.columns import standardize_columns
from fastlmm_core.linalg.column_scale import columns_to_user


@dataclass(frozen=True)
class FixedCoding:
    """The way back from coefficients of the columns inside to those of the user's.

    Attributes
    ----------
    shift, scale : (p,) float64
        x_inside = (x_user - shift) / scale.
    first_value : float
        Value of the intercept column.
    separation : Separation or None
        Columns that nearly depend on others and are replaced inside by what they add.
    """

    shift: np.ndarray
    scale: np.ndarray
    first_value: float
    separation: Separation | None = None

    @cached_property
    def to_user(self) -> sp.csc_array:
        """beta_user = to_user @ beta_inside, (p, p)."""
        scaled = columns_to_user(self.shift, self.scale, self.first_value)
        return scaled if self.separation is None else sp.csc_array(scaled @ self.separation.to_columns)

    @property
    def log_scale(self) -> float:
        """log |to_user^-1|."""
        separated = 0.0 if self.separation is None else self.separation.log_scale
        return float(np.sum(np.log(self.scale))) + separated


def fixed_columns(
    X: sp.csc_array, has_intercept: bool, weak_columns: np.ndarray | None = None
) -> tuple[Columns, FixedCoding]:
    """Columns (indptr, indices, data) as used inside, and the way back.

    Parameters
    ----------
    X : csc_array (n, p)
        Columns of full rank.
    has_intercept : bool
        A constant lies in the span of the first column; dense columns are then centred.
    weak_columns : (c,) int64, optional
        Columns that may nearly depend on others.
    """
    n, p = X.shape
    first_value = float(X.data[0]) if p and X.nnz else 1.0
    *own, shift, scale = standardize_columns(X.indptr, X.indices, X.data, n, has_intercept)
    columns: Columns = tuple(own)
    separation = None
    if weak_columns is not None and weak_columns.size:
        columns, separation = separate_columns(columns, weak_columns, n)
    return columns, FixedCoding(shift, scale, first_value, separation)
