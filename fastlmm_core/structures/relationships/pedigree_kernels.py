"""Pedigrees in numbers: generations, inbreeding, A^-1 and products with A.

An animal i has parents sire[i] and dam[i] (-1: unknown) and `order` runs from parents to offspring.  With
T = (I - S)^-1, where row i of S holds 1/2 for each known parent, A = T D T': D holds the Mendelian variances.
"""

from __future__ import annotations

import numpy as np

from fastlmm_core.kernels.compile import kernel


@kernel
def find_generations(sire, dam):
    """Longest way of every animal to its founders, by taking founders off again and again.

    Returns
    -------
    generation : (n,) int32
        0 for founders; -1 for animals on a loop and all their descendants.
    """
    n = sire.size
    generation = np.empty(n, np.int32)
    waiting = np.zeros(n, np.int8)
    first = np.zeros(n + 1, np.int64)
    for i in range(n):
        generation[i] = 0
        for parent in (sire[i], dam[i]):
            if parent >= 0:
                first[parent + 1] += 1
                waiting[i] += 1
    for i in range(n):
        first[i + 1] += first[i]
    offspring = np.empty(first[n], np.int32)
    free = first[:n].copy()
    for i in range(n):
        for parent in (sire[i], dam[i]):
            if parent >= 0:
                offspring[free[parent]] = i
                free[parent] += 1
    queue = np.empty(n, np.int32)
    end = 0
    for i in range(n):
        if waiting[i] == 0:
            queue[end] = i
            end += 1
    head = 0
    while head < end:
        parent = queue[head]
        head += 1
        for at in range(first[parent], first[parent + 1]):
            i = offspring[at]
            generation[i] = max(generation[i], generation[parent] + 1)
            waiting[i] -= 1
            if waiting[i] == 0:
                queue[end] = i
                end += 1
    for i in range(n):
        if waiting[i] > 0:
            generation[i] = -1
    return generation


@kernel
def find_loops(sire, dam, generation):
    """Number of the loop that every animal stands on, 0 for none, (n,) int32.

    An animal without a generation has a parent without one.  Following that parent again and again ends in a
    loop; different ends are different loops.
    """
    n = sire.size
    loop = np.zeros(n, np.int32)
    seen = np.zeros(n, np.int32)
    found = 0
    for start in range(n):
        i = start
        while generation[i] < 0 and seen[i] == 0:
            seen[i] = start + 1
            i = sire[i] if sire[i] >= 0 and generation[sire[i]] < 0 else dam[i]
        if generation[i] < 0 and seen[i] == start + 1:
            found += 1
            while loop[i] == 0:
                loop[i] = found
                i = sire[i] if sire[i] >= 0 and generation[sire[i]] < 0 else dam[i]
    return loop


@kernel
def spread_up(start, parents, variance, stamp, mark, held, above, way):
    """held[:, 0] = D T' e_start on `start` and its ancestors, listed in `above`; returns their number.

    `way` (n,) is room for the way back of a walk in depth, by which all parents come before offspring.
    """
    size = 0
    top = 0
    way[0] = start
    while top >= 0:
        i = way[top]
        s = parents[i, 0]
        d = parents[i, 1]
        if s >= 0 and stamp[s] != mark:
            top += 1
            way[top] = s
        elif d >= 0 and stamp[d] != mark:
            top += 1
            way[top] = d
        else:
            stamp[i] = mark
            above[size] = i
            size += 1
            top -= 1
    held[start, 0] = 1.0
    for k in range(size - 1, -1, -1):
        i = above[k]
        for parent in (parents[i, 0], parents[i, 1]):
            if parent >= 0:
                held[parent, 0] += 0.5 * held[i, 0]
        held[i, 0] *= variance[i]
    return size


