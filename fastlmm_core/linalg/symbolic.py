"""Symbolic analysis of a pattern: supernodes, their panels, and the walks over their fronts."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import scipy.sparse as sp

from fastlmm_core.kernels.factor.ordering import count_columns, find_parents
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
    count = count_columns(row_indptr, row_indices, np.ones(n, np.int64))
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
        position=map_entries(indptr, indices.astype(np.int64, copy=False), nodes),
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
