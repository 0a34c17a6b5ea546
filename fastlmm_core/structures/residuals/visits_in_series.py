"""Residuals within subjects of a process whose visits, given those beside them, know of no others: AR(1).

The inverse of R has entries for a visit and the next one of the same subject only, whatever is missing
between them. With k = rho^d for neighbours d apart and s2 the variance,

    R^-1 = (I + sum_d k^2 / (1 - k^2) E_d - sum_d k / (1 - k^2) N_d) / s2,

E_d counts how often a visit is one of such a pair, and N_d has its two entries; |R| is s2^n times the product
of 1 - k^2. What it costs grows with the rows, and no subject needs to be seen at the visits of another.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from fastlmm_core.kernels.equations.autoregression import correlate_positions
from fastlmm_core.structures.coefficients.autoregressive import rho_at_distance
from fastlmm_core.structures.coefficients.correlation_factors import powers
from fastlmm_core.structures.residuals.base import NEARLY_ZERO, PieceEntries
from fastlmm_core.structures.residuals.by_group import LEAST_SQUARE
from fastlmm_core.structures.residuals.within_subject import FLOOR, Visits, WithinSubjectResiduals


class SeriesResiduals(WithinSubjectResiduals):
    """Pieces of an arm are the unit matrix and E_d, N_d of every distance d between neighbours.

    The structures have one variance, and their `markov` is true.
    """

    def __init__(
        self, weights: np.ndarray, rows: Visits, structures: list[Any], visit_levels: tuple[str, ...],
        arm_levels: tuple[Any, ...],
    ):  # fmt: skip
        super().__init__(weights, rows, structures, visit_levels, arm_levels)
        self._order = np.lexsort((rows.visits, rows.subjects)).astype(np.int64)
        before, after = self._order[:-1], self._order[1:]
        same = rows.subjects[before] == rows.subjects[after]
        self._pairs = before[same], after[same]
        self._gap = rows.visits[self._pairs[1]] - rows.visits[self._pairs[0]]
        # of every row in order: the distance to the one before it in its subject, 0 for a first one
        self._step = np.zeros(self.n_rows, np.int64)
        self._step[1:][same] = self._gap
        self._counts = np.bincount(rows.arms, minlength=len(structures)).astype(float)
        self.gaps = [
            np.unique(self._gap[rows.arms[self._pairs[0]] == k], return_counts=True)
            for k in range(len(structures))
        ]
        self.first_piece = np.cumsum([0, *(1 + 2 * distances.size for distances, _ in self.gaps)])
        self.n_pieces = int(self.first_piece[-1])
        self.entries = self._entries()

    def _entries(self) -> PieceEntries:
        parts = []
        for k, (distances, _) in enumerate(self.gaps):
            own = np.flatnonzero(self.rows.arms == k)
            parts.append((own, own, np.full(own.size, self.first_piece[k]), np.ones(own.size)))
            mine = self.rows.arms[self._pairs[0]] == k
            for d, distance in enumerate(distances):
                i, j = (side[mine & (self._gap == distance)] for side in self._pairs)
                piece = int(self.first_piece[k]) + 1 + 2 * d
                ends, times = np.unique(np.concatenate([i, j]), return_counts=True)
                parts.append((ends, ends, np.full(ends.size, piece), times.astype(float)))
                parts.append(
                    (np.maximum(i, j), np.minimum(i, j), np.full(i.size, piece + 1), np.ones(i.size))
                )
        row, column, piece_of, value = (np.concatenate(x) for x in zip(*parts, strict=True))
        value = value * self.root[row] * self.root[column]
        return PieceEntries(
            row.astype(np.int64), column.astype(np.int64), piece_of.astype(np.int64), value
        )

    def _process(self, theta: np.ndarray, k: int) -> tuple[float, float, np.ndarray]:
        """Variance, which is not zero, and rho of an arm, and the derivatives of both in theta (2,)."""
        structure = self.structures[k]
        sd, chart = structure.split(self._own(theta, k))
        variance = float(sd[0] ** 2)
        if not self.has_inverse(self._own(theta, k), k):
            variance += float(self.least[k].mean())
        rho, slope, _ = structure.rho_of(chart[0])
        return variance, rho, np.array([2.0 * sd[0], slope])

    def has_inverse(self, own: np.ndarray, arm: int) -> bool:
        variance = float(self.structures[arm].split(own)[0][0] ** 2)
        return variance >= NEARLY_ZERO / FLOOR * float(self.least[arm].mean())

    def visit_variances(self, theta: np.ndarray) -> np.ndarray:
        own = [self._process(theta, k)[0] for k in range(len(self.structures))]
        return np.repeat(np.array(own)[:, None], len(self.visit_levels), axis=1)

    def covariances(self, theta: np.ndarray, arm: int) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
        variance, rho, _ = self._process(theta, arm)
        return lambda first, second: variance * rho ** np.abs(np.subtract.outer(first, second))

    def telling(self, seen: np.ndarray, visits: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        order = np.argsort(seen)  # a visit knows the ones before and after it
        gap = np.searchsorted(seen[order], visits)
        for own in np.unique(gap):
            yield np.flatnonzero(gap == own), order[max(own - 1, 0) : own + 1]

    def _by_process(self, k: int, variance: float, rho: float) -> tuple[np.ndarray, np.ndarray]:
        """c of an arm (b,) and its derivatives in variance and rho (2, b)."""
        distances, _ = self.gaps[k]
        r, slope, _ = powers(rho, distances)
        rest = (1.0 - r) * (1.0 + r)
        c, by_rho = np.ones(1 + 2 * distances.size), np.zeros(1 + 2 * distances.size)
        c[1::2], c[2::2] = r * r / rest, -r / rest
        by_rho[1::2], by_rho[2::2] = 2.0 * r * slope / rest**2, -slope * (1.0 + r * r) / rest**2
        return c / variance, np.array([-c / variance**2, by_rho / variance])

    def _of_pieces(self, theta: np.ndarray, chart: bool) -> tuple[np.ndarray, np.ndarray]:
        """c (b,) and its derivatives (n_theta, b) in theta, or in variances and correlations."""
        c, slopes = np.empty(self.n_pieces), np.zeros((self.n_theta, self.n_pieces))
        for k in range(len(self.structures)):
            at = slice(self.first_piece[k], self.first_piece[k + 1])
            variance, rho, by_theta = self._process(theta, k)
            c[at], own = self._by_process(k, variance, rho)
            slopes[self._place(k), at] = by_theta[:, None] * own if chart else own
        return c, slopes

    def coefficients(self, theta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return self._of_pieces(theta, chart=True)

    def natural_pieces(self, theta: np.ndarray) -> np.ndarray:
        return self._of_pieces(theta, chart=False)[1]

    def log_determinant(self, theta: np.ndarray) -> tuple[float, np.ndarray]:
        value, gradient = -self.log_weights, np.zeros(self.n_theta)
        for k, (distances, times) in enumerate(self.gaps):
            variance, rho, slopes = self._process(theta, k)
            r, slope, _ = powers(rho, distances)
            rest = (1.0 - r) * (1.0 + r)
            value += self._counts[k] * float(np.log(variance)) + float(times @ np.log(rest))
            own = np.array([self._counts[k] / variance, -2.0 * float(times @ (r * slope / rest))])
            gradient[self._place(k)] = slopes * own
        return value, gradient

    def start(self, moments: Any) -> np.ndarray:
        return np.concatenate([self._start(moments, k, self._rho(moments, k)) for k in self._arms])

    def other_starts(self, moments: Any, beside_terms: bool) -> list[np.ndarray]:
        """One without correlations: a term may stand for them, and few subjects tell little of them."""
        few = bool((self._by_visit(np.ones(self.n_rows)).max(axis=1) < len(self.visit_levels)).any())
        if not beside_terms and not few:
            return []
        share = 0.5 if beside_terms else 1.0
        return [np.concatenate([self._start(moments, k, 0.0, share) for k in self._arms])]

    @property
    def _arms(self) -> range:
        return range(len(self.structures))

    def _start(self, moments: np.ndarray, k: int, rho: float, share: float = 1.0) -> np.ndarray:
        square = np.mean(((self.root * moments)[self.rows.arms == k]) ** 2)
        sd = np.sqrt(share * square if square > LEAST_SQUARE else 1.0)
        return np.r_[sd, self.structures[k].chart_of(np.array([rho]))]

    def _rho(self, moments: np.ndarray, k: int) -> float:
        """From the correlation of neighbours at their most frequent distance."""
        distances, times = self.gaps[k]
        if not distances.size:
            return 0.0
        lag, e = int(distances[np.argmax(times)]), self.root * moments
        i, j = (side[(self.rows.arms[self._pairs[0]] == k) & (self._gap == lag)] for side in self._pairs)
        size = float(e[i] @ e[i] + e[j] @ e[j])
        return rho_at_distance(2.0 * float(e[i] @ e[j]) / size, lag) if size > LEAST_SQUARE else 0.0

    def multiply_covariance(self, theta: np.ndarray, V: np.ndarray) -> np.ndarray:
        columns = np.ascontiguousarray((V / self.root[:, None])[self._order])
        arms = self.rows.arms[self._order]
        processes = [self._process(theta, k)[:2] for k in self._arms]
        variance, rho = (np.array(own)[arms] for own in zip(*processes, strict=True))
        decay = np.where(self._step > 0, rho**self._step, 0.0)
        out = np.empty_like(columns)
        out[self._order] = variance[:, None] * correlate_positions(decay, columns[None])[0]
        return out / self.root[:, None]

    def multiply_second(self, theta: np.ndarray, weights: np.ndarray, V: np.ndarray) -> np.ndarray:
        second = []
        for k in self._arms:
            at, own = self._place(k), self.structures[k].covariance_second_by_natural(self._own(theta, k))
            second.append(np.einsum("ij,ijab->ab", weights[at, at], own))
        scaled, out = V / self.root[:, None], np.empty_like(V)
        cuts = np.flatnonzero(np.diff(self.rows.subjects[self._order])) + 1
        for rows in np.split(self._order, cuts):
            seen = self.rows.visits[rows]
            out[rows] = second[self.rows.arms[rows[0]]][np.ix_(seen, seen)] @ scaled[rows]
        return out / self.root[:, None]
