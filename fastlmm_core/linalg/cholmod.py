"""Large factors by CHOLMOD: its numeric factorization, taken over into our panels.

L leaves scikit-sparse as a copy in compressed columns.  In panels it serves solves, determinant and inverse
subset as ``linalg.supernodal`` does, so that the two engines differ in the factorization alone, and each is a
check of the other.  Versions 0.4 and 0.5 of scikit-sparse are taken (``linalg.suitesparse``).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse as sp

from fastlmm_core.errors import DependencyError
from fastlmm_core.kernels.factor.supernodal_factor import place_columns
from fastlmm_core.linalg.panels import PanelFactor
from fastlmm_core.linalg.suitesparse import is_class_based, load_cholmod
from fastlmm_core.linalg.threads import blas_threads

# Entries of L up to which CHOLMOD's 32-bit indices hold; its supernodes store zeros beside them.
INT32_ENTRIES = 2**30
# Bytes of CHOLMOD for each number of our panels: its L, the copy that leaves, and the copy's 32-bit rows,
# with a fifth for the zeros of its supernodes.  Measured on crossed and nested terms: 19 to 22.
BYTES_ENTRY = 1.2 * (8 + 8 + 4)


class CholmodFactor(PanelFactor):
    """Factor of CHOLMOD on our order and in our panels.

    Parameters
    ----------
    indptr, indices : scalar lower-triangular pattern of C, in elimination order

    Raises
    ------
    DependencyError
        Where scikit-sparse does not load, or its CHOLMOD takes an order of its own.
    """

    by_cholmod = True

    def __init__(self, indptr: np.ndarray, indices: np.ndarray):
        super().__init__(indptr, indices)
        self._C_indices = indices
        self._analysis: Any = None
        self.memory += int(BYTES_ENTRY * self.symbolic.stored)

    def __getstate__(self) -> dict[str, Any]:
        """Everything but what belongs to CHOLMOD, which is found again when it is needed."""
        return self.__dict__ | {"_analysis": None}

    def _matrix(self, C_data: np.ndarray, kind: type) -> Any:
        """Lower triangle of C in compressed columns, with the indices that decide about CHOLMOD's own."""
        index = np.int32 if self.symbolic.stored <= INT32_ENTRIES else np.int64
        pattern = self._C_indices.astype(index, copy=False), self._C_indptr.astype(index, copy=False)
        return kind((C_data, *pattern), shape=(self.size, self.size))

    def factorize(self, C_data: np.ndarray) -> bool:
        module = load_cholmod()
        factor_columns = _columns_by_class if is_class_based(module) else _columns_by_function
        matrix = self._matrix(C_data, sp.csc_array if is_class_based(module) else sp.csc_matrix)
        with blas_threads.single():
            try:
                if self._analysis is None:
                    self._analysis = _analyze(module, matrix)
                L = factor_columns(self._analysis, matrix)
            except module.CholmodNotPositiveDefiniteError:
                return False
            except module.CholmodOutOfMemoryError as error:
                raise MemoryError(str(error)) from error
        return place_columns(L.indptr, L.indices, L.data, self.symbolic.nodes, self._panels()) < 0


def _analyze(module: Any, matrix: Any) -> Any:
    """Symbolic analysis in the order of the matrix.

    Supernodal, which is L L' always: by columns CHOLMOD would form L D L', and take a negative D for good.
    """
    if is_class_based(module):
        analysis = module.CholeskyFactor(matrix, order="natural", supernodal_mode="supernodal")
        perm = analysis.perm
    else:
        analysis = module.analyze(matrix, mode="supernodal", ordering_method="natural")
        perm = analysis.P()
    if not np.array_equal(perm, np.arange(matrix.shape[0])):
        raise DependencyError(
            "this CHOLMOD does not keep the order it is given; use factorization='supernodal'"
        )
    return analysis


def _columns_by_function(analysis: Any, matrix: sp.csc_matrix) -> sp.csc_matrix:
    """L by scikit-sparse 0.4, in compressed columns."""
    return analysis.cholesky(matrix).L()


def _columns_by_class(analysis: Any, matrix: sp.csc_array) -> sp.csc_array:
    """L by scikit-sparse 0.5: a view of its factor.

    That turns supernodes into columns when it is done and factorizes by columns ever after, many times
    slower; so each factorization starts from a copy of the analysis.
    """
    return analysis.copy().factorize(matrix, ldl=False).factor
