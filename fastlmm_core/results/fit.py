"""The fitted model: figures of the fit, and one method for every question asked of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import scipy.sparse as sp

from fastlmm_core.design import Design
from fastlmm_core.engine.information import StructureInference
from fastlmm_core.engine.solution import StructuredSolution
from fastlmm_core.errors import FastLMMWarning, OptionError, check_level, check_option
from fastlmm_core.gate import public
from fastlmm_core.inference.linear_functions import (
    DDF_METHODS,
    LinearFunctions,
    linear_functions,
    row_statistics,
)
from fastlmm_core.inference.variance_parameters import VarianceParameterInference
from fastlmm_core.options import (
    ANY,
    LEVEL,
    NAME,
    NAMES,
    NUMBER,
    PATH,
    SWITCH,
    TEXT,
    either,
    numbers,
    one_of,
    optional,
    table_of,
    whole,
)
from fastlmm_core.reml.fitting import Certificate
from fastlmm_core.reml.information import KINDS
from fastlmm_core.reml.optimizer import Optimum
from fastlmm_core.reml.solved import SolvedEquations
from fastlmm_core.results import blups as _blups
from fastlmm_core.results import component_rows as _rows
from fastlmm_core.results import prediction as _prediction
from fastlmm_core.results import structured_blocks as _structured
from fastlmm_core.results import term_tests as _term_tests
from fastlmm_core.results import variance_components as _components
from fastlmm_core.results.coefficients import (
    FStatistic,
    adjusted_r_squared,
    coefficient_table,
    linear_criterion,
    overall_f,
    r_squared,
)
from fastlmm_core.results.convergence import Convergence, convergence_of
from fastlmm_core.results.correlations import CorrelationTable, correlation_table
from fastlmm_core.results.effective_dimensions import effective_dimension_table
from fastlmm_core.results.marker_effects import marker_effect_table
from fastlmm_core.results.vpredict import VarianceFunction, vpredict

if TYPE_CHECKING:
    from fastlmm_core.api import Prepared
    from fastlmm_core.inference.emmeans import EmmeansTable
    from fastlmm_core.intervals.bootstrap import Bootstrap
    from fastlmm_core.intervals.profile import Profile
    from fastlmm_core.results.factor_analysis import FactorAnalysis
    from fastlmm_core.results.genotype_values import GenotypeValues
    from fastlmm_core.results.heritability import HeritabilityTable
    from fastlmm_core.results.summary import Summary

DDF = optional(one_of(DDF_METHODS))
INFORMATION = optional(one_of(KINDS))


@dataclass(frozen=True, eq=False)
class LMMFit:
    """A fitted linear mixed model, or linear model when the formula has no random term.

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

    # ------------------------------------------------------------- the model
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

    # ------------------------------------------------------------ likelihood
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

    # ------------------------------------------------------------- estimates
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

    @cached_property
    def effective_dimensions(self) -> pd.DataFrame:
        """Effective dimensions tr(P V_k) of fixed part, terms and residual: group, name, edf, size."""
        return effective_dimension_table(self)

    def vpredict(self, expression: str, information: str = "average") -> VarianceFunction:
        """A function of the variance components V1, V2, ... with its standard error.

        The components are numbered as they stand in the lower triangle of every term's covariance, row by
        row, term after term, the residual last.

        Parameters
        ----------
        expression : str
            For example ``"V1/(V1 + V2)"``; also ``sqrt``, ``log`` and ``exp``.
        information : {"average", "expected", "observed"}
            Information about the components behind the standard error.

        Raises
        ------
        OptionError
            When the expression is anything else.
        """
        return vpredict(self, expression, information)

    @public(term=optional(NAME), information=one_of(KINDS))
    def correlations(self, term: str | None = None, information: str = "average") -> CorrelationTable:
        """Genetic and residual correlations: group, var1, var2, estimate, se.

        Parameters
        ----------
        term : str, optional
            Grouping factor, ``"gen"`` or ``"vm(gen, G)"``, or ``"Residual"``; all of them by default.
        information : {"average", "expected", "observed"}
            Information about the variance parameters behind the standard errors (delta method).

        Returns
        -------
        CorrelationTable
            ``to_frame()``, and ``matrix(group)`` and ``errors(group)`` as squares.

        Raises
        ------
        OptionError
            When the term, or every term, has no correlations.
        """
        return correlation_table(self, term, information)

    @public(term=optional(NAME), information=one_of(KINDS))
    def factor_analysis(self, term: str | None = None, information: str = "average") -> FactorAnalysis:
        """Loadings, scores, variance explained, overall performance and stability of a term with factors.

        Parameters
        ----------
        term : str, optional
            Grouping factor of ``fa(0 + env | gen, k=2)`` or ``rr(...)``, or the term as written; the first by
            default.
        information : {"average", "expected", "observed"}
            Information about the variance parameters behind the errors of loadings and specific variances.

        Raises
        ------
        OptionError
            When no term, or not this one, has factors.
        """
        from fastlmm_core.results.factor_analysis import factor_analysis

        return factor_analysis(self, term, information)

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

    @cached_property
    def se(self) -> np.ndarray:
        se = np.full(len(self.coef_names), np.nan)
        se[self.design.kept] = self._coefficient_statistics("asymptotic")[1]
        return se

    @property
    def converged(self) -> bool:
        return self.certificate.optimal

    @cached_property
    def convergence(self) -> Convergence:
        return convergence_of(self.optimum, self.certificate)

    # ----------------------------------------------------- fit and residuals
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

    # ---------------------------------------------------------- linear model
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

    # -------------------------------------------------------------- inference
    @cached_property
    def _inference(self) -> VarianceParameterInference | StructureInference:
        groups = tuple(term.group for term in self.design.random)
        if isinstance(self.solved, StructuredSolution):
            return StructureInference(self.solved, groups)
        return VarianceParameterInference(self.solved, groups)

    @public(ddf=DDF, information=INFORMATION)
    def linear_functions(
        self, K: np.ndarray | sp.sparray, *, ddf: str | None = None, information: str | None = None,
        second_derivatives: bool = False,
    ) -> LinearFunctions:  # fmt: skip
        """Estimates of K beta with covariance and degrees of freedom.

        Parameters
        ----------
        K : (r, p_full) array or sparse array
            Rows in the columns of ``coef_names``, dropped ones included.
        ddf : {"kenward-roger", "satterthwaite", "residual", "asymptotic"}, optional
            Default: ``default_ddf``.
        information : {"expected", "observed", "average"}, optional
            Information about the variance parameters behind Kenward-Roger; "expected" as pbkrtest,
            "observed" as SAS PROC MIXED. Default: ``default_information``.
        second_derivatives : bool
            Kenward-Roger with the second derivatives of V in variances, covariances and correlations, as
            SAS DDFM=KR; without them it is SAS's KR(FIRSTORDER) and pbkrtest's.

        Raises
        ------
        OptionError, InferenceError
        """
        K = K if sp.issparse(K) else np.atleast_2d(numbers("K", K))
        if K.ndim != 2 or K.shape[-1] != len(self.coef_names):
            raise OptionError(
                f"K has {K.shape[-1]} columns; the model has {len(self.coef_names)} coefficients"
            )
        products, norms = self.design.null_products(K)
        return linear_functions(
            self._inference,
            K,
            kept=self.design.kept,
            null_products=products if products.shape[1] else None,
            norms=norms,
            ddf=ddf or self.default_ddf,
            information=information or self.default_information,
            df_residual=self.df_residual,
            second_derivatives=second_derivatives,
        )

    def coefficient_functions(
        self, *, ddf: str | None = None, information: str | None = None, second_derivatives: bool = False
    ) -> LinearFunctions:
        """The kept coefficients themselves as linear functions (p rows).

        In a rank-deficient model a coefficient stands for what the dropped columns leave it to mean, so every
        one of them has an estimate, while the same row need not be estimable as a function of the cell means.
        """
        kept = self.design.kept
        return linear_functions(
            self._inference, self._kept_rows(), kept=kept, null_products=None, norms=np.ones(kept.size),
            ddf=ddf or self.default_ddf, information=information or self.default_information,
            df_residual=self.df_residual, second_derivatives=second_derivatives,
        )  # fmt: skip

    def _kept_rows(self) -> sp.csr_array:
        """Unit rows (p, p_full) of the kept coefficients."""
        kept = self.design.kept
        entries = (np.ones(kept.size), (np.arange(kept.size), kept))
        return sp.csr_array(entries, shape=(kept.size, len(self.coef_names)))

    @public(ddf=DDF, information=INFORMATION, level=LEVEL)
    def fixed_effects(
        self, ddf: str | None = None, information: str | None = None, level: float = 0.95,
        second_derivatives: bool = False,
    ) -> pd.DataFrame:  # fmt: skip
        """Coefficients: term, estimate, se, df, t, p, lower, upper, status, ddf (unrounded).

        For Kenward-Roger the standard errors are the adjusted ones.
        """
        ddf, level = check_option("ddf", ddf or self.default_ddf, DDF_METHODS), check_level(level)
        kept = self.design.kept
        estimate, se, df = np.full((3, len(self.coef_names)), np.nan)
        estimate[kept], se[kept], df[kept] = self._coefficient_statistics(
            ddf, information, second_derivatives
        )
        return coefficient_table(self, estimate, se, df, ddf, level)

    def _coefficient_statistics(
        self, ddf: str, information: str | None = None, second_derivatives: bool = False
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Estimate, standard error and df of the kept coefficients, (p,) each."""
        return row_statistics(
            self._inference, self._kept_rows(), kept=self.design.kept, ddf=ddf,
            information=information or self.default_information, df_residual=self.df_residual,
            second_derivatives=second_derivatives,
        )  # fmt: skip

    @public(type=one_of((1, 2, 3)), ddf=DDF, information=INFORMATION)
    def anova(self, type: int = 3, ddf: str | None = None, information: str | None = None) -> pd.DataFrame:
        """F tests of the terms: term, df_num, df_den, F, p, scaling, status, ddf.

        Parameters
        ----------
        type : {1, 2, 3}
            Sequential, marginal to terms that do not contain it, or marginal in sum-to-zero coding.
        ddf : str, optional
            Kenward-Roger gives the scaled F of pbkrtest, with its scaling in a column of its own.
        """
        return _term_tests.anova_table(
            self, type, ddf or self.default_ddf, information or self.default_information
        )

    @public()
    def observation_weights(self, K: np.ndarray | sp.sparray) -> np.ndarray:
        """Weight of every observation in the generalized least squares estimate of each row of K.

        Parameters
        ----------
        K : (r, p_full)

        Returns
        -------
        (r, n) float64
            K (X'V^-1 X)^-1 X'V^-1; times the response less the offset it is the estimate.
        """
        return _prediction.observation_weights(self, K)

    @public(
        by=optional(NAMES), ddf=DDF, information=INFORMATION, level=LEVEL, cov_keep=either(NAMES, whole(1)),
        cov_reduce=ANY, nuisance=NAMES, wt_nuis=TEXT, counterfactuals=NAMES, submodel=optional(TEXT),
    )  # fmt: skip
    def emmeans(
        self, specs: Any, by: Any = None, at: Mapping[str, Any] | None = None, weights: Any = "equal",
        ddf: str | None = None, information: str | None = None, level: float = 0.95, cov_keep: Any = (),
        cov_reduce: Any = None, nuisance: Any = (), wt_nuis: str = "equal", counterfactuals: Any = (),
        submodel: str | None = None,
    ) -> EmmeansTable:  # fmt: skip
        """Estimated marginal means; see ``fastlmm_core.inference.emmeans.emmeans``."""
        from fastlmm_core.inference.emmeans import emmeans

        ddf, information = ddf or self.default_ddf, information or self.default_information
        return emmeans(
            self, specs, by, at, weights, ddf, information, level, cov_keep, cov_reduce, nuisance, wt_nuis,
            counterfactuals, submodel,
        )  # fmt: skip

    @public(
        var=NAME, by=optional(NAMES), ddf=DDF, information=INFORMATION, level=LEVEL, delta=optional(NUMBER),
    )  # fmt: skip
    def emtrends(
        self, specs: Any, var: str, by: Any = None, at: Mapping[str, Any] | None = None,
        weights: Any = "equal", ddf: str | None = None, information: str | None = None, level: float = 0.95,
        delta: float | None = None,
    ) -> EmmeansTable:  # fmt: skip
        """Marginal slopes in a covariate; see ``fastlmm_core.inference.emmeans.emtrends``."""
        from fastlmm_core.inference.emmeans import emtrends

        ddf, information = ddf or self.default_ddf, information or self.default_information
        return emtrends(self, specs, var, by, at, weights, ddf, information, level, delta)

    @public(
        by=optional(NAMES), at=optional(table_of(ANY)), ddf=DDF, information=INFORMATION, scaled=SWITCH
    )  # fmt: skip
    def joint_tests(
        self, by: Any = None, at: Mapping[str, Any] | None = None, weights: Any = "equal",
        ddf: str | None = None, information: str | None = None, scaled: bool = True,
    ) -> pd.DataFrame:  # fmt: skip
        """F tests of the contrasts of the marginal means; see ``fastlmm_core.inference.joint_tests``."""
        from fastlmm_core.inference.joint_tests import joint_tests

        ddf, information = ddf or self.default_ddf, information or self.default_information
        return joint_tests(self, by, at, weights, ddf, information, scaled)

    # -------------------------------------------------- simulation, intervals
    @public(n=whole(1), seed=optional(whole(0)), conditional=SWITCH)
    def simulate(self, n: int = 1, seed: int | None = None, *, conditional: bool = False) -> np.ndarray:
        """New responses from the fitted model.

        Parameters
        ----------
        n : int
            Responses.
        seed : int, optional
            The same seed gives the same responses.
        conditional : bool
            Keep the random effects at their predictions and draw the residuals only.

        Returns
        -------
        (nobs, n) float64
            On the scale of the model's response; ``fit.refit`` takes its columns.

        Examples
        --------
        >>> from fastlmm_core import datasets, lmm
        >>> fit = lmm("Yield ~ 1 + (1|Batch)", datasets.load("dyestuff"))
        >>> fit.simulate(1000, seed=1).shape
        (30, 1000)
        """
        from fastlmm_core.intervals.simulation import simulate

        return simulate(self, n, seed, conditional)

    @public(parameters=optional(NAMES), level=LEVEL)
    def profile(self, parameters: str | Sequence[str] | None = None, *, level: float = 0.99) -> Profile:
        """Profile likelihood of variance parameters, sigma and fixed effects.

        Parameters
        ----------
        parameters : str or list of str, optional
            Names as ``conf_int`` shows them, "theta_" for all variance parameters, "beta_" for all fixed
            effects; default everything.
        level : float
            Confidence level up to which the profiles are followed at once; ``Profile.conf_int`` goes on by
            itself.

        Returns
        -------
        Profile
            With ``conf_int(level)`` and `points`; ``fastlmm_core.plots.plot_profile`` draws it.

        Raises
        ------
        OptionError
            For a name that is no parameter.
        InferenceError, NumericalError
            When there is no likelihood to profile, or a search ends without an optimum.
        """
        from fastlmm_core.intervals.profile import profile

        return profile(self, parameters, level)

    @public(
        n=whole(2), kind=one_of(("parametric", "residual")), seed=optional(whole(0)), out=optional(PATH),
        threads=optional(whole(1)), progress=SWITCH,
    )  # fmt: skip
    def bootstrap(
        self, n: int = 1000, kind: str = "parametric", *, seed: int | None = None, statistic: Any = None,
        out: str | Path | None = None, threads: int | None = None, progress: bool = True,
    ) -> Bootstrap:  # fmt: skip
        """Fit the model to `n` responses drawn from it.

        Parameters
        ----------
        kind : {"parametric", "residual"}
            Random effects and residuals from normal distributions with the estimated variances, or drawn from
            the predicted ones, inflated to these variances (plain models).
        seed : int, optional
            The same seed gives the same draws, on any number of threads.
        statistic : callable, optional
            Function of a fit that returns numbers, in place of the parameters.
        out : path, optional
            Folder in which draws are kept as they come; the same call goes on where it ended.
        threads : int, optional
            Default one for every core.
        progress : bool
            Show a bar on a terminal.

        Returns
        -------
        Bootstrap
            With ``conf_int(level, type)``, ``summary()`` and ``frame()``.

        Raises
        ------
        InferenceError
            ``kind="residual"`` with related levels or residuals.
        OptionError
            When `out` holds something else.
        """
        from fastlmm_core.intervals.bootstrap import bootstrap

        return bootstrap(self, n, kind, seed, statistic, out, threads, progress)

    @public(method=one_of(("profile", "wald", "bootstrap")), parameters=optional(NAMES), level=LEVEL)
    def conf_int(
        self, method: str = "profile", parameters: str | Sequence[str] | None = None, level: float = 0.95,
        **options: Any,
    ) -> pd.DataFrame:  # fmt: skip
        """Intervals: parameter, kind, group, var1, var2, estimate, lower, upper, method.

        Parameters
        ----------
        method : {"profile", "wald", "bootstrap"}
            By profile likelihood (of the ML fit, as lme4's ``confint``); from standard errors, for variance
            parameters symmetric in the logarithm or the angle; by ``bootstrap``.
        parameters : str or list of str, optional
            As in ``profile``.
        **options
            Of ``bootstrap``, and `type` of its interval.
        """
        from fastlmm_core.intervals.confidence import conf_int

        return conf_int(self, method, parameters, level, options)

    @public(exact=SWITCH, draws=whole(100), seed=optional(whole(0)))
    def ranova(self, *, exact: bool = False, draws: int = 100_000, seed: int | None = None) -> pd.DataFrame:
        """Likelihood-ratio tests of the random terms, by the method of the fit.

        Each row is the model without a term, or with ``(1 | g)`` in place of ``(x | g)``, as lmerTest's
        ``ranova`` shows them: term, npar, loglik, aic, chisq, df, p, p_boundary, mixture.

        Parameters
        ----------
        exact : bool
            Add p_exact and its Monte Carlo error, of `draws` from the exact distribution (one variance
            component only; Crainiceanu & Ruppert 2004).

        Returns
        -------
        DataFrame
            `p` takes the ratio for a chi-square, which is too large where a variance is tested; `p_boundary`
            is that of the `mixture` that belongs to it (Stram & Lee 1994), NaN where none is known.
        """
        from fastlmm_core.intervals.random_terms import ranova

        return ranova(self, exact, draws, seed)

    # --------------------------------------------------------- random effects
    @public(term=optional(NAME), level=LEVEL)
    def blups(self, term: str | None = None, level: float = 0.95) -> pd.DataFrame:
        """Conditional modes: group, level, term, estimate, se, pev, condvar, reliability, lower, upper.

        `pev` is the prediction error variance Var(u_hat - u) with the uncertainty of beta in it, `condvar`
        the conditional variance given the parameters (lme4's condVar); `se` is sqrt(pev), and
        reliability = 1 - pev / Var(u).
        """
        return _blups.blup_table(self, term, level)

    @public()
    def ranef(self) -> dict[str, pd.DataFrame]:
        """Conditional modes by grouping factor: a row a level, a column a coefficient."""
        return _blups.ranef_tables(self)

    @public(term=optional(TEXT))
    def marker_effects(self, term: str | None = None) -> pd.DataFrame:
        """Effects of the markers behind ``vm(gen, M)``: term, marker, estimate, se, pev.

        Parameters
        ----------
        term : str, optional
            Group of the random term, ``"vm(gen, M)"``; default the first that has markers.

        Raises
        ------
        OptionError
            When no term, or not this one, has a relationship from markers.
        """
        return marker_effect_table(self, term)

    @public(
        term=NAME, definitions=optional(NAMES), coefficient=optional(NAME), information=one_of(KINDS),
    )  # fmt: skip
    def heritability(
        self, term: str, definitions: str | Sequence[str] | None = None, *,
        levels: Sequence[Any] | None = None, coefficient: str | None = None, information: str = "average",
    ) -> HeritabilityTable:  # fmt: skip
        """Heritability of the levels of a random term by eight definitions, with standard errors.

        Parameters
        ----------
        term : str
            Grouping factor, ``"gen"`` or ``"vm(gen, A)"``.
        definitions : str or sequence of str, optional
            Of "standard", "plot", "cullis", "oakey", "piepho", "piepho_kr", "delta_blup", "delta_blue" (see
            docs/heritability.md); all by default. Those from BLUEs need a second fit.
        levels : sequence, optional
            Levels that count; by default those with data, so that checks are not averaged in with the new
            lines of ``(0 + new | gen)``.
        coefficient : str, optional
            One of several coefficients of the term.
        information : {"average", "expected", "observed"}
            Information about the components behind the standard errors (delta method). Definitions from
            BLUEs have none, because two fits are involved.

        Returns
        -------
        HeritabilityTable
            ``table["cullis"]``, ``to_frame()``, and the deltas by pair and level, ``pairs`` and ``by_level``.

        Raises
        ------
        OptionError
            For an unknown term, definition, level or coefficient.

        Examples
        --------
        >>> from fastlmm_core import datasets, lmm
        >>> fit = lmm("yield ~ rep + (1|gen) + (1|rep:block)", datasets.load("john_alpha"))
        >>> round(fit.heritability("gen")["cullis"], 4)
        0.8091
        """
        from fastlmm_core.results.heritability import heritability

        return heritability(self, term, definitions, levels, coefficient, information)

    @public(term=NAME, level=LEVEL)
    def trial_summary(self, term: str, level: float = 0.95) -> dict[str, float]:
        """Was the trial any good: figures of it by name; see ``fastlmm_core.results.trial_summary``."""
        from fastlmm_core.results.trial_summary import trial_summary

        return trial_summary(self, term, level)

    @public(
        term=NAME, by=optional(NAMES), level=LEVEL, largest=SWITCH, draws=whole(100), seed=whole(0),
    )  # fmt: skip
    def genotype_values(
        self, term: str, by: str | Sequence[str] | None = None, *, level: float = 0.95,
        largest: bool = True, draws: int = 10_000, seed: int = 1,
    ) -> GenotypeValues:  # fmt: skip
        """Mean + BLUP of every genotype, with standard error, rank and the uncertainty of the rank.

        Parameters
        ----------
        term : str
            Grouping factor of the genotypes, ``"gen"`` or ``"vm(gen, A)"``.
        by : str or sequence of str, optional
            Values within the levels of these, environments or traits, with the interactions there; without
            it, over them: the effect of the genotype itself, or the mean of its effects.
        level : float
            Of all intervals.
        largest : bool
            Whether large values are good.
        draws, seed : int
            Ranks are drawn from the joint normal distribution of the true values given the data.

        Returns
        -------
        GenotypeValues
            ``to_frame()``, ``best(k)``, ``select(k)``, ``index(weights)``.

        Raises
        ------
        OptionError
            For an unknown term or factor.

        Examples
        --------
        >>> from fastlmm_core import datasets, lmm
        >>> fit = lmm("yield ~ rep + (1|gen) + (1|rep:block)", datasets.load("john_alpha"))
        >>> values = fit.genotype_values("gen")
        >>> values.best(1).to_frame()["gen"].tolist()
        ['G01']
        """
        from fastlmm_core.results.genotype_values import genotype_values

        return genotype_values(self, term, by, level, largest, draws, seed)

    @public(term=optional(TEXT), se=SWITCH)
    def trend(self, term: str | None = None, se: bool = True) -> pd.DataFrame:
        """The fitted trend over a field at all its positions, also those of missing plots.

        Parameters
        ----------
        term : str, optional
            Spline or term of ``ar1()``; by default the surface, else the process, else a curve.
        se : bool

        Returns
        -------
        DataFrame
            Positions, trend, se. Of a spline the trend is its deviation with the polynomials in its variables
            that the fixed part has, less their mean over the plots; of a process its BLUPs.

        Raises
        ------
        OptionError
            When the model has no trend, or no such term.
        """
        from fastlmm_core.results.trend import trend_table

        return trend_table(self, term, se)

    @public(row=optional(NAME), column=optional(NAME), by=optional(NAME))
    def variogram(
        self, row: str | None = None, column: str | None = None, by: str | None = None,
        data: pd.DataFrame | None = None,
    ) -> pd.DataFrame:  # fmt: skip
        """Sample variogram of the residuals by displacement; see ``fastlmm_core.results.variogram``.

        Parameters
        ----------
        row, column, by, data
            As of ``fastlmm_core.results.field_layout.field_layout``; the model knows them by default.

        Returns
        -------
        DataFrame
            [trial], row_lag, column_lag, semivariance, pairs.
        """
        from fastlmm_core.results.field_layout import field_layout
        from fastlmm_core.results.variogram import variogram_table

        return variogram_table(field_layout(self, row, column, by, data), self.residuals)

    @public(random=either(SWITCH, NAMES), allow_new_levels=SWITCH, se=SWITCH)
    def predict(
        self, newdata: Any = None, *, random: bool | Sequence[str] = True, allow_new_levels: bool = False,
        offset: Any = None, se: bool = False,
    ) -> np.ndarray | pd.DataFrame:  # fmt: skip
        """Predictions for the rows of `newdata` (the rows of the fit by default).

        Parameters
        ----------
        random : bool or list of str
            Include all random terms, none, or those of the named grouping factors. A spline by itself adds
            its deviation from the polynomials that it does not penalize, which are in the fixed part.
        allow_new_levels : bool
            Levels that did not occur get a random effect of zero, and its variance in `se`.
        offset : (m,) array, optional
            The whole offset of the new rows, in place of the formula's, which is evaluated in `newdata`.
            Needed when the model has an offset that the formula does not name.
        se : bool
            Return a table with prediction, se and status. The standard error is of the predicted mean: the
            uncertainty of beta and u, not the residual.

        Raises
        ------
        DataError
            Unknown levels without `allow_new_levels`, missing columns.
        """
        return _prediction.predict(self, newdata, random, allow_new_levels, offset, se)

    @public()
    def refit(self, y: Any) -> LMMFit:
        """The same model on another response (n,)."""
        return self.prepared.fit(y=y)

    @public()
    def save(self, path: str | Path) -> None:
        """Write the fit to a file that `fastlmm_core.load` reads; see ``fastlmm_core.results.saving``."""
        from fastlmm_core.results.saving import save_fit

        save_fit(self, path)

    @public(ddf=DDF)
    def summary(self, ddf: str | None = None, information: str | None = None) -> Summary:
        """Printable summary; see ``fastlmm_core.results.summary``."""
        from fastlmm_core.results.summary import summarize

        return summarize(self, ddf, information=information)

    def __str__(self) -> str:
        return str(self.summary())

    def _repr_html_(self) -> str:
        return self.summary()._repr_html_()

    def __repr__(self) -> str:
        return f"<LMMFit {self.formula!r} by {self.method}: n={self.nobs}, criterion={self.criterion:.4f}>"
