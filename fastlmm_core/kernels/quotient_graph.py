"""Approximate minimum degree order of a large sparse graph (Amestoy, Davis & Duff 1996).

Elimination is followed on the quotient graph, which never takes more room than the graph it starts from:
the clique that a pivot leaves is one element, the list of its variables, and elements that it covers are
absorbed.  Three things make it fast.  The degree of a variable is bounded and not counted, from what its
elements have outside of the new one.  Variables that have become indistinguishable are merged and eliminated
as one.  Variables that have no neighbour outside of the new element are eliminated with the pivot.
"""

from __future__ import annotations

import numpy as np

from fastlmm_core.kernels.compile import fill_integers, kernel
from fastlmm_core.kernels.quotient_lists import (
    LEFT,
    TAG,
    USED,
    QuotientGraph,
    link,
    list_degrees,
    take_lowest,
    unlink,
)


@kernel
def order_approximate_degree(ptr, adjacent):
    """Approximate minimum degree order, dense nodes last; ties go to the variable that changed last.

    Parameters
    ----------
    ptr : (N + 1,) int64, adjacent : int64
        Neighbours of every node, both ways and without itself.

    Returns
    -------
    perm : (N,) int64
        perm[k] is the node eliminated k-th; no postorder.
    """
    n = ptr.size - 1
    graph = open_graph(ptr, adjacent)
    list_degrees(graph)
    rank = fill_integers(n, -1)
    n_pivots = 0
    while graph.state[LEFT] > 0:
        rank[eliminate_lowest(graph)] = n_pivots
        n_pivots += 1
    return sort_members(graph.owner, rank)


@kernel
def eliminate_lowest(graph):
    """Eliminate a variable of the lowest degree; returns it."""
    pivot = take_lowest(graph)
    form_element(graph, pivot)
    find_remainders(graph, pivot)
    bound_degrees(graph, pivot)
    merge_equals(graph, pivot)
    close_element(graph, pivot)
    return pivot


