"""What reduced rank and factor analytic structures share: free loadings Gamma (m, k) and their rotations."""

from __future__ import annotations

from numbers import Integral

import numpy as np
from scipy.sparse.csgraph import connected_components

from fastlmm_core.errors import OptionError
from fastlmm_core.structures.coefficients.boundary import ZERO_EIGENVALUE
from fastlmm_core.structures.coefficients.entries import LoadingEntries

# Part of a coefficient's variance that the factors explain at the start, at least.
LOW = 1e-2
# Factors where the formula names no number.
DEFAULT_FACTORS = 2


class FactorLoadings(LoadingEntries):
    """Lambda = [Gamma | m further columns]; Gamma is full, rotations Gamma A leave T as it is.

    theta begins with Gamma, column by column. No entry is held at zero: which one could be depends on the
    order of the coefficients, and is badly conditioned where the first loads little.
    """

    natural_defined, within_subjects = False, False
    several_optima = True
    k: int

    def _factors(self, option: str) -> int:
        """The number of factors that the user asked for, from 1 to m."""
        k = self.options.get(option, min(DEFAULT_FACTORS, self.m))
        if isinstance(k, bool) or not isinstance(k, Integral):
            raise OptionError(f"{self.name}(..., {option}={k!r}): {option} is a whole number of factors")
        k = int(k)
        if k < 1 or (k > self.m > 1):
            raise OptionError(
                f"{self.name}(..., {option}={k}): {option} may be 1 to {self.m} for {self.m} coefficients"
            )
        return min(k, self.m)

    @property
    def width(self) -> int:
        return self.k + self.m

    @property
    def positions(self) -> tuple[tuple[int, int], ...]:
        return tuple((row, col) for col in range(self.k) for row in range(self.m))

    def untold(self, together: np.ndarray) -> list[tuple[int, int]]:
        """A pair for every set of coefficients that no level links to the first: its loadings turn freely."""
        found = connected_components(together, directed=False)[1]
        return [(0, int(np.argmax(found == own))) for own in np.unique(found) if own != found[0]]

    def gamma(self, theta: np.ndarray) -> np.ndarray:
        """Gamma, (m, k)."""
        return theta[: self.m * self.k].reshape(self.k, self.m).T

    def _with_gamma(self, gamma: np.ndarray, theta: np.ndarray) -> np.ndarray:
        return np.concatenate([gamma.T.ravel(), theta[gamma.size :]])

    def null_directions(self, theta: np.ndarray) -> np.ndarray:
        return self.rotations(theta)

    def rotations(self, theta: np.ndarray) -> np.ndarray:
        """Rotations of Gamma in the plane of two columns, orthonormal (k (k - 1) / 2, n_theta)."""
        gamma = self.gamma(theta)
        turns = []
        for a in range(self.k):
            for b in range(a + 1, self.k):
                turn = np.zeros_like(gamma)
                turn[:, a], turn[:, b] = gamma[:, b], -gamma[:, a]
                turns.append(self._with_gamma(turn, np.zeros_like(theta)))
        if not turns:
            return np.zeros((0, self.n_theta))
        _, size, directions = np.linalg.svd(np.array(turns), full_matrices=False)
        return directions[size > 1e-10 * size.max(initial=0.0)]

    def canonical(self, theta: np.ndarray) -> np.ndarray:
        return self._with_gamma(principal_axes(self.gamma(theta)), theta)

    def _rank_words(self, theta: np.ndarray) -> list[str]:
        """A phrase where the columns of Gamma depend on each other."""
        size = np.linalg.svd(self.gamma(theta), compute_uv=False)
        rank = int(np.count_nonzero(size**2 > ZERO_EIGENVALUE * size[0] ** 2))
        return [f"the loadings have rank {rank} of {self.k}"] if rank < self.k else []


def principal_axes(gamma: np.ndarray) -> np.ndarray:
    """Gamma (m, k) rotated to orthogonal columns, the longest first, each with a sum that is not negative."""
    return gamma @ principal_rotation(gamma)


def principal_rotation(gamma: np.ndarray) -> np.ndarray:
    """Orthogonal A (k, k) that turns Gamma (m, k) to its principal axes, Gamma A."""
    turn = np.linalg.svd(gamma)[2].T
    return np.where((gamma @ turn).sum(axis=0) < 0.0, -1.0, 1.0) * turn


def leading_factors(T: np.ndarray, k: int, least: float = 0.0) -> np.ndarray:
    """Gamma (m, k) of the k largest eigenvalues of T (m, m), none below `least` of the largest."""
    values, vectors = np.linalg.eigh(T)
    values, vectors = values[::-1][:k], vectors[:, ::-1][:, :k]
    values = np.maximum(values, max(least * values[0], 0.0))
    gamma = vectors * np.sqrt(values)
    return np.where(gamma.sum(axis=0) < 0.0, -1.0, 1.0) * gamma


def lift_rows(gamma: np.ndarray) -> np.ndarray:
    """Gamma (m, k) with a small first loading where a coefficient would start without variance."""
    lifted = gamma.copy()
    low = np.sum(gamma**2, axis=1) < LOW
    lifted[low, 0] = np.sqrt(LOW)
    return lifted
