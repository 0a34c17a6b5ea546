"""A graph under elimination, and the lists of its variables by degree."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from fastlmm_core.kernels.compile import kernel

# A node with more neighbours than this many square roots of the number of nodes is dense: it is in every
# front of any order, and following its degree would only cost time.
DENSE_ROOTS = 10.0
DENSE_LEAST = 16.0
# Scalars of a graph that change, in `QuotientGraph.state`.
USED, TAG, LOWEST, LEFT = 0, 1, 2, 3


class QuotientGraph(NamedTuple):
    """Variables and elements of a graph of N nodes, each with its list in `entries`.

    The list of a variable has its elements first and then the variables it still meets directly; that of an
    element has its variables.  A pivot is a variable before and an element after its elimination.

    Attributes
    ----------
    entries : (room,) int64
        Lists, one after another; those that are left behind leave gaps.
    start, length, n_elements : (N,) int64
        First entry, entries, and how many of them are elements; what is absorbed or merged has length 0.
    weight : (N,) int64
        Nodes that a variable stands for, negative while it is in the element that is formed; else 0.
    degree : (N,) int64
        Bound for the nodes that a variable meets; nodes of an element.
    mark : (N,) int64
        0 for an element that is absorbed; beyond that what was last marked there, from `state[TAG]` on.
    owner : (N,) int64
        The variable or pivot that a node went into, itself before that.
    head : (N,) int64
        By degree, the first variable that has it, -1 for none.
    following, previous : (N,) int64
        Next and last in the list of a degree; while an element is formed, the next with the same hash value,
        and that value.
    bucket : (N,) int64
        By hash value, the first variable of the element that has it, -1 for none.
    state : (4,) int64
        End of the entries in use, the tag of the next marks, a bound of the lowest degree, nodes left.
    """

    entries: np.ndarray
    start: np.ndarray
    length: np.ndarray
    n_elements: np.ndarray
    weight: np.ndarray
    degree: np.ndarray
    mark: np.ndarray
    owner: np.ndarray
    head: np.ndarray
    following: np.ndarray
    previous: np.ndarray
    bucket: np.ndarray
    state: np.ndarray


@kernel
def list_degrees(graph):
    """Enter every node in the list of its degree but the dense ones, which have no weight from here on.

    Dense nodes do not count in the degrees of the others.  Where a few of them meet one half of the graph
    twice and the other once, it is what they hide that decides which half comes first.
    """
    n = graph.start.size
    dense = max(DENSE_LEAST, DENSE_ROOTS * np.sqrt(n))
    for i in range(n):
        if graph.length[i] > dense:
            graph.weight[i] = 0
            graph.length[i] = 0
            graph.state[LEFT] -= 1
    for i in range(n):
        if graph.weight[i] == 0:
            continue
        degree = 0
        for t in range(graph.start[i], graph.start[i] + graph.length[i]):
            degree += graph.weight[graph.entries[t]]
        graph.degree[i] = degree
        link(graph, i)


@kernel
def link(graph, i):
    """Enter variable i in the list of its degree."""
    d = graph.degree[i]
    first = graph.head[d]
    graph.following[i] = first
    graph.previous[i] = -1
    if first >= 0:
        graph.previous[first] = i
    graph.head[d] = i
    graph.state[LOWEST] = min(graph.state[LOWEST], d)


@kernel
def unlink(graph, i):
    """Take variable i out of the list of its degree."""
    before, after = graph.previous[i], graph.following[i]
    if after >= 0:
        graph.previous[after] = before
    if before >= 0:
        graph.following[before] = after
    else:
        graph.head[graph.degree[i]] = after


@kernel
def take_lowest(graph):
    """A variable of the lowest degree, out of its list."""
    d = graph.state[LOWEST]
    while graph.head[d] < 0:
        d += 1
    graph.state[LOWEST] = d
    pivot = graph.head[d]
    unlink(graph, pivot)
    return pivot
