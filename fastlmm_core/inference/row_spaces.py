"""Spaces that rows of coefficients span: their ranks, bases, and the part that the data determine."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

Floats = NDArray[np.floating]

RANK_TOLERANCE = 1e-7
ROUNDING = 1e-12  # of a row of length 1


def row_rank(L: Floats) -> int:
    """Rank of rows of coefficients (r, p)."""
    return int(np.linalg.matrix_rank(L, tol=RANK_TOLERANCE * max(1.0, np.abs(L).max(initial=0.0))))


def family_ranks(A: sp.csr_array, K: Any, members: Iterable[NDArray[np.integer]]) -> NDArray[np.integer]:
    """Rank of A[rows] K for the rows of every family, A (c, r) and K (r, p_full)."""
    out = []
    for rows in members:
        block = A[rows]
        gram = (block.T @ block) @ K  # same rank as the block's own coefficients, but only (r, p_full)
        dense = gram.toarray() if sp.issparse(gram) else np.asarray(gram)
        out.append(row_rank(dense[np.abs(dense).max(axis=1) > 0.0]))
    return np.array(out)


def estimable_part(L: Floats, null_basis: Floats | None) -> tuple[Floats, bool]:
    """Orthonormal basis of the estimable functions among the rows of L (r, p), and whether some were lost."""
    whole = L.shape[0] and row_rank(L)
    lost = False
    if null_basis is not None and null_basis.shape[1]:
        unit = null_basis / np.abs(null_basis).max(axis=0)
        products = L @ unit
        if np.abs(products).max(initial=0.0) > 1e-8:
            _, s, vt = np.linalg.svd(products.T)
            rank = int(np.count_nonzero(s > 1e-8 * s[0]))
            L, lost = vt[rank:] @ L, True
    return row_basis(L), lost and bool(whole)


def row_basis(L: Floats) -> Floats:
    """Orthonormal rows with the row space of L, in the order of its rows (Gram-Schmidt)."""
    if not L.size or np.abs(L).max() < RANK_TOLERANCE:
        return np.empty((0, L.shape[1]))
    out = _independent_basis(L)
    if out is None:
        out = _greedy_basis(L)
    # Rounding left over where the exact entry is 0 would look like a part that is not estimable.
    out[np.abs(out) < ROUNDING] = 0.0
    return out


def _independent_basis(L: Floats) -> Floats | None:
    """The basis where every row has a part of its own, as nearly always: a QR factorization, row by row."""
    if L.shape[0] > L.shape[1]:
        return None
    Q, R = np.linalg.qr(L.T)
    own = R.diagonal()
    if (np.abs(own) <= _least_size(L)).any():
        return None
    return np.asarray((Q * np.sign(own)).T)


def _greedy_basis(L: Floats) -> Floats:
    """The basis without the rows that those before them make."""
    basis, count = np.empty((min(L.shape), L.shape[1])), 0
    for row, least in zip(L, _least_size(L), strict=True):
        rest, known = row.copy(), basis[:count]
        for _ in range(2):
            rest -= (known @ rest) @ known
        size = np.linalg.norm(rest)
        if size > least and count < len(basis):
            basis[count] = rest / size
            count += 1
    return basis[:count]


def _least_size(L: Floats) -> Floats:
    """What has to be left of every row (r,) beside those before it."""
    return np.asarray(RANK_TOLERANCE * np.maximum(1.0, np.linalg.norm(L, axis=1)))
