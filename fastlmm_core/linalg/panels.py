"""A factor in the panels of its supernodes: what is read from it, whoever has computed it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from itertools import pairwise
from typing import Self

import numpy as np

from fastlmm_core.kernels.blas import ADDRESSES
from fastlmm_core.kernels.factor.supernodal_inverse import end_leading_rows, invert_fronts
from fastlmm_core.kernels.factor.supernodal_solves import (
    log_determinant,
    solve_lower_columns,
    solve_lower_vector,
    solve_upper_columns,
    solve_upper_vector,
)
from fastlmm_core.kernels.factor.whole_inverse import invert_whole
from fastlmm_core.linalg.base import CholeskyFactor
from fastlmm_core.linalg.memory import check_memory
from fastlmm_core.linalg.separator import NO_FRONTS
from fastlmm_core.linalg.symbolic import analyze
from fastlmm_core.linalg.threads import blas_threads

# Right-hand sides that pass through the factor together: wide enough for BLAS, and the rows a panel touches
# stay in the cache.
COLUMN_BLOCK = 128
# Multiply-adds from which on a front is worth the threads that the user has asked for.
THREADED_FRONT = 2e8
# Multiply-adds of about a second, at the pace of small fronts, between which an interrupt is seen; the
# inverse takes several times those of the factorization.
INTERRUPTIBLE = 2e9
EFFORT_DOWN = 3.0


class PanelFactor(CholeskyFactor):
    """Solves, determinant and inverse subset of a factor in panels; the matrix comes in elimination order.

    Parameters
    ----------
    indptr, indices : scalar lower-triangular pattern of C
    fronts : (k, 2) int64
        First and last columns of fronts that may be sparse.

    Attributes
    ----------
    symbolic : SymbolicFactor
    L : (symbolic.stored,) float64
        Panels of the factor; empty before the first factorization.
    """

    def __init__(self, indptr: np.ndarray, indices: np.ndarray, fronts: np.ndarray = NO_FRONTS):
        self.size = indptr.size - 1
        self.symbolic = analyze(indptr, indices, fronts)
        self.nnz, self.flops = self.symbolic.nnz, self.symbolic.flops
        self.memory = self.symbolic.forecast_memory()
        self.largest = self.symbolic.largest
        self._C_indptr = indptr
        self._begin()

    def _begin(self) -> None:
        self.L = np.empty(0)
        self._inverses: dict[int, np.ndarray] = {}
        self._work: tuple[np.ndarray, np.ndarray] | None = None
        self._values = np.empty(0)

    def copy(self) -> Self:
        if self.L.size:  # a second one beside a factor in use
            check_memory(self.memory, None, f"a second factorization of {self.size} equations")
        twin = object.__new__(type(self))
        twin.__dict__.update(self.__dict__)
        twin._begin()
        return twin

    def release(self) -> None:
        """Give the work arrays back; the next factorization or inverse makes new ones."""
        self._work = None
        self._values = np.empty(0)

    def zeros(self, size: int) -> np.ndarray:
        if self._values.size != size:
            self._values = np.empty(size)
        self._values[:] = 0.0
        return self._values

    def _panels(self) -> np.ndarray:
        """Storage of a new factor, (symbolic.stored,); what was known of the last one is forgotten."""
        self._inverses.clear()
        if self.L.size != self.symbolic.stored:
            self.L = np.empty(self.symbolic.stored)
        return self.L

    def _runs(self, order: np.ndarray, effort: float = 1.0) -> Iterator[np.ndarray]:
        """Parts of `order` that take about a second at most, so that an interrupt is seen between them.

        Each large front comes by itself with the threads asked for.
        """
        if effort * self.symbolic.all_operations < INTERRUPTIBLE and blas_threads.granted() == 1:
            yield order
            return
        operations = self.symbolic.operations[order]
        large = operations >= THREADED_FRONT if blas_threads.granted() > 1 else np.zeros(order.size, bool)
        part = np.floor(np.cumsum(effort * operations) / INTERRUPTIBLE)
        cuts = np.flatnonzero((np.diff(part) > 0) | large[1:] | large[:-1]) + 1
        for lo, hi in pairwise([0, *cuts.tolist(), order.size]):
            with blas_threads.asked() if hi > lo and large[lo] else nullcontext():
                yield order[lo:hi]

    @contextmanager
    def _work_arrays(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Work arrays that nobody else has meanwhile; one pair is kept for the next factorization."""
        work = self.__dict__.pop("_work", None)  # in one step, so that two threads never hold the same pair
        if work is None:
            stack, panel = self.symbolic.work_sizes
            work = (np.empty(stack), np.empty(panel))
        yield work
        self._work = work

    def log_determinant(self, n_lead: int) -> float:
        return log_determinant(self.L, self.symbolic.nodes, n_lead)

    def solve(self, B: np.ndarray) -> np.ndarray:
        if B.ndim == 1 or B.shape[1] == 1:
            return self._solve_vector(B, solve_lower_vector, solve_upper_vector)
        return self._solve_columns(B, solve_lower_columns, solve_upper_columns)

    def solve_lower(self, B: np.ndarray, overwrite: bool = False) -> np.ndarray:
        if B.ndim == 1 or B.shape[1] == 1:
            return self._solve_vector(B, solve_lower_vector)
        return self._solve_columns(B, solve_lower_columns, overwrite=overwrite)

    def _solve_vector(self, b: np.ndarray, *passes: Callable[..., None]) -> np.ndarray:
        out = np.array(b, dtype=float).ravel()
        held = np.empty(self.symbolic.largest)
        with blas_threads.single():
            for triangular_solve in passes:
                triangular_solve(ADDRESSES, self.L, self.symbolic.nodes, out, held)
        return out.reshape(b.shape)

    def _solve_columns(
        self, B: np.ndarray, *passes: Callable[..., None], overwrite: bool = False
    ) -> np.ndarray:
        out = B if overwrite else np.empty(B.shape)
        for start in range(0, B.shape[1], COLUMN_BLOCK):
            part = out[:, start : start + COLUMN_BLOCK]
            in_place = overwrite and part.dtype == float and part.flags.c_contiguous
            if not in_place:
                part = np.array(B[:, start : start + COLUMN_BLOCK], dtype=float, order="C")
            held = np.empty((self.symbolic.largest, part.shape[1]))
            with blas_threads.single():
                for triangular_solve in passes:
                    triangular_solve(ADDRESSES, self.L, self.symbolic.nodes, part, held)
            if not in_place:
                out[:, start : start + COLUMN_BLOCK] = part
        return out

    def inverse_subset(self, n_lead: int) -> np.ndarray:
        if n_lead not in self._inverses:
            s = self.symbolic
            found = np.zeros(s.position.size)
            row_end, total = end_leading_rows(s.nodes, n_lead), np.empty(s.nodes.rows.size)
            with blas_threads.single(), self._work_arrays() as work:
                for fronts in self._runs(s.down.order, EFFORT_DOWN):
                    invert_fronts(
                        ADDRESSES, self.L, n_lead, s.nodes, s.down.offset, fronts, row_end, self._C_indptr,
                        s.position, *work, total, found,
                    )  # fmt: skip
            self._inverses[n_lead] = found
        return self._inverses[n_lead]

    def inverse(self, order: np.ndarray) -> np.ndarray:
        k = order.size
        place, lower = np.empty(k, np.int64), np.zeros(k * k)
        place[order] = np.arange(k)
        as_they_are = np.array_equal(order, np.arange(k))
        out = lower.reshape(k, k) if as_they_are else np.empty((k, k))
        with blas_threads.single():
            invert_whole(ADDRESSES, self.L, self.symbolic.nodes, k, place, lower, out)
        return out
