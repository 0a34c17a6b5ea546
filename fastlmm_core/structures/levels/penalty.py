"""Smoothing penalties as precisions with variances of their own: Q = sum_d P_d / variance_d."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property

import numpy as np
import scipy.sparse as sp
from scipy.linalg.lapack import dpbsv, dpotrf

from fastlmm_core.linalg.definite import inverse_from_factor
from fastlmm_core.structures.differences import differentiate
from fastlmm_core.structures.last_theta import kept_at_last_theta
from fastlmm_core.structures.levels.base import LevelStructure

# A variance stays within this factor of a typical one. At the bounds a direction is straight, or free, to
# some 1e-6 of the deviance; further out, penalty and data are so far apart that it loses digits.
NEGLIGIBLE = float(np.exp(-18.0))
# Beside a second direction a large penalty has a null space among the coefficients, whose pivots are what is
# left of its numbers: there the deviance keeps five digits behind the point, as many as the bound costs.
NEGLIGIBLE_OF_TWO = float(np.exp(-15.0))
SMALLEST = 1e-12
# Columns, relative to the coefficients, from which a product with the covariance takes its dense matrix.
DENSE_SHARE = 0.25
LARGEST_SHARE = 1.0 - 1e-12  # of the bounds that `theta_of` gives back


class PenaltyLevels(LevelStructure):
    """Precision of the coefficients of a spline, theta_d the standard deviation in units of a typical one:

        variance_d / typical = q / (1 + k q),     q = theta_d^2 + k,     k = `least`

    Like every standard deviation of the search it may be zero, where the slope is too: the criterion is
    linear in a variance that goes to zero, so that one Newton step reaches the straight line, which in the
    logarithm of the precision is at infinity.

    Parameters
    ----------
    pieces : sequence of (b, b) sparse
        P_d, one for each smoothing parameter; their sum is positive definite.
    log_eigenvalues : callable
        From the precisions (D,) to log |Q| and its derivatives in log precision (D,).
    names : tuple of str
        The covariate of each variance.
    typical : float
        A variance of ordinary size in the units of the penalty.
    """

    holds_variance = True

    def __init__(
        self, pieces: Sequence[sp.sparray],
        log_eigenvalues: Callable[[np.ndarray], tuple[float, np.ndarray]], names: tuple[str, ...],
        typical: float = 1.0,
    ):  # fmt: skip
        self._pieces = tuple(sp.csc_array(piece) for piece in pieces)
        self._log_eigenvalues = log_eigenvalues
        self.names = names
        self.typical = typical
        self.least = NEGLIGIBLE if len(pieces) == 1 else NEGLIGIBLE_OF_TWO
        self.size = self._pieces[0].shape[0]
        self.n_theta = len(self._pieces)

    @property
    def linear(self) -> bool:
        return self.n_theta == 1

    @property
    def pieces(self) -> tuple[sp.csc_array, ...]:
        return self._pieces

    def coefficients(self, theta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        c, jacobian = self._coefficients(theta)
        return c.copy(), jacobian.copy()

    def log_determinant(self, theta: np.ndarray) -> tuple[float, np.ndarray]:
        value, gradient = self._log_determinant(theta)
        return value, gradient.copy()

    @kept_at_last_theta
    def _coefficients(self, theta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        c = self.precisions(theta)
        return c, np.diag(c * self._slopes(theta))

    @kept_at_last_theta
    def _log_determinant(self, theta: np.ndarray) -> tuple[float, np.ndarray]:
        value, gradient = self._log_eigenvalues(self.precisions(theta))
        return value, gradient * self._slopes(theta)

    def precisions(self, theta: np.ndarray) -> np.ndarray:
        """1 / variance (D,), kept within bounds around the typical one."""
        return (1.0 / (theta**2 + self.least) + self.least) / self.typical

    def _slopes(self, theta: np.ndarray) -> np.ndarray:
        """Derivatives of log precision in theta (D,)."""
        q = theta**2 + self.least
        return -2.0 * theta / (q * (1.0 + self.least * q))

    def curvature(self, theta: np.ndarray, gradient: np.ndarray) -> np.ndarray:
        # d(-2l) / d variance times d2 variance / d theta2, by the gradient in theta, which is zero at zero
        share = self.least * theta**2 / (1.0 + self.least * (theta**2 + self.least))
        ratio = np.divide(1.0 - 4.0 * share, theta, out=np.zeros_like(theta), where=theta != 0.0)
        return np.diag(gradient * ratio)

    def second_derivatives(self, theta: np.ndarray, weights: np.ndarray, times: int) -> np.ndarray:
        # by logarithms of the precisions, which are as smooth near zero as elsewhere
        c, slopes = self.precisions(theta), self._slopes(theta)
        q = theta**2 + self.least
        g = q + self.least * q * q
        bends = 4.0 * theta**2 * (1.0 + 2.0 * self.least * q) / (g * g) - 2.0 / g

        def in_logarithms(moved: np.ndarray) -> np.ndarray:
            return self._log_eigenvalues(c * np.exp(moved))[1]

        n = theta.size
        log = differentiate(in_logarithms, np.zeros(n), np.arange(n), np.ones(n))
        own = (weights * c - times * in_logarithms(np.zeros(n))) * bends + weights * c * slopes**2
        return np.diag(own) - times * np.outer(slopes, slopes) * log

    def theta_of(self, variances: np.ndarray) -> np.ndarray:
        """theta (D,) of variances, or of the nearest within the bounds."""
        least, largest = self.least / LARGEST_SHARE, LARGEST_SHARE / self.least
        ratio = np.clip(variances / self.typical, least, largest)
        return np.sqrt(np.maximum(1.0 / (1.0 / ratio - self.least) - self.least, 0.0))

    def start(self) -> np.ndarray:
        return np.ones(self.n_theta)

    def effective_dimensions(self, theta: np.ndarray, inverse: np.ndarray) -> np.ndarray:
        """Those of every direction (D,) from <C^-1, P_d> (D,)."""
        c = self.precisions(theta)
        return self._log_eigenvalues(c)[1] - c * inverse

    def multiply_covariance(self, theta: np.ndarray, V: np.ndarray) -> np.ndarray:
        if V.shape[1] >= DENSE_SHARE * self.size:
            return np.asarray(self._dense_inverse(theta) @ V)
        bands = self._bands
        band = (self.precisions(theta) @ bands.reshape(len(bands), -1)).reshape(bands.shape[1:])
        _, solved, failed = dpbsv(band, V, lower=1, overwrite_ab=1)
        if failed:
            raise np.linalg.LinAlgError("the penalty is not positive definite")
        return np.asarray(solved)

    @kept_at_last_theta
    def _dense_inverse(self, theta: np.ndarray) -> np.ndarray:
        """Q^-1 (b, b): LAPACK solves a band for one column after the other."""
        factor, failed = dpotrf(self.precision(theta).toarray(), lower=1)
        if failed:
            raise np.linalg.LinAlgError("the penalty is not positive definite")
        return inverse_from_factor(factor, overwrite=True)

    @cached_property
    def _bands(self) -> np.ndarray:
        """Lower diagonals of the pieces (D, w + 1, b), as LAPACK keeps a band: B-splines overlap a few."""
        own = [sp.coo_array(sp.tril(piece)) for piece in self._pieces]
        width = max(int((piece.row - piece.col).max(initial=0)) for piece in own)
        out = np.zeros((len(own), width + 1, self.size))
        for into, piece in zip(out, own, strict=True):
            into[piece.row - piece.col, piece.col] = piece.data
        return out

    def natural(self, theta: np.ndarray) -> np.ndarray:
        return 1.0 / self.precisions(theta)

    def natural_jacobian(self, theta: np.ndarray) -> np.ndarray:
        inside = np.where(theta == 0.0, SMALLEST, theta)  # at zero there is no inverse
        return -np.diag(self._slopes(inside) / self.precisions(theta))

    def natural_names(self) -> tuple[str, ...]:
        return self.names

    def rescaled(self, theta: np.ndarray, factor: float) -> np.ndarray:
        return self.theta_of(self.natural(theta) * factor)
