"""The graph of the nodes, and the order of their elimination."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import scipy.sparse as sp
from scipy.sparse.csgraph import connected_components

from fastlmm_core.engine.equations.nodes import Nodes, natural_groups, spherical_groups
from fastlmm_core.engine.equations.terms import EngineTerm
from fastlmm_core.kernels.equations.cliques import join_cliques
from fastlmm_core.linalg.elimination import Elimination, order_nodes
from fastlmm_core.structures.residuals.base import ResidualStructure

# Share of its entries from which a precision of levels joins all of them.
CLIQUE = 0.9
# Levels that those of a block of a precision have to be on average, for the block to be a node in the order.
LARGE_BLOCK = 30
# Levels of a term that a row meets, on average, from which they are taken as one in the pattern.
MANY_IN_A_ROW = 32
# Multiply-adds of a factorization from which on the specific effects of factors are tried in nodes of their
# own, and how much cheaper that has to be.
LARGE, CHEAPER = 1e8, 0.3


@dataclass(frozen=True)
class NodeGraph:
    """Nodes of both sides, what the rows meet, and the spherical nodes in their order.

    Attributes
    ----------
    terms : tuple of EngineTerm
    natural, spherical : Nodes
    entries : tuple of arrays
        The `row_entries` of the natural nodes.
    below_ptr, below : int64 arrays
        Strict lower triangle of the graph of the spherical nodes in compressed columns.
    paired : bool
        Each natural node has a spherical one of its own, and the same graph.
    order : Elimination
    """

    terms: tuple[EngineTerm, ...]
    natural: Nodes
    spherical: Nodes
    entries: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]
    below_ptr: np.ndarray
    below: np.ndarray
    paired: bool
    order: Elimination


def order_cheaply(
    terms: Sequence[EngineTerm], X: sp.csc_array, residual: ResidualStructure, fixed_last: bool
) -> NodeGraph:
    """The graph with factors in one node with their specific effects, or apart where that is far cheaper.

    Where rows of different levels meet, in R^-1 or in other terms, every pair of these has a full block, of
    which only what stands in one environment is not zero.  Apart, what stands in an environment can be
    eliminated with it, and joins the factors of all levels to each other: a block of these is the least that
    is left.
    """
    whole = ordered_graph(terms, X, residual, fixed_last)
    if whole.order.operations < LARGE:
        return whole
    factors = sum(t.n_levels * int(t.structure.shared_columns or 0) for t in terms if t.may_stand_apart)
    useful = CHEAPER * whole.order.operations
    if not factors or factors**3 / 3.0 > useful:
        return whole
    apart = [replace(term, apart=term.may_stand_apart) for term in terms]
    parted = ordered_graph(apart, X, residual, fixed_last)
    return parted if parted.order.operations < useful else whole


def ordered_graph(
    terms: Sequence[EngineTerm], X: sp.csc_array, residual: ResidualStructure, fixed_last: bool
) -> NodeGraph:
    """The graph of inside columns X (n, p), and its order; see `build_structured_equations`."""
    p = X.shape[1]
    natural = Nodes(natural_groups(terms), residual.n_missing, p)
    nodes = Nodes(spherical_groups(terms), residual.n_missing, p)
    entries = row_entries(terms, X, residual, natural)
    paired = np.array_equal(natural.group, nodes.group)
    met = entries if paired else row_entries(terms, X, residual, nodes)
    prior = prior_joins(nodes, terms)
    below_ptr, below = node_pattern(*met[:2], nodes, terms, residual, prior)
    last = None
    if fixed_last:
        last = np.zeros(nodes.size.size, bool)
        last[nodes.of_fixed()] = True
    order = order_nodes(below_ptr, below, nodes.size, last, prior.cliques, nodes.group)
    return NodeGraph(tuple(terms), natural, nodes, entries, below_ptr, below, paired, order)


def row_entries(
    terms: Sequence[EngineTerm], X: sp.csc_array, residual: ResidualStructure, nodes: Nodes
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """The nodes that rows meet, as triplets: row, node, coefficient within the node, value.

    With natural nodes they are W; of spherical ones a coefficient meets all that it loads on.
    """
    parts = []
    for own, first in zip(nodes.groups, nodes.first, strict=False):
        for a in own.coefficients:
            coo = terms[own.term].matrices[a].tocoo()
            offset = np.full(coo.nnz, a - own.coefficients.start)
            parts.append((coo.row, first + coo.col, offset, coo.data))
    n = residual.n_rows - residual.n_missing
    extra = np.arange(residual.n_missing)
    missing, fixed = nodes.of_missing().start, nodes.of_fixed().start
    parts.append((n + extra, missing + extra, np.zeros(extra.size, np.int64), np.ones(extra.size)))
    coo = X.tocoo()
    parts.append((coo.row, fixed + coo.col, np.zeros(coo.nnz, np.int64), coo.data))
    row, node, offset, value = (np.concatenate(part) for part in zip(*parts, strict=True))
    return row.astype(np.int64), node.astype(np.int64), offset.astype(np.int64), value.astype(float)


def node_pattern(
    row: np.ndarray, node: np.ndarray, nodes: Nodes, terms: Sequence[EngineTerm],
    residual: ResidualStructure, prior: PriorJoins | None,
) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    """Strict lower triangle of the graph: nodes meet in a row, in rows that R^-1 joins, or in the prior.

    What coefficients of a level share meets every one of them, also where no row has it: the error of the
    prediction of an environment without plots is asked for too.  None for `prior`, the `prior_joins`, leaves
    out what joins nodes there only.
    """
    n_nodes = nodes.size.size
    dense = dense_groups(nodes, terms)
    for own in dense:  # the first of them stands for all
        node = np.where((node >= own[0]) & (node <= own[-1]), own[0], node)
    incidence = sp.csr_array((np.ones(row.size, np.float32), (row, node)), shape=(residual.n_rows, n_nodes))
    joined = incidence
    e = residual.entries
    if np.any(e.row != e.column):
        ones = np.ones(e.row.size, np.float32)
        lower = sp.csr_array((ones, (e.row, e.column)), shape=(residual.n_rows,) * 2)
        joined = sp.csr_array((lower + lower.T) @ incidence)
    cliques = [np.unique(incidence[own.rows].indices).astype(np.int64) for own in residual.dense]
    pairs = [_below_diagonal(sp.csc_array(incidence.T @ joined), 0)]
    if dense:
        pairs = [_with_members(*pairs[0], dense)]
        cliques = [np.sort(np.concatenate([_members(own, dense) for own in clique])) for clique in cliques]
        cliques += dense
    if prior is not None:
        cliques += prior.cliques
        pairs += prior.pairs
    i, j = (np.concatenate(own) for own in zip(*pairs, strict=True))
    pattern = sp.csc_array((np.ones(i.size, np.int8), (i, j)), shape=(n_nodes, n_nodes))
    pattern.sum_duplicates()
    pattern.sort_indices()
    below = pattern.indptr.astype(np.int64), pattern.indices.astype(np.int64)
    if not cliques:
        return below
    bounds = np.concatenate(([0], np.cumsum([own.size for own in cliques]))).astype(np.int64)
    return join_cliques(*below, bounds, np.concatenate(cliques))


def dense_groups(nodes: Nodes, terms: Sequence[EngineTerm]) -> list[np.ndarray]:
    """Nodes of the terms of which a row meets dozens at a time: roots of relationships of low rank."""
    out = []
    for own, first in zip(nodes.groups, nodes.first, strict=False):
        matrices = [terms[own.term].matrices[a] for a in own.coefficients]
        rows = sum(int(np.count_nonzero(np.diff(M.indptr))) for M in matrices)
        if sum(M.nnz for M in matrices) > MANY_IN_A_ROW * rows:
            out.append(np.arange(first, first + own.n_levels))
    return out


def _members(node: int, dense: Sequence[np.ndarray]) -> np.ndarray:
    """The nodes that a node stands for."""
    return next((own for own in dense if own[0] == node), np.array([node]))


def _with_members(
    i: np.ndarray, j: np.ndarray, dense: Sequence[np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of nodes i > j with all that the first of a dense group stands for in its place."""
    for own in dense:
        for _ in range(2):
            at = i == own[0]
            many_i, many_j = np.tile(own, int(at.sum())), np.repeat(j[at], own.size)
            i, j = np.concatenate([i[~at], many_i]), np.concatenate([j[~at], many_j])
            i, j = j, i
    return np.maximum(i, j), np.minimum(i, j)


