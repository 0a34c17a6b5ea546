"""Stability of genotypes over environments: regression, ecovalence, stability variance, superiority."""

from __future__ import annotations

import numpy as np
import pandas as pd

from fastlmm_core.display.figure_tables import FigureTable
from fastlmm_core.multi_environment.two_way_table import TwoWayTable
from fastlmm_core.multiplicity.distributions import f_upper, t_statistics, t_two_sided

# Columns that are not printed.
LEFT_TO_THE_FRAME = ("se_slope", "t", "W_percent", "sigma2_dev", "P_genotype", "P_interaction")


def stability_table(table: TwoWayTable, best: str) -> FigureTable:
    """One row a genotype; see ``GxE.stability``."""
    frame = pd.DataFrame({"genotype": table.genotypes, "mean": table.means.mean(axis=1)})
    frame = frame.assign(sd=table.means.std(axis=1, ddof=1))
    parts = (finlay_wilkinson(table), ecovalence(table), shukla(table), superiority(table, best))
    frame = pd.concat([frame, *parts], axis=1)
    without_error = () if np.isfinite(table.error_ms) else ("s2d", "F", "p_sigma2")
    if table.shrunken:
        frame[["t", "p_slope", "p_sigma2"]] = np.nan
    notes = (
        "slope on the environment index (p against 1), ms_dev mean square of the deviations, W ecovalence, "
        "sigma2 stability variance, P superiority (small is good).",
        *table.without_index,
    )
    hidden = (*LEFT_TO_THE_FRAME, *without_error)
    return FigureTable(frame, f"Stability of genotypes ({table.source})", notes, hidden=hidden)


def finlay_wilkinson(table: TwoWayTable) -> pd.DataFrame:
    """slope, se_slope, t, p_slope, ms_dev, r2: regression of a genotype on the environment index.

    Finlay & Wilkinson (1963, Aust. J. Agric. Res. 14:742), as Yates & Cochran (1938); the slopes average 1,
    and p is of the difference from 1. `s2d` is Eberhart & Russell's (1966): ms_dev less the error of a
    mean; NaN without an error.
    """
    e = table.means.shape[1]
    x, interaction = table.environment_index, table.interaction
    centred = table.means - table.means.mean(axis=1, keepdims=True)
    size = float(x @ x)
    with np.errstate(divide="ignore", invalid="ignore"):
        beyond = interaction @ x / size  # of an additive table exactly zero, and so are the deviations
        slope = 1.0 + beyond
        deviation = interaction - np.outer(beyond, x)
        ms = np.sum(deviation**2, axis=1) / (e - 2)
        se = np.sqrt(ms / size)
        r2 = 1.0 - np.sum(deviation**2, axis=1) / np.sum(centred**2, axis=1)
    t = t_statistics(slope - 1.0, se)
    return pd.DataFrame(
        {"slope": slope, "se_slope": se, "t": t, "p_slope": t_two_sided(t, np.full(t.size, e - 2.0)),
         "ms_dev": ms, "s2d": ms - table.error_of_mean, "r2": r2}
    )  # fmt: skip


def ecovalence(table: TwoWayTable) -> pd.DataFrame:
    """W and W_percent: the interaction sum of squares of a genotype, and its share (Wricke 1962)."""
    W = np.sum(table.interaction**2, axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        return pd.DataFrame({"W": W, "W_percent": 100.0 * W / W.sum()})


def shukla(table: TwoWayTable) -> pd.DataFrame:
    """sigma2, F, p_sigma2 and sigma2_dev: stability variances of means (Shukla 1972, Heredity 29:237).

    Unbiased, so that they may be negative, and they average the interaction mean square; `sigma2_dev` is the
    variance left after the regression on the environment index. F is against the error of a mean.
    """
    g, e = table.means.shape
    x, interaction = table.environment_index, table.interaction
    W = np.sum(interaction**2, axis=1)
    sigma2 = (g * (g - 1) * W - W.sum()) / ((e - 1) * (g - 1) * (g - 2))
    with np.errstate(divide="ignore", invalid="ignore"):
        left = np.sum((interaction - np.outer(interaction @ x / (x @ x), x)) ** 2, axis=1)
        rest = g / ((g - 2) * (e - 2)) * (left - left.sum() / (g * (g - 1)))
        F = np.maximum(sigma2, 0.0) / table.error_of_mean
    df = table.error_df
    p = [f_upper(float(value), e - 1.0, df) if np.isfinite(value * df) else np.nan for value in F]
    return pd.DataFrame({"sigma2": sigma2, "F": F, "p_sigma2": p, "sigma2_dev": rest})


def superiority(table: TwoWayTable, best: str) -> pd.DataFrame:
    """P, P_genotype, P_interaction and rank_P (Lin & Binns 1988, Can. J. Plant Sci. 68:193).

    P is half the mean squared distance from the best genotype of each environment. P_genotype is the part of
    the mean distance, P_interaction the rest.
    """
    top = table.means.max(axis=0) if best == "highest" else table.means.min(axis=0)
    distance = table.means - top
    mean = distance.mean(axis=1)
    P = 0.5 * np.mean(distance**2, axis=1)
    return pd.DataFrame(
        {"P": P, "P_genotype": 0.5 * mean**2, "P_interaction": 0.5 * distance.var(axis=1),
         "rank_P": pd.Series(P).rank(method="min").astype(int)}
    )  # fmt: skip
