"""Precisions of one factor of a grouping: independent levels, AR(1) over positions, a known relationship."""

from __future__ import annotations

import math
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
import scipy.sparse as sp

from fastlmm_core.kernels.equations.autoregression import correlate_positions
from fastlmm_core.structures.levels.base import LevelStructure

# |rho| stays below: log |Q| and the coefficients have 1 / (1 - rho^2).
LARGEST_CORRELATION = 1.0 - 1e-8
# Autocorrelation at which a search starts.
WEAK = 0.3
# |theta| beyond which the slope of rho does not go on to fall: its square is still a number.
FARTHEST = 150.0
# Share of entries below which a precision counts as sparse.
SPARSE = 0.3


class IndependentLevels(LevelStructure):
    """Q = I."""

    def __init__(self, size: int):
        self.size = size

    @property
    def pieces(self) -> tuple[sp.csc_array, ...]:
        return (sp.csc_array(sp.eye_array(self.size)),)

    def coefficients(self, theta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return np.ones(1), np.zeros((0, 1))

    def log_determinant(self, theta: np.ndarray) -> tuple[float, np.ndarray]:
        return 0.0, np.zeros(0)

    def multiply_covariance(self, theta: np.ndarray, V: np.ndarray) -> np.ndarray:
        return V


@lru_cache(maxsize=64)
def autoregressive_pieces(L: int) -> tuple[sp.csc_array, ...]:
    """D'D and S'S of the differences and sums of neighbours of L positions, and the ends of the diagonal.

    The trials of a batch ask for the same few again and again.
    """
    if L == 1:
        return (sp.csc_array(sp.eye_array(L)),)
    ends = np.zeros(L)
    ends[[0, -1]] = 1.0
    one, at_ends = np.ones(L - 1), sp.csc_array(sp.diags_array(ends))
    at_ends.eliminate_zeros()
    differences = sp.diags_array([-one, 2.0 - ends, -one], offsets=[-1, 0, 1])
    sums = sp.diags_array([one, 2.0 - ends, one], offsets=[-1, 0, 1])
    return sp.csc_array(differences), sp.csc_array(sums), at_ends


class AutoregressiveLevels(LevelStructure):
    """First-order autoregression over L equidistant positions, corr = rho^|i - j|, rho = tanh(theta).

    Q = (D'D (1 + rho)/(1 - rho) + S'S (1 - rho)/(1 + rho)) / 4 + B / 2 with D and S the differences and sums
    of neighbours and B the ends of the diagonal; log |Q| = -(L - 1) log(1 - rho^2).  With one position rho
    does nothing.  This is (I + rho^2 E - rho N) / (1 - rho^2), with E the interior of the diagonal and N the
    neighbours, in pieces of which none is ever subtracted: D of a constant and S of what alternates are zero
    to the last digit, so that nothing cancels however near rho is to 1 or -1.
    """

    def __init__(self, size: int, name: str):
        self.size, self.name = size, name
        self.n_theta = 1 if size > 1 else 0

    @property
    def pieces(self) -> tuple[sp.csc_array, ...]:
        return autoregressive_pieces(self.size)

    def rho(self, theta: np.ndarray) -> tuple[float, float, float]:
        """rho with its first and second derivative in theta."""
        own = float(theta[0])
        tangent = math.tanh(own)
        # 1 - tanh^2 would be rounded to zero at the bound, where parameters are still told apart by it
        slope = LARGEST_CORRELATION / math.cosh(min(abs(own), FARTHEST)) ** 2
        return LARGEST_CORRELATION * tangent, slope, -2.0 * tangent * slope

    def start(self) -> np.ndarray:
        return np.full(self.n_theta, np.arctanh(WEAK))

    def other_starts(self) -> list[np.ndarray]:
        """The other sign: short rows, or noise beside the process, may lead to the wrong one at first."""
        return [-self.start()] if self.n_theta else []

    def coefficients(self, theta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        if not self.n_theta:
            return np.ones(1), np.zeros((0, 1))
        rho, slope, _ = self.rho(theta)
        c, dc = self._by_rho(rho)
        return c, dc[None, :] * slope

    @staticmethod
    def _by_rho(rho: float) -> tuple[np.ndarray, np.ndarray]:
        """c (3,) and its derivative in rho."""
        below, above = 1.0 - rho, 1.0 + rho
        c = np.array([0.25 * above / below, 0.25 * below / above, 0.5])
        return c, np.array([0.5 / below**2, -0.5 / above**2, 0.0])

    def largest_entry(self, theta: np.ndarray) -> float:
        rho = self.rho(theta)[0] if self.n_theta else 0.0
        return 1.0 / ((1.0 - rho) * (1.0 + rho))

    def log_determinant(self, theta: np.ndarray) -> tuple[float, np.ndarray]:
        if not self.n_theta:
            return 0.0, np.zeros(0)
        rho, slope, _ = self.rho(theta)
        n, rest = self.size - 1, (1.0 - rho) * (1.0 + rho)
        return -n * math.log(rest), np.array([2.0 * n * rho / rest * slope])

    def second_coefficients(self, theta: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
        if not self.n_theta:
            return super().second_coefficients(theta)
        rho, slope, bend = self.rho(theta)
        rest = (1.0 - rho) * (1.0 + rho)
        first = self._by_rho(rho)[1]
        second = np.array([1.0 / (1.0 - rho) ** 3, 1.0 / (1.0 + rho) ** 3, 0.0])
        n = self.size - 1
        log = 2.0 * n * ((1.0 + rho * rho) / rest**2 * slope**2 + rho / rest * bend)
        return (second * slope**2 + first * bend)[None, None], np.array([[log]])

    def multiply_covariance(self, theta: np.ndarray, V: np.ndarray) -> np.ndarray:
        return self.multiply_along(theta, V[None])[0]

    def multiply_along(self, theta: np.ndarray, V: np.ndarray) -> np.ndarray:
        if not self.n_theta:
            return V
        decay = np.full(self.size, self.rho(theta)[0])
        return np.asarray(correlate_positions(decay, np.ascontiguousarray(V, dtype=float)))

    def natural(self, theta: np.ndarray) -> np.ndarray:
        return np.array([self.rho(theta)[0]] if self.n_theta else [])

    def natural_jacobian(self, theta: np.ndarray) -> np.ndarray:
        return np.array([[self.rho(theta)[1]]] if self.n_theta else np.zeros((0, 0)))

    def natural_names(self) -> tuple[str, ...]:
        return (self.name,) if self.n_theta else ()


class KnownLevels(LevelStructure):
    """Q = A^-1 of a known relationship, constant."""

    def __init__(self, relationship: Any):
        self.relationship = relationship
        self.size = relationship.size
        self._log_determinant = -float(relationship.log_determinant())
        self._precision = sp.csc_array(relationship.precision())

    @property
    def sparse(self) -> bool:
        """The precision leaves most pairs of levels out, as that of a pedigree does."""
        return bool(self._precision.nnz < SPARSE * self.size**2)

    @cached_property
    def typical_size(self) -> float:
        if self.sparse:  # variances given all others: no inverse is needed for a size
            return float(np.mean(1.0 / self._precision.diagonal()))
        return float(np.mean(self.diagonal(np.zeros(0))))

    @property
    def pieces(self) -> tuple[sp.csc_array, ...]:
        return (self._precision,)

    def coefficients(self, theta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return np.ones(1), np.zeros((0, 1))

    def log_determinant(self, theta: np.ndarray) -> tuple[float, np.ndarray]:
        return self._log_determinant, np.zeros(0)

    def multiply_covariance(self, theta: np.ndarray, V: np.ndarray) -> np.ndarray:
        return np.asarray(self.relationship.multiply(V))

    def diagonal(self, theta: np.ndarray) -> np.ndarray:
        return np.asarray(self.relationship.diagonal())
