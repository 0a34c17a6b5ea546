"""A by the tabular method (Emik & Terrill 1949) and random pedigrees to try it on."""

import numpy as np


def tabular_A(sire, dam, selfings=None):
    """A (n, n) of individuals sorted parents first, -1 for unknown; with `selfings` by explicit selfing."""
    n = len(sire)
    A = np.zeros((n, n))
    for i in range(n):
        row = np.zeros(i)
        for parent in (sire[i], dam[i]):
            if parent >= 0:
                row += 0.5 * A[parent, :i]
        A[i, :i] = A[:i, i] = row
        cross = 0.5 * A[sire[i], dam[i]] if sire[i] >= 0 and dam[i] >= 0 else 0.0
        generations = 0 if selfings is None else selfings[i]
        A[i, i] = 2.0 - (1.0 - cross) / 2.0**generations
    return A


def random_parents(rng, n, n_founders, selfing=0.0, unknown=0.1):
    """Parents (-1 unknown) of n individuals, sorted parents first, sexes mixed."""
    sire, dam = np.full(n, -1), np.full(n, -1)
    for i in range(n_founders, n):
        low = max(0, i - 12)
        sire[i], dam[i] = rng.integers(low, i, 2)
        if rng.random() < selfing:
            dam[i] = sire[i]
        if rng.random() < unknown:
            sire[i] = -1
        if rng.random() < unknown:
            dam[i] = -1
    return sire, dam


def as_table(sire, dam, order=None):
    """Columns id, sire, dam with the names n0, n1, ... in the given order of rows."""
    order = range(len(sire)) if order is None else order
    name = lambda i: "" if i < 0 else f"n{i}"  # noqa: E731
    return {
        "id": [name(i) for i in order],
        "sire": [name(sire[i]) for i in order],
        "dam": [name(dam[i]) for i in order],
    }
