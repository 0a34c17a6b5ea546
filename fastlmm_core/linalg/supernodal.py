"""Large factors: multifrontal Cholesky, solves and inverse subset on supernodes, with BLAS."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

import numpy as np
import scipy.sparse as sp

from fastlmm_core.kernels.blas import ADDRESSES
from fastlmm_core.kernels.ordering import count_columns, find_parents
from fastlmm_core.kernels.supernodal_factor import (
    eliminate_fronts,
    log_determinant,
    place_entries,
    solve_lower_columns,
    solve_lower_vector,
    solve_upper_columns,
    solve_upper_vector,
)
from fastlmm_core.kernels.supernodal_inverse import end_leading_rows, invert_fronts
from fastlmm_core.kernels.supernodes import (
    Supernodes,
    fill_rows,
    find_guests,
    find_supernodes,
    find_twigs,
    land_rows,
    list_twigs,
    map_entries,
    map_rows,
    merge_supernodes,
    place_fronts,
    place_panels,
    walk_depth_first,
)
from fastlmm_core.linalg.cholmod import order_graph
from fastlmm_core.linalg.factor import CholeskyFactor
from fastlmm_core.linalg.memory import check_memory
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


@dataclass(frozen=True)
class Traversal:
    """A walk over the fronts with one stack.

    Attributes
    ----------
    offset : (S + 1,) int64
        Places on the stack; the last entry is its size.
    order : (S,) int64
        From the roots down.
    panel_size : int
        Numbers of the second work array.
    """

    offset: np.ndarray
    order: np.ndarray
    panel_size: int

    @property
    def stack_size(self) -> int:
        return int(self.offset[-1])


@dataclass(frozen=True)
class SymbolicFactor:
    """What a pattern of C alone decides about its factor, found once.

    Attributes
    ----------
    nodes : Supernodes
    position : (nnz(C),) int64
        Place of every entry of C in the storage of L.
    nnz : int
        Entries of L, without the zeros that merged panels store.
    flops : float
        Multiply-adds of a factorization without those zeros.
    operations : (S,) float64
        Multiply-adds of each front.
    up, down : Traversal
        Of the factorization, whose stack holds update matrices, and of the inverse, whose stack holds whole
        fronts.
    largest : int
        Rows of the largest front.
    """

    nodes: Supernodes
    position: np.ndarray
    nnz: int
    flops: float
    operations: np.ndarray
    up: Traversal
    down: Traversal
    largest: int

    @property
    def stored(self) -> int:
        """Numbers that L takes."""
        return int(self.nodes.panel_ptr[-1])

    @property
    def work_sizes(self) -> tuple[int, int]:
        """Numbers of the two work arrays that factorization and inverse share."""
        return (
            max(self.up.stack_size, self.down.stack_size),
            max(self.up.panel_size, self.down.panel_size),
        )

    def forecast_memory(self) -> int:
        """Bytes of the numeric phase: L, its work arrays, values of C and of its inverse with a copy each."""
        values = self.stored + sum(self.work_sizes) + self.nodes.rows.size + 4 * self.position.size
        return 8 * values


def analyze(indptr: np.ndarray, indices: np.ndarray) -> SymbolicFactor:
    """Symbolic factorization of a lower-triangular scalar pattern, (n + 1,) and (nnz,) int64.

    The pattern comes in elimination order; supernodes are wide only where that order is a postorder.
    """
    n = indptr.size - 1
    by_row = sp.csc_matrix(
        (np.ones(indices.size, np.int8), indices.astype(np.int32), indptr.astype(np.int32)), shape=(n, n)
    ).tocsr()
    row_indptr, row_indices = by_row.indptr.astype(np.int64), by_row.indices.astype(np.int64)
    parent = find_parents(row_indptr, row_indices)
    count = count_columns(row_indptr, row_indices)
    first = merge_supernodes(find_supernodes(parent, count), parent, count)
    row_ptr, rows, above = fill_rows(row_indptr, row_indices, first, parent, count)
    relative, twig = map_rows(first, row_ptr, rows, above), find_twigs(first, above)
    guest = find_guests(first, row_ptr, relative, above, twig)
    nodes = Supernodes(
        first, row_ptr, rows, relative, above, place_panels(first, row_ptr), twig,
        guest, land_rows(first, row_ptr, relative, above, guest),
        *list_twigs(first, row_ptr, relative, above, twig),
    )  # fmt: skip
    width, below = np.diff(first), np.diff(row_ptr)
    widest = int((width * below)[~twig].max(initial=0))
    return SymbolicFactor(
        nodes=nodes,
        position=map_entries(indptr, indices, nodes),
        nnz=int(count.sum()),
        flops=float(np.sum(count.astype(float) ** 2)),
        operations=width * ((width + below) * below + width * width / 3.0),
        up=_plan_traversal(nodes, np.where(twig | guest, 0, below * below), 0),
        down=_plan_traversal(
            nodes, np.where(twig, 0, np.where(guest, width, width + below) * (width + below)), widest
        ),
        largest=int((width + below).max(initial=1)),
    )


def _plan_traversal(nodes: Supernodes, area: np.ndarray, widest: int) -> Traversal:
    offset, heavy = place_fronts(nodes.above, nodes.guest, area)
    shared = np.diff(nodes.row_ptr)[heavy[(heavy >= 0) & (area > 0)]]
    packed = int((shared * (shared + 1) // 2).max(initial=0))
    return Traversal(offset, walk_depth_first(nodes.above, heavy), max(1, packed, widest))


class SupernodalFactor(CholeskyFactor):
    """Multifrontal factor; the matrix comes in elimination order.

    Parameters
    ----------
    indptr, indices : scalar lower-triangular pattern of C
    max_memory : bytes or text such as "8GB", optional
        Limit for the numeric phase; by default what the machine has available.

    Attributes
    ----------
    symbolic : SymbolicFactor
    memory : int
        Forecast of the numeric phase in bytes.
    L : (symbolic.stored,) float64
        Panels of the factor; empty before the first factorization.

    Raises
    ------
    MemoryForecastError
        Before anything is computed, when the forecast is above the limit.
    """

    def __init__(self, indptr: np.ndarray, indices: np.ndarray, max_memory: int | float | str | None = None):
        self.size = indptr.size - 1
        self.symbolic = analyze(indptr, indices)
        self.nnz, self.flops = self.symbolic.nnz, self.symbolic.flops
        self.memory = self.symbolic.forecast_memory()
        check_memory(self.memory, max_memory, f"the factorization of {self.size} equations")
        self._C_indptr = indptr
        self._begin()

    def _begin(self) -> None:
        self.L = np.empty(0)
        self._inverses: dict[int, np.ndarray] = {}
        self._work: tuple[np.ndarray, np.ndarray] | None = None

    def copy(self) -> SupernodalFactor:
        if self.L.size:  # a second one beside a factor in use
            check_memory(self.memory, None, f"a second factorization of {self.size} equations")
        twin = object.__new__(SupernodalFactor)
        twin.__dict__.update(self.__dict__)
        twin._begin()
        return twin

    def release(self) -> None:
        """Give the work arrays back; the next factorization or inverse makes new ones."""
        self._work = None

    def factorize(self, C_data: np.ndarray) -> bool:
        self._inverses.clear()
        s = self.symbolic
        if self.L.size != s.stored:
            self.L = np.empty(s.stored)
        place_entries(C_data, s.position, self.L)
        assembled = np.zeros(s.nodes.above.size, bool)
        with blas_threads.single(), self._work_arrays() as work:
            for fronts in self._runs(s.up.order[::-1]):
                failed = eliminate_fronts(
                    ADDRESSES, s.nodes, s.up.offset, fronts, assembled, self.L, *work
                )
                if failed >= 0:
                    return False
        return True

    def _runs(self, order: np.ndarray, effort: float = 1.0) -> Iterator[np.ndarray]:
        """Parts of `order` that take about a second at most, so that an interrupt is seen between them.

        Each large front comes by itself with the threads asked for.
        """
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
        s = self.symbolic
        return log_determinant(self.L, s.nodes, n_lead)

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
            part = np.array(B[:, start : start + COLUMN_BLOCK], dtype=float, order="C")
            held = np.empty((self.symbolic.largest, part.shape[1]))
            with blas_threads.single():
                for triangular_solve in passes:
                    triangular_solve(ADDRESSES, self.L, self.symbolic.nodes, part, held)
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


def solver_of(matrix: sp.csc_array) -> Callable[[np.ndarray], np.ndarray]:
    """A function that solves `matrix` x = b, b (n,) or (n, r), for one sparse positive definite matrix.

    Raises
    ------
    np.linalg.LinAlgError
        When it is not positive definite.
    """
    perm, _ = order_graph(sp.csc_array(sp.tril(matrix, -1)))
    lower = sp.csc_array(sp.tril(sp.csc_array(matrix)[perm][:, perm]))
    lower.sort_indices()
    factor = SupernodalFactor(lower.indptr.astype(np.int64), lower.indices.astype(np.int64))
    if not factor.factorize(lower.data):
        raise np.linalg.LinAlgError("the matrix is not positive definite")
    factor.release()
    return partial(solve_permuted, factor, perm)


def solve_permuted(factor: SupernodalFactor, perm: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Solve with the factor of a matrix whose rows and columns were permuted."""
    out = np.empty(right.shape)
    out[perm] = factor.solve(right[perm])
    return out
