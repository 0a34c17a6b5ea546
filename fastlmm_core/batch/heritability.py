"""Heritability of a trial from the prediction error variances of its genotypes."""

from __future__ import annotations

from typing import Any

import numpy as np


def cullis(
    variance: np.ndarray, pev_trace: np.ndarray, pev_total: np.ndarray, levels: np.ndarray
) -> np.ndarray:
    """H2 = 1 - v / (2 sigma2_g), v the mean variance of a difference of two BLUPs (Cullis et al. 2006).

    Parameters
    ----------
    variance : (u,)
        sigma2_g of each fit.
    pev_trace, pev_total : (u,)
        Sum of the diagonal, and of all elements, of the prediction error covariance; together they give the
        mean over all pairs, v = 2 (L trace - total) / (L (L - 1)).
    levels : (u,)
        Number of genotypes L.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        difference = 2.0 * (levels * pev_trace - pev_total) / (levels * (levels - 1.0))
        return np.where(variance > 0.0, 1.0 - difference / (2.0 * variance), 0.0)


def standard(variance: np.ndarray, residual: np.ndarray, replication: np.ndarray) -> np.ndarray:
    """H2 = sigma2_g / (sigma2_g + sigma2_e / r) on the basis of means, r the mean replication."""
    with np.errstate(divide="ignore", invalid="ignore"):  # a perfect fit has neither variance
        return variance / (variance + residual / replication)


def heritability_columns(
    group: Any, levels: np.ndarray, replication: np.ndarray, variance: np.ndarray, residual: np.ndarray,
    pev_trace: np.ndarray, pev_total: np.ndarray,
) -> dict[str, Any]:  # fmt: skip
    """Columns group, levels, replication, variance, mean_pev, h2_cullis, h2_standard; one row a fit.

    Parameters
    ----------
    group : (u,) text
    replication : (u,)
        Harmonic mean of the observations per genotype.
    """
    return {
        "group": group,
        "levels": levels,
        "replication": replication,
        "variance": variance,
        "mean_pev": pev_trace / levels,
        "h2_cullis": cullis(variance, pev_trace, pev_total, levels),
        "h2_standard": standard(variance, residual, replication),
    }


def harmonic_replication(codes: np.ndarray) -> float:
    """Harmonic mean of the observations per level, from codes (n,) that all occur."""
    return float(1.0 / np.mean(1.0 / np.bincount(codes)))
