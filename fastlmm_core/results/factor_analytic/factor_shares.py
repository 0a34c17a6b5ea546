"""How much of the variance the factors explain, by factor and by environment, with standard errors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from fastlmm_core.kernels.thresholds import AT_BOUND


@dataclass(frozen=True)
class FactorShares:
    """Percentages with their standard errors; NaN of a share that is at its bound or of no variance.

    Attributes
    ----------
    percent, cumulative : (k,) float64
        Of every factor, and of it with those before it, in the variance of all environments together.
    se_percent, se_cumulative : (k,) float64
    by_environment, se_by_environment : (m, k) float64
        Of the variance in each environment.
    total, se_total : (m,) float64
        All factors there.
    se_variance : (m,) float64
        Of the variance in each environment, specific part included.
    """

    percent: np.ndarray
    se_percent: np.ndarray
    cumulative: np.ndarray
    se_cumulative: np.ndarray
    by_environment: np.ndarray
    se_by_environment: np.ndarray
    total: np.ndarray
    se_total: np.ndarray
    se_variance: np.ndarray


def factor_shares(
    gamma: np.ndarray, axes: np.ndarray, move: np.ndarray, specific: np.ndarray, moved: np.ndarray,
    errors: Callable[[np.ndarray], np.ndarray],
) -> FactorShares:  # fmt: skip
    """Shares of T = Gamma Gamma' + diag(psi) and their errors by the delta method.

    Parameters
    ----------
    gamma : (m, k)
        Loadings on the principal axes.
    axes : (m, k, t)
        Their derivatives; NaN where the axes are not determined.
    move : (t, m, k)
        Derivatives with the axes held, of which a sum over the factors has no need to know more.
    specific, moved : (m,) and (m, t)
        psi and its derivatives.
    errors : callable
        Standard errors (r,) of functions with derivatives (r, t).
    """
    m, k = gamma.shape
    squares, slopes = gamma**2, 2.0 * gamma[:, :, None] * axes
    common, common_slopes = squares.sum(axis=1), 2.0 * np.einsum("jr,tjr->jt", gamma, move)
    variance, variance_slopes = common + specific, common_slopes + moved
    whole, whole_slopes = np.array(variance.sum()), variance_slopes.sum(axis=0)
    lengths, length_slopes = squares.sum(axis=0), slopes.sum(axis=0)
    percent = _share(lengths, length_slopes, whole, whole_slopes)
    first = np.cumsum(lengths), np.cumsum(length_slopes, axis=0)
    first[1][-1] = common_slopes.sum(axis=0)
    cumulative = _share(*first, whole, whole_slopes)
    single = _share(squares, slopes, variance[:, None], variance_slopes[:, None])
    total = _share(common, common_slopes, variance, variance_slopes)
    return FactorShares(
        percent[0], errors(percent[1]), cumulative[0], errors(cumulative[1]),
        single[0], errors(single[1].reshape(m * k, -1)).reshape(m, k), total[0], errors(total[1]),
        errors(variance_slopes),
    )  # fmt: skip


def _share(
    part: np.ndarray, slopes: np.ndarray, whole: np.ndarray, whole_slopes: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """100 part / whole (...) and its derivatives (..., t)."""
    with np.errstate(divide="ignore", invalid="ignore"):
        share = np.where(whole > 0.0, 100.0 * part / whole, np.nan)
        change = (100.0 * slopes - share[..., None] * whole_slopes) / whole[..., None]
    inside = (share > 100.0 * AT_BOUND) & (share < 100.0 * (1.0 - AT_BOUND))
    return share, np.where(inside[..., None], change, np.nan)
