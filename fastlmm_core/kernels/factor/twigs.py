"""Twigs, single columns at the leaves, and guests, fronts that work in the place of their parents."""

from __future__ import annotations

import numpy as np

from fastlmm_core.kernels.compile import fill_integers, kernel
from fastlmm_core.kernels.equations.crossproducts import bound_runs

# A front with at least this many rows below, in runs of at least this length, works in its parent's place.
GUEST_ROWS = 128
GUEST_RUN = 32


@kernel
def find_twigs(first, above):
    """`twig` of ``Supernodes``."""
    n_super = above.size
    twig = np.empty(n_super, np.bool_)
    for s in range(n_super):
        twig[s] = above[s] >= 0 and first[s + 1] - first[s] == 1
    for s in range(n_super):
        if above[s] >= 0:
            twig[above[s]] = False
    return twig


@kernel
def find_guests(first, row_ptr, relative, above, twig):
    """`guest` of ``Supernodes``."""
    n_super = above.size
    guest = np.zeros(n_super, np.bool_)
    for s in range(n_super):
        p = above[s]
        r = row_ptr[s + 1] - row_ptr[s]
        if p < 0 or twig[s] or r < GUEST_ROWS or row_ptr[p + 1] > row_ptr[p]:
            continue
        runs = 1
        for t in range(row_ptr[s] + 1, row_ptr[s + 1]):
            if relative[t] != relative[t - 1] + 1:
                runs += 1
        guest[s] = runs * GUEST_RUN <= r
    return guest


@kernel
def land_rows(first, row_ptr, relative, above, guest):
    """`landing` of ``Supernodes``."""
    landing = np.empty(relative.size, np.int32)
    for s in range(above.size):
        p = above[s]
        if p < 0:
            continue
        m = first[p + 1] - first[p]
        for t in range(row_ptr[s], row_ptr[s + 1]):
            below = relative[t] - m
            landing[t] = -1 if below < 0 else relative[row_ptr[p] + below] if guest[p] else below
    return landing


@kernel
def list_twigs(first, row_ptr, relative, above, twig):
    """`meet_base`, `meet_ptr`, `meet` and `meet_twig` of ``Supernodes``."""
    n_super = above.size
    meet_base = fill_integers(n_super, -1)
    held = 0
    entries = 0
    for s in range(n_super):
        if twig[s]:
            p = above[s]
            entries += row_ptr[s + 1] - row_ptr[s]
            if meet_base[p] < 0:
                meet_base[p] = held
                held += first[p + 1] - first[p] + row_ptr[p + 1] - row_ptr[p]
    meet_ptr = np.zeros(held + 1, np.int64)
    for s in range(n_super):
        if twig[s]:
            for t in range(row_ptr[s], row_ptr[s + 1]):
                meet_ptr[meet_base[above[s]] + relative[t] + 1] += 1
    filled = bound_runs(meet_ptr)
    meet = np.empty(entries, np.int32)
    meet_twig = np.empty(entries, np.int32)
    for s in range(n_super):
        if twig[s]:
            for t in range(row_ptr[s], row_ptr[s + 1]):
                at = meet_base[above[s]] + relative[t]
                meet[filled[at]] = t
                meet_twig[filled[at]] = s
                filled[at] += 1
    return meet_base, meet_ptr, meet, meet_twig
