"""Symbolic analysis of a pattern: supernodes, their panels, and the walks over their fronts."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import scipy.sparse as sp

from fastlmm_core.kernels.factor.ordering import count_columns, find_parents
from fastlmm_core.kernels.factor.sparse_pattern import list_cross
from fastlmm_core.kernels.factor.supernodes import (
    Supernodes,
    fill_rows,
    find_supernodes,
    map_entries,
    map_rows,
    merge_supernodes,
    place_fronts,
    place_panels,
    walk_depth_first,
)
from fastlmm_core.kernels.factor.twigs import find_guests, find_twigs, land_rows, list_twigs
from fastlmm_core.linalg.operations import operations_of_sparse_front
from fastlmm_core.linalg.separator import NO_FRONTS, is_cheaper


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
        Entries of L, without the zeros that merged panels store; of a sparse front those it keeps.
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

    @cached_property
    def all_operations(self) -> float:
        """Multiply-adds of a factorization with the zeros of merged panels."""
        return float(self.operations.sum())

    @property
    def stored(self) -> int:
        """Numbers that L takes."""
        return int(self.nodes.panel_ptr[-1])

    @cached_property
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


def analyze(indptr: np.ndarray, indices: np.ndarray, fronts: np.ndarray = NO_FRONTS) -> SymbolicFactor:
    """Symbolic factorization of a lower-triangular scalar pattern, (n + 1,) and (nnz,) int64.

    The pattern comes in elimination order; supernodes are wide only where that order is a postorder. `fronts`
    (k, 2) are first and last columns of those that may be sparse, behind everything below them.
    """
    n = indptr.size - 1
    by_row = sp.csc_matrix(
        (np.ones(indices.size, np.int8), indices.astype(np.int32), indptr.astype(np.int32)), shape=(n, n)
    ).tocsr()
    row_indptr, row_indices = by_row.indptr.astype(np.int64), by_row.indices.astype(np.int64)
    parent = find_parents(row_indptr, row_indices)
    count = count_columns(row_indptr, row_indices, np.ones(n, np.int64))
    tree = _Tree(indptr, indices.astype(np.int64, copy=False), row_indptr, row_indices, parent, count)
    nodes, sparse = _find_nodes(tree, fronts)
    kept = is_cheaper(sparse, fronts, count)
    if not kept.all():
        fronts = fronts[kept]
        nodes, sparse = _find_nodes(tree, fronts)
    width, below = np.diff(nodes.first), np.diff(nodes.row_ptr)
    operations = width * ((width + below) * below + width * width / 3.0)
    operations[nodes.sparse] = sparse
    flops, nnz = count.astype(float) ** 2, count.copy()
    stored = np.diff(nodes.panel_ptr)[nodes.sparse]
    for (first, last), own, entries in zip(fronts, sparse, stored, strict=True):
        flops[first : last + 1], nnz[first : last + 1] = 0.0, 0
        flops[first], nnz[first] = own, entries
    widest = int((width * below)[~nodes.twig].max(initial=0))
    whole = np.where(nodes.sparse, width * (width + below), 0)
    return SymbolicFactor(
        nodes=nodes,
        position=map_entries(indptr, tree.indices, nodes),
        nnz=int(nnz.sum()),
        flops=float(flops.sum()),
        operations=operations,
        up=_plan_traversal(
            nodes, whole + np.where(nodes.twig | nodes.guest, 0, below * below), int(2 * whole.max(initial=0))
        ),
        down=_plan_traversal(
            nodes, np.where(nodes.twig, 0, np.where(nodes.guest, width, width + below) * (width + below)),
            max(widest, int((2 * (whole + width * width) * nodes.sparse).max(initial=0))),
        ),
        largest=int((width + below).max(initial=1)),
    )  # fmt: skip


@dataclass(frozen=True)
class _Tree:
    """A pattern by columns and by rows, its elimination tree and the entries of the columns of L."""

    indptr: np.ndarray
    indices: np.ndarray
    row_indptr: np.ndarray
    row_indices: np.ndarray
    parent: np.ndarray
    count: np.ndarray


def _find_nodes(tree: _Tree, fronts: np.ndarray) -> tuple[Supernodes, np.ndarray]:
    """Supernodes with sparse fronts for runs of columns, and the multiply-adds of these."""
    place = np.arange(tree.parent.size + 1)
    fine = find_supernodes(tree.parent, tree.count, place)
    alone = np.zeros(tree.parent.size, bool)
    if len(fronts):
        begins, ends = fronts.T
        alone[begins] = True
        number = np.searchsorted(begins, fine, side="right") - 1
        inside = (number >= 0) & (fine <= np.append(ends, -1)[number])
        fine = np.union1d(fine[~inside], np.concatenate((begins, ends + 1)))
    first = merge_supernodes(fine, tree.parent, tree.count, place, alone)
    row_ptr, rows, above = fill_rows(tree.row_indptr, tree.row_indices, first, tree.parent, tree.count)
    relative, twig = map_rows(first, row_ptr, rows, above), find_twigs(first, above)
    guest = find_guests(first, row_ptr, relative, above, twig)
    sparse = alone[first[:-1]]
    cross_base, cross_ptr, cross = list_cross(
        tree.indptr, tree.indices, first, row_ptr, rows, relative, above, sparse
    )  # fmt: skip
    meet_base, meet_ptr, meet, meet_twig = list_twigs(first, row_ptr, relative, above, twig)
    mirrored = np.zeros(sparse.size, bool)
    mirrored[above[sparse & guest]] = True
    nodes = Supernodes(
        first, row_ptr, rows, relative, above, place_panels(first, row_ptr, cross_base, cross_ptr), twig,
        guest, land_rows(first, row_ptr, relative, above, guest), meet_base, meet_ptr, meet, meet_twig,
        sparse, mirrored, cross_base, cross_ptr, cross,
    )  # fmt: skip
    own = np.flatnonzero(sparse)
    r = np.diff(row_ptr)[own]
    entries = cross_ptr[cross_base[own] + r] - cross_ptr[cross_base[own]]
    return nodes, operations_of_sparse_front(np.diff(first)[own].astype(float), r, entries)


def _plan_traversal(nodes: Supernodes, area: np.ndarray, widest: int) -> Traversal:
    offset, heavy = place_fronts(nodes.above, nodes.guest, area)
    shared = np.diff(nodes.row_ptr)[heavy[(heavy >= 0) & (area > 0)]]
    packed = int((shared * (shared + 1) // 2).max(initial=0))
    return Traversal(offset, walk_depth_first(nodes.above, heavy), max(1, packed, widest))
