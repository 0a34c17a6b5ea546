"""A stand-in for ``sksparse.cholmod`` of scikit-sparse 0.5: its signatures, types and errors on dense NumPy.

Written after the documented interface (CholeskyFactor, its `perm`, `factor`, `copy`, `factorize`, `solve`;
the exceptions).  It refuses what that release refuses: right-hand sides it could not write to, factors
without values; it warns of other sparse types than csc_array and drops the zeros of relaxed supernodes as
`factorize` there does.
"""

from __future__ import annotations

import warnings

import numpy as np
import scipy.sparse as sp
from random_pattern import eliminate_symbolically

ORDERS = ("default", "best", "natural", "given", "amd", "metis", "nesdis", "colamd", "postordered")
MODES = ("auto", "simplicial", "supernodal")


class CholmodError(Exception):
    pass


class CholmodNotPositiveDefiniteError(CholmodError):
    pass


class CholmodNotInstalledError(CholmodError):
    pass


class CholmodWarning(Warning):
    pass


def _checked(A):
    if not isinstance(A, sp.csc_array):
        warnings.warn("not in CSC array format", sp.SparseEfficiencyWarning, stacklevel=3)
        A = sp.csc_array(A)
    assert A.data.dtype == float
    A.has_sorted_indices = False
    A.has_canonical_format = False
    A.sum_duplicates()
    return A


def _symmetric(A, lower):
    half = np.tril(A.toarray()) if lower else np.triu(A.toarray()).T
    return half + np.tril(half, -1).T


class CholeskyFactor:
    """Analysis on construction, values by `factorize`; a view of L is read-only."""

    installed = ("amd",)  # METIS is an option of the library
    analyses = 0

    def __init__(self, A, *, lower=True, order=None, sym_kind=None, supernodal_mode=None):
        if order is not None and order not in ORDERS:
            raise ValueError(f"Unknown ordering method: {order}.")
        if (supernodal_mode or "auto") not in MODES:
            raise ValueError(f"Unknown factorization mode: {supernodal_mode}.")
        if order == "metis" and "metis" not in self.installed:
            raise CholmodNotInstalledError("CHOLMOD library is not installed or not found.")
        A = _checked(A)
        if A.shape[0] != A.shape[1]:
            raise ValueError("Expected square matrix.")
        type(self).analyses += 1
        self.lower, self.is_super, self.rcond = lower, supernodal_mode == "supernodal", -1.0
        adjacent = _symmetric(sp.csc_array((np.ones(A.nnz), A.indices, A.indptr), shape=A.shape), lower) != 0
        degree = adjacent.sum(axis=1)
        natural = order in (None, "natural")
        self._perm = np.arange(len(degree)) if natural else np.argsort(degree, kind="stable")
        self._perm = self._perm.astype(np.int32)
        self._perm.flags.writeable = False
        self._L = None

    @property
    def perm(self):
        return self._perm

    @property
    def factor(self):
        if self._L is None:
            raise ValueError("The factor has no numerical values.")
        return self._L

    def copy(self):
        twin = object.__new__(CholeskyFactor)
        twin.__dict__.update(self.__dict__)
        return twin

    def factorize(self, A, ldl=None, beta=0.0):
        if not isinstance(ldl, bool):
            raise ValueError("ldl must be a boolean value.")
        if self._L is not None:
            raise AssertionError("a second factorization of the same object would be simplicial")
        A = _checked(A)
        assert not ldl
        C = _symmetric(A, self.lower)[np.ix_(self._perm, self._perm)]
        C += beta * np.eye(len(C))
        stored = sp.csc_array((np.ones(A.nnz), A.indices, A.indptr), shape=A.shape)
        pattern = eliminate_symbolically(
            _symmetric(stored, self.lower)[np.ix_(self._perm, self._perm)] != 0
        )
        try:
            values = np.linalg.cholesky(C)
        except np.linalg.LinAlgError:
            raise CholmodNotPositiveDefiniteError("Input matrix is not positive definite.") from None
        columns, rows = np.nonzero(pattern.T)
        indptr = np.concatenate(([0], np.cumsum(pattern.sum(axis=0))))
        L = sp.csc_array(
            (values[rows, columns], rows.astype(np.int32), indptr.astype(np.int32)), shape=C.shape
        )
        for part in (L.data, L.indices, L.indptr):
            part.flags.writeable = False
        self._L, self.is_super = L, False
        diagonal = L.diagonal()
        self.rcond = (diagonal.min() / diagonal.max()) ** 2
        return self

    def solve(self, b):
        if self._L is None:
            raise CholmodError("Factor is symbolic.")
        if not isinstance(b, np.ndarray) or b.ndim not in (1, 2):
            raise ValueError("b must be an ndarray or sparse matrix.")
        if not b.flags.writeable:
            raise ValueError("buffer source array is read-only")
        if self.rcond < len(b) * np.finfo(float).eps:
            warnings.warn("Matrix is nearly singular.", CholmodWarning, stacklevel=2)
        L = self._L.toarray()
        x = np.empty_like(b, order="F")
        x[self._perm] = np.linalg.solve(L.T, np.linalg.solve(L, b[self._perm]))
        return x
