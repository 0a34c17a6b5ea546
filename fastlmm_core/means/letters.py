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
    """Which means carry each letter, (n_letters, k), ordered by the first means that carry it.

    One sweep per mean i: every letter that i shares with means different from i is split into the letter
    without i and the letter without those means, which is Piepho's insertion for all pairs of i at once.
    """
    k = len(different)
    columns = np.ones((1, k), dtype=bool)
    for i in range(k):
        conflict = columns[:, i] & columns[:, different[i]].any(axis=1)
        if not conflict.any():
            continue
        without_i = columns[conflict].copy()
        without_i[:, i] = False
        columns = absorb(columns[~conflict], np.concatenate([without_i, columns[conflict] & ~different[i]]))
    order = np.lexsort(np.array([~columns[:, i] for i in range(k)][::-1]))
    return columns[order]


def absorb(kept: NDArray[np.bool_], new: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """`kept` and those rows of `new` that are not subsets of another row, (n, k).

    Old rows cannot become subsets: a new row is a part of an old one that no other old row was inside of.
    """
    packed = np.packbits(new, axis=1)  # rows as one item each, in the same order, are sorted much faster
    items = packed.view(np.dtype((np.void, packed.shape[1]))).ravel()
    new = new[np.unique(items, return_index=True)[1]]
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
