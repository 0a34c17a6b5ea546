"""Kenward-Roger's adjusted covariance and scaled F from solves with the mixed model equations.

Kenward & Roger (1997), Biometrics 53, 983-997; the scaled F as in pbkrtest (Halekoh & Hojsgaard 2014, J.
Stat. Softw. 59(9)).  Rows K of contrasts enter through U = V^-1 X Phi K' only:

    K Phi P_i Phi K' = -U' V_i U,      K Phi (Q_ij - P_i Phi P_j) Phi K' = U' V_i P V_j U.
"""

from __future__ import annotations

import numpy as np

from fastlmm_core.kernels.search.information import eliminate_residual
from fastlmm_core.reml.natural import NaturalParameters
from fastlmm_core.reml.quadratic_forms import weighted_form
from fastlmm_core.reml.solved import SolvedEquations

# Levels of a term whose rows of B are copied at a time.
ROW_BLOCK = 4096
# A2 below which the df, some multiple of its inverse, are infinite as far as rounding tells.
NOTHING_ESTIMATED = 1e-12


def covariance_gradients(
    solved: SolvedEquations, parameters: NaturalParameters, B: np.ndarray, phi: np.ndarray
) -> np.ndarray:
    """U' V_i U for every natural parameter and, last, the residual: d (K Phi K') / d(sigma2 t, sigma2).

    Parameters
    ----------
    B : (q + p, r)
        Z' U, zero on fixed rows.
    phi : (r, r)
        K Phi K' at relative V.

    Returns
    -------
    (d + 1, r, r) float64
    """
    d, r = parameters.size, B.shape[1]
    out = np.empty((d + 1, r, r))
    out[d] = phi
    for j in range(d):
        E, rows = parameters.directions[j], solved.equations.layout.random_rows[parameters.term[j]]
        out[j] = 0.0
        for first in range(0, len(rows), ROW_BLOCK):
            own = rows[first : first + ROW_BLOCK]
            by_coefficient = [B[own[:, a]] for a in range(rows.shape[1])]
            for a, b in np.argwhere(E):
                out[j] += E[a, b] * (by_coefficient[a].T @ by_coefficient[b])
        out[d] -= parameters.values[j] * out[j]
    return out


def covariance_adjustment(
    solved: SolvedEquations, parameters: NaturalParameters, B: np.ndarray, cov_parameters: np.ndarray
) -> np.ndarray:
    """K (Phi_A - Phi) K' = 2 sum_ij w_ij U' V_i P V_j U, (r, r), absolute scale.

    Parameters
    ----------
    B : (q + p, r)
        Z' U, zero on fixed rows.
    cov_parameters : (d + 1, d + 1)
        Covariance of (sigma2 t, sigma2).
    """
    d, r = parameters.size, B.shape[1]
    if solved.sigma2 <= 0.0 or d == 0:  # a perfect fit, where every covariance is zero, or nothing estimated
        return np.zeros((r, r))
    weights = eliminate_residual(parameters.values, cov_parameters)
    return weighted_form(solved, parameters, weights, B) * (2.0 / solved.sigma2)


def scaled_f(gradients: np.ndarray, phi: np.ndarray, cov_parameters: np.ndarray) -> tuple[float, float]:
    """Denominator df and scaling of F for the joint test of l rows.

    Parameters
    ----------
    gradients : (d + 1, l, l)
        ``covariance_gradients`` of the (linearly independent) rows.
    phi : (l, l)
        Unadjusted covariance of the rows, absolute scale.
    cov_parameters : (d + 1, d + 1)

    Returns
    -------
    df_den, scaling : float
    """
    rank = phi.shape[0]
    ratio = np.linalg.solve(phi, gradients)
    single = np.einsum("iaa->i", ratio)
    double = np.einsum("iab,jba->ij", ratio, ratio)
    A1 = float(single @ cov_parameters @ single)
    A2 = float(np.sum(cov_parameters * double))
    if A2 < NOTHING_ESTIMATED:  # the parameters that move these rows are held
        return np.inf, 1.0
    B = (A1 + 6.0 * A2) / (2.0 * rank)
    g = ((rank + 1) * A1 - (rank + 4) * A2) / ((rank + 2) * A2)
    base = 3.0 * rank + 2.0 * (1.0 - g)
    c1, c2, c3 = g / base, (rank - g) / base, (rank + 2 - g) / base
    V0, V1, V2 = 1.0 + c1 * B, 1.0 - c2 * B, 1.0 - c3 * B
    V0 = 0.0 if abs(V0) < 1e-10 else V0
    rho = _divide(1.0 - A2 / rank, V1) ** 2 * V0 / (V2 * rank)
    df = 4.0 + (rank + 2.0) / (rank * rho - 1.0)
    scaling = 1.0 if abs(df - 2.0) < 1e-2 else df * (1.0 - A2 / rank) / (df - 2.0)
    return df, scaling


def _divide(numerator: float, denominator: float) -> float:
    """0/0 counts as 1, as when both terms vanish together in exactly balanced cases."""
    if abs(numerator) < 1e-14 and abs(denominator) < 1e-14:
        return 1.0
    return numerator / denominator
