"""Residuals within subjects by patterns of visits, for any covariance of the visits.

Subjects that were seen at the same visits share a pattern g; R_g = Sigma[g, g], and the entries of R_g^-1 are
the coefficients of the pieces, so that the number of subjects leaves the iteration.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np

from fastlmm_core.kernels.equations.visit_products import (
    differentiate_patterns,
    fill_score_factors,
    sum_squares,
    sum_visit_products,
)
from fastlmm_core.kernels.equations.visit_scores import (
    subtract_weighted_precisions,
    sum_precisions,
)
from fastlmm_core.linalg.compressed import CompressedRows
from fastlmm_core.structures.last_theta import forget_last_theta, kept_at_last_theta
from fastlmm_core.structures.residuals.base import NEARLY_ZERO, PieceEntries
from fastlmm_core.structures.residuals.by_group import LEAST_SQUARE
from fastlmm_core.structures.residuals.visit_information import PATTERN_NUMBERS, contracted_products, pays
from fastlmm_core.structures.residuals.visit_patterns import (
    PatternCovariance,
    PatternPrecision,
    VisitPattern,
    factorize_patterns,
    pattern_arrays,
    subjects_by_pattern,
)
from fastlmm_core.structures.residuals.visit_starts import start_of_visits
from fastlmm_core.structures.residuals.within_subject import FLOOR, Visits, WithinSubjectResiduals


def _both(lower: np.ndarray) -> np.ndarray:
    """The symmetric matrix of a lower triangle."""
    return lower + np.tril(lower, -1).T


def _invertible(sigma: np.ndarray, least: np.ndarray) -> np.ndarray:
    """sigma (m, m) with `least` (m,) on the diagonal, where it is nearly singular in units of their roots."""
    try:  # no eigenvalue below: a fraction of what eigenvalues take
        np.linalg.cholesky(sigma - np.diag(NEARLY_ZERO / FLOOR * least))
    except np.linalg.LinAlgError:
        return sigma + np.diag(least)
    return sigma


def count_pieces(rows: Visits) -> int:
    """How many entries the inverses of all patterns have."""
    return sum(seen.size * (seen.size + 1) // 2 for _, seen, _ in subjects_by_pattern(*rows))


class PatternResiduals(WithinSubjectResiduals):
    """Pieces are the entries of the inverse of every pattern."""

    def __init__(
        self, weights: np.ndarray, rows: Visits, structures: list[Any], visit_levels: tuple[str, ...],
        arm_levels: tuple[Any, ...],
    ):  # fmt: skip
        super().__init__(weights, rows, structures, visit_levels, arm_levels)
        self.patterns: list[VisitPattern] = []
        parts, piece = [], 0
        for arm, seen, members in subjects_by_pattern(*rows):
            pattern = VisitPattern(arm, seen, members, piece)
            self.patterns.append(pattern)
            a, b = pattern.entries
            i, j = pattern.rows[:, a], pattern.rows[:, b]
            number = np.broadcast_to(piece + np.arange(a.size), i.shape)
            parts.append((i.ravel(), j.ravel(), number.ravel(), (self.root[i] * self.root[j]).ravel()))
            piece += a.size
        self.n_pieces = piece
        self.arrays = pattern_arrays(self.patterns)
        self._counts = np.array([pattern.count for pattern in self.patterns], float)
        pairs = [pattern.entries for pattern in self.patterns]
        self._twice = np.concatenate([np.where(a == b, 1.0, 2.0) for a, b in pairs])
        # arm and visits of every piece, the later visit first
        first, second = np.concatenate([p.seen[np.array(p.entries)] for p in self.patterns], axis=1)
        arms_of = np.repeat(self.arrays.arm, np.diff(self.arrays.first))
        self._visits = arms_of, np.maximum(first, second), np.minimum(first, second)
        row, column, number, value = (np.concatenate(x) for x in zip(*parts, strict=True))
        upper = row < column
        row, column = np.where(upper, column, row), np.where(upper, row, column)
        self.entries = PieceEntries(
            row.astype(np.int64), column.astype(np.int64), number.astype(np.int64), value
        )

    def _with(self, least: np.ndarray) -> WithinSubjectResiduals:
        out = super()._with(least)
        forget_last_theta(out)  # its covariances have the other least variances
        return out

    def _covariances(self, theta: np.ndarray) -> list[np.ndarray]:
        """Sigma (m, m) by arm, with an inverse."""
        own = [s.covariance(self._own(theta, k)) for k, s in enumerate(self.structures)]
        return [_invertible(sigma, least) for sigma, least in zip(own, self.least, strict=True)]

    def has_inverse(self, own: np.ndarray, arm: int) -> bool:
        sigma = self.structures[arm].covariance(own)
        return _invertible(sigma, self.least[arm]) is sigma

    def visit_variances(self, theta: np.ndarray) -> np.ndarray:
        return np.array([np.diag(sigma) for sigma in self._at(theta).sigma])

    def _slopes(self, theta: np.ndarray) -> list[np.ndarray]:
        """dSigma / dtheta (n_theta of the arm, m, m) by arm."""
        return [s.covariance_jacobian(self._own(theta, k)) for k, s in enumerate(self.structures)]

    def other_starts(self, moments: Any, beside_terms: bool) -> list[np.ndarray]:
        """One without correlations: a term may stand for them, and few subjects tell little of them."""
        sums, first = self._sums(moments), self._covariances(self.start(moments))
        bound = [s for s, T in zip(self.structures, first, strict=True) if np.any(np.tril(T, -1))]
        correlated = any(not s.any_basis for s in bound)
        few = any(np.diag(count).max() < count.shape[0] for _, count in sums)
        if not correlated or not (beside_terms or (few and not self.linear)):
            return []
        share = 0.5 if beside_terms else 1.0
        out = []
        for structure, (total, count) in zip(self.structures, sums, strict=True):
            mean = np.trace(total) / max(np.trace(count), 1.0)
            variance = share * (mean if mean > LEAST_SQUARE else 1.0)
            out.append(structure.start(variance * np.eye(structure.m)))
        return [np.concatenate(out)]

    def _sums(self, moments: Any) -> list[tuple[np.ndarray, np.ndarray]]:
        """Sums of products of two visits (m, m) and their numbers, by arm."""
        m = len(self.visit_levels)
        totals, counts = np.zeros((2, len(self.structures), m, m))
        np.add.at(totals, self._visits, self._squares(moments))
        np.add.at(counts, self._visits, np.repeat(self._counts, np.diff(self.arrays.first)))
        return list(zip(map(_both, totals), map(_both, counts), strict=True))

    def start(self, moments: Any) -> np.ndarray:
        sums = zip(self.structures, self._sums(moments), strict=True)
        return np.concatenate([start_of_visits(structure, *own) for structure, own in sums])

    def chart_products(
        self, theta: np.ndarray, E: np.ndarray, W: CompressedRows, q: int
    ) -> tuple[np.ndarray, np.ndarray]:
        slopes, m = self._slopes(theta), len(self.visit_levels)
        if not pays(self.arrays, [len(own) for own in slopes], m, q):
            return super().chart_products(theta, E, W, q)
        return contracted_products(
            self.arrays, slopes, self._at(theta).coefficients, self._squares(E), W,
            self.root, self.root * E, q,
        )  # fmt: skip

    def score_products(
        self, theta: np.ndarray, pieces: np.ndarray, E: np.ndarray, W: CompressedRows, q: int
    ) -> tuple[np.ndarray, np.ndarray]:
        # sums over the subjects of a pattern first: nothing of (n_rows, t) is formed
        t, patterns = len(pieces), self.arrays
        sides, form = np.zeros((q, t)), np.zeros((t, t))
        scaled, sigma, pieces = self.root * E, self._at(theta).sigma, np.ascontiguousarray(pieces)
        squares = self._squares(E)
        for lo, hi in self._parts(q, t):
            own = slice(patterns.first[lo], patterns.first[hi])
            sums = np.zeros((q, own.stop - own.start))
            sum_visit_products(patterns, lo, hi, W, self.root, scaled, sums)
            sides += sums @ pieces[:, own].T
            left = np.empty((t, patterns.square[hi] - patterns.square[lo]))
            right = np.empty_like(left)
            fill_score_factors(patterns, lo, hi, squares, sigma, pieces, left, right)
            form += left @ right.T
        return sides, 0.5 * (form + form.T)

    def _parts(self, q: int, t: int) -> list[tuple[int, int]]:
        """Runs of patterns whose sums for q unknowns and t parameters are kept together."""
        G = self._counts.size
        if q * self.n_pieces + 2 * t * self.arrays.square[-1] <= PATTERN_NUMBERS:
            return [(0, G)]
        numbers = np.cumsum(q * np.diff(self.arrays.first) + 2 * t * np.diff(self.arrays.square))
        cuts = np.flatnonzero(np.diff(np.floor(numbers / PATTERN_NUMBERS))) + 1
        return list(pairwise([0, *cuts.tolist(), G]))

    def _squares(self, e: np.ndarray) -> np.ndarray:
        """Sums over the subjects of the weighted products of two visits (pieces,), for e (n,)."""
        out = np.empty(self.n_pieces)
        sum_squares(self.arrays, self.root * e, out)
        return out

    def sandwich(self, theta: np.ndarray, pieces: np.ndarray) -> np.ndarray:
        out = np.empty(self.n_pieces)
        sigma = self._at(theta).sigma
        for pattern in self.patterns:
            S, D = pattern.part(sigma[pattern.arm]), pattern.blocks(pieces[None])[0]
            out[pattern.pieces] = (D @ S @ D)[pattern.entries]
        return out

    def information_terms(self, theta: np.ndarray, pieces: np.ndarray, y: np.ndarray) -> np.ndarray:
        t = pieces.shape[0]
        out, sigma = np.zeros((t, t)), self._at(theta).sigma
        for pattern in self.patterns:
            S, D = pattern.part(sigma[pattern.arm]), pattern.blocks(pieces)
            weights = pattern.count * S - 2.0 * pattern.weights(y)
            out += (weights @ D @ S).reshape(t, S.size) @ D.reshape(t, S.size).T
        return 0.5 * (out + out.T)

    def quadratics(self, e: np.ndarray) -> np.ndarray:
        return self._twice * self._squares(e)

    def _at(self, theta: np.ndarray) -> PatternCovariance:
        """R_g of every pattern."""
        found = self._factorized(theta)
        if found is None:
            raise np.linalg.LinAlgError("the covariance of the visits is not positive definite")
        return found

    @kept_at_last_theta
    def _factorized(self, theta: np.ndarray) -> PatternCovariance | None:
        return factorize_patterns(self.arrays, self._covariances(theta))

    def coefficients(self, theta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        at = self._at(theta)
        return at.coefficients, self._derivatives(theta, at)

    def piece_coefficients(self, theta: np.ndarray) -> np.ndarray:
        return self._at(theta).coefficients

    def log_determinant(self, theta: np.ndarray) -> tuple[float, np.ndarray]:
        try:
            at = self._at(theta)
        except np.linalg.LinAlgError:
            return np.inf, np.zeros(self.n_theta)
        return float(self._counts @ at.log_determinants) - self.log_weights, self._by_slopes(
            theta, self._sum_of_precisions(at)
        )

    def gradient(self, theta: np.ndarray, weights: np.ndarray) -> np.ndarray:
        at = self._at(theta)
        total = self._sum_of_precisions(at)
        subtract_weighted_precisions(self.arrays, at.coefficients, np.ascontiguousarray(weights), total)
        return self._by_slopes(theta, total)

    def _sum_of_precisions(self, at: PatternCovariance) -> np.ndarray:
        """R_g^-1 of all subjects in the places of their visits (arms, m, m)."""
        out = np.zeros_like(at.sigma)
        sum_precisions(self.arrays, at.coefficients, out)
        return out

    def _by_slopes(self, theta: np.ndarray, total: np.ndarray) -> np.ndarray:
        """<dSigma_t, total> (n_theta,) of the arm of every parameter."""
        pairs = zip(self._slopes(theta), total, strict=True)
        return np.concatenate([np.tensordot(slopes, own, axes=2) for slopes, own in pairs])

    def natural_pieces(self, theta: np.ndarray) -> np.ndarray:
        slopes = [s.covariance_by_natural(self._own(theta, k)) for k, s in enumerate(self.structures)]
        if not all(np.isfinite(own).all() for own in slopes):
            return super().natural_pieces(theta)
        out = np.zeros((self.n_theta, self.n_pieces))
        coefficients = self._at(theta).coefficients
        differentiate_patterns(self.arrays, coefficients, np.concatenate(slopes), self.first, out)
        return out

    def _derivatives(self, theta: np.ndarray, at: PatternCovariance) -> np.ndarray:
        """Of the coefficients (n_theta, b)."""
        if at.derivatives is None:
            at.derivatives = np.zeros((self.n_theta, self.n_pieces))
            slopes = np.concatenate(self._slopes(theta))
            differentiate_patterns(self.arrays, at.coefficients, slopes, self.first, at.derivatives)
        return at.derivatives

    def row_precision(self, theta: np.ndarray) -> PatternPrecision:
        return PatternPrecision(self.arrays, self._at(theta).coefficients, self.root)

    def _multiply(self, sigma: list[np.ndarray], V: np.ndarray) -> np.ndarray:
        out = np.empty_like(V)
        for pattern in self.patterns:
            root = self.root[pattern.rows][:, :, None]
            out[pattern.rows] = np.matmul(pattern.part(sigma[pattern.arm]), V[pattern.rows] / root) / root
        return out

    def multiply_covariance(self, theta: np.ndarray, V: np.ndarray) -> np.ndarray:
        return self._multiply(list(self._at(theta).sigma), V)

    def multiply_second(self, theta: np.ndarray, weights: np.ndarray, V: np.ndarray) -> np.ndarray:
        sigma = []
        for k, s in enumerate(self.structures):
            at = self._place(k)
            second = s.covariance_second_by_natural(self._own(theta, k))
            sigma.append(np.einsum("ij,ijab->ab", weights[at, at], second))
        return self._multiply(sigma, V)
