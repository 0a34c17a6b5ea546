"""Rows that a residual joins all to all, and products with a precision that has such rows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp


@dataclass(frozen=True, eq=False)
class DenseRows:
    """Rows with a full precision among them and none with others.

    Attributes
    ----------
    rows : (k,) int64
    block : (k, k) float64
    """

    rows: np.ndarray
    block: np.ndarray


@dataclass(frozen=True, eq=False)
class DensePrecision:
    """c E for the one piece E of a residual with dense rows; multiplies as a sparse matrix does.

    Attributes
    ----------
    sparse : (n, n) csr_array
        c times the entries outside of the blocks.
    dense : tuple of DenseRows
    c : float
    """

    sparse: sp.csr_array
    dense: tuple[DenseRows, ...]
    c: float

    def __matmul__(self, V: np.ndarray) -> np.ndarray:
        """For V (n,) or (n, r)."""
        out = np.asarray(self.sparse @ V)
        for own in self.dense:
            out[own.rows] += self.c * (own.block @ V[own.rows])
        return out

    def toarray(self) -> np.ndarray:
        out = self.sparse.toarray()
        for own in self.dense:
            out[np.ix_(own.rows, own.rows)] += self.c * own.block
        return np.asarray(out)

    def tosparse(self) -> sp.csc_array:
        """The matrix by its entries."""
        parts = [(np.repeat(own.rows, own.rows.size), np.tile(own.rows, own.rows.size), own.block.ravel())
                 for own in self.dense]  # fmt: skip
        row, column, value = (np.concatenate(part) for part in zip(*parts, strict=True))
        blocks = sp.csc_array((self.c * value, (row, column)), shape=self.sparse.shape)
        return sp.csc_array(blocks + self.sparse)
