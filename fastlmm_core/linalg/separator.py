"""Orders in which the parts of a system beside one separator come one by one, each with a sparse front.

Levels that meet in all environments, such as the genotypes of a series of trials, separate the rest into
parts, one for each environment.  Minimum degree eliminates some blocks of an environment before others; each
of them joins the genotypes it holds to each other and to the blocks that are left, so that in the end nearly
all of these meet all genotypes.  Eliminated together the blocks of an environment keep the few entries they
have in the rows of the genotypes, and their front takes a fraction of the operations
(``kernels.factor.sparse_fronts``).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import scipy.sparse as sp

from fastlmm_core.kernels.equations.crossproducts import permute_pattern
from fastlmm_core.kernels.factor.graph_parts import choose_apart, number_parts
from fastlmm_core.kernels.factor.ordering import count_columns, find_parents, list_left, order_postfix
from fastlmm_core.linalg.operations import operations_of_columns, operations_of_sparse_front

# Multiply-adds of a factorization from which on another order is looked for.
LARGE = 5e8
# A sparse front has so many columns and rows below them at least.
LEAST_COLUMNS, LEAST_ROWS = 32, 128
# A front, and the whole, must be cheaper by this factor; by the last one beside the order of the terms, so
# that no other order is looked for.
CHEAPER_PART, CHEAPER, FAR_CHEAPER = 0.7, 0.7, 0.5
# Neighbours of nodes that are eliminated before a front: of those that meet no others of the kind (a genotype
# in an environment meets the genotype and its blocks), and then of the rest (the blocks of one replicate).
FEW, SOME = 24, 96
# How many nodes that meet most others are looked for.
MOST_HUBS = 32
# Pairs of neighbours that an elimination may join.
MOST_JOINED = 3e7
NO_FRONTS = np.empty((0, 2), np.int64)


class ByParts(NamedTuple):
    """An order by parts.

    Attributes
    ----------
    perm : (N,) int64
        Not a postorder: the columns of a sparse front stand behind everything below them.
    fronts : (k, 2) int64
        First and last node of each of these, counted in this order.
    operations : float
        Multiply-adds of a factorization.
    """

    perm: np.ndarray
    fronts: np.ndarray
    operations: float


def order_by_parts(
    below_ptr: np.ndarray, below: np.ndarray, node_size: np.ndarray, perm: np.ndarray, last: np.ndarray,
    kind: np.ndarray, far: bool = False,
) -> ByParts | None:  # fmt: skip
    """A cheaper order than `perm`, with a separator at its end and sparse fronts before it, or None.

    Parameters
    ----------
    below_ptr, below : int64 arrays
        Strict lower triangle of the graph in compressed columns.
    node_size : (N,) int64
        Scalars per node.
    perm : (N,) int64
        Node perm[k] is eliminated k-th.
    last : (N,) bool
        Nodes that stand at the end of every order.
    kind : (N,) int64
        Term that each node is a level of. One of these is the separator, with what meets all parts.
    far : bool
        Only one that is far cheaper.
    """
    n = perm.size
    place = np.empty(n, np.int64)
    place[perm] = np.arange(n)
    rows = list_left(*permute_pattern(below_ptr, below, place))
    size = node_size[perm]
    count = count_columns(*rows, size)
    before = operations_of_columns(count, size)
    if before < LARGE:
        return None
    cost = np.empty(n)
    cost[perm] = size * count.astype(float) ** 2
    graph = _both_triangles(below_ptr, below)
    after, behind, degree = np.inf, np.zeros(n, bool), np.diff(graph.indptr)
    scalars, cheaper = np.bincount(kind, weights=node_size), FAR_CHEAPER if far else CHEAPER
    for main in np.flatnonzero((scalars >= LEAST_ROWS) & (scalars**3 / 3.0 < cheaper * before)):
        found = _separate(below_ptr, below, degree, last | (kind == main), node_size)
        if found is not None:
            its_after, its_behind = _choose_fronts(graph, node_size, *found, cost)
            if its_after < after and its_behind.any():
                after, behind, part = its_after, its_behind, found[1]
    if after > cheaper * before:
        return None
    # parts in the order of their first node, the separator behind all of them
    first = np.full(part.max() + 2, n)
    np.minimum.at(first, part, place)
    first[-1] = n  # of part -1
    order = np.lexsort((place, behind, first[part]))
    place[order] = np.arange(n)
    parent = find_parents(*list_left(*permute_pattern(below_ptr, below, place)))
    rank = np.empty(n, np.int64)
    rank[order[order_postfix(parent)]] = np.arange(n)
    # what must stand at the end is in the separator, and a separator in pieces has several roots
    order = np.lexsort((rank, last, behind, first[part]))
    own = np.where(behind, part, -1)[order]
    ends = np.flatnonzero(np.diff(own, prepend=-1, append=-1) != 0)
    begins, ends = ends[:-1], ends[1:] - 1
    return ByParts(order, np.column_stack((begins, ends))[own[begins] >= 0], after)


def is_cheaper(sparse: np.ndarray, fronts: np.ndarray, count: np.ndarray) -> np.ndarray:
    """Whether fronts, (k, 2) first and last columns, are cheaper as sparse ones (k,).

    `sparse` (k,) are their multiply-adds then, `count` (n,) the entries of all columns of the factor.
    """
    behind = np.concatenate(([0.0], np.cumsum(count.astype(float) ** 2)))
    return np.asarray(sparse < CHEAPER_PART * (behind[fronts[:, 1] + 1] - behind[fronts[:, 0]]))


def _both_triangles(below_ptr: np.ndarray, below: np.ndarray) -> sp.csr_array:
    n = below_ptr.size - 1
    lower = sp.csc_array((np.ones(below.size, np.int32), below, below_ptr), shape=(n, n))
    return sp.csr_array(lower + lower.T)


def _separate(
    below_ptr: np.ndarray, below: np.ndarray, degree: np.ndarray, separates: np.ndarray, node_size: np.ndarray
) -> tuple[np.ndarray, np.ndarray] | None:
    """A separator with the nodes given, and the parts beside it, two of them large enough for a front.

    Nodes that meet most others, such as the intercept, are taken in, as few as it needs.  None where many of
    them leave a single part.
    """
    others = np.flatnonzero(~separates)
    hubs = others[np.argsort(-degree[others], kind="stable")[:MOST_HUBS]]

    def taken_in(count: int) -> tuple[np.ndarray, np.ndarray] | None:
        wider = separates.copy()
        wider[hubs[:count]] = True
        part = number_parts(below_ptr, below, wider)
        scalars = np.bincount(part[part >= 0], weights=node_size[part >= 0], minlength=1)
        return (wider, part) if (scalars >= LEAST_COLUMNS).sum() > 1 else None

    without_hubs = taken_in(0)
    if without_hubs is not None:
        return without_hubs
    fewer, count, found = 0, hubs.size, taken_in(hubs.size)  # too few, and enough
    while found is not None and count - fewer > 1:
        middle = (fewer + count) // 2
        between = taken_in(middle)
        if between is None:
            fewer = middle
        else:
            count, found = middle, between
    return found


def _choose_fronts(
    graph: sp.csr_array, node_size: np.ndarray, separates: np.ndarray, part: np.ndarray, cost: np.ndarray
) -> tuple[float, np.ndarray]:
    """Multiply-adds in the order by parts, and which nodes are in a sparse front, (N,) bool.

    `cost` (N,) are those of every node in the order before.
    """
    inside = part >= 0
    best = np.bincount(part[inside], weights=cost[inside])
    sparse = np.full(best.size, np.inf)
    behind = np.zeros(part.size, bool)
    nodes, root = np.flatnonzero(inside), np.flatnonzero(separates)
    among, below = graph[nodes][:, nodes], graph[nodes][:, root]
    for most in (FEW, SOME):
        # what is eliminated joins its neighbours, within the parts and in the separator
        rows = among.indptr.astype(np.int64), among.indices.astype(np.int64)  # where none is left, 32 bits
        apart = choose_apart(*rows, most)
        degree = np.diff(among.indptr)[apart] + np.diff(below.indptr)[apart].astype(float)
        if (degree**2).sum() > MOST_JOINED:
            break  # nothing like a series of trials, and slow to join
        left = ~apart
        gone, toward = among[left][:, apart], below[apart]
        among = sp.csr_array(among[left][:, left] + gone @ gone.T)
        among.setdiag(0)
        among.eliminate_zeros()
        below = sp.csr_array(below[left] + gone @ toward)
        among.data[:], below.data[:] = 1, 1
        nodes = nodes[left]
        found, dense = _cost_of_fronts(below, part[nodes], node_size[nodes], node_size[root], best.size)
        better = (found < CHEAPER_PART * dense) & (found < sparse)
        sparse[better] = best[better] = found[better]
        behind[better[part] & inside] = False
        behind[nodes[better[part[nodes]]]] = True
    return float(best.sum() + node_size[root].sum() ** 3 / 3.0), behind


def _cost_of_fronts(
    below: sp.csr_array, part: np.ndarray, columns: np.ndarray, rows: np.ndarray, parts: int
) -> tuple[np.ndarray, np.ndarray]:
    """Multiply-adds of every part (parts,) as a sparse front, infinite where it is none, and as a dense one.

    `below` (nodes, separator) says which of these meet, of `columns` and `rows` scalars.
    """
    m = np.bincount(part, weights=columns, minlength=parts)
    entries = np.bincount(part, weights=(below @ rows.astype(float)) * columns, minlength=parts)
    member = sp.csr_array((np.ones(part.size, np.int32), (part, np.arange(part.size))), (parts, part.size))
    reached = sp.csr_array(member @ below)
    reached.data[:] = 1
    r = reached @ rows.astype(float)
    allowed = (m >= LEAST_COLUMNS) & (r >= LEAST_ROWS)
    sparse = np.where(allowed, operations_of_sparse_front(m, r, entries), np.inf)
    return sparse, m * ((m + r) * r + m * m / 3.0)
