"""Approximate minimum degree order of a large sparse graph (Amestoy, Davis & Duff 1996).

Elimination is followed on the quotient graph, which never takes more room than the graph it starts from:
the clique that a pivot leaves is one element, the list of its variables, and elements that it covers are
absorbed.  Three things make it fast.  The degree of a variable is bounded and not counted, from what its
elements have outside of the new one.  Variables that have become indistinguishable are merged and eliminated
as one.  Variables that have no neighbour outside of the new element are eliminated with the pivot.

A variable with a long list, such as a sire among its offspring, would be read at each of its many pivots: the
square of its neighbours.  Its list waits instead, until it has missed a share of them or is itself the lowest
(`renew_list`).
"""

from __future__ import annotations

import numpy as np

from fastlmm_core.kernels.compile import fill_integers, kernel
from fastlmm_core.kernels.factor.quotient_lists import (
    LEFT,
    LONG,
    MISSED,
    SHORT,
    TAG,
    USED,
    QuotientGraph,
    link,
    list_degrees,
    renew_list,
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
        np.zeros(n, np.int64), owner, owner.copy(), np.zeros(n, np.int64), fill_integers(n, -1),
        np.empty(n, np.int64), np.empty(n, np.int64), fill_integers(n, -1), state,
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
            graph.into[element] = pivot
    take_variables(graph, pivot, first + n_elements, first + n_entries)
    start[pivot] = begin
    length[pivot] = graph.state[USED] - begin
    graph.n_elements[pivot] = 0
    graph.mark[pivot] = graph.state[TAG]


@kernel
def take_variables(graph, pivot, begin, end):
    """Append the variables of a stretch of entries to the element of the pivot, each once."""
    entries, weight, degree, state = graph.entries, graph.weight, graph.degree, graph.state
    head, following, previous = graph.head, graph.following, graph.previous
    at = state[USED]
    for t in range(begin, end):
        i = entries[t]
        own = weight[i]
        if own > 0:
            unlink(degree, head, following, previous, i)
            weight[i] = -own
            degree[pivot] += own
            entries[at] = i
            at += 1
    state[USED] = at


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
    start, length, n_elements = graph.start, graph.length, graph.n_elements
    weight, degree, missed = graph.weight, graph.degree, graph.missed
    begin, end = start[pivot], start[pivot] + length[pivot]
    waiting = False
    for s in range(begin, end):
        i = entries[s]
        if missed[i] > 0 or length[i] > LONG:
            missed[i] += 1
            waiting = True
    for s in range(begin, end):
        i = entries[s]
        if missed[i] > 0:
            continue
        for t in range(start[i], start[i] + n_elements[i]):
            element = entries[t]
            if mark[element] >= tag:
                mark[element] += weight[i]
            elif mark[element] != 0:
                mark[element] = degree[element] + tag + weight[i]
                if waiting and length[element] <= SHORT:
                    # those whose lists wait will not be met there
                    for u in range(start[element], start[element] + length[element]):
                        v = entries[u]
                        if weight[v] < 0 and missed[v] > 0:
                            mark[element] += weight[v]


@kernel
def bound_degrees(graph, pivot):
    """Bound what each variable of the element meets outside of it; eliminate those that meet nothing.

    The lists of the variables lose what is absorbed or in the new element, and get that in front.  Each lost
    at least the pivot or an element that it absorbed, so there is a place for it.
    """
    entries, start, length, n_elements = graph.entries, graph.start, graph.length, graph.n_elements
    weight, degree, missed, mark, into = graph.weight, graph.degree, graph.missed, graph.mark, graph.into
    following, previous, bucket, tag = graph.following, graph.previous, graph.bucket, graph.state[TAG]
    begin = start[pivot]
    for s in range(begin, begin + length[pivot]):
        i = entries[s]
        if missed[i] > 0:
            continue
        first = start[i]
        outside, key, at = keep_elements(entries, first, n_elements[i], length, mark, into, tag, pivot)
        kept = at - first
        for t in range(first + n_elements[i], first + length[i]):
            j = entries[t]
            if weight[j] > 0:
                outside += weight[j]
                key += j
                entries[at] = j
                at += 1
        if outside == 0:
            absorb(graph, i, pivot)
            continue
        degree[i] = min(degree[i], outside)
        entries[at] = entries[first + kept]
        entries[first + kept] = entries[first]
        entries[first] = pivot
        n_elements[i] = kept + 1
        length[i] = at - first + 1
        key %= start.size
        previous[i] = key
        following[i] = bucket[key]
        bucket[key] = i


@kernel
def keep_elements(entries, first, count, length, mark, into, tag, pivot):
    """Close up the `count` elements from entry `first` on that have nodes outside of the new element.

    The others are absorbed by it.

    Returns
    -------
    outside, key, at : int
        Nodes outside, sum of the elements as a hash value, end of their list.
    """
    at = first
    outside = key = np.int64(0)
    for t in range(first, first + count):
        element = entries[t]
        if mark[element] > tag:
            outside += mark[element] - tag
            key += element
            entries[at] = element
            at += 1
        elif mark[element] != 0:
            mark[element] = 0
            length[element] = 0
            into[element] = pivot
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
        if graph.weight[member] == 0 or graph.missed[member] > 0:
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
    entries, length, weight, missed = graph.entries, graph.length, graph.weight, graph.missed
    degree, head, following, previous = graph.degree, graph.head, graph.following, graph.previous
    state, begin = graph.state, graph.start[pivot]
    at = begin
    for s in range(begin, begin + length[pivot]):
        i = entries[s]
        if weight[i] == 0:
            continue
        weight[i] = -weight[i]
        in_element = degree[pivot] - weight[i]
        if missed[i] > 0:
            in_element -= 1  # the pivot is no neighbour any more
        degree[i] = min(degree[i] + in_element, state[LEFT] - weight[i])
        link(degree, head, following, previous, state, i)
        entries[at] = i
        at += 1
    length[pivot] = at - begin
    state[USED] = at
    if at == begin:
        graph.mark[pivot] = 0
    for s in range(begin, at):
        i = entries[s]
        if missed[i] > MISSED * length[i]:
            unlink(degree, head, following, previous, i)
            renew_list(graph, i)
            link(degree, head, following, previous, state, i)


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
