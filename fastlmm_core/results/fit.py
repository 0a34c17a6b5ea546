"""The fitted model: figures of the fit, and one method for every question asked of it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from fastlmm_core.display.displayed import Displayed
from fastlmm_core.display.frames import titled
from fastlmm_core.gate import public
from fastlmm_core.options import (
    LEVEL,
    NAMES,
    PATH,
    SWITCH,
    either,
    one_of,
    optional,
    whole,
)
from fastlmm_core.results import prediction as _prediction
from fastlmm_core.results.aliases import Aliases
from fastlmm_core.results.fixed_part import DDF

if TYPE_CHECKING:
    from fastlmm_core.intervals.bootstrap import Bootstrap
    from fastlmm_core.intervals.profile import Profile
    from fastlmm_core.results.summary import Summary


class LMMFit(Displayed, Aliases):
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

    Examples
    --------
    >>> from fastlmm_core import datasets, lmm
    >>> fit = lmm("Y ~ V*N + (1|B/V)", datasets.load("oats"))
    >>> fit
    Linear mixed model by REML: Y ~ V*N + (1|B/V)
    72 rows, 12 fixed effects, -2 log-likelihood 529.03
    Variances: V:B 106.1; B 214.5; Residual 177.1
    Next: .summary(), .anova(), .emmeans(factor), .blups(), .variance_components, .conf_int(),
          .predict(newdata), plots.plot_residuals(fit)
    """

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
            Names as ``conf_int`` shows them, ``"theta_"`` for all variance parameters, ``"beta_"`` for all
            fixed effects; default everything.
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

        Examples
        --------
        >>> from fastlmm_core import datasets, lmm
        >>> fit = lmm("Yield ~ 1 + (1|Batch)", datasets.load("dyestuff"))
        >>> print(fit.profile("theta_").conf_int())
        Profile intervals, level 0.95
         parameter               kind   group     var1         var2  estimate  lower  upper
         sd(Batch: (Intercept))  sd     Batch     (Intercept)           37.26  12.20  84.06
         sigma                   sigma  Residual                        49.51  38.23  67.66
        method: profile
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

        Examples
        --------
        >>> from fastlmm_core import datasets, lmm
        >>> fit = lmm("Yield ~ 1 + (1|Batch)", datasets.load("dyestuff"))
        >>> draws = fit.bootstrap(50, seed=1, progress=False)
        >>> draws.draws.shape, draws.names
        ((50, 3), ('sd(Batch: (Intercept))', 'sigma', '(Intercept)'))
        """
        from fastlmm_core.intervals.bootstrap import bootstrap

        return bootstrap(self, n, kind, seed, statistic, out, threads, progress)

    @public(method=one_of(("profile", "wald", "bootstrap")), parameters=optional(NAMES), level=LEVEL)
    @titled("Intervals, level {level:g}")
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

        Examples
        --------
        >>> from fastlmm_core import datasets, lmm
        >>> fit = lmm("Reaction ~ Days + (Days|Subject)", datasets.load("sleepstudy"))
        >>> print(fit.conf_int("wald", "beta_").iloc[:, [0, 5, 6, 7]])
        Intervals, level 0.95
         parameter    estimate    lower    upper
         (Intercept)   251.405  237.007  265.804
         Days           10.467    7.206   13.729
        """
        from fastlmm_core.intervals.confidence import conf_int

        return conf_int(self, (self.profile, self.bootstrap), method, parameters, level, options)

    @public(exact=SWITCH, draws=whole(100), seed=optional(whole(0)))
    @titled("Likelihood-ratio tests of the random terms")
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

        Examples
        --------
        >>> from fastlmm_core import datasets, lmm
        >>> fit = lmm("Y ~ V*N + (1|B/V)", datasets.load("oats"))
        >>> print(fit.ranova())
        Likelihood-ratio tests of the random terms
         term       npar  loglik    aic  chisq  df       p  p_boundary  mixture
         <none>       15  -264.5  559.0
         (1 | V:B)    14  -268.3  564.7  7.661   1  0.0056      0.0028  0.5 chi2(0) + 0.5 chi2(1)
         (1 | B)      14  -267.0  562.0  4.978   1  0.0257      0.0128  0.5 chi2(0) + 0.5 chi2(1)
        """
        from fastlmm_core.intervals.random_terms import ranova

        return ranova(self, exact, draws, seed)

    @public(random=either(SWITCH, NAMES), allow_new_levels=SWITCH, se=SWITCH, residual=SWITCH)
    @titled("Predictions")
    def predict(
        self, newdata: Any = None, *, random: bool | Sequence[str] = True, allow_new_levels: bool = False,
        offset: Any = None, se: bool = False, residual: bool = False,
    ) -> np.ndarray | pd.DataFrame:  # fmt: skip
        """Predictions for the rows of `newdata` (the rows of the fit by default).

        Parameters
        ----------
        random : bool or list of str
            Include all random terms, none, or those of the named grouping factors. A spline by itself adds
            its deviation from the polynomials that it does not penalize, which are in the fixed part.
        allow_new_levels : bool
            Levels that did not occur get a random effect of zero, and its variance in `se`: of related levels
            that of those in the relationship on average, of a pedigree that of a founder; with `residual` new
            subjects get their mean, and the variance of their visit.
        offset : (m,) array, optional
            The whole offset of the new rows, in place of the formula's, which is evaluated in `newdata`.
            Needed when the model has an offset that the formula does not name.
        se : bool
            Return a table with prediction, se and status. The standard error is of the predicted mean: the
            uncertainty of beta and u, not the residual.
        residual : bool
            Add what the correlated residuals of the fit tell of that of a new row: of a plot in the field
            without a yield or beyond it along `ar1()`, of a visit that a subject missed, of a day after those
            of `ar1(day | subject)`, of a trait that was not measured. `se` is then
            that of the row's own value, what its residual, and its effect of `units`, may still be included.
            Rows of the data give their response where no term is of `units`. New rows have weight 1.

        Raises
        ------
        DataError
            Unknown levels without `allow_new_levels`, missing columns; with `residual`, plots outside of the
            field and visits that nobody had, where the structure does not say how it goes on.
        OptionError
            `residual` where the residuals of the model are independent or known by row.

        Examples
        --------
        >>> from fastlmm_core import datasets, lmm
        >>> fit = lmm("Y ~ V*N + (1|B/V)", datasets.load("oats"))
        >>> print(fit.predict({"V": ["Victory"], "N": ["N0.2cwt"], "B": ["I"]}, se=True))
        Predictions
         prediction     se
              129.2  7.647
        """
        return _prediction.predict(self, newdata, random, allow_new_levels, offset, se, residual)

    @public()
    def refit(self, y: Any) -> LMMFit:
        """The same model, with the weights of this fit, on another response (n,).

        Examples
        --------
        >>> from fastlmm_core import datasets, lmm
        >>> fit = lmm("Reaction ~ Days + (Days|Subject)", datasets.load("sleepstudy"))
        >>> again = fit.refit(2 * fit.response)
        >>> round(again.sigma / fit.sigma, 6)
        2.0
        """
        return self.prepared.fit(y=y, weights=self.own_weights)

    @public()
    def save(self, path: str | Path) -> None:
        """Write the fit to a file that `fastlmm_core.load` reads; see ``fastlmm_core.results.saving``.

        Examples
        --------
        >>> from fastlmm_core import datasets, lmm
        >>> fit = lmm("Yield ~ 1 + (1|Batch)", datasets.load("dyestuff"))
        >>> from fastlmm_core import load
        >>> fit.save("dyestuff.fit")
        >>> load("dyestuff.fit").nobs
        30
        """
        from fastlmm_core.results.saving import save_fit

        save_fit(self, path)

    @public(ddf=DDF)
    def summary(self, ddf: str | None = None, information: str | None = None) -> Summary:
        """Printable summary; see ``fastlmm_core.results.summary``.

        Examples
        --------
        >>> from fastlmm_core import datasets, lmm
        >>> fit = lmm("Yield ~ 1 + (1|Batch)", datasets.load("dyestuff"))
        >>> print(fit.summary())
        Linear mixed model fit by REML
        Formula: Yield ~ 1 + (1|Batch)
        <BLANKLINE>
        REML criterion at convergence: 319.7
        <BLANKLINE>
        Scaled residuals:
             Min       1Q  Median      3Q     Max
         -1.4117  -0.7634  0.1418  0.7792  1.8296
        <BLANKLINE>
        Random effects:
         Groups    Name         Variance  Std.Dev.
         Batch     (Intercept)   1764.05     42.00
         Residual                2451.25     49.51
        <BLANKLINE>
        Number of obs: 30, groups: Batch, 6
        <BLANKLINE>
        Fixed effects (Satterthwaite df):
         term         estimate     se  df       t       p
         (Intercept)   1527.50  19.38   5  78.804  <.0001
        """
        from fastlmm_core.results.summary import summarize

        return summarize(self, ddf, information=information)

    def _shown(self) -> Summary:
        return self.summary()

    def _brief(self) -> str:
        from fastlmm_core.results.summary import brief

        return brief(self)
