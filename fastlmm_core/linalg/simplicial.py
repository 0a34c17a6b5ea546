"""Small factors: compiled kernels, column by column."""

from __future__ import annotations

from typing import Self

import numpy as np

from fastlmm_core.kernels.equations.crossproducts import expand_pattern
from fastlmm_core.kernels.factor.ordering import fill_node_pattern, map_pattern
from fastlmm_core.kernels.factor.simplicial import (
    factorize,
    invert_subset,
    log_determinant,
    solve_lower,
    solve_upper,
)
from fastlmm_core.linalg.base import CholeskyFactor


class SimplicialFactor(CholeskyFactor):
    """Compiled column-by-column factor for small systems.

    Parameters
    ----------
    below_ptr, below, start : node pattern and layout of C
    indptr, indices : scalar pattern of C
    """

    def __init__(
        self,
        below_ptr: np.ndarray,
        below: np.ndarray,
        start: np.ndarray,
        indptr: np.ndarray,
        indices: np.ndarray,
    ):
        L_ptr, L_below = fill_node_pattern(below_ptr, below)
        self.indptr, self.indices = expand_pattern(L_ptr, L_below, start)
        self.position = map_pattern(indptr, indices, self.indptr, self.indices)
        self.size = indptr.size - 1
        self.nnz = self.indices.size
        count = np.diff(self.indptr).astype(float)
        self.flops = float(np.sum(count**2))
        self.largest = int(count.max(initial=0.0))
        # L, its inverse, the square of the dense tail, which is at most twice its entries of L; values of C
        # and of its inverse with a copy each
        self.memory = 8 * (4 * self.nnz + 4 * self.position.size)
        self.L = np.empty(self.nnz)

    def copy(self) -> Self:
        """A factor with its own values on the shared pattern."""
        twin = object.__new__(type(self))
        twin.__dict__.update(self.__dict__)
        twin.L = np.empty(self.nnz)
        return twin

    def factorize(self, C_data: np.ndarray) -> bool:
        return factorize(C_data, self.position, self.indptr, self.indices, self.L) < 0

    def log_determinant(self, n_lead: int) -> float:
        return log_determinant(self.indptr, self.L, n_lead)

    def solve(self, B: np.ndarray) -> np.ndarray:
        out = np.array(B, dtype=float, order="C")
        solve_lower(self.indptr, self.indices, self.L, out)
        solve_upper(self.indptr, self.indices, self.L, out)
        return out

    def solve_lower(self, B: np.ndarray, overwrite: bool = False) -> np.ndarray:
        out = np.array(B, dtype=float, order="C")
        solve_lower(self.indptr, self.indices, self.L, out)
        return out

    def inverse_subset(self, n_lead: int) -> np.ndarray:
        Z = np.empty(self.nnz)
        invert_subset(self.indptr, self.indices, self.L, n_lead, Z)
        return Z[self.position]
