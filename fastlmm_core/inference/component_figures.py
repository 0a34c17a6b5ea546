"""Variance components in the user's units and their standard errors, for U >= 1 fits of one model."""

from __future__ import annotations

import numpy as np

from fastlmm_core.kernels.equations.systems import Parameters
from fastlmm_core.kernels.thresholds import SINGULAR

# Share of a slope in directions that the data say nothing of, from which on a function has no variance.
UNTOLD = 1e-6


def invert_information(information: np.ndarray, estimated: np.ndarray | None = None) -> np.ndarray:
    """Inverses (U, d, d) of information matrices, after scaling to unit diagonal.

    Parameters
    ----------
    information : (U, d, d)
    estimated : (U, d) bool, optional
        Parameters that were; the others, at a boundary, count as known. Default all.

    Returns
    -------
    (U, d, d) float64
        NaN in the rows and columns of what was not estimated, and everywhere where the matrix of the others
        is not finite or not positive definite.
    """
    diagonal = np.arange(information.shape[1])
    if estimated is None:
        estimated = np.ones(information.shape[:2], bool)
    away = ~(estimated[:, :, None] & estimated[:, None, :])
    inner = np.where(away, 0.0, information)
    inner[:, diagonal, diagonal] = np.where(estimated, inner[:, diagonal, diagonal], 1.0)
    scale = np.sqrt(np.maximum(inner[:, diagonal, diagonal], 1e-300))
    both = scale[:, :, None] * scale[:, None, :]
    with np.errstate(over="ignore", invalid="ignore"):
        scaled = inner / both
    usable = np.isfinite(scaled).all(axis=(1, 2))  # not so where a residual variance is next to nothing
    scaled[~usable] = np.eye(diagonal.size)
    values, vectors = np.linalg.eigh(scaled)
    with np.errstate(divide="ignore", invalid="ignore"):
        inverse = (vectors / values[:, None, :]) @ np.swapaxes(vectors, 1, 2) / both
    inverse[~(values[:, 0] > SINGULAR) | ~usable] = np.nan
    inverse[away] = np.nan
    return inverse


def told_basis(untold: np.ndarray) -> np.ndarray:
    """Orthonormal basis (d + 1, d + 1 - j) of what is orthogonal to directions `untold` (j, d) of variances.

    The residual variance, last, is always told.
    """
    flat = np.hstack([untold, np.zeros((len(untold), 1))])
    return np.asarray(np.linalg.svd(flat)[2][len(flat) :].T)


def user_covariances(
    parameters: Parameters, values: np.ndarray, bases: np.ndarray, sigma2: np.ndarray
) -> np.ndarray:
    """Covariances (U, K, w, w) of the coefficients as the user wrote them: sigma2 B T B'.

    Parameters
    ----------
    parameters : Parameters
        Places of the d natural parameters in the T of the K terms.
    values : (U, d)
        The natural parameters, relative to sigma2.
    bases : (U, K, w, w)
        B, zero padded.
    sigma2 : (U,)
    """
    inside = np.zeros_like(bases)
    _, term, row, col = parameters
    inside[:, term, row, col] = inside[:, term, col, row] = values
    return np.asarray(sigma2[:, None, None, None] * (bases @ inside @ np.swapaxes(bases, 2, 3)))


def user_directions(parameters: Parameters, bases: np.ndarray) -> np.ndarray:
    """Derivatives (U, d, w, w) of B T B' in the natural parameters; see `user_covariances`."""
    _, term, row, col = parameters
    every = np.arange(term.size)
    own = bases[:, term]
    left, right = own[:, every, :, row], own[:, every, :, col]  # (d, U, w), as NumPy indexes
    out = np.einsum("dua,dub->udab", left, right)
    mixed = row != col
    out[:, mixed] += np.swapaxes(out[:, mixed], 2, 3)
    return out


def inside_parameters(parameters: Parameters, values: np.ndarray) -> np.ndarray:
    """Which of the natural parameters (U, d) and, last, the residual variance are not at a boundary.

    Returns
    -------
    (U, d + 1) bool
        False for variances of terms with one coefficient that are zero.
    """
    inside = np.ones((values.shape[0], values.shape[1] + 1), bool)
    inside[:, :-1] = (parameters.sizes[parameters.term] > 1) | (values != 0.0)
    return inside


def component_errors(
    parameters: Parameters, values: np.ndarray, bases: np.ndarray, average: np.ndarray, sigma2: np.ndarray,
    untold: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    """Standard errors of `user_covariances` (U, K, w, w) and of sigma2 (U,), from the average information.

    NaN for variances at zero, of whose size the information says nothing, for what depends on `untold`
    directions (j, d) of the parameters of a single fit, and where it is singular.

    Parameters
    ----------
    average : (U, d + 1, d + 1)
        As of ``reml.information.average_matrix``; the information is it over 2 sigma2^2.
    """
    sizes, term, _, _ = parameters
    estimated = inside_parameters(parameters, values)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        information = average / (2.0 * sigma2[:, None, None] ** 2)
        if untold is None or not len(untold):
            cov = invert_information(information, estimated)
        else:
            told = told_basis(np.vstack([untold, np.eye(values.shape[1])[~estimated[0, :-1]]]))
            cov = told @ invert_information(told.T @ information @ told) @ told.T
            cov[~(estimated[:, :, None] & estimated[:, None, :])] = np.nan
    moved = user_directions(parameters, bases)
    errors = np.zeros_like(bases)
    for k in range(sizes.size):
        mine = np.flatnonzero(term == k)
        within = cov[:, mine[:, None], mine]
        variance = np.einsum("uiab,uij,ujab->uab", moved[:, mine], within, moved[:, mine])
        errors[:, k] = np.sqrt(np.maximum(variance, 0.0))
        if untold is not None:
            slopes, size = moved[:, mine], np.abs(moved[:, mine]).max(axis=1)
            depends = np.abs(np.einsum("jd,udab->ujab", untold[:, mine], slopes)).max(axis=1, initial=0.0)
            errors[:, k][depends > UNTOLD * size] = np.nan
    return errors, np.sqrt(cov[:, -1, -1])
