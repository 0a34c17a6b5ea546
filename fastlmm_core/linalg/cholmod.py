"""Large factors by CHOLMOD; ``cholmod_api`` knows the versions of scikit-sparse."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import scipy.sparse as sp

from fastlmm_core.errors import DependencyError
from fastlmm_core.kernels.blas import ADDRESSES
from fastlmm_core.kernels.ordering import count_columns, find_parents, forecast_stack, order_postfix
from fastlmm_core.kernels.simplicial import solve_lower, solve_upper
from fastlmm_core.kernels.supernodal_inverse import (
    find_supernodes,
    invert_supernodes,
    map_entries,
    map_fronts,
)
from fastlmm_core.linalg.cholmod_api import choose_interface
from fastlmm_core.linalg.factor import CholeskyFactor
from fastlmm_core.linalg.memory import check_memory
from fastlmm_core.linalg.openmp import serial_assembly

try:
    from sksparse import cholmod as _cholmod
except ImportError as error:  # pragma: no cover - depends on the installation
    raise DependencyError(
        "scikit-sparse (CHOLMOD) is not installed or does not load. It is built against SuiteSparse; install "
        "its headers and a C compiler first: "
        "Debian/Ubuntu 'apt install libsuitesparse-dev libopenblas0-pthread gcc python3-dev', "
        "Fedora 'dnf install suitesparse-devel gcc python3-devel', macOS 'brew install suite-sparse', "
        f"conda 'conda install -c conda-forge scikit-sparse'. ({error})"
    ) from error

_interface = choose_interface(_cholmod)

# Another order has to save this share of the operations to replace one that was found before.
CLEARLY_BETTER = 0.97
# Rough costs that decide whether to look: a fit takes some 15 factorizations at 15 GFLOP/s, a search about a
# microsecond an entry (measured 0.7 to 1.6).  Only their ratio matters.
FIT_SECONDS = 15.0 / 1.5e10
SEARCH_SECONDS = 1e-6
SEARCH_PAYS = 1.0
# From this many right-hand sides on, a pass over L that updates whole rows of them beats CHOLMOD's solve by
# half and its half solve four times, the copy of L included.
MANY_COLUMNS = 24
COLUMN_BLOCK = 128


def order_graph(graph: sp.csc_array) -> tuple[np.ndarray, str]:
    """Fill-reducing, postordered permutation of a symmetric graph given by its strict lower triangle.

    Several methods are tried and the one with the fewest estimated operations is kept.
    """
    n = graph.shape[0]
    matrix = sp.csc_matrix(graph + sp.eye_array(n, format="csc"))
    matrix.sort_indices()
    # the order of the nodes as they come (terms of most levels first, fixed columns last) costs nothing to
    # find and is hard to beat where one large term is nested in the others
    best, best_name = np.arange(n), "by terms"
    best_flops = estimate_flops(matrix, best)
    for name in ("amd", "metis"):
        if best_flops * FIT_SECONDS < SEARCH_PAYS * matrix.nnz * SEARCH_SECONDS:
            break  # the whole fit costs less than looking for a better order
        perm = _interface.order(matrix, name)
        if perm is None:
            continue
        flops = estimate_flops(matrix, perm)
        if flops < CLEARLY_BETTER * best_flops:
            best, best_flops, best_name = perm, flops, name
    if best_name == "by terms":
        best = order_postfix(find_parents(*_lower_rows(matrix, best)))
    return best, best_name


def _lower_rows(matrix: sp.csc_matrix, perm: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows of the lower triangle of the permuted symmetric `matrix` (lower triangle), compressed by row."""
    place = np.empty(perm.size, np.int64)
    place[perm] = np.arange(perm.size)
    coo = matrix.tocoo()
    a, b = place[coo.row], place[coo.col]
    pairs = (np.maximum(a, b), np.minimum(a, b))
    lower = sp.csr_matrix((np.ones(a.size, np.int8), pairs), shape=matrix.shape)
    return lower.indptr.astype(np.int64), lower.indices.astype(np.int64)


