"""Relationships given as dense covariance matrices, such as G."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
import scipy.sparse as sp
from scipy.linalg import lapack

from fastlmm_core.errors import DataError, RelationshipWarning
from fastlmm_core.gate import public, warn_caller
from fastlmm_core.linalg.definite import inverse_from_factor
from fastlmm_core.linalg.memory import check_memory
from fastlmm_core.linalg.probes import probing
from fastlmm_core.structures.relationships.base import Relationship
from fastlmm_core.structures.relationships.rounding import without_rounding
from fastlmm_core.structures.relationships.symmetric import read_symmetric

# A matrix with a smaller reciprocal condition number than this has no inverse worth having: a root serves.
SINGULAR = 1e-10
# Pivots below this share of a variance are zero.
RANK = 1e-9
# What a root may leave out of correlations: six digits are the least that files carry.
ROUNDING = 1e-6
PROBES = 8
# Entries of the inverse below this share of their diagonals are rounding, so that the inverse of an A that
# was written out as a dense matrix is as sparse as it should be.
NEGLIGIBLE = 1e-12
# Above this share of entries a precision counts as dense.
DENSE = 0.3


class Covariance(Relationship):
    """A known covariance matrix of the levels.

    Parameters
    ----------
    matrix : (L, L) array, DataFrame, mapping or path
        Square, with names as index and columns, or with the columns row, col, value for the entries of the
        lower triangle.
    levels : sequence, optional
        Names of the rows where the matrix does not bring them.

    Raises
    ------
    DataError
        For a matrix that is not symmetric or not positive semidefinite, and for missing names.

    Notes
    -----
    A singular matrix is taken as it is: nothing is added to its diagonal. Its levels are then u = K s with
    the root K of a pivoted Cholesky factorization. Negative eigenvalues that the digits of its numbers
    explain, of a singular matrix that was written with six decimals, are taken as zero, with a warning.

    Examples
    --------
    >>> from fastlmm_core import Covariance
    >>> Covariance([[1.0, 0.5], [0.5, 1.0]], levels=["a", "b"])
    Covariance of 2 levels
    Next: .relationship(names), lmm("y ~ 1 + (1 | vm(animal, A))", data, relationships={"A": A})
    """

    @public()
    def __init__(self, matrix: Any, levels: Sequence[Any] | None = None):
        values, labels = read_symmetric(matrix, levels, "the covariance matrix")
        super().__init__(labels)
        self.matrix = values if isinstance(values, np.ndarray) else values.toarray()
        negative = np.flatnonzero(np.diag(self.matrix) < 0.0)
        if negative.size:
            raise DataError(f"the covariance matrix has a negative variance for '{self.levels[negative[0]]}'")
        if not np.diag(self.matrix).any():
            raise DataError("the covariance matrix is zero: no level has a variance")
        check_memory(3 * self.matrix.nbytes, None, f"the inverse of a relationship of {self.size} levels")
        self._root = None if self._factor is not None else self._singular_root()

    def _singular_root(self) -> np.ndarray:
        """The root of a singular matrix; of one that rounding left with negative eigenvalues without these.

        Raises
        ------
        DataError
            When it has negative eigenvalues that rounding does not explain.
        """
        root = semidefinite_root(self.matrix)
        if root is not None:
            return root
        nearest, smallest, digits = without_rounding(self.matrix)
        root = semidefinite_root(nearest) if nearest.size else None
        if root is None:
            raise DataError(
                "the covariance matrix is not positive semidefinite: its smallest eigenvalue is "
                f"{smallest:.3g}; a matrix of relationships has none below 0 (bend it, or add a ridge to its "
                "diagonal)"
            )
        moved = float(np.abs(nearest - self.matrix).max())
        warn_caller(RelationshipWarning(
            f"the covariance matrix of {self.size} levels has eigenvalues down to {smallest:.2g}, as a "
            f"singular one has whose numbers are rounded to {digits}: they are taken as zero, which changes "
            f"its numbers by {moved:.1g} at most"
        ))  # fmt: skip
        self.matrix = nearest
        return root

    def _shown(self) -> str:
        return f"Covariance of {self.size} levels"

    @cached_property
    def _factor(self) -> np.ndarray | None:
        """Lower Cholesky factor; None where the matrix is singular."""
        # of the correlations: unequal variances alone do not make a matrix singular
        correlation, sd = correlations(self.matrix)
        factor, info = lapack.dpotrf(correlation, lower=1, clean=1)
        if info != 0:
            return None
        norm = np.abs(correlation).sum(axis=0).max(initial=0.0)
        reciprocal, _ = lapack.dpocon(factor, norm, uplo="L")
        return sd[:, None] * factor if reciprocal > SINGULAR else None

    @cached_property
    def _inverse(self) -> np.ndarray:
        if self._root is not None:
            raise DataError(
                f"relationship '{self.name}' has no inverse: rank {self._root.shape[1]} of {self.size} levels"
            )
        assert self._factor is not None
        return inverse_from_factor(self._factor)

    @cached_property
    def _precision(self) -> sp.csc_array:
        values = self._inverse
        scale = np.sqrt(np.diag(values))
        kept = np.abs(values) > NEGLIGIBLE * np.outer(scale, scale)
        # rows of a symmetric matrix are its columns: no sorting, which takes longer than the inverse
        indptr = np.concatenate([[0], np.cumsum(np.count_nonzero(kept, axis=1))])
        return sp.csc_array(
            (values[kept], np.ascontiguousarray(np.nonzero(kept)[1]), indptr), shape=values.shape
        )

    def precision(self) -> sp.csc_array:
        return self._precision

    @property
    def dense(self) -> bool:
        return self._factor is not None and self._precision.nnz > DENSE * self.size**2

    def log_determinant(self) -> float:
        if self._factor is None:
            return -np.inf
        return 2.0 * float(np.sum(np.log(np.diag(self._factor))))

    def multiply(self, V: np.ndarray) -> np.ndarray:
        return self.matrix @ V

    def covariance_among(self, kept: np.ndarray) -> np.ndarray:
        """A of the levels with the numbers `kept` alone (k, k).

        Examples
        --------
        >>> import numpy as np
        >>> from fastlmm_core import Covariance
        >>> Covariance([[1.0, 0.5], [0.5, 2.0]], levels=["a", "b"]).covariance_among(np.array([0]))
        array([[1.]])
        """
        return self.matrix[np.ix_(kept, kept)]

    def diagonal(self) -> np.ndarray:
        return np.diag(self.matrix).copy()

    def root(self) -> np.ndarray | None:
        return self._root

    def content(self) -> tuple[np.ndarray, ...]:
        return (self.matrix,)


def semidefinite_root(matrix: np.ndarray) -> np.ndarray | None:
    """K (L, d) with K K' = `matrix`, d its rank, by Cholesky with pivoting.

    None when the matrix has negative eigenvalues.
    """
    correlation, sd = correlations(matrix)
    factor, pivots, rank, _ = lapack.dpstrf(correlation, lower=1, tol=RANK)
    K = np.zeros((sd.size, rank))
    K[pivots - 1] = np.tril(factor)[:, :rank]
    # what is left over acts on random vectors as its rows are large; the whole of it costs as much as K
    probes = probing().normal(size=(sd.size, PROBES))
    left_over = correlation @ probes - K @ (K.T @ probes)
    if np.sqrt(np.mean(left_over**2, axis=1)).max(initial=0.0) > ROUNDING:
        return None
    return sd[:, None] * K


def correlations(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The matrix divided by its standard deviations, and these, 1 where a variance is 0."""
    sd = np.sqrt(np.diag(matrix))
    sd[sd == 0.0] = 1.0
    return matrix / np.outer(sd, sd), sd
