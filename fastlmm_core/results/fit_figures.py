"""Figures of a fitted model: criteria, parameters, variance components."""

from __future__ import annotations

from functools import cached_property

import numpy as np
import pandas as pd

from fastlmm_core.display.frames import titled
from fastlmm_core.engine.equations.confounding import count_untold
from fastlmm_core.engine.solution import StructuredSolution
from fastlmm_core.results.coefficients import (
    FStatistic,
    adjusted_r_squared,
    linear_criterion,
    overall_f,
    r_squared,
)
from fastlmm_core.results.components import component_rows as _rows
from fastlmm_core.results.components import structured_blocks as _structured
from fastlmm_core.results.components import variance_components as _components
from fastlmm_core.results.fitted_model import FittedModel


class FitFigures(FittedModel):
    """Criteria, parameters of the search, variance components and what is singular."""

    @property
    def npar(self) -> int:
        if isinstance(self.solved, StructuredSolution):
            return self.rank + self.solved.n_parameters
        terms, untold = self.plain.equations.terms, self._confounded
        whole = sum(terms[k].structure.n_theta for k in untold.terms)
        return self.rank + self.theta.size + 1 - whole - count_untold(terms, untold.parts)

    @cached_property
    def criterion(self) -> float:
        return linear_criterion(self) if self.method == "OLS" else float(self.solved.criterion)

    @property
    def deviance(self) -> float:
        return self.criterion

    @property
    def loglik(self) -> float:
        return -0.5 * self.criterion

    @property
    def aic(self) -> float:
        return self.criterion + 2.0 * self.npar

    @property
    def bic(self) -> float:
        return self.criterion + float(np.log(self.nobs)) * self.npar

    @cached_property
    def theta(self) -> np.ndarray:
        if isinstance(self.solved, StructuredSolution):
            return self.solved.theta
        return _components.user_theta(self.solved)

    @cached_property
    def theta_names(self) -> tuple[str, ...]:
        if isinstance(self.solved, StructuredSolution):
            return _structured.name_theta(self.design, self.solved)
        return _components.name_theta(self.design, self.solved)

    @cached_property
    @titled("Variance components")
    def variance_components(self) -> pd.DataFrame:
        """Variances and covariances: group, var1, var2, estimate, sd_or_cor, se.

        `se` is asymptotic, from the average information; NaN at the boundary.
        """
        if self.structured:
            return _rows.component_table(self)
        return _components.variance_component_table(self)

    def term_variances(self, k: int) -> np.ndarray:
        """Variances (m,) of the coefficients of random term k; the own variances of a spline."""
        if isinstance(self.solved, StructuredSolution):
            own = _structured.term_blocks(self)[k]
            return np.asarray(own.extra["variances"]) if own.T is None else np.diag(own.T)
        return self.solved.user_sigma2 * np.diag(self.solved.user_covariance(k))

    @cached_property
    def singular_terms(self) -> tuple[str, ...]:
        """Terms at the boundary, in words."""
        if isinstance(self.solved, StructuredSolution):
            return _structured.describe_singular(self.design, self.solved)
        return _components.describe_singular(self.design, self.solved)

    @property
    def singular(self) -> bool:
        return bool(self.singular_terms)

    @cached_property
    def r_squared(self) -> float:
        """R² of the linear model (NaN for a mixed model, where no single definition holds)."""
        return np.nan if self.f_statistic is None else r_squared(self)

    @cached_property
    def adj_r_squared(self) -> float:
        return np.nan if self.f_statistic is None else adjusted_r_squared(self)

    @cached_property
    def f_statistic(self) -> FStatistic | None:
        """F of the whole linear model; None for a mixed model and where only the intercept is fitted."""
        return overall_f(self)
