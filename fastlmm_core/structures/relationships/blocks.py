"""Known covariances in blocks, such as those of the means of many trials."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import scipy.sparse as sp
from scipy.linalg import cho_solve
from scipy.linalg.lapack import dpocon, dpotrf

from fastlmm_core.errors import DataError
from fastlmm_core.gate import public
from fastlmm_core.structures.relationships.base import Relationship

# Reciprocal condition number (1-norm) at which a block is singular.
SINGULAR = 1e-13


class BlockCovariance(Relationship):
    """A known covariance of levels that come in independent blocks.

    Parameters
    ----------
    blocks : sequence of (k, k) arrays
        Covariance within each block, symmetric and positive definite.
    levels : sequence
        Names of all levels, block after block.

    Raises
    ------
    DataError
        For a block that is not square, symmetric and positive definite, and a wrong number of names.

    Examples
    --------
    >>> import numpy as np
    >>> from fastlmm_core.structures.relationships import BlockCovariance
    >>> known = BlockCovariance([np.eye(2), np.array([[3.0]])], ["a", "b", "c"])
    >>> known.diagonal().tolist()
    [1.0, 1.0, 3.0]
    """

    @public()
    def __init__(self, blocks: Sequence[Any], levels: Sequence[Any]):
        super().__init__(levels)
        checked = [_checked(i, block) for i, block in enumerate(blocks)]
        self.blocks = [block for block, _ in checked]
        sizes = [len(block) for block in self.blocks]
        if sum(sizes) != self.size:
            raise DataError(f"the blocks have {sum(sizes)} rows and there are {self.size} names")
        self.starts = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
        self._factors = [factor for _, factor in checked]

    def _shown(self) -> str:
        return f"BlockCovariance of {self.size} levels in {len(self.blocks)} blocks"

    def blocks_of(self, places: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
        """For rows at these places (n,) of the levels: rows (k,) and covariance (k, k) of every block."""
        owner = np.searchsorted(self.starts, places, side="right") - 1
        order = np.argsort(owner, kind="stable")
        cuts = np.flatnonzero(np.diff(owner[order])) + 1
        out = []
        for rows in np.split(order, cuts):
            b = int(owner[rows[0]])
            own = places[rows] - self.starts[b]
            out.append((rows, self.blocks[b][np.ix_(own, own)]))
        return out

    def precision(self) -> sp.csc_array:
        inverses = [cho_solve((factor, True), np.eye(len(factor))) for factor in self._factors]
        return sp.csc_array(sp.block_diag([0.5 * (own + own.T) for own in inverses]))

    def log_determinant(self) -> float:
        return 2.0 * float(sum(np.sum(np.log(np.diag(factor))) for factor in self._factors))

    def multiply(self, V: np.ndarray) -> np.ndarray:
        parts = np.split(np.asarray(V, dtype=float), self.starts[1:-1])
        return np.concatenate([block @ part for block, part in zip(self.blocks, parts, strict=True)])

    def diagonal(self) -> np.ndarray:
        return np.concatenate([np.diag(block) for block in self.blocks])

    def precision_diagonal(self) -> np.ndarray:
        """Diagonal of the inverse (L,): Smith, Cullis & Gilmour's weights of means."""
        halves = [np.linalg.inv(factor) for factor in self._factors]
        return np.concatenate([np.sum(half**2, axis=0) for half in halves])

    def content(self) -> tuple[np.ndarray, ...]:
        return tuple(self.blocks)


def _checked(i: int, block: Any) -> tuple[np.ndarray, np.ndarray]:
    """A block (k, k) and its lower Cholesky factor."""
    values = np.asarray(block, dtype=float)
    if values.ndim != 2 or values.shape[0] != values.shape[1] or not np.isfinite(values).all():
        raise DataError(f"block {i + 1} of the covariance must be square and of finite numbers")
    if not np.allclose(values, values.T, rtol=1e-8, atol=1e-12 * np.abs(values).max(initial=0.0)):
        raise DataError(f"block {i + 1} of the covariance is not symmetric")
    values = 0.5 * (values + values.T)
    factor, failed = dpotrf(values, lower=1, clean=1)
    if failed or (values.size and dpocon(factor, np.linalg.norm(values, 1), uplo="L")[0] <= SINGULAR):
        raise DataError(f"block {i + 1} of the covariance is not positive definite")
    return values, factor
