"""Tables of means, slopes and their contrasts: estimates, tests and intervals, computed when looked at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp
from numpy.typing import NDArray

from fastlmm_core.display.displayed import Displayed
from fastlmm_core.display.figure_tables import FigureTable
from fastlmm_core.display.rendering import Table
from fastlmm_core.errors import OptionError, check_level, nearest_names
from fastlmm_core.gate import public
from fastlmm_core.means.back_transformation import back_transform
from fastlmm_core.means.contrast_families import ContrastFamily, Custom, MeanLabels, contrast_family
from fastlmm_core.means.estimates import OK, Estimates
from fastlmm_core.means.grouped_contrasts import grouped_contrasts, regrouped
from fastlmm_core.means.hypothesis_tests import run_tests
from fastlmm_core.means.interaction_contrasts import interaction_family
from fastlmm_core.means.joint_rows import joint_rows
from fastlmm_core.means.pair_memory import check_pairs
from fastlmm_core.means.table_labels import free_name, group_members, row_labels
from fastlmm_core.options import (
    ANY,
    LEVEL,
    NAMES,
    NUMBER,
    SWITCH,
    TEXT,
    either,
    list_of,
    optional,
    table_of,
    whole,
)

Floats = NDArray[np.floating]

CODES = "Numbers or codes? "  # begins the note on a covariate that may have been meant as a factor


class Inherit:
    """Marks an option that was not given."""

    def __repr__(self) -> str:
        return "the table's own"


INHERIT = Inherit()


@dataclass(frozen=True, eq=False, repr=False)
class EstimateTable(Displayed, Estimates):
    """Estimates that are displayed, tested, compared and transformed back; attributes as of `Estimates`."""

    @public()
    def to_frame(self) -> pd.DataFrame:
        """Unrounded figures: label columns, estimate, se, df, t, p, lower, upper, status.

        A label column whose name is one of these has "_level" added to it.

        Examples
        --------
        >>> from fastlmm_core import datasets, lmm
        >>> fit = lmm("Y ~ V*N + (1|B/V)", datasets.load("oats"))
        >>> means = fit.emmeans("N")
        >>> means.to_frame().columns.tolist()
        ['N', 'estimate', 'se', 'df', 't', 'p', 'lower', 'upper', 'status']
        """
        lower, upper = self.limits
        return self.labelled(
            {
                "estimate": self.estimate, "se": self.se, "df": self.df, "t": self.t, "p": self.p,
                "lower": lower, "upper": upper, "status": self.status,
            }
        )  # fmt: skip

    def _shown(self) -> Table:
        hidden = [] if np.any(self.status != OK) else ["status"]
        hidden += ["t", "p"] if self.kind == "prediction" else []
        return FigureTable(self.to_frame(), self.title, self.notes, self.by_columns(), tuple(hidden))._shown()

    @public()
    def back_transform(self) -> FigureTable:
        """Figures on the scale of the response, where the formula transforms it.

        Estimates and limits are transformed back, standard errors by the delta method; t and p stay those of
        the scale of the model. Differences of logarithms become ratios (the response inside of the
        logarithm, "y + 1" for log(y + 1)), differences after a change of units differences.

        Returns
        -------
        FigureTable
            With `to_frame()`.

        Raises
        ------
        OptionError
            When the response is a plain column or cannot be transformed back, and for contrasts that have no
            counterpart on its scale (differences of square roots): see `EmmeansTable.regrid`.

        Examples
        --------
        >>> from fastlmm_core import datasets, lmm
        >>> fit = lmm("log(yield) ~ K2O_lbac + (1|rep)", datasets.load("cochrancox_kfert"))
        >>> means = fit.emmeans("K2O_lbac")
        >>> print(means.back_transform())
        Estimated marginal means of yield
         K2O_lbac  estimate      se    df   lower   upper
         36          7.9131  0.1670  5.75  7.5107  8.3370
         54          8.1176  0.1713  5.75  7.7048  8.5525
         72          7.8095  0.1648  5.75  7.4124  8.2279
         108         7.5743  0.1598  5.75  7.1892  7.9801
         144         7.5116  0.1585  5.75  7.1297  7.9140
        Degrees of freedom: Kenward-Roger
        Confidence level: 0.95
        Estimates and limits are transformed back from log(yield); tests are on that scale
        """
        return back_transform(self)

    @public(null=NUMBER, side=TEXT, delta=NUMBER)
    def test(self, null: float = 0.0, side: str = "two-sided", delta: float = 0.0) -> FigureTable:
        """Tests against `null`, one-sided tests, and tests with a tolerance.

        Parameters
        ----------
        null : float
            Value of the estimate under the hypothesis, on the scale of the model.
        side : str
            "two-sided"; ">" or "<" for the alternatives that the estimate is larger or smaller.
        delta : float
            Tolerance. With ">" the test is of non-inferiority (the estimate is above null - delta), with "<"
            of non-superiority (below null + delta), two-sided of equivalence (within delta of null, by the
            larger p value of both one-sided tests; Schuirmann 1987, J. Pharmacokinet. Biopharm. 15:657).

        Returns
        -------
        FigureTable
            Label columns, estimate, se, df, null, t, p, lower, upper, status. One-sided tests have one-sided
            limits. Adjustment and level are the table's; tukey, scheffe and dunnettx, which are for two-sided
            tests, give way to sidak where p values are one-sided, and the notes say so.

        Raises
        ------
        OptionError
            For an unknown `side`, or numbers that are not finite.
        InferenceError
            For one-sided tests with adjust="mvt".

        Examples
        --------
        >>> from fastlmm_core import datasets, lmm
        >>> fit = lmm("Y ~ V*N + (1|B/V)", datasets.load("oats"))
        >>> means = fit.emmeans("N")
        >>> print(means.contrast("trt.vs.ctrl").test(side=">"))
        Tests: Contrasts
         contrast           estimate     se  df  null      t       p   lower  upper
         N0.2cwt - N0.0cwt    19.500  4.436  45     0  4.396  0.0001   9.795    Inf
         N0.4cwt - N0.0cwt    34.833  4.436  45     0  7.853  <.0001  25.128    Inf
         N0.6cwt - N0.0cwt    44.000  4.436  45     0  9.919  <.0001  34.295    Inf
        Averaged over V with equal weights
        Averages over the interaction V:N: look at the means within its cells too
        Degrees of freedom: Kenward-Roger
        Confidence level: 0.95
        adjust='dunnettx' is for two-sided tests; sidak was used for one-sided p values instead
        P values are right-tailed
        """
        return run_tests(self, null, side, delta)

    @public()
    def joint_test(self) -> FigureTable:
        """F test that all rows are zero at once, in each group of `by`.

        Dependent rows count once. Where some rows are not estimable, what is estimable among their
        combinations is tested, with the status "part". Kenward-Roger gives the scaled F of pbkrtest,
        Satterthwaite that of lmerTest (see `LinearFunctions.f_test`); R's ``test(joint = TRUE)`` takes the
        Wald F with the smallest df of some basis.

        Returns
        -------
        FigureTable
            The `by` columns, df_num, df_den, F, p, status.

        Examples
        --------
        >>> from fastlmm_core import datasets, lmm
        >>> fit = lmm("Y ~ V*N + (1|B/V)", datasets.load("oats"))
        >>> curve = {"quadratic": [1, -1, -1, 1], "cubic": [-1, 3, -3, 1]}
        >>> print(fit.emmeans("~ N | V").contrast(curve).joint_test())
        Joint test: Contrasts
         V            df_num  df_den      F       p
         Golden.rain       2      45  0.306  0.7383
         Marvellous        2      45  0.797  0.4570
         Victory           2      45  0.698  0.5031
        Degrees of freedom: Kenward-Roger
        """
        return joint_rows(self)

    @public(adjust=optional(TEXT), level=optional(LEVEL), by=optional(NAMES))
    def with_options(
        self,
        *,
        adjust: str | None = None,
        level: float | None = None,
        by: str | Sequence[str] | Inherit | None = INHERIT,
    ) -> Any:
        """The same rows with another adjustment, confidence level or families.

        Parameters
        ----------
        adjust : str, optional
        level : float, optional
        by : str, sequence of str or None
            Label columns whose combinations are families of their own; None makes one family of all rows.
            Pairs of several sets of means in one family are no longer all pairs of one set: sidak is used for
            them in place of tukey.

        Examples
        --------
        >>> from fastlmm_core import datasets, lmm
        >>> fit = lmm("Y ~ V*N + (1|B/V)", datasets.load("oats"))
        >>> means = fit.emmeans("N")
        >>> holm = means.pairs().with_options(adjust="holm")
        >>> holm.p.round(4)
        array([0.0002, 0.    , 0.    , 0.0024, 0.    , 0.0446])
        >>> within = fit.emmeans("~ N | V").pairs()
        >>> within.with_options(by=None, adjust="holm").p[:6].round(4).tolist()
        [0.1616, 0.0006, 0.0, 0.2049, 0.0144, 0.7697]
        """
        table = self if isinstance(by, Inherit) else regrouped(self, self._by_names(by, None))
        return replace(
            table,
            adjust_asked=table.adjust_asked if adjust is None else adjust,
            level=check_level(table.level if level is None else level),
        )

    @public(
        method=either(TEXT, table_of(ANY), list_of(ANY)), by=optional(NAMES), adjust=optional(TEXT),
        interaction=optional(either(SWITCH, TEXT, table_of(ANY), list_of(either(TEXT, table_of(ANY))))),
        simple=optional(NAMES), level=optional(LEVEL), reverse=SWITCH, max_degree=optional(whole(1)),
    )  # fmt: skip
    def contrast(
        self,
        method: str | Custom = "eff",
        *,
        by: str | Sequence[str] | Inherit | None = INHERIT,
        adjust: str | None = None,
        ref: object = None,
        interaction: object = None,
        simple: str | Sequence[str] | None = None,
        level: float | None = None,
        **options: object,
    ) -> ContrastTable:
        """Contrasts among the rows, within each group of `by`.

        Parameters
        ----------
        method : str, mapping or sequence
            pairwise, revpairwise, trt.vs.ctrl (also with its control, "trt.vs.ctrl:CHECK"), trt.vs.ctrl1,
            trt.vs.ctrlk, consec, poly, eff, del.eff, mean_chg, identity, helmert, nrmlz, wtcon, or custom
            weights {label: weights} or {label: {row label: weight}}.
        by : str, sequence of str or None
            Label columns that split the rows; the table's own without it, None for no split.
        adjust : str, optional
            none, tukey, sidak, bonferroni, scheffe, dunnettx, mvt, holm, hochberg, hommel, fdr, by; each
            method has its usual one.
        ref : label, position from 1, or list of these
            Control(s) of trt.vs.ctrl.
        interaction : str, True or sequence
            One family for each factor; the contrasts are their products, unadjusted unless `adjust` is given.
        simple : str or sequence of str
            Compare the levels of these factors at each combination of the others.
        level : float, optional
            Confidence level, the table's own without it.
        **options
            `reverse` (pairwise, trt.vs.ctrl, consec), `max_degree` (poly), `wts` (eff, del.eff, wtcon:
            weights of the means in averages), `cmtype` (wtcon: multcomp's GrandMean, Tukey, Dunnett, Sequen,
            AVE, Changepoint, Williams), `family` (nrmlz: which one is scaled to length 1).

        Returns
        -------
        ContrastTable

        Raises
        ------
        OptionError
            For an unknown method, adjustment, label column or reference.
        MemoryForecastError
            For a table of all pairs that will not fit in memory.

        Examples
        --------
        >>> from fastlmm_core import datasets, lmm
        >>> fit = lmm("Y ~ V*N + (1|B/V)", datasets.load("oats"))
        >>> means = fit.emmeans("N")
        >>> print(means.contrast("trt.vs.ctrl", ref="N0.0cwt"))
        Contrasts
         contrast           estimate     se  df      t       p   lower   upper
         N0.2cwt - N0.0cwt    19.500  4.436  45  4.396  0.0002   8.660  30.340
         N0.4cwt - N0.0cwt    34.833  4.436  45  7.853  <.0001  23.993  45.673
         N0.6cwt - N0.0cwt    44.000  4.436  45  9.919  <.0001  33.160  54.840
        Averaged over V with equal weights
        Averages over the interaction V:N: look at the means within its cells too
        Degrees of freedom: Kenward-Roger
        Confidence level: 0.95
        P value adjustment: dunnettx method for 3 tests
        Confidence limits: dunnettx method for 3 estimates
        >>> means.contrast({"any against none": [-1, 1 / 3, 1 / 3, 1 / 3]}).estimate.round(3)
        array([32.778])
        """
        if isinstance(method, str) and method.startswith("trt.vs.ctrl:"):
            method, ref = method.split(":", 1)
        names = self._by_names(by, simple)
        product = interaction is not None and interaction is not False

        def family_of(block: pd.DataFrame) -> tuple[ContrastFamily, dict[str, list[str]]]:
            if product:
                families = method if interaction is True else interaction
                return interaction_family(block, families, names, **options)
            family = contrast_family(method, MeanLabels.of(row_labels(block, names)), ref=ref, **options)
            return family, {free_name(names): list(family.labels)}

        check_pairs(method, [rows.size for rows in group_members(self.labels, names)])
        try:
            found = grouped_contrasts(self.labels, names, family_of)
        except OptionError as error:  # one mean of numbers that may have been meant as levels
            codes = [note.removeprefix(CODES) for note in self.remarks if note.startswith(CODES)]
            raise OptionError("; ".join([str(error), *codes])) from None
        alone = (f"Groups of one mean, with nothing to compare: {found.alone}",) if found.alone else ()
        return ContrastTable(
            labels=found.labels, functions=self.functions, K=self.K,
            weights=found.weights if self.weights is None else sp.csr_array(found.weights @ self.weights),
            shift=self.shift, undefined=self.undefined, by=names, kind=found.kind, n_means=found.n_means,
            adjust_asked=adjust or found.adjust, level=check_level(self.level if level is None else level),
            title="Contrasts", remarks=(*self.remarks, *alone), scale=self.scale, group=found.group,
            means_of=found.means_of,
        )  # fmt: skip

    def pairs(self, **options: Any) -> ContrastTable:
        """All pairwise differences; options as of `contrast`.

        Examples
        --------
        >>> from fastlmm_core import datasets, lmm
        >>> fit = lmm("Y ~ V*N + (1|B/V)", datasets.load("oats"))
        >>> means = fit.emmeans("N")
        >>> means.pairs().se.round(3)
        array([4.436, 4.436, 4.436, 4.436, 4.436, 4.436])
        """
        return self.contrast("pairwise", **options)

    def _by_names(
        self, by: str | Sequence[str] | Inherit | None, simple: str | Sequence[str] | None
    ) -> tuple[str, ...]:
        if simple is not None:
            wanted = [simple] if isinstance(simple, str) else list(simple)
            if wanted == ["each"] and "each" not in self.labels.columns:
                calls = ", ".join(f"simple={name!r}" for name in self.labels.columns)
                raise OptionError(f"simple='each' would be several tables here; ask for each: {calls}")
            self._check_columns("simple", wanted)
            return tuple(name for name in self.labels.columns if name not in wanted)
        if isinstance(by, Inherit):
            return self.by
        names = [by] if isinstance(by, str) else list(by or [])
        self._check_columns("by", names)
        return tuple(names)

    def _check_columns(self, option: str, names: Sequence[str]) -> None:
        for name in names:
            if name not in self.labels.columns:
                hint = nearest_names(name, self.labels.columns)
                raise OptionError(f"{option}: '{name}' is not a label column of this table{hint}")


@dataclass(frozen=True, eq=False, repr=False)
class ContrastTable(EstimateTable):
    """Contrasts of means or slopes; further contrasts can be taken of its rows.

    Examples
    --------
    >>> from fastlmm_core import datasets, lmm
    >>> fit = lmm("Y ~ V*N + (1|B/V)", datasets.load("oats"))
    >>> trend = fit.emmeans("N", by="V").contrast("poly", max_degree=1)
    >>> trend.contrast("pairwise", by=None).p.round(3)
    array([0.807, 0.94 , 0.605])
    """
