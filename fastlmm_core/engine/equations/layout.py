"""Where the scalars of the nodes stand, and the pattern of the equations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import scipy.sparse as sp

from fastlmm_core.engine.equations.node_graph import dense_groups, node_pattern, order_cheaply
from fastlmm_core.engine.equations.nodes import NodeGroup, Nodes
from fastlmm_core.engine.equations.terms import EngineTerm
from fastlmm_core.kernels.equations.crossproducts import expand_pattern, permute_pattern
from fastlmm_core.linalg.elimination import Elimination
from fastlmm_core.linalg.memory import check_memory
from fastlmm_core.structures.residuals.base import ResidualStructure

# Entries of C that always fit; bytes that one takes in pattern, products and places in the factor.
FEW_ENTRIES = 5_000_000
ENTRY_BYTES = 24
FEWER_COEFFICIENTS = (
    "Every pair of related levels has a block of all coefficients: take fewer of them or of the levels, fit "
    "parts of the data, or use a machine with more memory"
)


@dataclass(frozen=True)
class FactorLayout:
    """What factors read of the nodes: the term of each (N,), and the first scalar of each (N + 1,)."""

    term: np.ndarray
    start: np.ndarray


@dataclass(frozen=True)
class Side:
    """Layout of the natural or of the spherical scalars.

    Attributes
    ----------
    start : (N + 1,) int64
        First scalar of each node in elimination order.
    indptr, indices : lower triangle of the pattern
    rows : tuple of (L_k, size_k) int64
        Scalars of the levels of every term.
    missing, fixed : int64 arrays
        Scalars of missing plots and of fixed columns.
    """

    start: np.ndarray
    indptr: np.ndarray
    indices: np.ndarray
    rows: tuple[np.ndarray, ...]
    missing: np.ndarray
    fixed: np.ndarray

    @property
    def size(self) -> int:
        return int(self.start[-1])

    @property
    def pair(self) -> tuple[np.ndarray, np.ndarray]:
        return self.start, self.indptr

    @property
    def pattern(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return self.start, self.indptr, self.indices

    def with_entries(self, kept: np.ndarray) -> Side:
        """The same scalars with only the entries `kept` (nnz,) bool of the pattern."""
        indptr = np.concatenate(([0], np.cumsum(kept)))[self.indptr].astype(np.int64)
        return replace(self, indptr=indptr, indices=self.indices[kept])

    def leave_random(self, B: np.ndarray) -> None:
        """Zeros in the rows of B (size, r) of missing plots and fixed columns, in place."""
        B[self.fixed] = 0.0
        B[self.missing] = 0.0

    @property
    def columns(self) -> np.ndarray:
        """Column of every entry (nnz,)."""
        return np.repeat(np.arange(self.size), np.diff(self.indptr))

    def both_triangles(self, values: np.ndarray) -> np.ndarray:
        """The lower triangle (nnz,) in place with entries off the diagonal twice, as they stand in both."""
        values *= 2.0
        values[self.indptr[:-1]] *= 0.5
        return values


def check_entries(below_ptr: np.ndarray, below: np.ndarray, size: np.ndarray) -> None:
    """Refuse a pattern that alone does not fit: levels of many coefficients that all meet.

    Raises
    ------
    MemoryForecastError
        Naming the entries, before they are listed.
    """
    pairs = np.repeat(size, np.diff(below_ptr)) @ size[below]
    entries = int(pairs + np.sum(size * (size + 1) // 2))
    if entries > FEW_ENTRIES:
        what = f"the list of {entries:,} entries of {int(size.sum()):,} equations"
        check_memory(ENTRY_BYTES * entries, None, what, advice=FEWER_COEFFICIENTS)


def lay_out_side(
    nodes: Nodes, perm: np.ndarray, place: np.ndarray, below_ptr: np.ndarray, below: np.ndarray
) -> Side:
    """Scalars of the nodes, which are placed by `perm` and its inverse."""
    start = np.concatenate(([0], np.cumsum(nodes.size[perm]))).astype(np.int64)
    indptr, indices = expand_pattern(below_ptr, below, start)
    rows: dict[int, list[np.ndarray]] = {}
    for own, first in zip(nodes.groups, nodes.first, strict=False):
        scalars = start[place[first : first + own.n_levels]]
        rows.setdefault(own.term, []).append(scalars[:, None] + np.arange(len(own.scalars)))
    by_term = tuple(np.concatenate(parts, axis=1) for parts in rows.values())
    return Side(
        start, indptr, indices, by_term, start[place[nodes.of_missing()]], start[place[nodes.of_fixed()]]
    )


@dataclass(frozen=True)
class Layout:
    """Both sides, and W.

    Attributes
    ----------
    terms : tuple of EngineTerm
        With nodes of their own where that is cheaper.
    natural, spherical : Side
    groups : list of NodeGroup
        Of the spherical nodes.
    graph : tuple of int64 arrays
        (below_ptr, below, group) of the spherical nodes.
    paired : bool
        Each natural node has a spherical one of its own, and the same graph.
    matrix : (n_rows, q) csr_array
    dense : list of int64 arrays
        Natural scalars of the `dense_groups`.
    order : Elimination
    """

    terms: tuple[EngineTerm, ...]
    natural: Side
    spherical: Side
    groups: list[NodeGroup]
    graph: tuple[np.ndarray, np.ndarray, np.ndarray]
    paired: bool
    matrix: sp.csr_array
    dense: list[np.ndarray]
    order: Elimination


def lay_out(
    terms: Sequence[EngineTerm], X: sp.csc_array, residual: ResidualStructure, fixed_last: bool
) -> Layout:
    """Order of elimination, patterns and W for inside columns X (n, p); see `build_structured_equations`."""
    known = order_cheaply(terms, X, residual, fixed_last)
    nodes, natural_nodes, order = known.spherical, known.natural, known.order
    check_entries(known.below_ptr, known.below, nodes.size)
    row, node, offset, value = known.entries
    perm, place = order.perm, _inverse(order.perm)
    below_ptr, below = permute_pattern(known.below_ptr, known.below, place)
    spherical = natural = lay_out_side(nodes, perm, place, below_ptr, below)
    if not known.paired:
        place = np.arange(natural_nodes.size.size)
        pattern = node_pattern(row, node, natural_nodes, known.terms, residual, None)
        natural = lay_out_side(natural_nodes, place, place, *pattern)
    elif not np.array_equal(natural_nodes.size, nodes.size):
        natural = lay_out_side(natural_nodes, perm, place, below_ptr, below)
    column = natural.start[place[node]] + offset
    matrix = sp.csr_array((value, (row, column)), shape=(residual.n_rows, natural.size))
    matrix.sum_duplicates()
    matrix.sort_indices()
    graph = (below_ptr, below, nodes.group[perm])
    dense = []
    for own in dense_groups(natural_nodes, known.terms):
        width = int(natural_nodes.size[own[0]])
        dense.append(np.sort((natural.start[place[own]][:, None] + np.arange(width)).ravel()))
    return Layout(
        known.terms, natural, spherical, nodes.groups, graph, known.paired, matrix, dense, order
    )  # fmt: skip


def _inverse(perm: np.ndarray) -> np.ndarray:
    place = np.empty(perm.size, np.int64)
    place[perm] = np.arange(perm.size)
    return place
