"""Choice of the elimination order of the nodes of the mixed model equations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import scipy.sparse as sp

from fastlmm_core.kernels.equations.crossproducts import permute_pattern
from fastlmm_core.kernels.factor.ordering import (
    count_columns,
    find_parents,
    list_left,
    mix_neighbours,
    order_minimum_degree,
    order_postfix,
    select_nodes,
)
from fastlmm_core.linalg.operations import operations_of_columns
from fastlmm_core.linalg.separator import NO_FRONTS, order_by_parts

# Multiply-adds of a factorization above which a second order is looked at.
MANY_FLOPS = 1e6
# Up to here the graph is kept as a dense matrix of booleans (2 MB) and ordered by a kernel.
SMALL_GRAPH = 1400


class Elimination(NamedTuple):
    """An order of elimination.

    Attributes
    ----------
    perm : (N,) int64
        Node perm[k] is eliminated k-th.
    name : str
        Of the method.
    operations : float
        Multiply-adds of a factorization.
    fronts : (k, 2) int64
        First and last nodes, counted in this order, of the fronts that keep few entries in their rows below.
    """

    perm: np.ndarray
    name: str
    operations: float
    fronts: np.ndarray = NO_FRONTS


def order_nodes(
    below_ptr: np.ndarray, below: np.ndarray, node_size: np.ndarray, last: np.ndarray | None = None,
    cliques: Sequence[np.ndarray] = (), kind: np.ndarray | None = None,
) -> Elimination:  # fmt: skip
    """Fill-reducing order of a node graph.

    Parameters
    ----------
    below_ptr, below : int64 arrays
        Strict lower triangle of the graph in compressed columns.
    node_size : (N,) int64
        Scalars per node.
    last : (N,) bool, optional
        Nodes that are eliminated after all others.
    cliques : sequence of int64 arrays, optional
        Disjoint sets of nodes that are all joined to each other, such as the levels of a dense relationship.
    kind : (N,) int64, optional
        Number of the term that each node is a level of.

    Returns
    -------
    Elimination
    """
    n_nodes = node_size.size
    if n_nodes <= SMALL_GRAPH:
        mask = np.zeros(n_nodes, np.bool_) if last is None else np.ascontiguousarray(last)
        return Elimination(*_order_small(below_ptr, below, node_size, mask))
    last = np.zeros(n_nodes, np.bool_) if last is None else last
    if len(cliques) > 1:
        return _order_cliques(below_ptr, below, node_size, last, cliques, kind)
    graph = below_ptr, below, node_size
    if kind is not None:
        by_terms = np.concatenate((np.flatnonzero(~last), np.flatnonzero(last)))
        by_parts = order_by_parts(*graph, by_terms, last, kind, far=True)
        if by_parts is not None:
            return Elimination(by_parts.perm, "by parts", by_parts.operations, by_parts.fronts)
    group, members = twin_nodes(below_ptr, below, last)
    representative = members[np.cumsum(np.bincount(group)) - np.bincount(group)]
    early = ~last[representative]
    size = np.bincount(group, weights=node_size).astype(np.int64)
    perm, name, operations = _order_groups(below_ptr, below, representative[early], size[early])
    ordered = np.concatenate((np.flatnonzero(early)[perm], np.flatnonzero(~early)))
    rank = np.empty(ordered.size, np.int64)
    rank[ordered] = np.arange(ordered.size)
    perm = members[np.argsort(rank[group[members]], kind="stable")]
    by_parts = None if kind is None else order_by_parts(*graph, perm, last, kind)
    if by_parts is None:
        return Elimination(perm, name, operations)
    return Elimination(by_parts.perm, name, by_parts.operations, by_parts.fronts)


def _order_cliques(
    below_ptr: np.ndarray, below: np.ndarray, node_size: np.ndarray, last: np.ndarray,
    cliques: Sequence[np.ndarray], kind: np.ndarray | None,
) -> Elimination:  # fmt: skip
    """Order of the graph in which each clique is one node: its nodes come one after another.

    They make each other's fill whatever comes first of them, and to walk their edges, 24 times 390,000 for
    884 lines in 24 environments, takes longer than a factorization.
    """
    n_nodes = node_size.size
    whole = np.full(n_nodes, -1)
    for number, own in enumerate(cliques):
        whole[own] = number
    single = whole < 0
    whole[single] = len(cliques) + np.arange(int(single.sum()))
    count = len(cliques) + int(single.sum())
    a, b = whole[below], np.repeat(whole, np.diff(below_ptr))
    between = a != b
    a, b = a[between], b[between]
    edges = (np.ones(a.size, np.int8), (np.maximum(a, b), np.minimum(a, b)))
    graph = sp.csc_array(edges, shape=(count, count))
    graph.sum_duplicates()
    graph.sort_indices()
    size = np.bincount(whole, weights=node_size, minlength=count).astype(np.int64)
    late = np.zeros(count, bool)
    late[whole[last]] = True
    kinds = np.zeros(count, np.int64)
    if kind is not None:
        kinds[whole] = kind
    pattern = graph.indptr.astype(np.int64), graph.indices.astype(np.int64)
    order = order_nodes(*pattern, size, late, kind=None if kind is None else kinds)
    rank = np.empty(count, np.int64)
    rank[order.perm] = np.arange(count)
    start = np.concatenate(([0], np.cumsum(np.bincount(whole, minlength=count)[order.perm])))
    perm = np.argsort(rank[whole], kind="stable")
    return order._replace(perm=perm, fronts=columns_of_fronts(order.fronts, start))


def columns_of_fronts(fronts: np.ndarray, start: np.ndarray) -> np.ndarray:
    """First and last scalars (k, 2) of runs of nodes, from the first scalar (N + 1,) of each."""
    return np.column_stack((start[fronts[:, 0]], start[fronts[:, 1] + 1] - 1))


def _order_small(
    below_ptr: np.ndarray, below: np.ndarray, node_size: np.ndarray, last: np.ndarray
) -> tuple[np.ndarray, str, float]:
    """Minimum degree, or the nodes as they come (the `last` behind) where that saves many operations.

    Levels of one term that meet all others late are eliminated by minimum degree between the others, and by
    terms before them, with twigs for fronts.
    """
    perm, name = order_minimum_degree(below_ptr, below, node_size, last), "minimum degree"
    parent, flops = _eliminate(below_ptr, below, node_size, perm)
    if flops > MANY_FLOPS:
        by_terms = np.concatenate((np.flatnonzero(~last), np.flatnonzero(last)))
        its_parent, its_flops = _eliminate(below_ptr, below, node_size, by_terms)
        if its_flops <= flops:
            perm, name, parent, flops = by_terms, "by terms", its_parent, its_flops
    perm = perm[order_postfix(parent)]  # with the same fill supernodes are runs of columns
    return np.concatenate((perm[~last[perm]], perm[last[perm]])), name, flops


def _eliminate(
    below_ptr: np.ndarray, below: np.ndarray, node_size: np.ndarray, perm: np.ndarray
) -> tuple[np.ndarray, float]:
    """Elimination tree (N,) of the nodes in the order `perm`, and multiply-adds of the factorization."""
    place = np.empty(perm.size, np.int64)
    place[perm] = np.arange(perm.size)
    rows = list_left(*permute_pattern(below_ptr, below, place))
    size = node_size[perm]
    return find_parents(*rows), operations_of_columns(count_columns(*rows, size), size)


def twin_nodes(below_ptr: np.ndarray, below: np.ndarray, last: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Nodes that are joined to each other and to the same others: one after another they make no more fill.

    The levels of a dense relationship and the rows of a dense residual are twins by the hundred, and a graph
    with one node for all of them is ordered in a fraction of the time (Ashcraft 1995, SIAM J. Sci. Comput.
    16, 1404-1411).

    Returns
    -------
    group : (N,) int64
        Number of the group of each node, ascending with its first member.
    members : (N,) int64
        Nodes by group, ascending within.
    """
    keys = np.random.default_rng(0).integers(1, 2**62, below_ptr.size - 1)
    mixed = mix_neighbours(below_ptr, below, keys)
    mixed[last] = -mixed[last]
    _, first, group = np.unique(mixed, return_index=True, return_inverse=True)
    rank = np.empty(first.size, np.int64)
    rank[np.argsort(first)] = np.arange(first.size)
    group = rank[group]
    return group, np.argsort(group, kind="stable")


def _order_groups(
    below_ptr: np.ndarray, below: np.ndarray, nodes: np.ndarray, size: np.ndarray
) -> tuple[np.ndarray, str, float]:
    """Order of the graph among some `nodes`, ascending, that stand for `size` scalars each."""
    from fastlmm_core.linalg.ordering import order_graph

    number = np.full(below_ptr.size - 1, -1)
    number[nodes] = np.arange(nodes.size)
    ptr, rows = select_nodes(below_ptr, below, number, nodes.size)
    graph = sp.csc_array((np.ones(rows.size), rows, ptr), shape=(nodes.size, nodes.size))
    return order_graph(graph, size.astype(np.int64))
