"""Relationships given as a sparse inverse."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
import scipy.sparse as sp

from fastlmm_core.errors import DataError
from fastlmm_core.gate import public
from fastlmm_core.linalg.ordered_factor import OrderedFactor
from fastlmm_core.structures.relationships.base import Relationship
from fastlmm_core.structures.relationships.symmetric import read_symmetric


class SparseInverse(Relationship):
    """A known inverse covariance matrix of the levels, such as A^-1 or H^-1 of another program.

    Parameters
    ----------
    matrix : scipy sparse matrix, (L, L) array, DataFrame, mapping or path
        The inverse: square, or with the columns row, col, value for the entries of the lower triangle.
    levels : sequence, optional
        Names of the rows where the matrix does not bring them.

    Raises
    ------
    DataError
        For a matrix that is not symmetric or not positive definite, and for missing names.

    Examples
    --------
    >>> from fastlmm_core import SparseInverse
    >>> SparseInverse([[1.5, -1.0], [-1.0, 2.0]], levels=["a", "b"]).diagonal()
    array([1.  , 0.75])
    """

    @public()
    def __init__(self, matrix: Any, levels: Sequence[Any] | None = None):
        values, labels = read_symmetric(matrix, levels, "the inverse")
        super().__init__(labels)
        self._precision = sp.csc_array(values)
        self._precision.eliminate_zeros()
        self._precision.sort_indices()
        bad = np.flatnonzero(self._precision.diagonal() <= 0.0)
        if bad.size:
            raise DataError(f"the inverse has no positive diagonal for '{self.levels[bad[0]]}'")

    def _shown(self) -> str:
        return f"SparseInverse of {self.size} levels, {self._precision.nnz} entries"

    @cached_property
    def _factored(self) -> OrderedFactor:
        try:
            return OrderedFactor.of(self._precision)
        except np.linalg.LinAlgError:
            raise DataError(
                f"the inverse given as relationship '{self.name}' is not positive definite"
            ) from None

    def precision(self) -> sp.csc_array:
        return self._precision

    def log_determinant(self) -> float:
        return -self._factored.log_determinant()

    def multiply(self, V: np.ndarray) -> np.ndarray:
        return self._factored.solve(np.asarray(V, dtype=float))

    @cached_property
    def _diagonal(self) -> np.ndarray:
        return self._factored.inverse_diagonal()

    def diagonal(self) -> np.ndarray:
        return self._diagonal

    def content(self) -> tuple[np.ndarray, ...]:
        return (self._precision.indptr, self._precision.indices, self._precision.data)