def estimate_flops(matrix: sp.csc_matrix, perm: np.ndarray) -> float:
    """Multiply-adds of a factorization of the symmetric `matrix` (lower triangle) in the order `perm`."""
    return float(np.sum(count_columns(*_lower_rows(matrix, perm)).astype(float) ** 2))


def forecast_memory(nnz: int, stack: int, nnz_C: int) -> int:
    """Bytes of the numeric phase: CHOLMOD's factor, the copy of L with its indices, the fronts, and C.

    Relaxed supernodes store about a quarter more than nnz(L); handing L over takes 0.7 of it for a moment.
    """
    return int(8.0 * (1.25 * nnz * (1.0 + 1.5 + 0.7) + 1.1 * stack + 4.0 * nnz_C))


class CholmodFactor(CholeskyFactor):
    """Supernodal factor by CHOLMOD; the matrix comes in elimination order.

    Parameters
    ----------
    indptr, indices : scalar lower-triangular pattern of C
    max_memory : bytes or text such as "8GB", optional
        Limit for the numeric phase; by default what the machine has available.

    Attributes
    ----------
    memory : int
        Forecast of the numeric phase in bytes.

    Raises
    ------
    MemoryForecastError
        Before anything is computed, when the forecast is above the limit.
    """

    def __init__(self, indptr: np.ndarray, indices: np.ndarray, max_memory: int | float | str | None = None):
        self.size = indptr.size - 1
        self._C = sp.csc_matrix(
            (np.zeros(indices.size), indices.astype(np.int32), indptr.astype(np.int32)),
            shape=(self.size, self.size),
        )
        self._pattern = (indptr, indices)
        transposed = self._C.T.tocsc()
        rows = (transposed.indptr.astype(np.int64), transposed.indices.astype(np.int64))
        counts = count_columns(*rows)
        self.nnz = int(counts.sum())
        self.memory = forecast_memory(
            self.nnz, int(forecast_stack(find_parents(*rows), counts)), indices.size
        )
        check_memory(self.memory, max_memory, f"the factorization of {self.size} equations")
        self._factor = _interface.analyze(self._C)
        self.flops = float(np.sum(counts.astype(float) ** 2))
        self._plans: dict[int, InversePlan] = {}
        self._inverses: dict[int, np.ndarray] = {}
        self._work: tuple[np.ndarray, np.ndarray] | None = None

    def copy(self) -> CholmodFactor:
        twin = object.__new__(CholmodFactor)
        twin.__dict__.update(self.__dict__)
        twin._factor = self._factor.copy()
        twin._C = self._C.copy()
        twin._inverses = {}
        twin._work = None
        return twin

    def factorize(self, C_data: np.ndarray) -> bool:
        self._inverses.clear()
        self._C.data = C_data
        with serial_assembly():
            return self._factor.factorize(self._C)

    def log_determinant(self, n_lead: int) -> float:
        if n_lead == self.size:
            return self._factor.log_determinant()
        return 2.0 * float(np.sum(np.log(self._factor.lower().diagonal()[:n_lead])))

    def release(self) -> None:
        """Give the work arrays of the inverse subset back."""
        self._work = None

    def solve(self, B: np.ndarray) -> np.ndarray:
        if B.ndim == 1 or B.shape[1] < MANY_COLUMNS:
            return self._factor.solve(B)
        return self._solve_many(B, solve_lower, solve_upper)

    def solve_lower(self, B: np.ndarray) -> np.ndarray:
        if B.ndim == 1 or B.shape[1] < MANY_COLUMNS:
            return self._factor.solve_lower(B)
        return self._solve_many(B, solve_lower)

    def _solve_many(self, B: np.ndarray, *passes: Callable[..., None]) -> np.ndarray:
        """Triangular solves of many columns by kernels that run along the columns."""
        L = self._factor.lower()
        indptr = L.indptr.astype(np.int64)
        out = np.empty(B.shape)
        for first in range(0, B.shape[1], COLUMN_BLOCK):
            part = np.array(B[:, first : first + COLUMN_BLOCK], dtype=float, order="C")
            for triangular_solve in passes:
                triangular_solve(indptr, L.indices, L.data, part)
            out[:, first : first + COLUMN_BLOCK] = part
        return out

    def inverse_subset(self, n_lead: int) -> np.ndarray:
        if n_lead not in self._inverses:
            self._inverses[n_lead] = self._invert(n_lead)
        return self._inverses[n_lead]

    def _invert(self, n_lead: int) -> np.ndarray:
        L = self._factor.lower()
        indptr, indices = self._pattern
        if n_lead < self.size:
            L = L[:n_lead, :n_lead].tocsc()
            indptr, indices = self._leading_pattern(n_lead)
        if n_lead not in self._plans:
            self._plans[n_lead] = InversePlan(L.indptr, L.indices, indptr, indices)
        plan = self._plans[n_lead]
        if self._work is None or self._work[0].size < plan.stack_size or self._work[1].size < plan.panel_size:
            self._work = (np.empty(plan.stack_size), np.empty(plan.panel_size))
        found = plan.invert(L.data, *self._work)
        if n_lead == self.size:
            return found
        out = np.zeros(self._pattern[1].size)
        out[self._leading_entries(n_lead)] = found
        return out

    def _leading_entries(self, n_lead: int) -> np.ndarray:
        indptr, indices = self._pattern
        columns = np.repeat(np.arange(self.size), np.diff(indptr))
        return np.flatnonzero((columns < n_lead) & (indices < n_lead))

    def _leading_pattern(self, n_lead: int) -> tuple[np.ndarray, np.ndarray]:
        indptr, indices = self._pattern
        keep = self._leading_entries(n_lead)
        columns = np.repeat(np.arange(self.size), np.diff(indptr))[keep]
        counts = np.bincount(columns, minlength=n_lead)
        return np.concatenate(([0], np.cumsum(counts))).astype(np.int64), indices[keep]


