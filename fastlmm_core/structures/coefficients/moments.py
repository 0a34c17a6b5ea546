"""From moment estimates of a covariance to a point inside its space, where a search can start."""

from __future__ import annotations

from typing import Any

import numpy as np

# Eigenvalues and variances start at no less than this part of the largest.
LEAST = 1e-3
# Where the moments leave nothing, variances start here: a hundredth of the residual variance of a scaled y.
NOTHING = 1e-2


def interior(covariance: np.ndarray) -> np.ndarray:
    """Positive definite matrix close to `covariance` (m, m), eigenvalues of its correlations >= `LEAST`."""
    sd = np.sqrt(interior_variances(covariance))
    values, vectors = np.linalg.eigh(covariance / np.outer(sd, sd))
    if values[0] < LEAST:
        values = np.maximum(values, LEAST * max(values[-1], 1.0))
    R = (vectors * values) @ vectors.T
    return R * np.outer(sd, sd)


def interior_variances(covariance: np.ndarray) -> np.ndarray:
    """Diagonal (m,) of `covariance`, none below `LEAST` of the largest nor zero."""
    variances = np.diag(covariance)
    largest = float(variances.max())
    if not largest > 0.0:
        return np.full(variances.size, NOTHING)
    return np.maximum(variances, LEAST * largest)


def start_at(structure: Any, R: np.ndarray, sd: np.ndarray) -> np.ndarray:
    """theta where a search starts from correlations R (m, m) and standard deviations that are well known.

    ``structure.start`` lifts small variances, since moments of random terms tell little of them. Mean squares
    of the visits of a residual do tell: where units are far apart, a lifted one ends in another optimum.
    """
    if not sd.min() ** 2 < LEAST * sd.max() ** 2:
        return np.asarray(structure.start(R * np.outer(sd, sd)))
    T = structure.covariance(structure.start(R))
    return np.asarray(structure.theta_of(T * np.outer(sd, sd)))


def correlations_of(covariance: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Correlations (m, m), and where they are known: off the diagonal, both variances positive."""
    variances = np.diag(covariance)
    there = variances > 0.0
    known = np.outer(there, there) & ~np.eye(there.size, dtype=bool)
    sd = np.sqrt(np.where(there, variances, 1.0))
    return np.where(known, covariance / np.outer(sd, sd), 0.0), known


def mean_by_lag(R: np.ndarray, known: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean of the known elements of R (m, m) at lags 1 to m - 1, (m - 1,), and whether there is one."""
    lags = range(1, len(R))
    values = [np.diagonal(R, lag)[np.diagonal(known, lag)] for lag in lags]
    means = np.array([v.mean() if v.size else 0.0 for v in values])
    return means, np.array([v.size > 0 for v in values], dtype=bool)
