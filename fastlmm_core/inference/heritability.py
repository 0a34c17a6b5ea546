"""Heritability: how much of the differences between levels that a trial shows is in the levels themselves.

All definitions compare Var(u), the variance of the levels, with what is not known of them after the trial,
and they agree in a balanced trial with independent plots.  Schmidt, Hartung, Bennewitz & Piepho (2019),
Genetics 212, 991-1008, put them side by side; each function names its source.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

# Eigenvalues that count as zero, of a matrix whose eigenvalues lie between 0 and 1.
ZERO = 1e-8
SLOPES = "the variance between the levels differs by a covariate or by the level of another factor"


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
        mean over all pairs (`mean_difference_variance`).
    levels : (u,)
        Number of genotypes L.

    References
    ----------
    Cullis, Smith & Coombes (2006), J. Agric. Biol. Environ. Stat. 11, 381-393.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        difference = mean_difference_variance(pev_trace, pev_total, levels)
        h2 = np.where(variance > 0.0, 1.0 - difference / (2.0 * variance), 0.0)
    return np.where(levels > 1, h2, np.nan)


def mean_difference_variance(trace: Any, total: Any, levels: Any) -> Any:
    """Mean of Var(i) + Var(j) - 2 Cov(i, j) over all pairs: 2 (L trace - total) / (L (L - 1))."""
    return 2.0 * (levels * trace - total) / (levels * (levels - 1.0))


def half_difference(covariance: np.ndarray) -> float:
    """Half the mean variance of a difference of two of L quantities, from their covariance (L, L)."""
    return 0.5 * float(mean_difference_variance(np.trace(covariance), covariance.sum(), len(covariance)))


def standard(
    variance: np.ndarray, interaction: np.ndarray, residual: np.ndarray, replication: np.ndarray
) -> np.ndarray:
    """H2 = sigma2_g / (sigma2_g + sum sigma2_ge / e + sigma2_e / r) on the basis of means.

    e is the mean number of environments of a genotype, r its mean replication over all of them (Falconer &
    Mackay 1996, ch. 8); `interaction` (u,) is the sum over the interactions of the genotype.  With an
    interaction in full and r = 1 it is that of a single plot.
    """
    with np.errstate(divide="ignore", invalid="ignore"):  # a perfect fit has neither variance
        return variance / (variance + interaction + residual / replication)


def piepho(variance: float, mean_difference: float) -> float:
    """H2 = sigma2_g / (sigma2_g + v / 2), v the mean variance of a difference of two BLUEs.

    References
    ----------
    Piepho & Moehring (2007), Genetics 177, 1881-1888.
    """
    return variance / (variance + 0.5 * mean_difference)


@dataclass(frozen=True)
class ErrorWeights:
    """A mean over levels or pairs of what the trial leaves unknown.

    h = c - sum_k w_k Var(a_k'(u_hat - u)) / s, with s the variance of the levels.

    Attributes
    ----------
    rows : (r, L) float64
        a_k.
    weights : (r,) float64
        w_k.
    constant : float
        c.
    """

    rows: np.ndarray
    weights: np.ndarray
    constant: float = 1.0


def cullis_weights(levels: int) -> ErrorWeights:
    """Half the mean over pairs of the variance of a difference: the single levels, and their sum."""
    rows = np.vstack([np.eye(levels), np.ones(levels)])
    weights = np.full(levels + 1, 1.0 / (levels - 1.0))
    weights[-1] = -1.0 / (levels * (levels - 1.0))
    return ErrorWeights(rows, weights)


def oakey_weights(relation: np.ndarray | None, unknown: np.ndarray) -> ErrorWeights:
    """The mean eigenvalue of I - G^-1 C22 that is not zero, with G = Var(u), C22 = Var(u_hat - u).

    A zero stands for a direction of which the trial tells nothing, such as the mean beside an intercept.

    Parameters
    ----------
    relation : (L, L), or None for the identity
        G / sigma2_g; it may be singular, and then counts on its range.
    unknown : (L, L)
        C22 / sigma2_g.

    References
    ----------
    Oakey, Verbyla, Pitchford, Cullis & Kuchel (2006), Theor. Appl. Genet. 113, 809-819.
    """
    if relation is None:
        rows, turned = np.eye(len(unknown)), unknown
    else:
        values, vectors = np.linalg.eigh(relation)
        kept = values > ZERO * values[-1]
        rows = (vectors[:, kept] / np.sqrt(values[kept])).T
        turned = rows @ unknown @ rows.T
    known = 1.0 - np.linalg.eigvalsh(turned)
    told = int(np.sum(np.abs(known) > ZERO))
    return ErrorWeights(rows, np.full(len(rows), 1.0 / max(told, 1)), len(rows) / max(told, 1))


def delta_weights(relation: np.ndarray) -> ErrorWeights:
    """The mean over pairs of Var(error of the difference) / Var(difference) (Schmidt et al. 2019)."""
    genetic = difference_variances(relation)
    pairs = differing(genetic)
    reciprocal = np.zeros_like(genetic)
    reciprocal[pairs] = 1.0 / genetic[pairs]
    # sum over pairs of r_ij (e_i - e_j)(e_i - e_j)' is the Laplacian of the weights r
    laplacian = (np.diag(reciprocal.sum(axis=1)) - reciprocal) * 2.0 / np.count_nonzero(pairs)
    values, vectors = np.linalg.eigh(laplacian)
    return ErrorWeights(vectors.T, values)


def difference_variances(covariance: np.ndarray) -> np.ndarray:
    """Variances (L, L) of all differences of functions with covariance (L, L)."""
    diagonal = np.diag(covariance)
    return diagonal[:, None] + diagonal[None, :] - 2.0 * covariance


def differing(genetic: np.ndarray) -> np.ndarray:
    """Pairs (L, L) with a variance of their difference; none of a level and itself, nor of clones.

    Between levels that a relation makes one there is no difference of which a trial could tell a share.
    """
    return np.asarray(genetic > ZERO * genetic.max(initial=0.0))


def delta_blup(genetic: np.ndarray, errors: np.ndarray) -> np.ndarray:
    """H2 of the difference of every pair from BLUPs: 1 - Var(error) / Var(difference), (L, L).

    NaN for pairs that do not differ (`differing`).

    Parameters
    ----------
    genetic, errors : (L, L)
        Variances of the differences of the levels, and of the errors of their BLUPs.

    References
    ----------
    Schmidt, Hartung, Rath & Piepho (2019), Crop Sci. 59, 525-536.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(differing(genetic), 1.0 - errors / genetic, np.nan)


def delta_blue(genetic: np.ndarray, errors: np.ndarray) -> np.ndarray:
    """H2 of the difference of every pair from BLUEs: Var(difference) / (Var(difference) + Var(error)).

    NaN for pairs that do not differ (`differing`).
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(differing(genetic), genetic / (genetic + errors), np.nan)


def level_means(pairs: np.ndarray, harmonic: bool) -> tuple[np.ndarray, float]:
    """Means of a symmetric (L, L) over the other levels of each level (L,), and over all pairs.

    Pairs without a figure do not count; a mean over none is NaN.
    """
    values = 1.0 / pairs if harmonic else pairs
    counts = np.count_nonzero(np.isfinite(values), axis=1)
    sums = np.nansum(values, axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        by_level, over_all = sums / counts, float(sums.sum() / counts.sum())
    return (1.0 / by_level, 1.0 / over_all) if harmonic else (by_level, over_all)


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


def harmonic_counts(fit: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """Harmonic mean (U,) over the levels of each fit of how often they occur.

    Parameters
    ----------
    fit, codes : (r,) int64
        Fit, counted from zero, and level of every occurrence; each fit has some.
    """
    pairs, counts = np.unique(np.column_stack([fit, codes]), axis=0, return_counts=True)
    return np.asarray(np.bincount(pairs[:, 0]) / np.bincount(pairs[:, 0], 1.0 / counts))


def harmonic_replication(codes: np.ndarray) -> float:
    """Harmonic mean of the observations per level, from codes (n,)."""
    return float(harmonic_counts(np.zeros_like(codes), codes)[0])


def mean_environments(codes: np.ndarray, interaction: np.ndarray) -> float:
    """Harmonic mean over levels of how many levels of an interaction they have, from codes (n,) of both."""
    return harmonic_replication(np.unique(np.column_stack([interaction, codes]), axis=0)[:, 1])
