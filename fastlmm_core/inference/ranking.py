"""Ranks of uncertain values: what a joint normal distribution of the true values says of their order."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.special import bdtr, ndtr

# Values drawn at a time, so that the memory does not grow with the number of draws.
DRAWN_TOGETHER = 4_000_000
# Abscissae of the integral over the normal distribution; its integrand has no edges on this scale.
STEP, FARTHEST = 0.01, 9.0
# Of the size of the values: a deviation so small decides nothing but the order of values that are the same.
TIE = 1e-9
ROUNDING = 1e-15  # of an eigenvalue, relative to the largest and for each value


@dataclass(frozen=True)
class RankDraws:
    """Ranks of L values in draws from N(mean, covariance), 1 the largest.

    Attributes
    ----------
    ranks : (draws, L) int32
    """

    ranks: np.ndarray

    @cached_property
    def se(self) -> np.ndarray:
        """Standard deviation of the rank (L,)."""
        return np.asarray(self.ranks.std(axis=0))

    def interval(self, level: float) -> tuple[np.ndarray, np.ndarray]:
        """Smallest and largest rank (L,) between the tails of a two-sided interval."""
        tail = 0.5 * (1.0 - level)
        low = np.quantile(self.ranks, tail, axis=0, method="inverted_cdf")
        high = np.quantile(self.ranks, 1.0 - tail, axis=0, method="inverted_cdf")
        return low, high

    def among(self, k: int) -> np.ndarray:
        """Probability (L,) to be among the k best."""
        return np.asarray((self.ranks <= k).mean(axis=0))

    def exactly(self, chosen: np.ndarray) -> float:
        """Probability that the `chosen` (k,) are the k best."""
        return float((self.ranks[:, chosen] <= chosen.size).all(axis=1).mean())


def draw_ranks(mean: np.ndarray, covariance: np.ndarray, draws: int, seed: int) -> RankDraws:
    """Ranks in draws from N(mean (L,), covariance (L, L)); the covariance may be singular."""
    values, vectors = np.linalg.eigh(covariance)
    # equal values come in any order, and not in that of their rounding errors
    values[values < ROUNDING * mean.size * values[-1]] = 0.0
    least = TIE * max(np.sqrt(max(values[-1], 0.0)), float(np.max(np.abs(mean))))
    # the symmetric root is one whatever the eigenvectors are: a seed gives the same ranks on every machine
    root = (vectors * np.sqrt(np.maximum(values, least * least))) @ vectors.T
    random, L = np.random.default_rng(seed), mean.size
    ranks = np.empty((draws, L), dtype=np.int32)
    step = max(1, DRAWN_TOGETHER // L)
    for first in range(0, draws, step):
        own = ranks[first : first + step]
        drawn = mean + random.standard_normal((len(own), L)) @ root
        order = np.argsort(-drawn, axis=1)
        np.put_along_axis(own, order, np.arange(1, L + 1, dtype=np.int32)[None, :], axis=1)
    return RankDraws(ranks)


def expected_ranks(mean: np.ndarray, covariance: np.ndarray) -> np.ndarray:
    """E(rank) (L,) = 1 + sum over the others of P(other > own), 1 the largest (Laird & Louis 1989)."""
    variance = np.diag(covariance)
    spread = np.sqrt(np.maximum(variance[:, None] + variance[None, :] - 2.0 * covariance, 0.0))
    ahead = mean[None, :] - mean[:, None]
    with np.errstate(divide="ignore", invalid="ignore"):
        p = np.where(spread > 0.0, ndtr(ahead / spread), 0.5 * (1.0 + np.sign(ahead)))
    np.fill_diagonal(p, 0.0)
    return np.asarray(1.0 + p.sum(axis=1))


def selection_intensity(n: int, k: int) -> float:
    """Mean of the k largest of n independent standard normal values, in expectation.

    n / k times the integral of z phi(z) P(fewer than k of the n - 1 others exceed z): exact for a finite n,
    where phi(z) / p of tables is its limit (Falconer & Mackay 1996, ch. 11).
    """
    if k >= n:
        return 0.0
    z = np.arange(-FARTHEST, FARTHEST + 0.5 * STEP, STEP)
    density = np.exp(-0.5 * z * z) / np.sqrt(2.0 * np.pi)
    within = bdtr(float(k - 1), n - 1, ndtr(-z)) if n > 1 else np.ones_like(z)
    return float(n / k * STEP * np.sum(z * density * within))
