"""The contract of a Cholesky factor of the mixed model equations on a fixed pattern."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Self

import numpy as np

from fastlmm_core.linalg.memory import check_memory

# Forecasts up to here are not held against what the machine has left: reading that takes longer than the fit.
NEGLIGIBLE_MEMORY = 20_000_000


class CholeskyFactor(ABC):
    """C = L L' for changing values on one pattern, in elimination order.

    Attributes
    ----------
    size : int
        Rows of C.
    nnz : int
        Entries of L.
    flops : float
        Multiply-adds of a factorization.
    memory : int
        Forecast of the numeric phase in bytes.
    """

    size: int
    nnz: int
    flops: float
    memory: int

    def admit(self, max_memory: int | float | str | None = None) -> Self:
        """The factor itself, where its numeric phase fits into `max_memory`, or into what is available.

        Raises
        ------
        MemoryForecastError
            Before anything is computed, when the forecast is above the limit.
        """
        if max_memory is not None or self.memory > NEGLIGIBLE_MEMORY:
            check_memory(self.memory, max_memory, f"the factorization of {self.size} equations")
        return self

    @abstractmethod
    def copy(self) -> Self:
        """A factor with values of its own on the shared symbolic analysis."""

    def release(self) -> None:  # noqa: B027 - most factors have nothing to give back
        """Give work arrays back that only a running fit needs."""

    def zeros(self, size: int) -> np.ndarray:
        """Zeros (size,) for the values of C; of large systems always the same array."""
        return np.zeros(size)

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
