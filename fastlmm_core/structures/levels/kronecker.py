"""Kronecker product of the precisions of several factors, the first varying slowest."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cached_property, lru_cache, reduce
from itertools import product

import numpy as np
import scipy.sparse as sp
from scipy.linalg import block_diag

from fastlmm_core.structures.last_theta import kept_at_last_theta
from fastlmm_core.structures.levels.base import LevelStructure
from fastlmm_core.structures.levels.factors import AutoregressiveLevels, autoregressive_pieces

# Entries of Q above which its determinant is lost to rounding: several autocorrelations near one.
LARGEST_ENTRY = 4e9
# Autocorrelation at which searches start that look for strong ones.
STRONG = 0.8
# Cells of a grid up to which its pieces are kept for the next trial on it.
LARGEST_SHARED = 10_000


def kronecker_pieces(factors: Sequence[tuple[sp.csc_array, ...]]) -> tuple[sp.csc_array, ...]:
    """The products of the pieces of factors, those of the first varying slowest."""
    return tuple(
        sp.csc_array(reduce(lambda a, b: sp.kron(a, b, format="csc"), parts)) for parts in product(*factors)
    )


@lru_cache(maxsize=16)
def grid_pieces(sizes: tuple[int, ...]) -> tuple[sp.csc_array, ...]:
    """Those of autoregressions over so many positions."""
    return kronecker_pieces([autoregressive_pieces(size) for size in sizes])


class KroneckerLevels(LevelStructure):
    """Q = Q_1 (x) Q_2 (x) ...: its pieces are the products of theirs, log |Q| = sum_f L / L_f log |Q_f|."""

    def __init__(self, factors: Sequence[LevelStructure]):
        self.factors = tuple(factors)
        self.size = int(np.prod([f.size for f in self.factors]))
        self.n_theta = sum(f.n_theta for f in self.factors)
        self._first = np.cumsum([0, *(f.n_theta for f in self.factors)])

    def _own(self, theta: np.ndarray, f: int) -> np.ndarray:
        return theta[self._first[f] : self._first[f + 1]]

    @cached_property
    def pieces(self) -> tuple[sp.csc_array, ...]:
        if all(isinstance(f, AutoregressiveLevels) for f in self.factors) and self.size <= LARGEST_SHARED:
            return grid_pieces(tuple(f.size for f in self.factors))
        return kronecker_pieces([f.pieces for f in self.factors])

    @property
    def typical_size(self) -> float:
        return float(np.prod([f.typical_size for f in self.factors]))

    def at_distance(self, theta: np.ndarray, steps: np.ndarray) -> np.ndarray:
        """Correlations (k,) of levels that are `steps` (k, F) apart, along autoregressions only."""
        out = np.ones(steps.shape[0])
        for f, factor in enumerate(self.factors):
            if steps[:, f].any():
                assert isinstance(factor, AutoregressiveLevels)
                out *= factor.rho(self._own(theta, f))[0] ** steps[:, f]
        return out

    def start(self) -> np.ndarray:
        return np.concatenate([f.start() for f in self.factors])

    def other_starts(self) -> list[np.ndarray]:
        own = product(*([f.start(), *f.other_starts()] for f in self.factors))
        return [np.concatenate(parts) for parts in own][1:]

    def strong_starts(self) -> list[np.ndarray]:
        """A nugget hides them from searches that begin near zero."""
        if sum(isinstance(f, AutoregressiveLevels) and f.n_theta > 0 for f in self.factors) < 2:
            return []
        strong = float(np.arctanh(STRONG))
        return [np.array(signs) for signs in product((-strong, strong), repeat=self.n_theta)]

    @kept_at_last_theta
    def _of_factors(self, theta: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
        """Coefficients and derivatives of every factor."""
        return [f.coefficients(self._own(theta, k)) for k, f in enumerate(self.factors)]

    def coefficients(self, theta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        own = self._of_factors(theta)
        rows = []
        for k in range(len(own)):
            for derivative in own[k][1]:
                rows.append(_outer([derivative if h == k else c for h, (c, _) in enumerate(own)]))
        c = _outer([c for c, _ in own])
        return c, np.array(rows).reshape(self.n_theta, c.size)

    def log_determinant(self, theta: np.ndarray) -> tuple[float, np.ndarray]:
        largest = math.prod(f.largest_entry(self._own(theta, k)) for k, f in enumerate(self.factors))
        value, gradient = 0.0 if largest <= LARGEST_ENTRY else np.inf, []
        for k, f in enumerate(self.factors):
            own, derivative = f.log_determinant(self._own(theta, k))
            value += self.size / f.size * own
            gradient.append(self.size / f.size * derivative)
        return value, np.concatenate(gradient)

    def second_coefficients(self, theta: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
        first = self._of_factors(theta)
        second = []
        for k, f in enumerate(self.factors):
            known = f.second_coefficients(self._own(theta, k))
            if known is None:
                return None
            second.append(known)
        own = [(k, i) for k, f in enumerate(self.factors) for i in range(f.n_theta)]
        c = np.zeros((self.n_theta, self.n_theta, int(np.prod([q.size for q, _ in first]))))
        log = np.zeros((self.n_theta, self.n_theta))
        for t, (k, i) in enumerate(own):
            for u, (h, j) in enumerate(own):
                parts = [q for q, _ in first]
                if k == h:
                    parts[k] = second[k][0][i, j]
                    log[t, u] = self.size / self.factors[k].size * second[k][1][i, j]
                else:
                    parts[k], parts[h] = first[k][1][i], first[h][1][j]
                c[t, u] = _outer(parts)
        return c, log

    def multiply_covariance(self, theta: np.ndarray, V: np.ndarray) -> np.ndarray:
        out, before = V, 1
        for k, f in enumerate(self.factors):
            out = f.multiply_along(self._own(theta, k), out.reshape(before, f.size, -1))
            before *= f.size
        return np.ascontiguousarray(out).reshape(V.shape)

    def diagonal(self, theta: np.ndarray) -> np.ndarray:
        return _outer([f.diagonal(self._own(theta, k)) for k, f in enumerate(self.factors)])

    def natural(self, theta: np.ndarray) -> np.ndarray:
        return np.concatenate([f.natural(self._own(theta, k)) for k, f in enumerate(self.factors)])

    def natural_jacobian(self, theta: np.ndarray) -> np.ndarray:
        return block_diag(*(f.natural_jacobian(self._own(theta, k)) for k, f in enumerate(self.factors)))

    def natural_names(self) -> tuple[str, ...]:
        return tuple(name for f in self.factors for name in f.natural_names())


def _outer(vectors: list[np.ndarray]) -> np.ndarray:
    """Flattened outer product of vectors, the first varying slowest."""
    return reduce(lambda a, b: np.multiply.outer(a, b).ravel(), vectors)
