"""Analysis of variance of a two-way table, the interaction split by regression on the environment means."""

from __future__ import annotations

import numpy as np
import pandas as pd

from fastlmm_core.display.figure_tables import FigureTable
from fastlmm_core.multi_environment.two_way_table import TwoWayTable
from fastlmm_core.multiplicity.distributions import f_upper

SHRUNKEN = "The means are predictions, shrunken towards those of the environments: nothing is tested."


def anova_table(table: TwoWayTable) -> FigureTable:
    """source, df, ss, ms, F, p on the scale of a plot.

    Genotypes are tested against their interaction (environments a sample), the interaction against the error;
    of the interaction the heterogeneity of slopes against the deviations from regression (Finlay & Wilkinson
    1963, Eberhart & Russell 1966), these against the error. Environments have no test: what varies between
    their plots is not in a table of means. Predictions have no tests: they are shrunken.
    """
    g, e = table.means.shape
    r = table.replications
    x, interaction = table.environment_index, table.interaction
    genotype = table.means.mean(axis=1) - table.means.mean()
    total = float(np.sum(interaction**2))
    slopes = float(np.sum((interaction @ x) ** 2) / (x @ x)) if x @ x > 0.0 else np.nan
    ss = r * np.array([g * (x @ x), e * (genotype @ genotype), total, slopes, total - slopes])
    df = np.array([e - 1, g - 1, (g - 1) * (e - 1), g - 1, (g - 1) * (e - 2)], float)
    ms = ss / df
    error, error_df = table.error_ms, table.error_df
    against = np.array([np.nan, ms[2], error, ms[4], error])
    against_df = np.array([np.nan, df[2], error_df, df[4], error_df])
    rows = ["environment", "genotype", "interaction", "  slopes", "  deviations", "error"]
    with np.errstate(divide="ignore", invalid="ignore"):
        F = np.where((against > 0.0) & (not table.shrunken), ms / against, np.nan)
    p = [
        f_upper(F[i], df[i], against_df[i]) if np.isfinite(F[i] * against_df[i]) else np.nan for i in range(5)
    ]
    frame = pd.DataFrame(
        {"source": rows, "df": [*df, error_df], "ss": [*ss, error * error_df], "ms": [*ms, error],
         "F": [*F, np.nan], "p": [*p, np.nan]}
    )  # fmt: skip
    known = np.isfinite(error)
    plots = (f"{r:g} plots a mean.",) if r != 1.0 else ()
    notes = plots if known else ("No error is known: the interaction has no test.",)
    if table.shrunken:
        notes = (SHRUNKEN,)
    notes = (*notes, *table.without_index)
    return FigureTable(frame if known else frame[:-1], f"Analysis of variance ({table.source})", notes)
