"""The two interfaces of scikit-sparse to CHOLMOD behind one.

scikit-sparse 0.4 returns ``Factor`` objects from ``analyze`` and refactorizes them in place.  scikit-sparse
0.5 has one class ``CholeskyFactor(A, lower=, order=, supernodal_mode=)`` whose ``factorize`` leaves a
simplicial factor behind, without the zeros of relaxed supernodes, and which has no solve with L alone.

What was verified: 0.4.16 runs the test suite.  0.5 needs SuiteSparse 7.4 or later and was not run; its branch
follows the source of that release and is tested against a stand-in with the same signatures, return types and
errors (tests/linalg/array_cholmod.py), so wrong values are excluded as far as that source was read, and its
speed is unknown.
"""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from types import ModuleType
from typing import Any

import numpy as np
import scipy.sparse as sp

from fastlmm_core.kernels.simplicial import solve_lower


class Factorization(ABC):
    """C = L L' in the order C comes in, for changing values on one pattern."""

    @abstractmethod
    def copy(self) -> Factorization:
        """A factorization that changes independently of this one."""

    @abstractmethod
    def factorize(self, C: sp.csc_matrix) -> bool:
        """Factorize the lower triangle of C, of the pattern analysed; False when not positive definite."""

    @abstractmethod
    def lower(self) -> sp.csc_array:
        """L with sorted rows, on one pattern for all values; it may store zeros."""

    @abstractmethod
    def log_determinant(self) -> float:
        """log |C|."""

    @abstractmethod
    def solve(self, B: np.ndarray) -> np.ndarray:
        """C^-1 B for B (size,) or (size, r)."""

    @abstractmethod
    def solve_lower(self, B: np.ndarray) -> np.ndarray:
        """L^-1 B for B (size, r)."""


class Interface(ABC):
    """What this package asks of CHOLMOD.

    Parameters
    ----------
    module : ``sksparse.cholmod``
    """

    def __init__(self, module: ModuleType):
        self.module: Any = module

    @abstractmethod
    def order(self, matrix: sp.csc_matrix, method: str) -> np.ndarray | None:
        """Postordered permutation (size,) by "amd" or "metis"; None where that method is not installed."""

    @abstractmethod
    def analyze(self, C: sp.csc_matrix) -> Factorization:
        """Supernodal symbolic analysis of a lower triangle in the order it has."""

    @abstractmethod
    def factorize(self, matrix: sp.csc_matrix) -> Factorization:
        """Factorization of one positive definite matrix in an order of CHOLMOD's choice, for `solve`."""


def choose_interface(module: ModuleType) -> Interface:
    """The interface of the installed scikit-sparse."""
    return ArrayInterface(module) if hasattr(module, "CholeskyFactor") else FactorInterface(module)


class FactorInterface(Interface):
    """scikit-sparse 0.4."""

    def order(self, matrix: sp.csc_matrix, method: str) -> np.ndarray | None:
        try:
            return np.asarray(self.module.analyze(matrix, ordering_method=method).P(), np.int64)
        except self.module.CholmodError:
            return None

    def analyze(self, C: sp.csc_matrix) -> Factorization:
        factor = self.module.analyze(C, mode="supernodal", ordering_method="natural")
        return FactorFactorization(self.module, factor)

    def factorize(self, matrix: sp.csc_matrix) -> Factorization:
        return FactorFactorization(self.module, self.module.cholesky(matrix))


class FactorFactorization(Factorization):
    """A ``Factor`` of scikit-sparse 0.4, refactorized in place."""

    def __init__(self, module: Any, factor: Any):
        self._module = module
        self._factor = factor

    def copy(self) -> FactorFactorization:
        return FactorFactorization(self._module, self._factor.copy())

    def factorize(self, C: sp.csc_matrix) -> bool:
        try:
            self._factor.cholesky_inplace(C)
        except self._module.CholmodNotPositiveDefiniteError:
            return False
        return True

    def lower(self) -> sp.csc_array:
        L = self._factor.L()
        if not L.has_sorted_indices:
            L.sort_indices()
        return L

    def log_determinant(self) -> float:
        return float(self._factor.logdet())

    def solve(self, B: np.ndarray) -> np.ndarray:
        return np.ascontiguousarray(self._factor.solve_A(np.asarray(B, float)))

    def solve_lower(self, B: np.ndarray) -> np.ndarray:
        return np.ascontiguousarray(self._factor.solve_L(np.asarray(B, float), use_LDLt_decomposition=False))


class ArrayInterface(Interface):
    """scikit-sparse 0.5."""

    def order(self, matrix: sp.csc_matrix, method: str) -> np.ndarray | None:
        try:
            return np.array(self.module.CholeskyFactor(_as_array(matrix), order=method).perm, np.int64)
        except self.module.CholmodError:
            return None

    def analyze(self, C: sp.csc_matrix) -> Factorization:
        analysis = self.module.CholeskyFactor(
            _as_array(C), lower=True, order="natural", supernodal_mode="supernodal"
        )
        return ArrayFactorization(self.module, analysis)

    def factorize(self, matrix: sp.csc_matrix) -> Factorization:
        analysis = self.module.CholeskyFactor(_as_array(matrix), lower=True, order="default")
        found = ArrayFactorization(self.module, analysis)
        if not found.factorize(matrix):
            raise self.module.CholmodNotPositiveDefiniteError("the matrix is not positive definite")
        return found


class ArrayFactorization(Factorization):
    """A ``CholeskyFactor`` of scikit-sparse 0.5.

    ``factorize`` turns a supernodal analysis into a simplicial factor, and a second call would work column by
    column; so the analysis is kept as it is and every factorization starts from a copy of it.
    """

    def __init__(self, module: Any, analysis: Any):
        self._module = module
        self._analysis = analysis
        self._factor: Any = None

    def copy(self) -> ArrayFactorization:
        twin = ArrayFactorization(self._module, self._analysis)
        twin._factor = self._factor  # replaced, never changed in place
        return twin

    def factorize(self, C: sp.csc_matrix) -> bool:
        factor = self._analysis.copy()
        try:
            factor.factorize(_as_array(C), ldl=False)
        except self._module.CholmodNotPositiveDefiniteError:
            return False
        self._factor = factor
        return True

    def lower(self) -> sp.csc_array:
        L = self._factor.factor.copy()  # `factor` is a read-only view that keeps zeros, get_factor drops them
        if not L.has_sorted_indices:
            L.sort_indices()
        return L

    def log_determinant(self) -> float:
        return 2.0 * float(np.sum(np.log(self._factor.factor.diagonal())))

    def solve(self, B: np.ndarray) -> np.ndarray:
        right = np.array(B, float, order="F")  # CHOLMOD's buffers are column-major and have to be writable
        with warnings.catch_warnings():
            # On the condition number: mixed model equations near a boundary are ill-conditioned by nature.
            warnings.simplefilter("ignore", self._module.CholmodWarning)
            return np.ascontiguousarray(self._factor.solve(right))

    def solve_lower(self, B: np.ndarray) -> np.ndarray:
        L = self.lower()
        out = np.array(B, float, order="C")
        solve_lower(L.indptr.astype(np.int64), L.indices, L.data, out)
        return out


def _as_array(matrix: sp.csc_matrix) -> sp.csc_array:
    """The same buffers as the array type that 0.5 takes without a conversion warning."""
    return sp.csc_array((matrix.data, matrix.indices, matrix.indptr), shape=matrix.shape)
