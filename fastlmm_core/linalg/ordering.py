"""Elimination order of large systems: the one with the fewest operations of several."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import cache
from types import ModuleType

import numpy as np
import scipy.sparse as sp

from fastlmm_core.errors import DependencyError
from fastlmm_core.kernels.factor.joined_fronts import order_joined
from fastlmm_core.kernels.factor.ordering import count_columns, find_parents
from fastlmm_core.linalg.operations import operations_of_columns
from fastlmm_core.linalg.suitesparse import is_class_based, load_cholmod

logger = logging.getLogger("fastlmm_core.linalg")
# Another order has to save this share of the operations to replace one that was found before.
CLEARLY_BETTER = 0.97
# Rough costs that decide whether to look for another order; only their ratio matters.  A whole fit by
# ``linalg.supernodal`` takes 0.5 to 0.8 ns for each multiply-add of one factorization where there are 1e9 and
# more of them, and several ns where there are few.  A search takes 0.7 to 2 microseconds for
# each entry of the matrix, the count of its operations included.
FIT_SECONDS = 1e-9
SEARCH_SECONDS = 1e-6


def order_graph(graph: sp.csc_array, size: np.ndarray | None = None) -> tuple[np.ndarray, str, float]:
    """Fill-reducing permutation of a symmetric graph given by its strict lower triangle, front by front.

    With the name of the method, and the multiply-adds of a factorization.

    Several methods are tried and the one with the fewest estimated operations is kept: the nodes as they
    come, METIS where scikit-sparse brings it, and approximate minimum degree. METIS is the second, as it
    saves most where a search pays at all: a third of the operations of minimum degree for InstEval, which
    then needs no third.

    Parameters
    ----------
    graph : (n, n)
    size : (n,) int64, optional
        How many rows of the matrix a node stands for.
    """
    n = graph.shape[0]
    matrix = sp.csc_matrix(graph + sp.eye_array(n, format="csc"))
    matrix.sort_indices()
    # the order of the nodes as they come (terms of most levels first, fixed columns last) costs nothing to
    # find and is hard to beat where one large term is nested in the others
    best = judge_order(matrix, np.arange(n), "by terms", size)
    for name in ("metis", "amd"):
        if best.flops * FIT_SECONDS < matrix.nnz * SEARCH_SECONDS:
            break  # the whole fit costs less than looking for a better order
        perm = order_by_degree(graph) if name == "amd" else order_by_metis(matrix)
        if perm is None:
            continue
        other = judge_order(matrix, perm, name, size)
        if other.flops < CLEARLY_BETTER * best.flops:
            best = other
    m = np.ones(n, np.int64) if size is None else size[best.perm]
    fronts = order_joined(find_parents(*best.rows), count_columns(*best.rows, m), m)
    return best.perm[fronts], best.name, best.flops


@dataclass(frozen=True)
class Order:
    """An order and its cost.

    Attributes
    ----------
    perm : (n,)
    name : str
    rows : tuple of int64 arrays
        Of the permuted lower triangle, compressed.
    flops : float
        Multiply-adds of a factorization.
    """

    perm: np.ndarray
    name: str
    rows: tuple[np.ndarray, np.ndarray]
    flops: float


def judge_order(
    matrix: sp.csc_matrix, perm: np.ndarray, name: str = "", size: np.ndarray | None = None
) -> Order:
    """The order `perm` (n,) of a symmetric `matrix` (lower triangle) whose nodes stand for `size` (n,) rows.

    Of a node that stands for several rows the columns have c, c - 1, ... entries.
    """
    m = np.ones(perm.size, np.int64) if size is None else size[perm]
    rows = _lower_rows(matrix, perm)
    return Order(perm, name, rows, operations_of_columns(count_columns(*rows, m), m))


def order_by_degree(graph: sp.csc_array) -> np.ndarray:
    """Approximate minimum degree order (N,) of a symmetric graph given by its strict lower triangle."""
    # loaded here: the first call compiles for 3 seconds
    from fastlmm_core.kernels.factor.quotient_graph import order_approximate_degree

    both = sp.csc_array(graph + graph.T)
    perm: np.ndarray = order_approximate_degree(both.indptr.astype(np.int64), both.indices.astype(np.int64))
    return perm


def order_by_metis(matrix: sp.csc_matrix) -> np.ndarray | None:
    """Order by METIS, None where scikit-sparse or its METIS is missing; what is missing is logged once."""
    try:
        return find_order(load_cholmod(), matrix, "metis")
    except DependencyError as error:
        _log_once(f"large systems are ordered without METIS: {error}")
        return None


@cache
def _log_once(words: str) -> None:
    logger.warning(words)


def find_order(module: ModuleType, matrix: sp.csc_matrix, method: str) -> np.ndarray | None:
    """Postordered permutation (size,) by "amd" or "metis"; None where that method is not installed.

    `module` is ``sksparse.cholmod`` of scikit-sparse 0.4, which returns factors from ``analyze``, or of 0.5,
    whose one class ``CholeskyFactor`` takes the new sparse arrays.
    """
    try:
        if is_class_based(module):
            array = sp.csc_array((matrix.data, matrix.indices, matrix.indptr), shape=matrix.shape)
            return np.array(module.CholeskyFactor(array, order=method).perm, np.int64)
        return np.asarray(module.analyze(matrix, ordering_method=method).P(), np.int64)
    except module.CholmodError:
        return None


def _lower_rows(matrix: sp.csc_matrix, perm: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows of the lower triangle of the permuted symmetric `matrix` (lower triangle), compressed by row."""
    place = np.empty(perm.size, np.int64)
    place[perm] = np.arange(perm.size)
    coo = matrix.tocoo()
    a, b = place[coo.row], place[coo.col]
    pairs = (np.maximum(a, b), np.minimum(a, b))
    lower = sp.csr_matrix((np.ones(a.size, np.int8), pairs), shape=matrix.shape)
    return lower.indptr.astype(np.int64), lower.indices.astype(np.int64)
