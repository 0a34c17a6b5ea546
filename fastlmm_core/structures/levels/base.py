"""The contract of a level structure: the precision Q of the L levels of a random term, as a sum of pieces.

    Q(theta) = sum_b c_b(theta) Q_b,      u ~ N(0, T (x) Q^-1)

Exactly one variance stands in front of a level structure, and it is in the loadings of the coefficients; the
exception are splines, whose own variances are all in Q and whose loadings are held at 1.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import cached_property

import numpy as np
import scipy.sparse as sp

from fastlmm_core.structures.differences import differentiate


def turned_together(start: np.ndarray, others: list[tuple[slice, list[np.ndarray]]]) -> list[np.ndarray]:
    """`start` (t,) with the other starts of several parts of it, the first of all at once, the second, ..."""
    out = [start.copy() for _ in range(max((len(own) for _, own in others), default=0))]
    for place, own in others:
        for theta, turned in zip(out, own, strict=False):
            theta[place] = turned
    return out


class LevelStructure(ABC):
    """Precision of L levels.

    Attributes
    ----------
    size : int
        L.
    n_theta : int
        Parameters of Q in the chart of the optimizer.
    holds_variance : bool
        The structure carries the variances of its term itself (splines).
    linear : bool
        V is linear in the natural parameters of Q.
    """

    size: int
    n_theta: int = 0
    holds_variance: bool = False

    @property
    def linear(self) -> bool:
        return self.n_theta == 0

    @property
    @abstractmethod
    def pieces(self) -> tuple[sp.csc_array, ...]:
        """Q_b, symmetric (L, L) each."""

    @property
    def typical_size(self) -> float:
        """The size of the variance of a level relative to the term's, to an order of magnitude."""
        return 1.0

    def start(self) -> np.ndarray:
        """Starting theta (n_theta,)."""
        return np.zeros(self.n_theta)

    def other_starts(self) -> list[np.ndarray]:
        """More starting theta, near other optima that the criterion may have."""
        return []

    def strong_starts(self) -> list[np.ndarray]:
        """Starting theta of strong negative and positive correlations along all of several factors."""
        return []

    @abstractmethod
    def coefficients(self, theta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """c (b,) and its derivatives (n_theta, b)."""

    @abstractmethod
    def log_determinant(self, theta: np.ndarray) -> tuple[float, np.ndarray]:
        """log |Q|, inf where rounding does not tell it, and its derivatives (n_theta,)."""

    def curvature(self, theta: np.ndarray, gradient: np.ndarray) -> np.ndarray:
        """What second derivatives of Q add to the average information (t, t), where it is known."""
        return np.zeros((self.n_theta, self.n_theta))

    def second_coefficients(self, theta: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
        """Second derivatives of c (t, t, b) and of log |Q| (t, t) in theta; None without a formula."""
        if self.n_theta:
            return None
        return np.zeros((0, 0, len(self.pieces))), np.zeros((0, 0))

    def second_derivatives(self, theta: np.ndarray, weights: np.ndarray, times: int) -> np.ndarray:
        """d2(sum_b weights_b c_b - times log|Q|) / dtheta dtheta' (t, t), for weights (b,)."""
        known = self.second_coefficients(theta)
        if known is not None:
            return np.asarray(known[0] @ weights - times * known[1])

        def gradient(moved: np.ndarray) -> np.ndarray:
            return self.coefficients(moved)[1] @ weights - times * self.log_determinant(moved)[1]

        return differentiate(gradient, theta, np.arange(self.n_theta), np.maximum(1.0, np.abs(theta)))

    @abstractmethod
    def multiply_covariance(self, theta: np.ndarray, V: np.ndarray) -> np.ndarray:
        """Q^-1 V for V (L, r)."""

    def multiply_along(self, theta: np.ndarray, V: np.ndarray) -> np.ndarray:
        """Q^-1 along the middle axis of V (b, L, r)."""
        first = np.swapaxes(V, 0, 1)
        moved = self.multiply_covariance(theta, first.reshape(self.size, -1))
        return np.swapaxes(moved.reshape(first.shape), 0, 1)

    def largest_entry(self, theta: np.ndarray) -> float:
        """Size of the largest entries of Q, to an order of magnitude."""
        return float(np.abs(self.coefficients(theta)[0]).max())

    def diagonal(self, theta: np.ndarray) -> np.ndarray:
        """Diagonal of Q^-1 (L,): the variance of each level relative to the term's."""
        return np.ones(self.size)

    def natural(self, theta: np.ndarray) -> np.ndarray:
        """Reported parameters, one for each theta."""
        return np.zeros(0)

    def natural_jacobian(self, theta: np.ndarray) -> np.ndarray:
        """d natural / d theta (n_theta, n_theta)."""
        return np.eye(self.n_theta)

    def natural_names(self) -> tuple[str, ...]:
        """Names of the reported parameters."""
        return ()

    def rescaled(self, theta: np.ndarray, factor: float) -> np.ndarray:
        """theta with which the covariance of the term is `factor` times as large (splines only)."""
        return theta

    def precision(self, theta: np.ndarray) -> sp.csc_array:
        """Q(theta)."""
        return self.sum_of_pieces(self.coefficients(theta)[0])

    def sum_of_pieces(self, c: np.ndarray) -> sp.csc_array:
        """sum_b c_b Q_b (L, L)."""
        used = np.flatnonzero(c)
        if used.size == 1:
            return sp.csc_array(c[used[0]] * self.pieces[used[0]])
        indices, indptr, values = self._union
        return sp.csc_array((values @ c, indices, indptr), shape=(self.size, self.size))

    @cached_property
    def _union(self) -> tuple[np.ndarray, np.ndarray, sp.csr_array]:
        """Pattern (indices, indptr) of all pieces together, and their values on it (nnz, b)."""
        own = [sp.coo_array(piece) for piece in self.pieces]
        keys = [piece.col.astype(np.int64) * self.size + piece.row for piece in own]
        entries, place = np.unique(np.concatenate(keys), return_inverse=True)
        number = np.repeat(np.arange(len(own)), [piece.nnz for piece in own])
        values = sp.csr_array(
            (np.concatenate([piece.data for piece in own]), (place, number)), shape=(entries.size, len(own))
        )
        columns = np.bincount(entries // self.size, minlength=self.size)
        return entries % self.size, np.concatenate([[0], np.cumsum(columns)]), values