@dataclass(frozen=True)
class PriorJoins:
    """What the prior joins: disjoint groups of nodes each to each, and pairs of nodes i > j."""

    cliques: list[np.ndarray]
    pairs: list[tuple[np.ndarray, np.ndarray]]


def prior_joins(nodes: Nodes, terms: Sequence[EngineTerm]) -> PriorJoins:
    """Levels that a precision joins, all of a dense relationship, and what a level's coefficients share."""
    cliques: list[np.ndarray] = []
    pairs = _shared_pairs(nodes)
    for own, first in zip(nodes.groups, nodes.first, strict=False):
        levels, known, whole = terms[own.term].levels, False, False
        for piece in () if levels is None else levels.pieces:
            blocks = [] if known else full_blocks(piece)  # what belongs to one clique belongs to no other
            if blocks:
                known, whole = True, len(blocks) == 1
                cliques += [first + block for block in blocks]
            elif not whole:
                pairs.append(_below_diagonal(piece, int(first)))
    return PriorJoins(cliques, pairs)


def full_blocks(piece: sp.csc_array) -> list[np.ndarray]:
    """Levels of the full blocks of a precision, where it is nothing but some of them; else none."""
    L = piece.shape[0]
    if piece.nnz > CLIQUE * L**2:
        return [np.arange(L)]
    if piece.nnz < LARGE_BLOCK * L:
        return []
    count, label = connected_components(piece, directed=False)
    sizes, entries = np.bincount(label), np.bincount(label, np.diff(piece.indptr))
    if np.any(entries <= CLIQUE * sizes**2):
        return []
    order = np.argsort(label, kind="stable")
    return [np.sort(own) for own in np.split(order, np.cumsum(sizes)[:-1])] if count else []


def _shared_pairs(nodes: Nodes) -> list[tuple[np.ndarray, np.ndarray]]:
    """Nodes of what coefficients share with those of each coefficient, level by level."""
    out = []
    shared = None
    for g, own in enumerate(nodes.groups):
        levels = np.arange(own.n_levels)
        if len(own.coefficients) > 1:
            shared = (own.term, int(nodes.first[g]))
        elif shared is not None and shared[0] == own.term:
            out.append((int(nodes.first[g]) + levels, shared[1] + levels))
    return out


def _below_diagonal(matrix: sp.csc_array, first: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns of the entries below the diagonal, from number `first` on."""
    coo = matrix.tocoo()
    keep = coo.row > coo.col
    return first + coo.row[keep], first + coo.col[keep]
