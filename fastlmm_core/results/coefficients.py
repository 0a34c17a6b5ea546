"""The table of the fixed effects, and the overall figures of a linear model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from fastlmm_core.display.displayed import Displayed
from fastlmm_core.display.rendering import format_p, format_significant
from fastlmm_core.inference.linear_functions import NO_VARIANCE
from fastlmm_core.means.estimates import figure_columns
from fastlmm_core.multiplicity.distributions import f_upper, t_quantile, t_statistics, t_two_sided

if TYPE_CHECKING:
    from fastlmm_core.results.fitted_model import FittedModel

DROPPED = "dropped: depends on earlier columns"


@dataclass(frozen=True, repr=False)
class FStatistic(Displayed):
    """Overall F of a linear model against the intercept (or against zero without one)."""

    F: float
    df1: int
    df2: float
    p: float

    def _shown(self) -> str:
        return f"F({self.df1:g}, {self.df2:.4g}) = {format_significant(self.F, 4)}, p {format_p(self.p)}"


def coefficient_table(
    fit: FittedModel, estimate: np.ndarray, se: np.ndarray, df: np.ndarray, ddf: str, level: float
) -> pd.DataFrame:
    """One row a coefficient from its figures (p_full,); see ``LMMFit.fixed_effects``."""
    t = t_statistics(estimate, se)
    status = np.full(len(fit.coef_names), DROPPED, dtype=object)
    status[fit.design.kept] = "ok" if fit.solved.sigma2 > 0.0 else NO_VARIANCE
    figures = figure_columns(estimate, se, df, t, t_two_sided(t, df), t_quantile(1.0 - level, df))
    method = np.full(status.size, ddf, dtype=object)  # pandas takes twice as long to repeat a word
    return pd.DataFrame({"term": list(fit.coef_names), **figures, "status": status, "ddf": method})


def r_squared(fit: FittedModel) -> float:
    """Share of the weighted sum of squares that a linear model explains, about the mean with an intercept.

    With an offset it is that of the response less the offset, which is what the model explains.
    """
    w, solved = fit.plain.equations.weights, fit.solved
    fitted = (fit.fitted if fit.offset is None else fit.fitted - fit.offset) / solved.unit
    centre = np.average(fitted, weights=w) if fit.design.has_intercept else 0.0
    model = float(w @ (fitted - centre) ** 2)
    total = model + fit.plain.r2
    return model / total if total > 0 else np.nan


def adjusted_r_squared(fit: FittedModel) -> float:
    """`r_squared` by mean squares in place of sums of squares."""
    total = fit.nobs - (1 if fit.design.has_intercept else 0)
    return 1.0 - (1.0 - r_squared(fit)) * total / fit.df_residual


def linear_criterion(fit: FittedModel) -> float:
    """-2 log-likelihood of a linear model, at the ML estimate of the residual variance."""
    if fit.plain.r2 <= 0.0:
        return -np.inf
    n = fit.nobs
    log_variance = np.log(2.0 * np.pi * fit.plain.r2 / n) + 2.0 * np.log(fit.solved.unit)
    return float(n * (1.0 + log_variance) - fit.plain.equations.log_weights)


def overall_f(fit: FittedModel) -> FStatistic | None:
    """See ``LMMFit.f_statistic``."""
    df1 = fit.rank - (1 if fit.design.has_intercept else 0)
    if fit.method != "OLS" or df1 < 1 or fit.plain.r2 <= 0.0:
        return None
    r2 = r_squared(fit)
    F = r2 / df1 / ((1.0 - r2) / fit.df_residual)
    return FStatistic(F, df1, float(fit.df_residual), f_upper(F, df1, fit.df_residual))
