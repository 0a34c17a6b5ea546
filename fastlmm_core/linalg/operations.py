"""Operations of a factorization, counted before it is made."""

from __future__ import annotations

import numpy as np


def operations_of_columns(count: np.ndarray, m: np.ndarray) -> float:
    """Multiply-adds of a factorization whose nodes (N,) have m columns and `count` rows with the diagonal."""
    c = count.astype(float)
    return float(np.sum(m * c * c - c * m * (m - 1.0) + m * (m - 1.0) * (2.0 * m - 1.0) / 6.0))
