"""Operations of a factorization, counted before it is made."""

from __future__ import annotations

import numpy as np


def operations_of_columns(count: np.ndarray, m: np.ndarray) -> float:
    """Multiply-adds of a factorization whose nodes (N,) have m columns and `count` rows with the diagonal."""
    c = count.astype(float)
    return float(np.sum(m * c * c - c * m * (m - 1.0) + m * (m - 1.0) * (2.0 * m - 1.0) / 6.0))


def operations_of_sparse_front(m: np.ndarray, r: np.ndarray, entries: np.ndarray) -> np.ndarray:
    """Multiply-adds of sparse fronts with m columns, r rows below and so many `entries` in these.

    A third of those of a factorization and an inverse subset together, as of a dense front.  What goes entry
    by entry through the rows below counts several times, as it runs at a fraction of a product's pace.
    """
    return (5.0 * m * m * m + 2.0 * m * m * r) / 3.0 + 2.0 * entries * r