@kernel
def gather_down(start, parents, stamp, mark, held, way):
    """Row `start` of T held[:, 0]; rows of it and its ancestors are kept in held[:, 1] while `mark` is on."""
    # The walk of spread_up once more: a list shared by both would be gone through twice, which makes the
    # inbreeding of a million animals take up to a quarter longer.
    top = 0
    way[0] = start
    if stamp[start] == mark:
        return held[start, 1]
    while top >= 0:
        i = way[top]
        s = parents[i, 0]
        d = parents[i, 1]
        if s >= 0 and stamp[s] != mark:
            top += 1
            way[top] = s
        elif d >= 0 and stamp[d] != mark:
            top += 1
            way[top] = d
        else:
            value = held[i, 0]
            if s >= 0:
                value += 0.5 * held[s, 1]
            if d >= 0:
                value += 0.5 * held[d, 1]
            held[i, 1] = value
            stamp[i] = mark
            top -= 1
    return held[start, 1]


@kernel
def mendelian_variance(s, d, cross, selfings, inbreeding):
    """Inbreeding of an individual and its variance given its parents.

    A cross of s and d whose offspring are `cross` inbred, selfed `selfings` times, is inbred
    F = 1 - (1 - cross) / 2^selfings; its variance is 1 + F, of which the mean of the parents explains
    (2 + F_s + F_d)/4 + cross.
    """
    own = 1.0 - (1.0 - cross) * 0.5**selfings
    explained = 0.0
    if s >= 0:
        explained += 0.25 * (1.0 + inbreeding[s])
    if d >= 0:
        explained += 0.25 * (1.0 + inbreeding[d])
    return own, 1.0 + own - explained - cross


@kernel
def fill_inbreeding(sire, dam, selfings, order, common, other, inbreeding, variance):
    """Inbreeding and Mendelian variance of every animal.

    The inbreeding of a cross is half the relationship of its parents.  A column of A, that of a parent c, is
    T D T' e_c: one walk up from c to its ancestors for D T' e_c, one walk down to its mates for their
    relationships with c (Colleau 2002).  All mates that c has in one generation share both walks, and only
    ancestors of the two are visited, so no order has to be kept by a heap as in Meuwissen & Luo (1992).

    Parameters
    ----------
    sire, dam : (n,) int32
    selfings : (n,) float64
        Generations of selfing between the cross and the individual; 0 where there are none.
    order : (n,) int32
        Animals by generation and, within a generation, by `common` and `other`.
    common, other : (n,) int32
        The parents once more, first the one that shares its walks; -1 for both where one is unknown.
    inbreeding, variance : (n,) float64
        Filled.
    """
    n = sire.size
    # what a visit needs of an individual lies side by side: visits jump about in memory
    parents = np.empty((n, 2), np.int32)
    held = np.zeros((n, 2))
    for i in range(n):
        parents[i, 0] = sire[i]
        parents[i, 1] = dam[i]
    is_above = np.zeros(n, np.int32)
    is_known = np.zeros(n, np.int32)
    above = np.empty(n, np.int32)
    way = np.empty(n, np.int32)
    mark = 0
    size = 0
    walked = -1
    for k in range(n):
        i = order[k]
        c = common[i]
        cross = 0.0
        if c >= 0 and other[i] == c:
            cross = 0.5 * (1.0 + inbreeding[c])
        elif c >= 0:
            if c != walked:
                for a in range(size):
                    held[above[a], 0] = 0.0
                mark += 1
                size = spread_up(c, parents, variance, is_above, mark, held, above, way)
                walked = c
            cross = 0.5 * gather_down(other[i], parents, is_known, mark, held, way)
        inbreeding[i], variance[i] = mendelian_variance(sire[i], dam[i], cross, selfings[i], inbreeding)


