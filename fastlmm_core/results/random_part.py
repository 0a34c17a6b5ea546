"""Questions about the random part of a fit: components, BLUPs, heritability, values of genotypes."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import pandas as pd

from fastlmm_core.display.frames import titled
from fastlmm_core.gate import public
from fastlmm_core.options import LEVEL, NAME, NAMES, SWITCH, TEXT, one_of, optional, whole
from fastlmm_core.reml.information import KINDS
from fastlmm_core.results import blups as _blups
from fastlmm_core.results.components.correlations import CorrelationTable, correlation_table
from fastlmm_core.results.components.effective_dimensions import effective_dimension_table
from fastlmm_core.results.components.vpredict import VarianceFunction, vpredict
from fastlmm_core.results.field_part import FieldPart
from fastlmm_core.results.genotypes.marker_effects import marker_effect_table

if TYPE_CHECKING:
    from fastlmm_core.results.factor_analytic.factor_analysis import FactorAnalysis
    from fastlmm_core.results.genotypes.heritability import HeritabilityTable
    from fastlmm_core.results.genotypes.values import GenotypeValues


class RandomPart(FieldPart):
    """Variance components and functions of them, BLUPs and what is made of them."""

    def vpredict(self, expression: str, information: str = "average") -> VarianceFunction:
        """A function of the variance components with its standard error.

        Components have names, ``gen`` and ``Residual``, in backticks where they are no words: those of the
        table of components with their group, ```rep:block```, ```var(Subject: Days)```,
        ```cov(Subject: (Intercept), Days)```. They have numbers V1, V2, ..., too, as they stand in the lower
        triangle of every term's covariance, row by row, term after term, the residual last; a number comes
        before a group of that name.

        Parameters
        ----------
        expression : str
            For example ``"gen/(gen + Residual)"``; also ``sqrt``, ``log`` and ``exp``.
        information : {"average", "expected", "observed"}
            Information about the components behind the standard error.

        Raises
        ------
        OptionError
            When the expression is anything else.

        Examples
        --------
        >>> from fastlmm_core import datasets, lmm
        >>> fit = lmm("yield ~ rep + (1|gen) + (1|rep:block)", datasets.load("john_alpha"))
        >>> fit.vpredict("gen/(gen + Residual)")
        gen/(gen + Residual) = 0.6365, standard error 0.1077 (average information)
        Next: .estimate, .se, .conf_int()
        >>> print(fit.vpredict("V1/(V1 + `rep:block` + V3)"))
        V1/(V1 + `rep:block` + V3) = 0.4848, standard error 0.1156 (average information)
        """
        return vpredict(self, expression, information)

    @public(term=optional(NAME), information=one_of(KINDS), level=LEVEL)
    def correlations(
        self, term: str | None = None, information: str = "average", level: float = 0.95
    ) -> CorrelationTable:
        """Genetic and residual correlations: group, var1, var2, estimate, se, lower, upper.

        Autocorrelations of fields and of levels, ``ar1(row):ar1(col)``, stand among them, between the
        neighbours in a direction.

        Parameters
        ----------
        term : str, optional
            Grouping factor, ``"gen"`` or ``"vm(gen, G)"``, or ``"Residual"``; all of them by default.
        information : {"average", "expected", "observed"}
            Information about the variance parameters behind the standard errors (delta method).
        level : float
            Of the intervals, symmetric on the scale of Fisher's z. ``conf_int()`` has those of the profile
            likelihood.

        Returns
        -------
        CorrelationTable
            ``to_frame()``, and ``matrix(group)`` and ``errors(group)`` as squares.

        Raises
        ------
        OptionError
            When the term, or every term, has no correlations.

        Examples
        --------
        >>> from fastlmm_core import datasets, lmm
        >>> fit = lmm("Reaction ~ Days + (Days|Subject)", datasets.load("sleepstudy"))
        >>> print(fit.correlations())
        Correlations (standard errors from average information)
         group    var1         var2  estimate      se    lower   upper
         Subject  (Intercept)  Days    0.0656  0.3250  -0.5184  0.6078
        """
        return correlation_table(self, term, information, level)

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

        Examples
        --------
        >>> from fastlmm_core import datasets, lmm
        >>> model = "yield ~ county + fa(0 + county | gen, k=1) + (1 | county:rep:block)"
        >>> fit = lmm(model, datasets.load("besag_met"), residual="units | county")
        >>> print(fit.factor_analysis().explained)
        Variance explained (%), by environment
         environment  variance      F1   total  se_variance  se_F1  se_total
         C1              57.52   73.80   73.80        21.44  24.88     24.88
         C2              23.00  100.00  100.00        12.21
         C3              93.06   60.90   60.90        27.78  19.08     19.08
         C4              27.98  100.00  100.00        14.99
         C5              78.48  100.00  100.00        22.20
         C6              16.30   23.85   23.85        31.85  56.72     56.72
        """
        from fastlmm_core.results.factor_analytic.factor_analysis import factor_analysis

        return factor_analysis(self, term, information)

    @cached_property
    @titled("Effective dimensions")
    def effective_dimensions(self) -> pd.DataFrame:
        """Effective dimensions tr(P V_k) of fixed part, terms and residual: group, name, edf, size."""
        return effective_dimension_table(self)

    @public(term=optional(NAME), level=LEVEL)
    @titled("BLUPs, limits at level {level:g}")
    def blups(self, term: str | None = None, level: float = 0.95) -> pd.DataFrame:
        """Conditional modes: group, level, term, estimate, se, pev, condvar, reliability, lower, upper.

        `pev` is the prediction error variance Var(u_hat - u) with the uncertainty of beta in it, `condvar`
        the conditional variance given the parameters (lme4's condVar); `se` is sqrt(pev), and
        reliability = 1 - pev / Var(u).

        Examples
        --------
        >>> from fastlmm_core import datasets, lmm
        >>> fit = lmm("Yield ~ 1 + (1|Batch)", datasets.load("dyestuff"))
        >>> print(fit.blups())
        BLUPs, limits at level 0.95
         group  level  term         estimate     se     pev  condvar  reliability   lower   upper
         Batch  A      (Intercept)    -17.61  24.77  613.70   383.63        0.652  -66.16   30.95
         Batch  B      (Intercept)      0.39  24.77  613.70   383.63        0.652  -48.16   48.95
         Batch  C      (Intercept)     28.56  24.77  613.70   383.63        0.652  -19.99   77.12
         Batch  D      (Intercept)    -23.08  24.77  613.70   383.63        0.652  -71.64   25.47
         Batch  E      (Intercept)     56.73  24.77  613.70   383.63        0.652    8.18  105.29
         Batch  F      (Intercept)    -45.00  24.77  613.70   383.63        0.652  -93.55    3.56
        """
        return _blups.blup_table(self, term, level)

    @public()
    @titled("Conditional modes of {key}")
    def ranef(self) -> dict[str, pd.DataFrame]:
        """Conditional modes by grouping factor: a row a level, a column a coefficient.

        Examples
        --------
        >>> from fastlmm_core import datasets, lmm
        >>> fit = lmm("Reaction ~ Days + (Days|Subject)", datasets.load("sleepstudy"))
        >>> print(fit.ranef()["Subject"].head(2))
        Conditional modes of Subject
         Subject  (Intercept)    Days
         S308           2.259   9.199
         S309         -40.399  -8.620
        """
        return _blups.ranef_tables(self)

    @public(term=optional(TEXT))
    @titled("Effects of markers")
    def marker_effects(self, term: str | None = None) -> pd.DataFrame:
        """Effects of the markers behind ``vm(gen, M)``: term, marker, estimate, se, pev.

        Parameters
        ----------
        term : str, optional
            Group of the random term, ``"vm(gen, M)"``; default the first that has markers. Of several
            coefficients, in one term or in several of this group, the column term says on which an effect is.

        Raises
        ------
        OptionError
            When no term, or not this one, has a relationship from markers.

        Examples
        --------
        >>> import pandas as pd
        >>> from fastlmm_core import Markers, lmm
        >>> snps = pd.DataFrame({"gen": list("abcd"), "m1": [0, 1, 2, 0], "m2": [2, 1, 0, 0]})
        >>> plots = pd.DataFrame({"gen": list("abcd") * 2, "yield": [5.1, 6.2, 7.4, 5.9, 5.0, 6.5, 7.0, 6.1]})
        >>> fit = lmm("yield ~ 1 + (1 | vm(gen, G))", plots, relationships={"G": Markers(snps)})
        >>> print(fit.marker_effects()[["marker", "estimate"]].round(2))
        Effects of markers
         marker  estimate
         m1          0.62
         m2         -0.43
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
            One of several coefficients of the term; by default the mean over the levels of the factor that
            they are effects in, ``(0 + env | gen)``.
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
        from fastlmm_core.results.genotypes.heritability import heritability

        return heritability(self, term, definitions, levels, coefficient, information)

    @public(term=NAME, level=LEVEL, plots=optional(NAMES))
    def trial_summary(
        self, term: str, level: float = 0.95, *, plots: str | Sequence[str] | None = None,
        data: pd.DataFrame | None = None,
    ) -> dict[str, Any]:  # fmt: skip
        """Was the trial any good: figures of it by name; see ``results.genotypes.trial_summary``.

        Parameters
        ----------
        term : str
            Grouping factor of the genotypes, which are random.
        level : float
            1 less the level of the LSD.
        plots : str or sequence of str, optional
            Columns that name the plots: their number, row and column, or row, column and number; those that
            the model knows by default.
        data : DataFrame, optional
            The table of the fit, for columns that the model does not use.

        Examples
        --------
        >>> from fastlmm_core import datasets, lmm
        >>> fit = lmm("yield ~ rep + (1|gen) + (1|rep:block)", datasets.load("john_alpha"))
        >>> figures = fit.trial_summary("gen")
        >>> round(figures["h2_cullis"], 2), round(figures["h2_se"], 2)
        (0.81, 0.07)
        """
        from fastlmm_core.results.genotypes.trial_summary import trial_summary

        return trial_summary(self, term, level, None, plots, data)

    @public(
        term=NAME, by=optional(NAMES), level=LEVEL, largest=SWITCH, draws=whole(100), seed=whole(0),
        average=optional(NAMES),
    )  # fmt: skip
    def genotype_values(
        self, term: str, by: str | Sequence[str] | None = None, *, level: float = 0.95,
        largest: bool = True, draws: int = 10_000, seed: int = 1,
        average: str | Sequence[str] | None = None,
    ) -> GenotypeValues:  # fmt: skip
        """Mean + BLUP of every genotype, with standard error, rank and the uncertainty of the rank.

        Checks that are fixed effects beside new lines, ``group + (0 + new | gen)``, have their fixed mean and
        stand in the same table; they are no candidates and have no rank.

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
        average : str or sequence of str, optional
            Factors that values are averaged over although all plots of a genotype have one level of them:
            environments with genotypes of their own. Without a word such a column is taken for a property of
            the genotypes (new or old, a marker), and its effect is part of their values.

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
        from fastlmm_core.results.genotypes.values import genotype_values

        return genotype_values(self, term, by, level, largest, draws, seed, average)
