"""Tail probabilities and quantiles of t, F and chi-square on arrays, infinite degrees of freedom included.

Thin wrappers of scipy.special: importing scipy.stats would take longer than a fit.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import betainc, betaincc, chdtrc, fdtrc, ndtr, ndtri, stdtrit

# Beyond this many degrees of freedom the normal distribution is used.
NORMAL_DF = 1e10
ROUNDED_DF = 1e5  # above, the complement of the beta integral, several times as dear; below, 1e-11 are lost


def t_statistics(estimate: np.ndarray, se: np.ndarray) -> np.ndarray:
    """Estimates over their standard errors; NaN where a standard error is zero, for there is no test."""
    return np.divide(estimate, se, out=np.full(np.shape(estimate), np.nan), where=np.asarray(se) > 0.0)


def t_two_sided(t: ArrayLike, df: ArrayLike) -> np.ndarray:
    """P(|T| > |t|), with relative accuracy in the tail; NaN where `df` is NaN or not positive."""
    t, df = np.asarray(t, float), np.asarray(df, float)
    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
        own = np.where((df > 0) & (df <= NORMAL_DF), df, 1.0)
        p = np.where(df > NORMAL_DF, 2.0 * ndtr(-np.abs(t)), betainc(0.5 * own, 0.5, own / (own + t * t)))
        if (rounded := own > ROUNDED_DF).any():  # own / (own + t^2) is so near one that its rounding counts
            p = np.where(rounded, betaincc(0.5, 0.5 * own, t * t / (own + t * t)), p)
    return np.where(df > 0, p, np.nan)


def t_quantile(tail: ArrayLike, df: ArrayLike) -> np.ndarray:
    """|t| exceeded with probability `tail` on both sides together; NaN where `df` is NaN or not positive."""
    tail, df = np.asarray(tail, float), np.asarray(df, float)
    with np.errstate(invalid="ignore"):
        own = np.where((df > 0) & (df <= NORMAL_DF), df, 1.0)
        value = np.where(df > NORMAL_DF, -ndtri(0.5 * tail), -stdtrit(own, 0.5 * tail))
    return np.where(df > 0, value, np.nan)


def f_upper(F: float, df_num: float, df_den: float) -> float:
    """P(F > f); chi-square over its degrees of freedom for infinite `df_den`."""
    if np.isnan(F) or np.isnan(df_den) or df_num < 1:
        return np.nan
    F = max(F, 0.0)
    return float(chdtrc(df_num, F * df_num) if df_den > NORMAL_DF else fdtrc(df_num, df_den, F))


def chi2_upper(x: float, df: float) -> float:
    """P(chi-square > x)."""
    return float(chdtrc(df, max(x, 0.0)))