@kernel
def fill_inverse(sire, dam, variance):
    """A^-1 = (I - S)' D^-1 (I - S), both triangles, compressed columns with sorted rows (Henderson 1976).

    Every animal adds the outer product of (1, -1/2, -1/2) on itself and its parents, over its variance
    (Quaas 1976).  The products are first dealt out by column; dealing them out once more by row puts every
    column in order, since the matrix is symmetric, and equal entries meet and are added.

    Returns
    -------
    indptr, indices : int32 arrays
    data : float64 array
    """
    n = sire.size
    first = np.zeros(n + 1, np.int64)
    member = np.empty(3, np.int32)
    share = np.empty(3)
    for i in range(n):
        size = list_family(i, sire, dam, member, share)
        for a in range(size):
            first[member[a] + 1] += size
    for i in range(n):
        first[i + 1] += first[i]
    free = first[:n].copy()
    row = np.empty(first[n], np.int32)
    value = np.empty(first[n])
    for i in range(n):
        size = list_family(i, sire, dam, member, share)
        for a in range(size):
            for b in range(size):
                at = free[member[a]]
                free[member[a]] = at + 1
                row[at] = member[b]
                value[at] = share[a] * share[b] / variance[i]
    indices = np.empty(first[n], np.int32)
    data = np.empty(first[n])
    for i in range(n):
        free[i] = first[i]
    for column in range(n):
        for at in range(first[column], first[column + 1]):
            r = row[at]
            if free[r] > first[r] and indices[free[r] - 1] == column:
                data[free[r] - 1] += value[at]
            else:
                indices[free[r]] = column
                data[free[r]] = value[at]
                free[r] += 1
    indptr = np.empty(n + 1, np.int32)
    indptr[0] = 0
    end = 0
    for column in range(n):
        for at in range(first[column], free[column]):
            indices[end] = indices[at]
            data[end] = data[at]
            end += 1
        indptr[column + 1] = end
    return indptr, indices[:end].copy(), data[:end].copy()


@kernel
def list_family(i, sire, dam, member, share):
    """Column indices and values of row i of I - S; returns their number (a selfed parent stands once)."""
    member[0] = i
    share[0] = 1.0
    size = 1
    if sire[i] >= 0:
        member[1] = sire[i]
        share[1] = -0.5
        size = 2
    if dam[i] >= 0:
        if dam[i] == sire[i]:
            share[1] = -1.0
        else:
            member[size] = dam[i]
            share[size] = -0.5
            size += 1
    return size


@kernel
def multiply_up(sire, dam, order, V):
    """V <- T' V, (n, r): offspring hand half of what they hold to each parent."""
    for k in range(order.size - 1, -1, -1):
        i = order[k]
        for parent in (sire[i], dam[i]):
            if parent >= 0:
                for c in range(V.shape[1]):
                    V[parent, c] += 0.5 * V[i, c]


@kernel
def multiply_down(sire, dam, order, V):
    """V <- T V, (n, r): parents hand half of what they hold to each offspring."""
    for k in range(order.size):
        i = order[k]
        for parent in (sire[i], dam[i]):
            if parent >= 0:
                for c in range(V.shape[1]):
                    V[i, c] += 0.5 * V[parent, c]


@kernel
def mark_ancestors(sire, dam, order, kept):
    """Set `kept` (n,) bool for all ancestors of those for which it is set."""
    for k in range(order.size - 1, -1, -1):
        i = order[k]
        if kept[i]:
            if sire[i] >= 0:
                kept[sire[i]] = True
            if dam[i] >= 0:
                kept[dam[i]] = True


@kernel
def prune_ancestors(sire, dam, order, inbreeding, named, kept):
    """Take out of `kept` what says nothing about those `named`; sets links to such founders to -1.

    Upwards, whoever is not named and has no offspring left.  Downwards, founders that are not named, not
    inbred and have one offspring by one link: without them the offspring has an unknown parent, which is the
    same distribution.
    """
    n = sire.size
    links = np.zeros(n, np.int32)
    for i in range(n):
        if kept[i]:
            for parent in (sire[i], dam[i]):
                if parent >= 0:
                    links[parent] += 1
    for k in range(n - 1, -1, -1):
        i = order[k]
        if kept[i] and not named[i] and links[i] == 0:
            kept[i] = False
            for parent in (sire[i], dam[i]):
                if parent >= 0:
                    links[parent] -= 1
    for k in range(n):
        i = order[k]
        if not kept[i]:
            continue
        for parent in (sire[i], dam[i]):
            is_founder = parent >= 0 and sire[parent] < 0 and dam[parent] < 0
            if is_founder and not named[parent] and links[parent] == 1 and inbreeding[parent] == 0.0:
                kept[parent] = False
                if sire[i] == parent:
                    sire[i] = -1
                else:
                    dam[i] = -1
