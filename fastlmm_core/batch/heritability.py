"""Heritability of a trial from the prediction error variances of its genotypes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fastlmm_core.batch.tables import same_text


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


def standard(
    variance: np.ndarray, interaction: np.ndarray, residual: np.ndarray, replication: np.ndarray
) -> np.ndarray:
    """H2 = sigma2_g / (sigma2_g + sum sigma2_ge / e + sigma2_e / r) on the basis of means.

    e is the mean number of environments of a genotype, r its mean replication over all of them (Falconer &
    Mackay 1996, ch. 8); `interaction` (u,) is the sum over the interactions of the genotype.
    """
    with np.errstate(divide="ignore", invalid="ignore"):  # a perfect fit has neither variance
        return variance / (variance + interaction + residual / replication)


SLOPES = "no h2_standard: the variance between the levels depends on a covariate"
STRUCTURED = "no h2_standard: the model has covariance structures"
RELATED = "no heritability: its levels are related, and each has a reliability of its own"


def interactions(own: int, groups: Sequence[Sequence[str]], plain: Sequence[bool]) -> tuple[int, ...] | None:
    """Places of the random terms that are interactions of term `own` with other factors.

    Parameters
    ----------
    groups : by term, the factors of its grouping
    plain : by term, whether it is one effect for each of its levels

    Returns
    -------
    tuple of int, or None
        None where levels of `own` have slopes too, so that they have no single variance.
    """
    factors = set(groups[own])
    containing = [h for h, group in enumerate(groups) if h != own and factors <= set(group)]
    return tuple(containing) if all(plain[h] for h in containing) else None


def mean_environments(codes: np.ndarray, interaction: np.ndarray) -> float:
    """Harmonic mean over levels of how many levels of an interaction they have, from codes (n,) of both."""
    pairs = np.unique(np.column_stack([interaction, codes]), axis=0)
    return harmonic_replication(np.unique(pairs[:, 1], return_inverse=True)[1])


def heritability_columns(
    group: Any, levels: np.ndarray, replication: np.ndarray, variance: np.ndarray,
    interaction: np.ndarray | None, residual: np.ndarray, pev_trace: np.ndarray, pev_total: np.ndarray,
    missing: str = SLOPES,
) -> dict[str, Any]:  # fmt: skip
    """Columns group, levels, replication, variance, mean_pev, h2_cullis, h2_standard, status; one row a fit.

    Parameters
    ----------
    group : (u,) text
    replication : (u,)
        Harmonic mean of the observations per genotype.
    interaction : (u,) or None
        See `standard`; None where it is not defined (see `interactions`).
    missing : str
        The status where it is None.
    """
    defined = interaction is not None
    between = np.full(levels.size, np.nan) if interaction is None else interaction
    return {
        "group": group,
        "levels": levels,
        "replication": replication,
        "variance": variance,
        "mean_pev": pev_trace / levels,
        "h2_cullis": cullis(variance, pev_trace, pev_total, levels),
        "h2_standard": standard(variance, between, residual, replication),
        "status": same_text("ok" if defined else missing, levels.size),
    }


def harmonic_replication(codes: np.ndarray) -> float:
    """Harmonic mean of the observations per level, from codes (n,) that all occur."""
    return float(1.0 / np.mean(1.0 / np.bincount(codes)))
