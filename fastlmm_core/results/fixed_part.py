"""Questions about the fixed part of a fit: linear functions, tests, marginal means."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import scipy.sparse as sp

from fastlmm_core.display.frames import titled
from fastlmm_core.errors import OptionError, check_level, check_option
from fastlmm_core.gate import public
from fastlmm_core.inference.linear_functions import (
    DDF_METHODS,
    LinearFunctions,
    linear_functions,
)
from fastlmm_core.options import (
    ANY,
    LEVEL,
    NAME,
    NAMES,
    NUMBER,
    SWITCH,
    TEXT,
    either,
    numbers,
    one_of,
    optional,
    table_of,
    whole,
)
from fastlmm_core.reml.information import KINDS
from fastlmm_core.results import prediction as _prediction
from fastlmm_core.results import term_tests as _term_tests
from fastlmm_core.results.coefficients import (
    coefficient_table,
)
from fastlmm_core.results.fit_figures import FitFigures

if TYPE_CHECKING:
    from fastlmm_core.means.emmeans import EmmeansTable

DDF = optional(one_of(DDF_METHODS))
INFORMATION = optional(one_of(KINDS))


class FixedPart(FitFigures):
    """Fixed effects, their tests, marginal means and what they rest on."""

    @cached_property
    def se(self) -> np.ndarray:
        se = np.full(len(self.coef_names), np.nan)
        se[self.design.kept] = self._coefficient_statistics("asymptotic")[1]
        return se

    @public(ddf=DDF, information=INFORMATION, second_derivatives=SWITCH)
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

        Examples
        --------
        >>> from fastlmm_core import datasets, lmm
        >>> fit = lmm("Reaction ~ Days + (Days|Subject)", datasets.load("sleepstudy"))
        >>> fit.linear_functions([[1.0, 5.0]])
        Linear functions K beta
         estimate     se  df
          303.742  9.581  17
        ddf: kenward-roger, expected information
        Next: .se(), .df(), .cov, .f_test()
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

    @public(ddf=DDF, information=INFORMATION, level=LEVEL, second_derivatives=SWITCH)
    @titled("Fixed effects, limits at level {level:g}")
    def fixed_effects(
        self, ddf: str | None = None, information: str | None = None, level: float = 0.95,
        second_derivatives: bool = False,
    ) -> pd.DataFrame:  # fmt: skip
        """Coefficients: term, estimate, se, df, t, p, lower, upper, status, ddf (unrounded).

        For Kenward-Roger the standard errors are the adjusted ones.

        Examples
        --------
        >>> from fastlmm_core import datasets, lmm
        >>> fit = lmm("Reaction ~ Days + (Days|Subject)", datasets.load("sleepstudy"))
        >>> print(fit.fixed_effects())
        Fixed effects, limits at level 0.95
         term         estimate     se  df       t       p    lower    upper
         (Intercept)   251.405  6.825  17  36.838  <.0001  237.007  265.804
         Days           10.467  1.546  17   6.771  <.0001    7.206   13.729
        ddf: kenward-roger
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
        if not self.design.kept.size:  # y ~ 0 + (1|g): no information about variances is asked for
            return np.empty(0), np.empty(0), np.empty(0)
        own = self.coefficient_functions(
            ddf=ddf, information=information, second_derivatives=second_derivatives
        )
        return own.estimate, own.se(), own.df()

    @public(type=one_of((1, 2, 3)), ddf=DDF, information=INFORMATION)
    @titled("Analysis of variance, type {type}")
    def anova(self, type: int = 3, ddf: str | None = None, information: str | None = None) -> pd.DataFrame:
        """F tests of the terms: term, df_num, df_den, F, p, scaling, status, ddf.

        Parameters
        ----------
        type : {1, 2, 3}
            Sequential, marginal to terms that do not contain it, or marginal in sum-to-zero coding.
        ddf : str, optional
            Kenward-Roger gives the scaled F of pbkrtest, with its scaling in a column of its own.

        Examples
        --------
        >>> from fastlmm_core import datasets, lmm
        >>> fit = lmm("Y ~ V*N + (1|B/V)", datasets.load("oats"))
        >>> print(fit.anova())
        Analysis of variance, type 3
         term  df_num  df_den       F       p  scaling
         V          2      10   1.485  0.2724    1.000
         N          3      45  37.686  <.0001    1.000
         V:N        6      45   0.303  0.9322    1.000
        ddf: kenward-roger
        """
        ddf, information = ddf or self.default_ddf, information or self.default_information
        return _term_tests.anova_table(self, self.linear_functions, type, ddf, information)

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

        Examples
        --------
        >>> from fastlmm_core import datasets, lmm
        >>> fit = lmm("Yield ~ 1 + (1|Batch)", datasets.load("dyestuff"))
        >>> fit.observation_weights([[1.0]]).sum().round(6)
        np.float64(1.0)
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
        """Estimated marginal means; see ``fastlmm_core.means.emmeans.emmeans``.

        Examples
        --------
        >>> from fastlmm_core import datasets, lmm
        >>> fit = lmm("Y ~ V*N + (1|B/V)", datasets.load("oats"))
        >>> print(fit.emmeans("~ N | V", at={"V": ["Victory"]}))
        Estimated marginal means
        V = Victory:
         N        estimate     se     df   lower    upper
         N0.0cwt    71.500  9.107  16.08  52.202   90.798
         N0.2cwt    89.667  9.107  16.08  70.369  108.965
         N0.4cwt   110.833  9.107  16.08  91.535  130.131
         N0.6cwt   118.500  9.107  16.08  99.202  137.798
        <BLANKLINE>
        Degrees of freedom: Kenward-Roger
        Confidence level: 0.95
        """
        from fastlmm_core.means.emmeans import emmeans

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
        """Marginal slopes in a covariate; see ``fastlmm_core.means.emmeans.emtrends``.

        Examples
        --------
        >>> from fastlmm_core import datasets, lmm
        >>> fit = lmm("Reaction ~ Days * Subject", datasets.load("sleepstudy"))
        >>> print(fit.emtrends("Subject", "Days").to_frame().head(2)[["Subject", "estimate", "se"]].round(3))
          Subject  estimate     se
        0    S308    21.765  2.818
        1    S309     2.262  2.818
        """
        from fastlmm_core.means.emmeans import emtrends

        ddf, information = ddf or self.default_ddf, information or self.default_information
        return emtrends(self, specs, var, by, at, weights, ddf, information, level, delta)

    @public(
        by=optional(NAMES), at=optional(table_of(ANY)), ddf=DDF, information=INFORMATION, scaled=SWITCH
    )  # fmt: skip
    @titled("Joint tests of the contrasts of marginal means")
    def joint_tests(
        self, by: Any = None, at: Mapping[str, Any] | None = None, weights: Any = "equal",
        ddf: str | None = None, information: str | None = None, scaled: bool = True,
    ) -> pd.DataFrame:  # fmt: skip
        """F tests of the contrasts of the marginal means; see ``fastlmm_core.means.joint_tests``.

        Examples
        --------
        >>> from fastlmm_core import datasets, lmm
        >>> fit = lmm("Y ~ V*N + (1|B/V)", datasets.load("oats"))
        >>> print(fit.joint_tests(by="V"))
        Joint tests of the contrasts of marginal means
         term  V            df_num  df_den       F       p
         N     Golden.rain       3      45  13.023  <.0001
         N     Marvellous        3      45   9.953  <.0001
         N     Victory           3      45  15.316  <.0001
        """
        from fastlmm_core.means.joint_tests import joint_tests

        ddf, information = ddf or self.default_ddf, information or self.default_information
        return joint_tests(self, by, at, weights, ddf, information, scaled)
