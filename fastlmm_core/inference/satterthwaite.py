"""Satterthwaite degrees of freedom (Giesbrecht & Burns 1985; Fai & Cornelius 1996; as in lmerTest)."""

from __future__ import annotations

import numpy as np

from fastlmm_core.inference.component_figures import told_basis
from fastlmm_core.kernels.thresholds import UNCURVED
from fastlmm_core.reml.information import NaturalParameters, observed_theta_information
from fastlmm_core.reml.solved import SolvedEquations

# More degrees of freedom than this are infinitely many.
KNOWN = 1e12


def parameter_covariance(
    solved: SolvedEquations, parameters: NaturalParameters, untold: np.ndarray | None = None
) -> np.ndarray:
    """Covariance of (sigma2 t, sigma2) from the observed information in (theta, sigma2), (d + 1, d + 1).

    Directions without positive curvature are left out (a pseudo-inverse), as lmerTest does, and those in
    which t moves only along the `untold` (j, d); along these there is no covariance.
    """
    H, to_natural = observed_theta_information(solved, parameters)
    if untold is not None and len(untold):
        told = told_basis(untold)
        _, sizes, rows = np.linalg.svd(told.T @ to_natural)
        basis = rows[: np.count_nonzero(sizes > UNCURVED * sizes[0])].T
        H, to_natural = basis.T @ H @ basis, told @ (told.T @ to_natural @ basis)
    scale = np.sqrt(np.abs(np.diag(H)))
    scale[scale == 0.0] = 1.0
    values, vectors = np.linalg.eigh(H / np.outer(scale, scale))
    keep = values > UNCURVED
    root = (vectors[:, keep] / np.sqrt(values[keep])) / scale[:, None]
    half = to_natural @ root
    return 2.0 * (half @ half.T)


def degrees_of_freedom(variance: np.ndarray, gradients: np.ndarray, cov_parameters: np.ndarray) -> np.ndarray:
    """2 v^2 / (g' A g) of each row.

    Parameters
    ----------
    variance : (r,)
        Unadjusted variances of the rows.
    gradients : (d + 1, r)
        Their derivatives in the variance parameters.
    cov_parameters : (d + 1, d + 1)
    """
    spread = np.einsum("ir,ij,jr->r", gradients, cov_parameters, gradients)
    with np.errstate(divide="ignore", invalid="ignore"):
        df = 2.0 * variance**2 / spread
    # a variance that depends on held parameters alone, but for rounding, is known
    return np.where(df > KNOWN, np.inf, df)


def combine_degrees_of_freedom(df: np.ndarray) -> float:
    """Denominator df of an F that averages independent squared t statistics with `df` (l,)."""
    if df.size == 1 or np.all(np.isinf(df)) or np.all(np.abs(np.diff(df)) < 1e-8):
        return float(df.mean())
    if not np.all(df > 2.0):
        return 2.0
    expectation = float(np.sum(1.0 / (1.0 - 2.0 / df)))
    return 2.0 * expectation / (expectation - df.size)
