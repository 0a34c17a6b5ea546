"""Solves with one symmetric positive definite matrix that stands by itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Self

import numpy as np
import scipy.sparse as sp

from fastlmm_core.linalg.base import CholeskyFactor

# Rows up to which normal equations are inverted densely.
DENSE_NORMAL = 500


@dataclass(frozen=True)
class OrderedFactor:
    """A sparse matrix, factorized in an order of its own.

    Attributes
    ----------
    factor : CholeskyFactor
    perm : (n,) int64
        Row ``perm[k]`` of the matrix is eliminated k-th.
    diagonal_at : (n,) int64
        Places of the diagonal on the pattern of the factor's matrix.
    """

    factor: CholeskyFactor
    perm: np.ndarray
    diagonal_at: np.ndarray

    @classmethod
    def of(cls, matrix: sp.csc_array) -> Self:
        """Order and factorize a symmetric `matrix` (n, n), of which both triangles are given.

        Raises
        ------
        np.linalg.LinAlgError
            When it is not positive definite.
        """
        # loaded here: only large fixed parts and relationships given as an inverse come this way
        from fastlmm_core.linalg.ordering import order_graph
        from fastlmm_core.linalg.supernodal import SupernodalFactor

        perm, *_ = order_graph(sp.csc_array(sp.tril(matrix, -1)))
        lower = sp.csc_array(sp.tril(sp.csc_array(matrix)[perm][:, perm]))
        lower.sort_indices()
        indptr, indices = lower.indptr.astype(np.int64), lower.indices.astype(np.int64)
        factor = SupernodalFactor(indptr, indices).admit()
        if not factor.factorize(lower.data):
            raise np.linalg.LinAlgError("the matrix is not positive definite")
        factor.release()
        return cls(factor, perm, indptr[:-1])

    def log_determinant(self) -> float:
        return self.factor.log_determinant(self.perm.size)

    def solve(self, right: np.ndarray) -> np.ndarray:
        """x of matrix x = `right`, (n,) or (n, r)."""
        out = np.empty(right.shape)
        out[self.perm] = self.factor.solve(right[self.perm])
        return out

    def inverse_diagonal(self) -> np.ndarray:
        """Diagonal of the inverse, (n,)."""
        out = np.empty(self.perm.size)
        out[self.perm] = self.factor.inverse_subset(self.perm.size)[self.diagonal_at]
        self.factor.release()
        return out


def normal_solver(XWX: sp.csc_array | np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """A function that solves normal equations X'WX b = r for r (p,) or (p, j); it pickles.

    Up to `DENSE_NORMAL` columns, and where X'WX comes dense, it multiplies by the inverse.  That leaves the
    rounding of the condition of X'WX, which callers remove by solving once more for the residual.

    Raises
    ------
    np.linalg.LinAlgError
        When X'WX (p, p) is not positive definite, or singular where it is dense.
    """
    if isinstance(XWX, np.ndarray):
        return partial(np.matmul, np.linalg.inv(XWX))
    if XWX.shape[0] <= DENSE_NORMAL:
        return partial(np.matmul, np.linalg.inv(XWX.toarray()))
    return OrderedFactor.of(XWX).solve