class InversePlan:
    """Supernodes, relative indices and work arrays of the inverse subset, found once per pattern of L.

    Parameters
    ----------
    indptr, indices : pattern of L (sorted), with the zeros that CHOLMOD's relaxed supernodes hold
    C_indptr, C_indices : pattern of C
    """

    def __init__(self, indptr: np.ndarray, indices: np.ndarray, C_indptr: np.ndarray, C_indices: np.ndarray):
        self.indptr = indptr.astype(np.int64)
        self.first = find_supernodes(self.indptr, indices)
        self.fronts = map_fronts(self.indptr, indices, self.first)
        self.C_indptr = C_indptr
        self.place = map_entries(C_indptr, C_indices, self.indptr, indices, self.first)
        size = np.diff(self.indptr)[self.first[:-1]]
        width = np.diff(self.first)
        self.stack_size = int(self.fronts[3][-1])
        below = size - width
        parent, offset = self.fronts[0], self.fronts[3][:-1]
        heavy = (parent >= 0) & (offset == offset[parent])
        panels = np.maximum(width * below, np.where(heavy, below * (below + 1) // 2, 0))
        self.panel_size = max(1, int(panels.max(initial=0)))

    def invert(
        self, L: np.ndarray, stack: np.ndarray | None = None, panel: np.ndarray | None = None
    ) -> np.ndarray:
        """C^-1 on the pattern of C, (nnz(C),), from the data of L; work arrays of the plan's sizes."""
        stack = np.empty(self.stack_size) if stack is None else stack
        panel = np.empty(self.panel_size) if panel is None else panel
        parent, relative_ptr, relative, offset, order = self.fronts
        C_inv = np.empty(self.place.size)
        invert_supernodes(
            ADDRESSES, L, self.indptr, self.first, parent, relative_ptr, relative, offset, order,
            self.C_indptr, self.place, stack, panel, C_inv,
        )  # fmt: skip
        return C_inv


def solver_of(matrix: sp.csc_array) -> Callable[[np.ndarray], np.ndarray]:
    """A function that solves `matrix` x = b for one sparse positive definite matrix."""
    return _interface.factorize(sp.csc_matrix(matrix)).solve
