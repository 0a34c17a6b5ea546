"""What is known of a fitted model without asking: criteria, estimates, residuals, convergence."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from fastlmm_core.design import Design
from fastlmm_core.engine.information import StructureInference
from fastlmm_core.engine.solution import StructuredSolution
from fastlmm_core.errors import FastLMMWarning
from fastlmm_core.inference.linear_functions import (
    DDF_METHODS,
)
from fastlmm_core.inference.variance_parameters import VarianceParameterInference
from fastlmm_core.options import (
    one_of,
    optional,
)
from fastlmm_core.reml.fitting import Certificate
from fastlmm_core.reml.information import KINDS
from fastlmm_core.reml.optimizer import Optimum
from fastlmm_core.reml.solved import SolvedEquations
from fastlmm_core.results import component_rows as _rows
from fastlmm_core.results import structured_blocks as _structured
from fastlmm_core.results import variance_components as _components
from fastlmm_core.results.coefficients import (
    FStatistic,
    adjusted_r_squared,
    linear_criterion,
    overall_f,
    r_squared,
)
from fastlmm_core.results.convergence import Convergence, convergence_of

if TYPE_CHECKING:
    from fastlmm_core.api import Prepared

DDF = optional(one_of(DDF_METHODS))
INFORMATION = optional(one_of(KINDS))


@dataclass(frozen=True, eq=False)
class FitFigures:
    """Figures of a fitted model; see `fastlmm_core.results.fit.LMMFit`.

    Attributes
    ----------
    design : Design
    reml : bool
    nobs, n_dropped, rank, npar : int
        `npar` counts fixed effects, variance parameters and sigma.
    response : (n,) float64
        y as it was given, offset included.
    criterion, loglik, aic, bic : float
        `criterion` is -2 log-likelihood, restricted for REML on lme4's scale.
    sigma : float
        Residual standard deviation, units of the response.
    theta : (n_theta,) float64
        Relative Cholesky factors, column-wise, terms in lme4's order.
    beta, se : (p_full,) float64
        Fixed effects and model-based standard errors; NaN for dropped columns.
    fitted, residuals, residuals_pearson : (n,) float64
        Conditional on the random effects; Pearson residuals are multiplied by sqrt(w).
    warnings : tuple of FastLMMWarning
    timings : dict
        Seconds by phase.
    """

    design: Design
    solved: SolvedEquations | StructuredSolution = field(repr=False)
    optimum: Optimum = field(repr=False)
    certificate: Certificate
    warnings: tuple[FastLMMWarning, ...]
    timings: dict[str, float] = field(repr=False)
    prepared: Prepared = field(repr=False)
    response: np.ndarray = field(repr=False)

    @property
    def formula(self) -> str:
        return str(self.design.formula)

    @property
    def reml(self) -> bool:
        return self.solved.reml

    @property
    def method(self) -> str:
        """ "REML", "ML", or "OLS" for a linear model."""
        if not self.design.random and not self.structured:
            return "OLS"
        return "REML" if self.reml else "ML"

    @property
    def structured(self) -> bool:
        """The model has covariance structures beyond independent residuals and unrelated levels."""
        return isinstance(self.solved, StructuredSolution)

    @property
    def plain(self) -> SolvedEquations:
        """The solution of a model with unrelated levels and independent residuals."""
        assert isinstance(self.solved, SolvedEquations)
        return self.solved

    @property
    def default_information(self) -> str:
        """Information about the variance parameters behind Kenward-Roger where none is named.

        Expected where every structure is linear in its parameters, else observed (as SAS and mmrm).
        """
        if isinstance(self.solved, StructuredSolution) and not self.solved.linear:
            return "observed"
        return "expected"

    @property
    def default_ddf(self) -> str:
        """Df method used where none is named: Kenward-Roger (REML), Satterthwaite (ML), residual (OLS)."""
        return {"REML": "kenward-roger", "ML": "satterthwaite", "OLS": "residual"}[self.method]

    @property
    def nobs(self) -> int:
        return self.design.n

    @property
    def n_dropped(self) -> int:
        return self.design.n_dropped

    @property
    def rank(self) -> int:
        return int(self.design.kept.size)

    @property
    def df_residual(self) -> int:
        return self.nobs - self.rank

    @property
    def npar(self) -> int:
        if isinstance(self.solved, StructuredSolution):
            return self.rank + self.solved.n_parameters
        return self.rank + self.theta.size + 1

    @property
    def weights(self) -> np.ndarray | None:
        return self.design.weights

    @property
    def offset(self) -> np.ndarray | None:
        return self.design.offset

    @property
    def coef_names(self) -> tuple[str, ...]:
        return self.design.column_names

    @property
    def dropped_columns(self) -> tuple[str, ...]:
        return self.design.dropped_columns

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

    @property
    def sigma(self) -> float:
        """Residual standard deviation; NaN where the residual has more than one variance."""
        if isinstance(self.solved, StructuredSolution):
            return float(np.sqrt(self.solved.residual_variance))
        return float(np.sqrt(self.solved.sigma2)) * self.solved.unit

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
    def beta(self) -> np.ndarray:
        beta = np.full(len(self.coef_names), np.nan)
        beta[self.design.kept] = self.solved.equations.to_user @ self.solved.beta * self.solved.unit
        return beta

    @cached_property
    def cov_beta(self) -> np.ndarray:
        """Model-based covariance of the kept coefficients (p, p)."""
        to_user = self.solved.equations.to_user
        _, phi = self.solved.solve_fixed(np.eye(self.rank))
        cov = to_user @ (to_user @ (self.solved.user_sigma2 * phi)).T
        return 0.5 * (cov + cov.T)

    @property
    def converged(self) -> bool:
        return self.certificate.optimal

    @cached_property
    def convergence(self) -> Convergence:
        return convergence_of(self.optimum, self.certificate)

    @cached_property
    def fitted(self) -> np.ndarray:
        return self.response - self.residuals

    @property
    def residuals(self) -> np.ndarray:
        return self.solved.residual * self.solved.unit

    @property
    def residuals_pearson(self) -> np.ndarray:
        """sqrt(w) (y - fitted)."""
        return self.residuals if self.weights is None else self.residuals * np.sqrt(self.weights)

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

    @cached_property
    def _inference(self) -> VarianceParameterInference | StructureInference:
        groups = tuple(term.group for term in self.design.random)
        if isinstance(self.solved, StructuredSolution):
            return StructureInference(self.solved, groups)
        return VarianceParameterInference(self.solved, groups)
