"""The contract of a Cholesky factor of the mixed model equations on a fixed pattern."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar, Self

import numpy as np

from fastlmm_core.linalg.memory import SMALLER_FIT, check_memory, memory_limit

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
    largest : int
        Rows of the largest dense block.
    by_cholmod : bool
        CHOLMOD factorizes.
    """

    size: int
    nnz: int
    flops: float
    memory: int
    largest: int
    by_cholmod: ClassVar[bool] = False

    def admit(self, max_memory: int | float | str | None = None, advice: str = SMALLER_FIT) -> Self:
        """The factor itself, where its numeric phase fits into `max_memory`, or into what is available.

        Parameters
        ----------
        max_memory : bytes or text such as "8GB", optional
        advice : str
            What would help where it does not fit.

        Raises
        ------
        MemoryForecastError
            Before anything is computed, when the forecast is above the limit.
        """
        if max_memory is not None or self.memory > NEGLIGIBLE_MEMORY:
            limit = memory_limit(max_memory)
            if self.memory > limit:
                # memory goes with the square of the largest block, where that is most of it
                fitting = int(self.largest * (limit / self.memory) ** 0.5)
                advice = f"Its dense block has {self.largest:,} rows, about {fitting:,} would fit. {advice}"
            work = f"({self.flops / 1e9:,.0f} billion multiply-adds a step)"
            check_memory(
                self.memory, max_memory, f"the factorization of {self.size} equations {work}", advice=advice
            )
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

    def inverse(self, order: np.ndarray) -> np.ndarray:
        """C^-1 of the leading rows as a full matrix (k, k), for systems of some hundreds.

        `order` (k,) are these rows, in the order in which they are wanted.
        """
        half = self.solve_lower(np.eye(self.size)[:, order])[: order.size]
        return half.T @ half
