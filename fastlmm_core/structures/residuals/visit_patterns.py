"""Subjects that were seen at the same visits share a pattern, and everything that is summed over them.

With D = sum_b d_b E_b a change of R^-1 and R = W^(-1/2) Sigma W^(-1/2), products such as D R D are again sums
of the pieces: per pattern they are products of (v, v) matrices, however many subjects it has.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from fastlmm_core.kernels.equations.visit_products import Patterns, invert_patterns, multiply_patterns


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


def subjects_by_pattern(
    subjects: np.ndarray, visits: np.ndarray, arms: np.ndarray
) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """Arm, visits (v,) and rows (subjects, v) of every pattern, in the order of their first subjects.

    Parameters
    ----------
    subjects, visits, arms : (n,) int64
        Codes of the rows; no subject has a visit twice.
    """
    order = np.lexsort((visits, subjects))
    starts = np.flatnonzero(np.r_[True, np.diff(subjects[order]) != 0])
    sizes = np.diff(np.append(starts, order.size))
    seen = np.zeros((starts.size, int(visits.max()) + 1), bool)
    seen[np.repeat(np.arange(starts.size), sizes), visits[order]] = True
    keys = np.column_stack([arms[order[starts]], np.packbits(seen, axis=1)])
    _, first, number = np.unique(keys, axis=0, return_index=True, return_inverse=True)
    of_pattern = np.split(np.argsort(number, kind="stable"), np.cumsum(np.bincount(number))[:-1])
    for g in np.argsort(first):
        at = starts[of_pattern[g]]
        rows = order[at[:, None] + np.arange(sizes[first[g]])]
        yield int(arms[rows[0, 0]]), visits[rows[0]], rows


def pattern_arrays(patterns: list[VisitPattern]) -> Patterns:
    """All patterns as the kernels take them."""
    sizes = [pattern.seen.size for pattern in patterns]
    bounds = [
        sizes,
        [p.rows.size for p in patterns],
        [v * (v + 1) // 2 for v in sizes],
        [v * v for v in sizes],
    ]
    seen_ptr, row_ptr, first, square = (np.cumsum([0, *own]).astype(np.int64) for own in bounds)
    return Patterns(
        np.array([p.arm for p in patterns], np.int64),
        seen_ptr, np.concatenate([p.seen for p in patterns]).astype(np.int64),
        row_ptr, np.concatenate([p.rows.ravel() for p in patterns]).astype(np.int64), first, square,
    )  # fmt: skip


@dataclass(eq=False)
class PatternCovariance:
    """R_g = Sigma[g, g] of every pattern at one theta.

    Attributes
    ----------
    sigma : (arms, m, m)
    coefficients : (pieces,)
        Entries of the inverses.
    log_determinants : (G,)
    derivatives : (t, pieces) or None
        Of the coefficients, once they were asked for.
    """

    sigma: np.ndarray
    coefficients: np.ndarray
    log_determinants: np.ndarray
    derivatives: np.ndarray | None = None


def factorize_patterns(patterns: Patterns, sigma: list[np.ndarray]) -> PatternCovariance | None:
    """Inverse and log-determinant of every R_g; None where one is not positive definite.

    Parameters
    ----------
    sigma : list of (m, m)
        Covariance of the visits by arm.
    """
    own, logs = np.array(sigma), np.empty(patterns.arm.size)
    coefficients = np.empty(patterns.first[-1])
    if not invert_patterns(patterns, own, coefficients, logs):
        return None
    return PatternCovariance(own, coefficients, logs)


@dataclass(frozen=True, eq=False)
class PatternPrecision:
    """R^-1 = W^(1/2) blockdiag(R_g^-1) W^(1/2), by products only.

    Attributes
    ----------
    patterns : Patterns
    coefficients : (pieces,)
        Entries of the inverses.
    root : (n,)
        Roots of the weights.
    """

    patterns: Patterns
    coefficients: np.ndarray
    root: np.ndarray

    def __matmul__(self, V: np.ndarray) -> np.ndarray:
        """R^-1 V for V (n,) or (n, r)."""
        columns = np.ascontiguousarray(V, dtype=float).reshape(self.root.size, -1)
        out = np.empty(columns.shape)
        multiply_patterns(self.patterns, self.coefficients, self.root, columns, out)
        return out.reshape(V.shape)

    def toarray(self) -> np.ndarray:
        return self @ np.eye(self.root.size)
