"""Cholesky factor of the mixed model equations on a fixed pattern."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import numpy as np

from fastlmm_core.kernels.crossproducts import expand_pattern
from fastlmm_core.kernels.ordering import fill_node_pattern, map_pattern
from fastlmm_core.kernels.simplicial import (
    factorize,
    invert_subset,
    log_determinant,
    solve_lower,
    solve_upper,
)

# Above this many multiply-adds a factorization belongs to supernodes and BLAS.
SMALL_FLOPS = 4e7


class CholeskyFactor(ABC):
    """C = L L' for changing values on one pattern, in elimination order."""

    size: int
    nnz: int
    flops: float

    @abstractmethod
    def copy(self) -> CholeskyFactor:
        """A factor with values of its own on the shared symbolic analysis."""

    def release(self) -> None:  # noqa: B027 - most factors have nothing to give back
        """Give work arrays back that only a running fit needs."""

    @abstractmethod
    def factorize(self, C_data: np.ndarray) -> bool:
        """Factorize the lower-triangular data (nnz(C),); False when not positive definite."""

    @abstractmethod
    def log_determinant(self, n_lead: int) -> float:
        """log |C| of the leading `n_lead` rows and columns."""

    @abstractmethod
    def solve(self, B: np.ndarray) -> np.ndarray:
        """C^-1 B for B (size, r)."""

    @abstractmethod
    def solve_lower(self, B: np.ndarray, overwrite: bool = False) -> np.ndarray:
        """L^-1 B, whose cross-product is B' C^-1 B; with `overwrite` the result may take the place of B."""

    @abstractmethod
    def inverse_subset(self, n_lead: int) -> np.ndarray:
        """C^-1 of the leading block on the pattern of C, (nnz(C),); zero outside the block."""


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
        self.L = np.empty(self.nnz)

    def copy(self) -> SimplicialFactor:
        """A factor with its own values on the shared pattern."""
        twin = object.__new__(SimplicialFactor)
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


def make_factor(equations: Any, max_memory: int | float | str | None = None) -> CholeskyFactor:
    """The factor that suits the size of the equations: compiled kernels, or supernodes and BLAS.

    Raises
    ------
    MemoryForecastError
        When the numeric phase is forecast not to fit into `max_memory`, or into what is available.
    """
    from fastlmm_core.linalg.elimination import SMALL_GRAPH

    layout = equations.layout
    if layout.term.size <= SMALL_GRAPH:
        factor = SimplicialFactor(
            equations.below_ptr, equations.below, layout.start, equations.indptr, equations.indices
        )
        if factor.flops <= SMALL_FLOPS:
            return factor
    from fastlmm_core.linalg.supernodal import SupernodalFactor

    return SupernodalFactor(equations.indptr, equations.indices, max_memory)
