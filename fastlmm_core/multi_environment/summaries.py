"""``gxe``: genotype by environment summaries of a table or a fit."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pandas as pd

from fastlmm_core.display.displayed import Displayed
from fastlmm_core.display.figure_tables import FigureTable
from fastlmm_core.display.frames import titled
from fastlmm_core.display.table_group import TableGroup
from fastlmm_core.errors import DataError, OptionError
from fastlmm_core.gate import public
from fastlmm_core.multi_environment.ammi import AMMI, ammi
from fastlmm_core.multi_environment.analysis_of_variance import anova_table
from fastlmm_core.multi_environment.batch_means import from_batch
from fastlmm_core.multi_environment.fitted_means import from_fit
from fastlmm_core.multi_environment.gge import GGE, PARTITIONS, SCALES, gge
from fastlmm_core.multi_environment.stability import stability_table
from fastlmm_core.multi_environment.two_way_table import (
    BEST,
    TwoWayTable,
    checked,
    from_long,
    from_wide,
    given_error,
    in_all,
)
from fastlmm_core.multi_environment.variance_shares import fitted_shares, table_shares
from fastlmm_core.options import NAME, SWITCH, one_of, optional, whole

if TYPE_CHECKING:
    from fastlmm_core.results.fit import LMMFit



@dataclass(frozen=True, eq=False, repr=False)
class GxE(Displayed):
    """A two-way table of genotypes and environments, and what can be asked of it; made by ``gxe``.

    Attributes
    ----------
    table : TwoWayTable
        Means (g, e), replications, error.
    fit : LMMFit or None
        The fit that the means come from.
    names : tuple of str
        Genotype and environment factor of the fit.

    Examples
    --------
    >>> from fastlmm_core import datasets, gxe
    >>> wheat = gxe(datasets.load("winter_wheat"), "gen", "env", "yield")
    >>> wheat.to_frame().shape
    (18, 9)
    """

    table: TwoWayTable
    fit: LMMFit | None = field(default=None)
    names: tuple[str, str] = ("genotype", "environment")

    @titled("Means")
    def to_frame(self) -> pd.DataFrame:
        """The means: a row a genotype, a column an environment.

        Examples
        --------
        >>> from fastlmm_core import datasets, gxe
        >>> wheat = gxe(datasets.load("winter_wheat"), "gen", "env", "yield")
        >>> print(wheat.to_frame().iloc[:2, :3])
        Means
               BH93   EA93   HW93
         Ann  4.460  4.150  2.849
         Ari  4.417  4.771  2.912
        """
        return self.table.frame()

    def anova(self) -> FigureTable:
        """Analysis of variance: environments, genotypes, interaction (slopes, deviations), error.

        Examples
        --------
        >>> from fastlmm_core import datasets, gxe
        >>> wheat = gxe(datasets.load("winter_wheat"), "gen", "env", "yield")
        >>> print(wheat.anova())
        Analysis of variance (means of yield)
         source         df       ss       ms      F       p
         environment     8  114.536  14.3170
         genotype       17   22.671   1.3336  9.087  <.0001
         interaction   136   19.958   0.1468
           slopes       17    2.278   0.1340  0.902  0.5729
           deviations  119   17.680   0.1486
        No error is known: the interaction has no test.
        """
        return anova_table(self.table)

    @public(best=one_of(BEST))
    def stability(self, best: str = "highest") -> FigureTable:
        """Mean and stability of every genotype.

        Parameters
        ----------
        best : {"highest", "lowest"}
            Which value is the best of an environment, for the superiority measure.

        Returns
        -------
        FigureTable
            genotype, mean, sd over environments; slope, se_slope, t, p_slope, ms_dev, s2d, r2 of Finlay &
            Wilkinson's regression (p against 1); W, W_percent (Wricke's ecovalence); sigma2, F, p_sigma2,
            sigma2_dev (Shukla's stability variance, of means; sigma2_dev beside the regression); P,
            P_genotype, P_interaction, rank_P (Lin & Binns' superiority).

        Examples
        --------
        >>> from fastlmm_core import datasets, gxe
        >>> wheat = gxe(datasets.load("winter_wheat"), "gen", "env", "yield")
        >>> wheat.stability().to_frame()[["genotype", "slope"]].head(2).round(3).to_numpy().tolist()
        [['Ann', 1.098], ['Ari', 1.066]]
        """
        return stability_table(self.table, best)

    def variance_shares(self) -> FigureTable:
        """Variances of genotypes, interaction and the rest, and their percentages.

        Of a fit with random genotypes from its components, with standard errors and the interaction
        split into heterogeneity of scale and lack of correlation; otherwise from the mean squares.

        Examples
        --------
        >>> from fastlmm_core import datasets, gxe
        >>> wheat = gxe(datasets.load("winter_wheat"), "gen", "env", "yield")
        >>> print(wheat.variance_shares())
        Variance components (means of yield)
         component              variance  percent
         genotype                 0.1319    12.37
         interaction and error    0.1468    13.77
         environment              0.7872    73.86
        """
        if self.fit is not None and self._random_genotypes():
            return fitted_shares(self.fit, *self.names)
        return table_shares(self.table)

    def _random_genotypes(self) -> bool:
        assert self.fit is not None
        return any(self.names[0] in term.group_variables for term in self.fit.design.random)

    @titled("Correlations of the means between environments")
    def correlations(self) -> pd.DataFrame:
        """Correlations of the means between environments (e, e), over genotypes.

        Those of predictions are shrunken together; the genetic ones of the model are in ``fit.correlations``
        and ``fit.factor_analysis``.

        Examples
        --------
        >>> from fastlmm_core import datasets, gxe
        >>> wheat = gxe(datasets.load("winter_wheat"), "gen", "env", "yield")
        >>> wheat.correlations().shape
        (9, 9)
        """
        return self.to_frame().corr()

    @public(k=whole(1))
    def ammi(self, k: int = 2) -> AMMI:
        """Additive main effects, multiplicative interaction in k axes.

        Raises
        ------
        OptionError
            For more axes than there are.

        Examples
        --------
        >>> from fastlmm_core import datasets, gxe
        >>> wheat = gxe(datasets.load("winter_wheat"), "gen", "env", "yield")
        >>> wheat.ammi(2).percent[:2].round(1)
        array([48.2, 23.4])
        """
        return ammi(self.table, k)

    @public(scale=one_of(SCALES), partition=one_of(tuple(PARTITIONS)))
    def gge(self, scale: str = "none", partition: str = "environment") -> GGE:
        """Genotypes plus interaction: means centred by environment.

        Parameters
        ----------
        scale : {"none", "sd"}
            Leave environments as they are, or divide each by the standard deviation of its means.
        partition : {"environment", "genotype", "symmetric"}
            Whose distances the biplot shows truly: to whom the singular values go.

        Examples
        --------
        >>> from fastlmm_core import datasets, gxe
        >>> wheat = gxe(datasets.load("winter_wheat"), "gen", "env", "yield")
        >>> wheat.gge().percent[:2].round(1)
        array([58.9, 19.1])
        """
        return gge(self.table, scale, partition)

    @public(axes=whole(1), best=one_of(BEST), scale=one_of(SCALES))
    def tables(self, axes: int = 2, best: str = "highest", scale: str = "none") -> dict[str, pd.DataFrame]:
        """Every summary as a frame, by name: what ``fastlmm gxe --out`` writes and a request answers.

        means (genotype and a column an environment), anova, variance_shares, stability; ammi_axes,
        ammi_genotypes, ammi_environments, ammi_winners; gge_axes, gge_genotypes (ranking, and coordinates on
        two axes of the biplot), gge_environments, gge_winners.

        Parameters
        ----------
        axes : int
            Of AMMI.
        best : {"highest", "lowest"}
            Of the superiority measure, the winners and the ranking of GGE.
        scale : {"none", "sd"}
            Of GGE.

        Examples
        --------
        >>> from fastlmm_core import datasets, gxe
        >>> wheat = gxe(datasets.load("winter_wheat"), "gen", "env", "yield")
        >>> list(wheat.tables())[:4]
        ['means', 'anova', 'variance_shares', 'stability']
        """
        model, biplot = ammi(self.table, axes, "axes"), self.gge(scale)
        return {
            "means": pd.DataFrame(self.to_frame()).reset_index(names="genotype"),
            "anova": self.anova().to_frame(),
            "variance_shares": self.variance_shares().to_frame(),
            "stability": self.stability(best).to_frame(),
            "ammi_axes": model.anova.to_frame(),
            "ammi_genotypes": model.genotype_scores,
            "ammi_environments": model.environment_scores,
            "ammi_winners": model.winners(best=best),
            "gge_axes": biplot.axes().to_frame(),
            "gge_genotypes": biplot.with_axes(biplot.ranking(best), biplot.biplot.row_scores),
            "gge_environments": biplot.with_axes(biplot.environments(), biplot.biplot.column_scores),
            "gge_winners": biplot.winners(best=best),
        }

    def summary(self, axes: int = 2) -> TableGroup:
        """Analysis of variance, variance shares and the axes of AMMI.

        Examples
        --------
        >>> from fastlmm_core import datasets, gxe
        >>> wheat = gxe(datasets.load("winter_wheat"), "gen", "env", "yield")
        >>> wheat.summary().heading
        '18 genotypes in 9 environments: means of yield'
        """
        g, e = self.table.means.shape
        parts = [part._shown() for part in (self.anova(), self.variance_shares(), self.ammi(axes).anova)]
        return TableGroup(f"{g} genotypes in {e} environments: {self.table.source}", tuple(parts))

    def _shown(self) -> TableGroup:
        return self.summary()


POSITIVE = {"type": "number", "exclusiveMinimum": 0}


@public(
    genotype=optional(NAME), environment=optional(NAME), value=optional(NAME), block=optional(NAME),
    replications=optional(POSITIVE), error_ms=optional(POSITIVE), error_df=optional(POSITIVE),
    common=SWITCH,
)  # fmt: skip
def gxe(
    source: Any, genotype: str | None = None, environment: str | None = None, value: str | None = None, *,
    block: str | None = None, replications: float | None = None, error_ms: float | None = None,
    error_df: float | None = None, common: bool = False,
) -> GxE:  # fmt: skip
    """Genotype by environment summaries of a two-way table of means, of plots, of a fit, or of a batch.

    Parameters
    ----------
    source : DataFrame, LMMFit or BatchResult
        A wide table (genotypes as index, environments as columns), a long one, a fit, or a batch. A fit gives
        the adjusted means of its cells where both factors are fixed, and predictions where genotypes are
        random. A batch gives the means of its trials, which are the environments: BLUEs of its
        ``genotypes=``, or marginal means of ``emmeans=``.
    genotype, environment : str
        Columns of a long table, or factors of a fit. Of a batch the environments are its trials, or one of
        the keys where that names a trial.
    value : str
        Column of a long table: means, or plots that are averaged within cells. Of a batch one of several
        traits.
    block : str, optional
        Complete blocks within environments, which the error of a table of plots is freed of.
    replications, error_ms, error_df : float, optional
        Plots of a mean, variance of a plot and its degrees of freedom, where `source` does not say; what
        contradicts it is refused. A batch knows the error of its means with ``genotypes=`` (from the mean
        standard error of a difference), and with ``emmeans=`` and ``covariances=True``.
    common : bool
        Leave out genotypes that are not in every environment.

    Returns
    -------
    GxE

    Raises
    ------
    DataError
        For cells without a mean, fewer than three genotypes or environments, unknown columns.
    OptionError
        When columns or factors are not named.

    Examples
    --------
    >>> from fastlmm_core import datasets, gxe
    >>> machines = datasets.load("machines")
    >>> str(gxe(machines, "Worker", "Machine", "score").stability().frame["genotype"].iloc[0])
    'W1'
    """
    if hasattr(source, "design") and hasattr(source, "emmeans"):
        if genotype is None or environment is None:
            raise OptionError("gxe() of a fit needs genotype= and environment=, factors of the model")
        if value is not None or block is not None:
            raise OptionError("gxe() of a fit takes no value= and no block=: both are in the model")
        if genotype == environment:
            raise OptionError(f"gxe() of a fit: genotype and environment are both '{genotype}'")
        table, fit, names = from_fit(source, genotype, environment), source, (genotype, environment)
    elif hasattr(source, "plan") and hasattr(source, "fits"):
        if genotype is None:
            raise OptionError("gxe() of a batch needs genotype=, the factor whose means it has")
        if block is not None:
            raise OptionError("gxe() of a batch takes no block=: it is in the model")
        table, fit, names = from_batch(source, genotype, environment, value), None, None
    elif isinstance(source, pd.DataFrame):
        table, fit, names = _of_frame(source, genotype, environment, value, block), None, None
    else:
        raise DataError(f"gxe() takes a pandas DataFrame, a fit or a batch, not {type(source).__name__}")
    table = in_all(table) if common else table
    table = given_error(table, replications=replications, error_ms=error_ms, error_df=error_df)
    return GxE(checked(table), fit, names or ("genotype", "environment"))


def _of_frame(
    frame: pd.DataFrame, genotype: str | None, environment: str | None, value: str | None, block: str | None
) -> TwoWayTable:
    named = [name for name in (genotype, environment, value) if name is not None]
    if not named and block is None:
        return from_wide(frame)
    if len(named) < 3:
        raise OptionError("a long table needs genotype=, environment= and value=, names of its columns")
    return from_long(frame, str(genotype), str(environment), str(value), block)
