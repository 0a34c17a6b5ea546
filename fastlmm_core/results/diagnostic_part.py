"""Questions about how well a fit stands: residuals, leverage, deletion, comparison, terms that could go."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from fastlmm_core.display.frames import titled
from fastlmm_core.gate import public
from fastlmm_core.options import LEVEL, NAME, SWITCH, one_of, optional, whole
from fastlmm_core.results.diagnostics.case_diagnostics import diagnostic_table, influence_table
from fastlmm_core.results.diagnostics.conditional_aic import CORRECTIONS, ConditionalAIC, conditional_aic
from fastlmm_core.results.diagnostics.single_term_deletions import TESTS, drop1_table
from fastlmm_core.results.fixed_part import DDF, INFORMATION
from fastlmm_core.results.random_part import RandomPart
from fastlmm_core.results.term_tests import compare

if TYPE_CHECKING:
    from fastlmm_core.results.fit_figures import FitFigures


class DiagnosticPart(RandomPart):
    """Residuals with their own errors, leverage and influence, conditional AIC, comparison with others."""

    @public(components=SWITCH)
    @titled("Diagnostics of the rows")
    def diagnostics(self, *, components: bool = False) -> pd.DataFrame:
        """A row for every observation: residuals over their own errors, leverage, influence.

        Parameters
        ----------
        components : bool
            Add what leaving the row out would change in the variance components, as ``influence`` does.
            Time grows with the square of the rows: 6 s for 6,000, 20 s for 12,000, minutes for 30,000;
            ``influence`` of a factor takes its levels alone.

        Returns
        -------
        DataFrame
            row (label in the table), fitted; residual (conditional: less fixed and random effects) and
            studentized, that over its own standard deviation; marginal (less the fixed effects) and
            marginal_studentized; leverage, the diagonal of the hat matrix of fixed and random effects, whose
            sum is the effective number of parameters, and leverage_fixed, of the fixed part alone, whose sum
            is their number. What the deletion of the row would do at these variance parameters: shift
            (observed less predicted from all others), cooks_d and mdffits of the fixed effects (distance in
            their errors with and without it, over their number), covtrace and covratio (of Var(b) without it
            beside Var(b)). status says where a fixed effect is not estimable without the row; such have NaN.

        Raises
        ------
        InferenceError
            Without fixed effects, or where they explain the response.

        References
        ----------
        Christensen, Pearson & Johnson (1992), Technometrics 34, 38-45; Demidenko & Stukel (2005), Statist.
        Med. 24, 893-909; Haslett & Dillane (2004), Biometrika 91, 131-143.

        Examples
        --------
        >>> from fastlmm_core import datasets, lmm
        >>> fit = lmm("yield ~ rep + (1|gen) + (1|rep:block)", datasets.load("john_alpha"))
        >>> table = fit.diagnostics()
        >>> int(table["studentized"].abs().idxmax()), round(float(table["leverage"].sum()), 2)
        (2, 32.23)
        """
        return diagnostic_table(self, components)

    @public(group=NAME, coefficients=SWITCH, components=SWITCH)
    @titled("Influence of the levels of {group}")
    def influence(
        self, group: str, *, coefficients: bool = False, components: bool = False,
        data: pd.DataFrame | None = None,
    ) -> pd.DataFrame:  # fmt: skip
        """What leaving out each level of a factor would do to the fixed effects and variance components.

        Fixed effects exactly at the variance parameters of the fit, and components by one step of scoring,
        from its own equations: nothing is fitted again.

        Parameters
        ----------
        group : str
            Grouping factor of a random term, ``"rep:block"``, or any column.
        coefficients : bool
            Add a column ``change_<coefficient>`` for each, its estimate without the level less that with it.
        components : bool
            Add such a column for each variance component, ``change_var(gen)`` or ``change_cov(gen: a, b)``,
            and ``cooks_d_components``, the squared length of the change in their standard errors (not
            divided by their number). No variance is taken below zero, and one at zero stays there.
        data : DataFrame, optional
            The table of the fit, for a column that the model does not use.

        Returns
        -------
        DataFrame
            group, level, n, cooks_d, mdffits, covtrace, covratio, status; see ``diagnostics``.

        Raises
        ------
        OptionError, DataError, InferenceError

        References
        ----------
        Beckman, Nachtsheim & Cook (1987), Technometrics 29, 413-426; those of ``diagnostics``.

        Examples
        --------
        >>> from fastlmm_core import datasets, lmm
        >>> fit = lmm("Reaction ~ Days + (Days|Subject)", datasets.load("sleepstudy"))
        >>> table = fit.influence("Subject", components=True)
        >>> table.loc[table["cooks_d"].idxmax(), "level"]
        'S309'
        >>> own = table.loc[table["cooks_d_components"].idxmax()]
        >>> own["level"], round(own["change_var(Residual)"])
        ('S332', -247)
        """
        return influence_table(self, group, coefficients, components, data)

    @public(
        term=optional(NAME), coefficient=optional(NAME), draws=whole(19), level=LEVEL, seed=whole(0),
    )  # fmt: skip
    @titled("Half-normal plot of BLUPs")
    def half_normal(
        self, term: str | None = None, *, coefficient: str | None = None, draws: int = 999,
        level: float = 0.95, seed: int = 1,
    ) -> pd.DataFrame:  # fmt: skip
        """Sizes of standardized BLUPs beside half-normal quantiles, with a simulated envelope.

        Parameters
        ----------
        term, coefficient : str, optional
            Grouping factor and one of its coefficients; the first by default.
        draws : int
            Responses drawn from the model.
        level : float
            Of the envelope, at each rank.
        seed : int

        Returns
        -------
        DataFrame
            level, quantile, size, median, lower, upper, outside; ``fastlmm_core.plots.plot_half_normal``
            draws it.

        Raises
        ------
        OptionError, InferenceError
            For an unknown term or coefficient, or a variance of zero.

        Examples
        --------
        >>> from fastlmm_core import datasets, lmm
        >>> fit = lmm("Reaction ~ Days + (Days|Subject)", datasets.load("sleepstudy"))
        >>> plot = fit.half_normal("Subject", coefficient="Days", draws=99)
        >>> str(plot["level"].iloc[-1]), bool(plot["outside"].any())
        ('S335', False)
        """
        from fastlmm_core.results.diagnostics.half_normal import half_normal_table

        return half_normal_table(self, term, coefficient, draws, level, seed)

    @public(correction=one_of(CORRECTIONS))
    def conditional_aic(self, correction: str = "estimated") -> ConditionalAIC:
        """AIC for predictions of the same levels, by the effective degrees of freedom of the fit.

        Parameters
        ----------
        correction : {"estimated", "known", "vaida-blanchard"}
            Degrees of freedom with the variance parameters estimated (Greven & Kneib 2010), as if they were
            known, tr(H) and the parameters of the residual, or with known ratios and sigma estimated (Vaida
            & Blanchard 2005).

        Returns
        -------
        ConditionalAIC
            caic, loglik, df, rho.

        Raises
        ------
        InferenceError
            Where the fit leaves no residual, or the residual has not the one variance that
            ``"vaida-blanchard"`` needs.

        Examples
        --------
        >>> from fastlmm_core import datasets, lmm
        >>> fit = lmm("Reaction ~ Days + (Days|Subject)", datasets.load("sleepstudy"))
        >>> round(fit.conditional_aic().df, 2), round(fit.conditional_aic("known").df, 2)
        (31.25, 30.02)
        """
        return conditional_aic(self, correction)

    @public(conditional=SWITCH)
    def compare(self, *others: FitFigures, conditional: bool = False) -> pd.DataFrame:
        """This fit beside others of the same response; see ``fastlmm_core.compare``.

        Examples
        --------
        >>> from fastlmm_core import datasets, lmm
        >>> data = datasets.load("sleepstudy")
        >>> lines = lmm("Reaction ~ Days + (Days|Subject)", data)
        >>> levels = lmm("Reaction ~ Days + (1|Subject)", data)
        >>> round(float(lines.compare(levels)["chisq"].iloc[1]), 2)
        42.84
        """
        return compare(self, *others, conditional=conditional)

    @public(test=one_of(TESTS), ddf=DDF, information=INFORMATION)
    @titled("Single term deletions")
    def drop1(
        self, test: str = "F", *, ddf: str | None = None, information: str | None = None
    ) -> pd.DataFrame:
        """Tests of the fixed terms that could be dropped: those that no other term contains.

        Parameters
        ----------
        test : {"F", "chisq"}
            F beside all other terms, as lmerTest's and pbkrtest's, from this fit; or likelihood ratios of ML
            fits with and without the term, as lme4's ``drop1``. These leave out terms of which a spline is
            the deviation, ``row:col`` beside ``ps(row, col)``: no model is without them.
        ddf, information : str, optional
            Of F; as of ``anova``.

        Returns
        -------
        DataFrame
            term, df_num, df_den, F, p, scaling, status, ddf; or term, npar, criterion, aic, bic, chisq, df, p
            with the model itself, ``<none>``, as first row. ``ranova`` does the same for random terms.

        Raises
        ------
        OptionError
            When the fixed part has no terms.

        Examples
        --------
        >>> from fastlmm_core import datasets, lmm
        >>> fit = lmm("Y ~ V + N + (1|B/V)", datasets.load("oats"))
        >>> table = fit.drop1()
        >>> table["term"].tolist(), table["df_num"].tolist()
        (['V', 'N'], [2, 3])
        """
        ddf, information = ddf or self.default_ddf, information or self.default_information
        return drop1_table(self, self.linear_functions, test, ddf, information)
