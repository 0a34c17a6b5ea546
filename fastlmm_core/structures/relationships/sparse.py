"""Relationships given as a sparse inverse."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
import scipy.sparse as sp

from fastlmm_core.errors import DataError
from fastlmm_core.gate import public
from fastlmm_core.linalg.cholmod import order_graph
from fastlmm_core.linalg.supernodal import SupernodalFactor
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

    def __repr__(self) -> str:
        return f"SparseInverse of {self.size} levels, {self._precision.nnz} entries"

    @cached_property
    def _factored(self) -> tuple[SupernodalFactor, np.ndarray, np.ndarray]:
        """Factor, elimination order and places of the diagonal in its pattern."""
        perm, _ = order_graph(sp.csc_array(sp.tril(self._precision, -1)))
        lower = sp.csc_array(sp.tril(self._precision[perm][:, perm]))
        lower.sort_indices()
        indptr, indices = lower.indptr.astype(np.int64), lower.indices.astype(np.int64)
        factor = SupernodalFactor(indptr, indices)
        if not factor.factorize(lower.data):
            raise DataError(f"the inverse given as relationship '{self.name}' is not positive definite")
        return factor, perm, indptr[:-1]

    def precision(self) -> sp.csc_array:
        return self._precision

    def log_determinant(self) -> float:
        return -self._factored[0].log_determinant(self.size)

    def multiply(self, V: np.ndarray) -> np.ndarray:
        factor, perm, _ = self._factored
        out = np.empty(np.shape(V))
        out[perm] = factor.solve(np.asarray(V, dtype=float)[perm])
        return out

    @cached_property
    def _diagonal(self) -> np.ndarray:
        factor, perm, first = self._factored
        out = np.empty(self.size)
        out[perm] = factor.inverse_subset(self.size)[first]
        factor.release()
        return out

    def diagonal(self) -> np.ndarray:
        return self._diagonal

    def content(self) -> tuple[np.ndarray, ...]:
        return (self._precision.indptr, self._precision.indices, self._precision.data)