@kernel
def open_graph(ptr, adjacent):
    """Quotient graph before the first elimination, with a fifth of the entries and N more as room."""
    n = ptr.size - 1
    entries = np.empty(adjacent.size + adjacent.size // 5 + n, np.int64)
    start, length, owner = np.empty(n, np.int64), np.empty(n, np.int64), np.empty(n, np.int64)
    for t in range(adjacent.size):
        entries[t] = adjacent[t]
    for i in range(n):
        start[i] = ptr[i]
        length[i] = ptr[i + 1] - ptr[i]
        owner[i] = i
    state = np.zeros(4, np.int64)
    state[USED], state[TAG], state[LEFT] = adjacent.size, 1, n
    return QuotientGraph(
        entries, start, length, np.zeros(n, np.int64), fill_integers(n, 1), length.copy(),
        np.zeros(n, np.int64), owner, fill_integers(n, -1), np.empty(n, np.int64), np.empty(n, np.int64),
        fill_integers(n, -1), state,
    )  # fmt: skip


@kernel
def form_element(graph, pivot):
    """List the variables that meet the pivot, which becomes an element and absorbs those it was in."""
    entries, start, length = graph.entries, graph.start, graph.length
    first, n_elements, n_entries = start[pivot], graph.n_elements[pivot], length[pivot]
    room = n_entries - n_elements
    for t in range(first, first + n_elements):
        room += length[entries[t]]
    if graph.state[USED] + room > entries.size:
        close_gaps(graph)
        first = start[pivot]
    begin = graph.state[USED]
    graph.state[LEFT] -= graph.weight[pivot]
    graph.weight[pivot] = 0
    graph.degree[pivot] = 0
    for t in range(first, first + n_elements):
        element = entries[t]
        if graph.mark[element] != 0:
            take_variables(graph, pivot, start[element], start[element] + length[element])
            graph.mark[element] = 0
            length[element] = 0
    take_variables(graph, pivot, first + n_elements, first + n_entries)
    start[pivot] = begin
    length[pivot] = graph.state[USED] - begin
    graph.n_elements[pivot] = 0
    graph.mark[pivot] = graph.state[TAG]


@kernel
def take_variables(graph, pivot, begin, end):
    """Append the variables of a stretch of entries to the element of the pivot, each once."""
    for t in range(begin, end):
        i = graph.entries[t]
        weight = graph.weight[i]
        if weight > 0:
            unlink(graph, i)
            graph.weight[i] = -weight
            graph.degree[pivot] += weight
            graph.entries[graph.state[USED]] = i
            graph.state[USED] += 1


@kernel
def close_gaps(graph):
    """Move all lists together at the front of the entries."""
    entries, start, length = graph.entries, graph.start, graph.length
    old = entries.copy()
    at = 0
    for i in range(start.size):
        begin = start[i]
        start[i] = at
        for t in range(begin, begin + length[i]):
            entries[at] = old[t]
            at += 1
    graph.state[USED] = at


@kernel
def find_remainders(graph, pivot):
    """Mark the elements around the pivot with the tag and the nodes that they have outside of its element."""
    entries, mark, tag = graph.entries, graph.mark, graph.state[TAG]
    begin = graph.start[pivot]
    for s in range(begin, begin + graph.length[pivot]):
        i = entries[s]
        weight = -graph.weight[i]
        first = graph.start[i]
        for t in range(first, first + graph.n_elements[i]):
            element = entries[t]
            if mark[element] >= tag:
                mark[element] -= weight
            elif mark[element] != 0:
                mark[element] = graph.degree[element] + tag - weight


@kernel
def bound_degrees(graph, pivot):
    """Bound what each variable of the element meets outside of it; eliminate those that meet nothing.

    The lists of the variables lose what is absorbed or in the new element, and get that in front.  Each lost
    at least the pivot or an element that it absorbed, so there is a place for it.
    """
    entries, begin = graph.entries, graph.start[pivot]
    for s in range(begin, begin + graph.length[pivot]):
        i = entries[s]
        first = graph.start[i]
        outside, key, at = keep_elements(graph, i)
        n_elements = at - first
        for t in range(first + graph.n_elements[i], first + graph.length[i]):
            j = entries[t]
            if graph.weight[j] > 0:
                outside += graph.weight[j]
                key += j
                entries[at] = j
                at += 1
        if outside == 0:
            absorb(graph, i, pivot)
            continue
        graph.degree[i] = min(graph.degree[i], outside)
        entries[at] = entries[first + n_elements]
        entries[first + n_elements] = entries[first]
        entries[first] = pivot
        graph.n_elements[i] = n_elements + 1
        graph.length[i] = at - first + 1
        key %= graph.start.size
        graph.previous[i] = key
        graph.following[i] = graph.bucket[key]
        graph.bucket[key] = i


@kernel
def keep_elements(graph, i):
    """Close up the elements of variable i that have nodes outside of the new one; the others are absorbed.

    Returns
    -------
    outside, key, at : int
        Nodes outside, sum of the elements as a hash value, end of their list.
    """
    tag = graph.state[TAG]
    at = first = graph.start[i]
    outside = key = np.int64(0)
    for t in range(first, first + graph.n_elements[i]):
        element = graph.entries[t]
        if graph.mark[element] > tag:
            outside += graph.mark[element] - tag
            key += element
            graph.entries[at] = element
            at += 1
        elif graph.mark[element] != 0:
            graph.mark[element] = 0
            graph.length[element] = 0
    return outside, key, at


@kernel
def absorb(graph, i, pivot):
    """Eliminate variable i of the element together with its pivot."""
    graph.degree[pivot] += graph.weight[i]
    graph.state[LEFT] += graph.weight[i]
    merge(graph, i, pivot)


@kernel
def merge(graph, j, i):
    """Node i stands for variable j too, which is no more."""
    graph.owner[j] = i
    graph.weight[j] = 0
    graph.length[j] = 0
    graph.n_elements[j] = 0


@kernel
def merge_equals(graph, pivot):
    """Merge the variables of the element whose lists are the same; those have the same hash value."""
    bucket, following, begin = graph.bucket, graph.following, graph.start[pivot]
    graph.state[TAG] += graph.start.size + 1  # beyond every remainder that was marked
    for s in range(begin, begin + graph.length[pivot]):
        member = graph.entries[s]
        if graph.weight[member] == 0:
            continue
        i = bucket[graph.previous[member]]
        bucket[graph.previous[member]] = -1
        while i >= 0 and following[i] >= 0:
            mark_list(graph, i)
            before, j = i, following[i]
            while j >= 0:
                after = following[j]
                if has_marked_list(graph, j, i):
                    graph.weight[i] += graph.weight[j]
                    merge(graph, j, i)
                    following[before] = after
                else:
                    before = j
                j = after
            graph.state[TAG] += 1
            i = following[i]


@kernel
def mark_list(graph, i):
    """Mark what stands in the list of a variable behind the new element."""
    first = graph.start[i]
    for t in range(first + 1, first + graph.length[i]):
        graph.mark[graph.entries[t]] = graph.state[TAG]


@kernel
def has_marked_list(graph, j, i):
    """Whether the list of variable j is that of i, which is marked."""
    if graph.length[j] != graph.length[i] or graph.n_elements[j] != graph.n_elements[i]:
        return False
    first = graph.start[j]
    for t in range(first + 1, first + graph.length[j]):
        if graph.mark[graph.entries[t]] != graph.state[TAG]:
            return False
    return True


@kernel
def close_element(graph, pivot):
    """Bound the degrees of the variables that are left in the element, and link them again."""
    entries, begin = graph.entries, graph.start[pivot]
    at = begin
    for s in range(begin, begin + graph.length[pivot]):
        i = entries[s]
        weight = -graph.weight[i]
        if weight == 0:
            continue
        graph.weight[i] = weight
        in_element = graph.degree[pivot] - weight
        graph.degree[i] = min(graph.degree[i] + in_element, graph.state[LEFT] - weight)
        link(graph, i)
        entries[at] = i
        at += 1
    graph.length[pivot] = at - begin
    graph.state[USED] = at
    if at == begin:
        graph.mark[pivot] = 0


@kernel
def sort_members(owner, rank):
    """Every pivot with the nodes that went into it, in the order of the pivots; what has no rank last."""
    n = owner.size
    count = np.zeros(n + 2, np.int64)
    place = np.empty(n, np.int64)
    for i in range(n):
        pivot = i
        while owner[pivot] != pivot:
            owner[pivot] = owner[owner[pivot]]  # the way is half as long for the next
            pivot = owner[pivot]
        place[i] = rank[pivot] if rank[pivot] >= 0 else n
        count[place[i] + 1] += 1
    for k in range(n + 1):
        count[k + 1] += count[k]
    perm = np.empty(n, np.int64)
    for i in range(n):
        perm[count[place[i]]] = i
        count[place[i]] += 1
    return perm
