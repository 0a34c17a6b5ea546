"""Effects of markers from the effects of the levels they were found in."""

from __future__ import annotations

from functools import cached_property

import numpy as np

from fastlmm_core.errors import DataError

# Singular values of the markers below this share of the largest are zero.
RANK = 1e-10


class MarkerEffects:
    """Effects of markers from the effects of levels, and their prediction error variances.

    With marker effects g ~ N(0, s2/c I) the levels are u = Z g + e, e ~ N(0, s2 ridge I), so that
    E(g | u) = Z'(Z Z' + c ridge I)^- u.

    Parameters
    ----------
    names : tuple of str
        Of the p markers.
    Z : (L, p) float64
        Centred genotypes.
    scale, ridge : float
        c and what is added to the diagonal.
    root : (L, d) float64 or None
        K of u = K s, where the levels have one.
    """

    def __init__(
        self, names: tuple[str, ...], Z: np.ndarray, scale: float, ridge: float, root: np.ndarray | None
    ):
        self.names, self.Z, self.scale, self.ridge, self.root = names, Z, scale, ridge, root

    @cached_property
    def by_level(self) -> np.ndarray:
        """B (p, L) with g = B u."""
        ridge = self.ridge * self.scale
        left, values, right = np.linalg.svd(self.Z, full_matrices=False)
        kept = values > RANK * values.max(initial=0.0) if ridge == 0.0 else values > 0.0
        left, values, right = left[:, kept], values[kept], right[kept]
        return (right.T * (values / (values**2 + ridge))) @ left.T

    @cached_property
    def by_root(self) -> np.ndarray | None:
        """M (p, d) with g = M s for the independent s of u = K s; None where there is no root."""
        return None if self.root is None else self.by_level @ self.root

    def from_levels(self, u: np.ndarray) -> np.ndarray:
        """Marker effects (p,) or (p, m) of the BLUPs `u` (L,) or (L, m) of all levels."""
        return self.by_level @ u

    def from_root(self, s: np.ndarray) -> np.ndarray:
        """Marker effects (p,) or (p, m) of the BLUPs `s` (d,) or (d, m) of the columns of the root."""
        return self._needed_root() @ s

    def _needed_root(self) -> np.ndarray:
        if self.by_root is None:
            raise DataError("these levels have no root: take marker effects from their BLUPs")
        return self.by_root

    def pev(self, variance: float, pev: np.ndarray, *, of_root: bool = False) -> np.ndarray:
        """Prediction error variances of the marker effects, (p,).

        Parameters
        ----------
        variance : float
            s2, the variance in front of G.
        pev : (L, L) or (d, d)
            Prediction error covariance of the levels, or of the columns of the root with `of_root`.
        of_root : bool
            Which of the two `pev` is.
        """
        if of_root:
            B, prior = self._needed_root(), variance * np.eye(len(pev))
        else:
            G = self.Z @ self.Z.T / self.scale + self.ridge * np.eye(len(pev))
            B, prior = self.by_level, variance * G
        explained = np.einsum("ij,ij->i", B @ (prior - pev), B)
        return variance / self.scale - explained
