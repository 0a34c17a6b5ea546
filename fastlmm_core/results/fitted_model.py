"""A fitted model: the design, the solved equations, and what follows from them at once."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol

import numpy as np

from fastlmm_core.design import Design
from fastlmm_core.engine.equations.confounding import Confounded
from fastlmm_core.engine.information.parameter_covariance import StructureInference
from fastlmm_core.engine.solution import StructuredSolution
from fastlmm_core.errors import FastLMMWarning
from fastlmm_core.inference.variance_parameters import VarianceParameterInference
from fastlmm_core.linalg.base import CholeskyFactor
from fastlmm_core.reml.fitting import Certificate
from fastlmm_core.reml.optimizer import Optimum
from fastlmm_core.reml.solved import SolvedEquations
from fastlmm_core.results.components.undetermined import confounded
from fastlmm_core.results.convergence import Convergence, convergence_of


class PreparedModel(Protocol):
    """A design with its equations, which fits responses: ``fastlmm_core.api.Prepared``."""

    @property
    def design(self) -> Design: ...
    @property
    def reml(self) -> bool: ...
    @property
    def factor(self) -> CholeskyFactor: ...
    @property
    def offset(self) -> Any: ...
    @property
    def contrasts(self) -> dict[str, Any] | None: ...
    @property
    def fixed_parameters(self) -> dict[str, Any]: ...
    @property
    def factorization(self) -> str: ...

    def again(
        self, reml: bool, design: Design | None = None, held: dict[str, Any] | None = None
    ) -> PreparedModel:
        """The same model prepared anew, by the other method, or of another design or what is held."""

    def fit(self, y: Any = None, weights: Any = None, *, theta: Any = None) -> Any:
        """The fit to a response, an ``LMMFit``."""


@dataclass(frozen=True, eq=False)
class FittedModel:
    """A fitted model: what every question about it starts from.

    Attributes
    ----------
    design : Design
    solved : SolvedEquations or StructuredSolution
        The equations solved at the optimum.
    optimum, certificate
        How the search ended, and why that is an optimum.
    warnings : tuple of FastLMMWarning
    timings : dict
        Seconds by phase.
    prepared : PreparedModel
        What it was fitted by.
    response : (n,) float64
        y as it was given, offset included.
    """

    design: Design
    solved: SolvedEquations | StructuredSolution = field(repr=False)
    optimum: Optimum = field(repr=False)
    certificate: Certificate
    warnings: tuple[FastLMMWarning, ...]
    timings: dict[str, float] = field(repr=False)
    prepared: PreparedModel = field(repr=False)
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
    def weights(self) -> np.ndarray | None:
        return self.design.weights

    @property
    def own_weights(self) -> np.ndarray | None:
        """Weights (n,) that were given to ``Prepared.fit`` and not to `prepare`; None without."""
        return None if self.weights is self.prepared.design.weights else self.weights

    @property
    def offset(self) -> np.ndarray | None:
        return self.design.offset

    @property
    def coef_names(self) -> tuple[str, ...]:
        return self.design.column_names

    @property
    def dropped_columns(self) -> tuple[str, ...]:
        return self.design.dropped_columns

    @property
    def sigma(self) -> float:
        """Residual standard deviation; NaN where the residual has more than one variance."""
        if isinstance(self.solved, StructuredSolution):
            return float(np.sqrt(self.solved.residual_variance))
        return float(np.sqrt(self.solved.sigma2)) * self.solved.unit

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
    def _inference(self) -> VarianceParameterInference | StructureInference:
        groups = tuple(term.group for term in self.design.random)
        if isinstance(self.solved, StructuredSolution):
            return StructureInference(self.solved, groups)
        return VarianceParameterInference(self.solved, groups, self._confounded)

    @cached_property
    def _confounded(self) -> Confounded:
        """What of the random part lies within the fixed part."""
        return confounded(self.solved, self.certificate)
