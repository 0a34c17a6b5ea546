"""An order of elimination in which the nodes that one front should hold stand together.

In a postorder a node and its parent are neighbours only where nothing else comes between.  Blocks of trials
that meet two fifths of the others when they are eliminated each have their genotypes below them: a hundred
fronts of one column and thousands of rows, which are copied and added entry by entry, where the front of all
blocks takes the same columns in its products.  Every order with children before parents has the same fill.
"""

from __future__ import annotations

import numpy as np

from fastlmm_core.kernels.compile import fill_integers, kernel
from fastlmm_core.kernels.factor.ordering import order_postfix
from fastlmm_core.kernels.factor.supernodes import (
    COPY_SECONDS,
    MOST_ZEROS,
    SMALL_PANEL,
    estimate_front,
    find_owners,
    find_supernodes,
    merge_supernodes,
)
from fastlmm_core.kernels.factor.twigs import GUEST_ROWS


@kernel
def join_fronts(above, width, below):
    """Number of the front that each front (S,) joins, its own or a later one, from the roots down.

    `above` are their parents, `width` their columns and `below` their rows below, all int64.  A front joins
    that of its parent where both are cheaper together, by the rule of ``merge_supernodes``; what may be a
    guest is not copied.
    """
    joined = np.arange(above.size)
    columns, zeros = width.copy(), np.zeros(above.size)
    leaf = np.ones(above.size, np.bool_)
    for s in range(above.size):
        if above[s] >= 0:
            leaf[above[s]] = False
    for s in range(above.size - 1, -1, -1):
        if above[s] < 0:
            continue
        p, m, r = joined[above[s]], width[s], below[s]
        own, rest = columns[p], below[p]
        added = zeros[p] + m * (own + rest - r)
        panel = (own + m) * (own + m + rest)
        if added > MOST_ZEROS * panel and panel > SMALL_PANEL:
            continue
        apart = estimate_front(own, rest, False) + estimate_front(m, r, leaf[s])
        if m > 1 and rest == 0 and r >= GUEST_ROWS:
            apart -= COPY_SECONDS * r * r
        if estimate_front(own + m, rest, False) <= apart:
            joined[s], columns[p], zeros[p] = p, own + m, added
    return joined


@kernel
def order_joined(parent, count, size):
    """Order perm (n,) of an elimination tree: fronts in postorder, the nodes of each one after another.

    `count` (n,) are the entries of the columns of nodes and `size` their scalars, as in ``count_columns``.
    """
    n = parent.size
    postorder = order_postfix(parent)
    rank, place = np.empty(n, np.int64), np.zeros(n + 1, np.int64)
    for k in range(n):
        rank[postorder[k]] = k
        place[k + 1] = place[k] + size[postorder[k]]
    ranked_parent, ranked_count = fill_integers(n, -1), count[postorder]
    for j in range(n):
        if parent[j] >= 0:
            ranked_parent[rank[j]] = rank[parent[j]]
    first = find_supernodes(ranked_parent, ranked_count, place)
    first = merge_supernodes(first, ranked_parent, ranked_count, place, np.zeros(n, np.bool_))
    owner, fronts = find_owners(first), first.size - 1
    above, width = fill_integers(fronts, -1), np.empty(fronts, np.int64)
    below, number = np.empty(fronts, np.int64), fill_integers(fronts, -1)
    for s in range(fronts):
        last = first[s + 1] - 1
        width[s] = place[last + 1] - place[first[s]]
        below[s] = ranked_count[last] - (place[last + 1] - place[last])
        if ranked_parent[last] >= 0:
            above[s] = owner[ranked_parent[last]]
    joined = join_fronts(above, width, below)
    groups = 0
    for s in range(fronts):
        if joined[s] == s:
            number[s] = groups
            groups += 1
    group_above, held = fill_integers(groups, -1), np.zeros(groups, np.int64)
    for s in range(fronts):
        held[number[joined[s]]] += first[s + 1] - first[s]
        if joined[s] == s and above[s] >= 0:
            group_above[number[s]] = number[joined[above[s]]]
    start, at = np.empty(groups, np.int64), 0
    for g in order_postfix(group_above):
        start[g] = at
        at += held[g]
    perm = np.empty(n, np.int64)
    for s in range(fronts):
        g = number[joined[s]]
        for k in range(first[s], first[s + 1]):
            perm[start[g]] = postorder[k]
            start[g] += 1
    return perm
