"""Compact letter display of pairwise comparisons."""

from __future__ import annotations

import string

import numpy as np
from numpy.typing import NDArray


def compact_letters(different: NDArray[np.bool_]) -> list[str]:
    """Letters such that two means share one exactly when they are not significantly different.

    Parameters
    ----------
    different : ndarray (k, k) of bool
        Symmetric; True where two means differ. Means are lettered in the order given.

    Returns
    -------
    list of str
        k strings of letters; after "z" come "A" to "Z", then "a1", "b1" and so on.

    References
    ----------
    Insert-and-absorb: Piepho (2004), J. Comput. Graph. Stat. 13:456.
    """
    columns = letter_columns(different)
    names = letter_names(len(columns))
    return [
        "".join(name for name, column in zip(names, columns, strict=True) if column[i])
        for i in range(len(different))
    ]


def letter_columns(different: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Which means carry each letter, (n_letters, k), ordered by the first means that carry it."""
    k = len(different)
    columns = np.ones((1, k), dtype=bool)
    for i, j in zip(*np.nonzero(np.triu(different, 1)), strict=True):
        both = columns[:, i] & columns[:, j]
        if not both.any():
            continue
        without_i, without_j = columns[both].copy(), columns[both].copy()
        without_i[:, i] = False
        without_j[:, j] = False
        columns = absorb(columns[~both], np.concatenate([without_i, without_j]))
    order = np.lexsort(np.array([~columns[:, i] for i in range(k)][::-1]))
    return columns[order]


def absorb(kept: NDArray[np.bool_], new: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """`kept` and those rows of `new` that are not subsets of another row, (n, k).

    Old rows cannot become subsets: a new row is a part of an old one that no other old row was inside of.
    """
    new = new[np.unique(new, axis=0, return_index=True)[1]]
    everything = np.concatenate([kept, new]).astype(np.float32)
    size = everything.sum(axis=1)
    shared = new.astype(np.float32) @ everything.T  # sizes of the intersections
    own = size[len(kept) :]
    inside = shared >= own[:, None]
    inside[np.arange(len(new)), len(kept) + np.arange(len(new))] = False
    return np.concatenate([kept, new[~inside.any(axis=1)]])


def letter_names(n: int) -> list[str]:
    """The first `n` letters: a to z, A to Z, a1 to Z1, ..."""
    letters = string.ascii_lowercase + string.ascii_uppercase
    return [letters[i % 52] + (str(i // 52) if i >= 52 else "") for i in range(n)]
