"""A graph under elimination, and the lists of its variables by degree."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from fastlmm_core.kernels.compile import kernel

# A node with more neighbours than this many square roots of the number of nodes is dense: it is in every
# front of any order, and following its degree would only cost time.
DENSE_ROOTS = 10.0
DENSE_LEAST = 16.0
# A list of more entries than this waits, until it has missed this share of its length in pivots; in lists of
# elements up to `SHORT` the variables are counted one by one.
LONG = 48
MISSED = 0.25
SHORT = 16
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
    into : (N,) int64
        The element that absorbed an element, itself before that.
    missed : (N,) int64
        Pivots around a variable since its list was read.
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
    into: np.ndarray
    missed: np.ndarray
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
        link(graph.degree, graph.head, graph.following, graph.previous, graph.state, i)


@kernel
def link(degree, head, following, previous, state, i):
    """Enter variable i in the list of its degree."""
    d = degree[i]
    first = head[d]
    following[i] = first
    previous[i] = -1
    if first >= 0:
        previous[first] = i
    head[d] = i
    state[LOWEST] = min(state[LOWEST], d)


@kernel
def unlink(degree, head, following, previous, i):
    """Take variable i out of the list of its degree."""
    before, after = previous[i], following[i]
    if after >= 0:
        previous[after] = before
    if before >= 0:
        following[before] = after
    else:
        head[degree[i]] = after


@kernel
def take_lowest(graph):
    """A variable of the lowest degree, out of its list."""
    while True:
        d = graph.state[LOWEST]
        while graph.head[d] < 0:
            d += 1
        graph.state[LOWEST] = d
        pivot = graph.head[d]
        unlink(graph.degree, graph.head, graph.following, graph.previous, pivot)
        if graph.missed[pivot] == 0:
            return pivot
        renew_list(graph, pivot)
        link(graph.degree, graph.head, graph.following, graph.previous, graph.state, pivot)


@kernel
def renew_list(graph, i):
    """Read the list of variable i anew: what its entries have gone into, each once, and its degree."""
    entries, weight, mark, degree = graph.entries, graph.weight, graph.mark, graph.degree
    start, length, owner, into = graph.start, graph.length, graph.owner, graph.into
    tag, first = graph.state[TAG], start[i]
    at = n_elements = first
    mark[i] = tag
    for t in range(first, first + length[i]):
        x = find_place(owner, into, entries[t])
        if weight[x] == 0:
            if mark[x] == 0 or mark[x] == tag:  # empty or dense, or there already
                continue
            mark[x] = tag
            entries[at] = entries[n_elements]  # elements first
            entries[n_elements] = x
            n_elements += 1
        else:
            entries[at] = x
        at += 1
    total = 0
    for t in range(first, n_elements):
        element = entries[t]
        if length[element] > SHORT:
            total += degree[element] - weight[i]
            continue
        for s in range(start[element], start[element] + length[element]):
            v = entries[s]
            if mark[v] != tag:
                mark[v] = tag
                total += weight[v]
    end = at
    at = n_elements
    for t in range(n_elements, end):
        v = entries[t]
        if mark[v] != tag:
            mark[v] = tag
            total += weight[v]
            entries[at] = v
            at += 1
    length[i], graph.n_elements[i], graph.missed[i] = at - first, n_elements - first, 0
    degree[i] = min(degree[i], total, graph.state[LEFT] - weight[i])
    graph.state[TAG] += 1


@kernel
def find_place(owner, into, x):
    """The variable or element that entry x of a list has become part of."""
    while owner[x] != x:
        x = owner[x]
    while into[x] != x:
        into[x] = into[into[x]]  # the way is half as long for the next
        x = into[x]
    return x
