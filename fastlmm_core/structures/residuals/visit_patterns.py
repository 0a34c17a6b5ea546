"""Subjects that were seen at the same visits share a pattern, and everything that is summed over them.

With D = sum_b d_b E_b a change of R^-1 and R = W^(-1/2) Sigma W^(-1/2), products such as D R D are again sums
of the pieces: per pattern they are products of (v, v) matrices, however many subjects it has.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np


@dataclass(frozen=True, eq=False)
class VisitPattern:
    """The subjects of an arm that were seen at the same visits.

    Attributes
    ----------
    arm : int
    seen : (v,) int64
        Visits.
    rows : (subjects, v) int64
    first : int
        First of its pieces, the entries (a, b) on and below the diagonal.
    """

    arm: int
    seen: np.ndarray
    rows: np.ndarray
    first: int

    @property
    def count(self) -> int:
        return int(self.rows.shape[0])

    @cached_property
    def entries(self) -> tuple[np.ndarray, np.ndarray]:
        """Row and column (v (v + 1) / 2,) of every piece."""
        return np.tril_indices(self.seen.size)

    @property
    def pieces(self) -> slice:
        return slice(self.first, self.first + self.entries[0].size)

    def part(self, sigma: np.ndarray) -> np.ndarray:
        """(..., v, v) of matrices over all visits (..., m, m)."""
        return sigma[..., self.seen[:, None], self.seen]

    def blocks(self, pieces: np.ndarray) -> np.ndarray:
        """Symmetric matrices (t, v, v) with coefficients `pieces` (t, all pieces)."""
        a, b = self.entries
        out = np.empty((pieces.shape[0], self.seen.size, self.seen.size))
        out[:, a, b] = out[:, b, a] = pieces[:, self.pieces]
        return out

    def weights(self, values: np.ndarray) -> np.ndarray:
        """Y (v, v) with <Y, E_b> = values_b for symmetric matrices: half of a value on either side."""
        a, b = self.entries
        out = np.zeros((self.seen.size,) * 2)
        out[a, b] = 0.5 * values[self.pieces]
        return out + out.T


@dataclass(eq=False)
class PatternCovariance:
    """R_g = Sigma[g, g] of every pattern at one theta.

    Attributes
    ----------
    blocks, inverses : list of (v, v)
    log_determinants : list of float
    coefficients : (pieces,)
        Entries of the inverses.
    derivatives : ((t, pieces), (t,)) or None
        Of the coefficients and of log |R|, once they were asked for.
    """

    blocks: list[np.ndarray]
    inverses: list[np.ndarray]
    log_determinants: list[float]
    coefficients: np.ndarray
    derivatives: tuple[np.ndarray, np.ndarray] | None = None


def factorize_patterns(patterns: list[VisitPattern], sigma: list[np.ndarray]) -> PatternCovariance | None:
    """Inverse and log-determinant of every R_g; None where one is not positive definite.

    Parameters
    ----------
    sigma : list of (m, m)
        Covariance of the visits by arm.
    """
    blocks, inverses, logs = [], [], []
    for pattern in patterns:
        block = pattern.part(sigma[pattern.arm])
        try:
            half = np.linalg.inv(np.linalg.cholesky(block))
        except np.linalg.LinAlgError:
            return None
        blocks.append(block)
        inverses.append(half.T @ half)
        logs.append(-2.0 * float(np.sum(np.log(np.diag(half)))))
    entries = zip(patterns, inverses, strict=True)
    coefficients = np.concatenate([inverse[pattern.entries] for pattern, inverse in entries])
    return PatternCovariance(blocks, inverses, logs, coefficients)


@dataclass(frozen=True, eq=False)
class PatternPrecision:
    """R^-1 = W^(1/2) blockdiag(R_g^-1) W^(1/2), by products only.

    Attributes
    ----------
    patterns : list of VisitPattern
    inverses : list of (v, v)
    root : (n,)
        Roots of the weights.
    """

    patterns: list[VisitPattern]
    inverses: list[np.ndarray]
    root: np.ndarray

    def __matmul__(self, V: np.ndarray) -> np.ndarray:
        """R^-1 V for V (n,) or (n, r)."""
        out = np.empty(V.shape)
        for pattern, inverse in zip(self.patterns, self.inverses, strict=True):
            rows = pattern.rows
            if V.ndim == 1:
                out[rows] = ((V[rows] * self.root[rows]) @ inverse) * self.root[rows]
            else:
                root = self.root[rows][:, :, None]
                out[rows] = np.matmul(inverse, V[rows] * root) * root
        return out

    def toarray(self) -> np.ndarray:
        return self @ np.eye(self.root.size)
