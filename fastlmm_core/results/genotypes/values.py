"""Values of genotypes for a decision: mean + BLUP with errors, ranks, the best, selection and index."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from fastlmm_core.display.figure_tables import FigureTable
from fastlmm_core.errors import OptionError, nearest_names
from fastlmm_core.gate import public
from fastlmm_core.inference.ranking import selection_intensity
from fastlmm_core.means.estimates import FIGURES
from fastlmm_core.means.table_labels import distinct_names
from fastlmm_core.options import (
    LEVEL,
    NUMBER,
    SCALAR,
    either,
    list_of,
    one_of,
    optional,
    table_of,
    whole,
)
from fastlmm_core.results.genotypes.decisions import (
    against_check,
    difference_heritability,
    gains_by_part,
    holding_best,
    places_without,
    rows_kept,
    rows_summed,
    selection_gain,
)
from fastlmm_core.results.genotypes.grid import genotype_rows
from fastlmm_core.results.genotypes.heritability_levels import find_term
from fastlmm_core.results.genotypes.ranked_values import RANKS, RankedValues

if TYPE_CHECKING:
    from fastlmm_core.results.fixed_part import FixedPart

UNITS = ("unit", "sd")
# Of the tables below; a factor that is called as one of them is a column with "_level" behind its name.
COLUMNS = (
    *FIGURES, "reliability", *RANKS, "check", "difference", "p_better", "cumulative",
    "n", "k", "intensity", "gain", "gain_se", "h2", "response",
)  # fmt: skip


@dataclass(frozen=True, eq=False, repr=False)
class GenotypeValues(RankedValues):
    """Values of genotypes and the joint uncertainty of them (see ``LMMFit.genotype_values``).

    Attributes
    ----------
    rows, by, genotype, level, largest, draws, seed
        As of ``RankedValues``.
    parts, weights : GenotypeValues and dict
        Of an index, what it is a sum of, and how much a unit of each counts.

    Examples
    --------
    >>> from fastlmm_core import datasets, lmm
    >>> fit = lmm("yield ~ rep + (1|gen) + (1|rep:block)", datasets.load("john_alpha"))
    >>> values = fit.genotype_values("gen")
    >>> len(values), round(float(values.estimate.max()), 3)
    (24, 4.981)
    """

    parts: GenotypeValues | None = None
    weights: dict[str, float] = field(default_factory=dict)

    @public(k=whole(1))
    def best(self, k: int = 1) -> FigureTable:
        """The k best by estimate, each with its probability to be among the k best.

        Parameters
        ----------
        k : int

        Returns
        -------
        FigureTable
            Labels, estimate, se, p_among, and p_all, the probability that all of the k are right.

        Examples
        --------
        >>> from fastlmm_core import datasets, lmm
        >>> fit = lmm("yield ~ rep + (1|gen) + (1|rep:block)", datasets.load("john_alpha"))
        >>> values = fit.genotype_values("gen")
        >>> values.best(3)
        The 3 best of 24:
         gen  estimate      se  p_among   p_all
         G01    4.9807  0.1766   0.7361  0.2114
         G05    4.9545  0.1765   0.6750  0.2114
         G15    4.9042  0.1765   0.5607  0.2114
        Next: .to_frame()
        """
        parts = []
        for g, own in enumerate(self._choices):
            self._check_count(k, len(own.labels))
            chosen = self._top(g, k)
            part = own.labels.iloc[chosen].copy()
            part["estimate"] = own.estimate[chosen]
            part["se"] = np.sqrt(np.diag(own.covariance)[chosen])
            part["p_among"] = self._draws[g].among(k)[chosen]
            part["p_all"] = self._draws[g].exactly(chosen)
            parts.append(part)
        sizes = {len(own.labels) for own in self._choices}
        title = f"The {k} best of {sizes.pop()}:" if len(sizes) == 1 else f"The {k} best of each:"
        return FigureTable(pd.concat(parts, ignore_index=True), title, by=self.by)

    @public(k=optional(whole(1)), share=optional(LEVEL))
    def select(self, k: int | None = None, *, share: float | None = None) -> FigureTable:
        """Gain from selecting the best: what these data promise, and what such a trial promises.

        Parameters
        ----------
        k : int, optional
            How many are selected.
        share : float, optional
            In the place of k, which part of all.

        Returns
        -------
        FigureTable
            One row a group of `by`: n, k, intensity i; `gain` and `gain_se`, the mean of the selected above
            the mean of all and its standard error given the data; `response` = i h sigma_g, the gain that a
            trial of this precision leads to in expectation, with h2 and sigma_g on the basis of differences
            (Cullis et al. 2006).

        Examples
        --------
        >>> from fastlmm_core import datasets, lmm
        >>> fit = lmm("yield ~ rep + (1|gen) + (1|rep:block)", datasets.load("john_alpha"))
        >>> values = fit.genotype_values("gen")
        >>> print(values.select(share=0.25))
        Gain from selection:
          n  k  intensity    gain  gain_se      h2  response
         24  6      1.224  0.3650  0.05780  0.8091    0.4161
        """
        rows = []
        for g, own in enumerate(self._choices):
            n, rows_of = len(own.labels), self.groups[g][self.candidates[g]]
            count = self._count(k, share, n)
            chosen = np.isin(np.arange(n), self._top(g, count))
            gain, gain_se = selection_gain(own, chosen)
            intensity = selection_intensity(n, count)
            variance, h2 = difference_heritability(self.rows.prior(rows_of), own.covariance)
            labels = dict(own.labels.iloc[0][list(self.by)])
            rows.append(labels | {
                "n": n, "k": count, "intensity": intensity,
                "gain": gain, "gain_se": gain_se, "h2": h2,
                "response": (1.0 if self.largest else -1.0) * intensity * np.sqrt(h2 * variance),
            })  # fmt: skip
        return FigureTable(pd.DataFrame(rows), "Gain from selection:")

    @public(genotypes=either(SCALAR, list_of(SCALAR)))
    def without(self, genotypes: str | Sequence[Any]) -> GenotypeValues:
        """The same without some genotypes: checks, for example, are no candidates.

        Ranks, probabilities and gains are those among the others; the values stay what they are.

        Parameters
        ----------
        genotypes : str or sequence of str
            Those that are left out, by name.

        Returns
        -------
        GenotypeValues
            Of the others; of an index its parts are without them too.

        Raises
        ------
        OptionError
            For a genotype that is not among them.

        Examples
        --------
        >>> from fastlmm_core import datasets, lmm
        >>> trial = datasets.load("trials").query("trial == 'T1'")
        >>> values = lmm("yield ~ rep + (1|gen) + (1|rep:block)", trial).genotype_values("gen")
        >>> len(values), len(values.without("CHECK"))
        (24, 23)
        """
        names = np.atleast_1d(np.asarray(genotypes, dtype=object)).tolist()
        parts = None if self.parts is None else self.parts.without(names)
        return replace(self, rows=rows_kept(self.rows, places_without(self.rows.labels, names)), parts=parts)

    @public(check=SCALAR, margin=NUMBER)
    def against(self, check: Any, margin: float = 0.0) -> FigureTable:
        """Every genotype beside a check: difference, its standard error, probability to be truly better.

        Parameters
        ----------
        check : str
            One of the genotypes.
        margin : float
            By how much a genotype has to be better, units of the values.

        Returns
        -------
        FigureTable
            Labels, difference, se, p_better, the most probable first; the probability is exact given the
            variances, for the values are jointly normal around the estimates.

        Examples
        --------
        >>> from fastlmm_core import datasets, lmm
        >>> trial = datasets.load("trials").query("trial == 'T1'")
        >>> values = lmm("yield ~ rep + (1|gen) + (1|rep:block)", trial).genotype_values("gen")
        >>> values.against("CHECK", margin=0.2).to_frame().head(2)["gen"].tolist()
        ['G05', 'G12']
        """
        places_without(self.rows.labels, [check])  # it has to be there
        sign = 1.0 if self.largest else -1.0
        parts = [against_check(own, str(check), margin, sign) for own in self._joint]
        title = f"Better than {check}{f' by more than {margin:g}' if margin else ''}:"
        return FigureTable(pd.concat(parts, ignore_index=True), title, by=self.by)

    @public(level=LEVEL)
    def holding_best(self, level: float = 0.95) -> FigureTable:
        """The fewest genotypes among which the truly best one is with a probability of `level`.

        Parameters
        ----------
        level : float
            Between 0 and 1.

        Returns
        -------
        FigureTable
            Labels, estimate, se, p_best, and cumulative, the probability that the best is among those so far.

        Examples
        --------
        >>> from fastlmm_core import datasets, lmm
        >>> fit = lmm("yield ~ rep + (1|gen) + (1|rep:block)", datasets.load("john_alpha"))
        >>> fit.genotype_values("gen").holding_best(0.9).to_frame()["gen"].tolist()
        ['G01', 'G05', 'G15', 'G19', 'G21']
        """
        columns = [*self.by, self.genotype, "estimate", "se", "p_best"]
        parts = [
            holding_best(self.frame.iloc[own[at]][columns], level)
            for own, at in zip(self.groups, self.candidates, strict=True)
        ]
        title = f"Fewest that hold the best with probability {level:g}:"
        return FigureTable(pd.concat(parts, ignore_index=True), title, by=self.by)

    @public(k=optional(whole(1)), share=optional(LEVEL))
    def responses(self, k: int | None = None, *, share: float | None = None) -> FigureTable:
        """What selecting by an index does to each of its parts, traits or environments.

        Parameters
        ----------
        k, share : int or float, optional
            How many are selected, or which part of all.

        Returns
        -------
        FigureTable
            The level of `by`, its weight, `gain` and `gain_se` as ``select`` has them, and contribution,
            weight times gain: these sum to the gain of the index.

        Raises
        ------
        OptionError
            When these values are no index.

        Examples
        --------
        >>> from fastlmm_core import datasets, lmm
        >>> fit = lmm("yield ~ county + (1|gen) + (1|county:gen)", datasets.load("besag_met"))
        >>> index = fit.genotype_values("gen", by="county").index({"C1": 1.0, "C2": 2.0})
        >>> gains = index.responses(5).to_frame()
        >>> bool(abs(gains["contribution"].sum() - index.select(5).to_frame()["gain"][0]) < 1e-9)
        True
        """
        if self.parts is None:
            words = "genotype_values(..., by='trait').index(weights)"
            raise OptionError(f"responses are those of an index: {words}")
        own = self._choices[0]
        chosen = self._top(0, self._count(k, share, len(own.labels)))
        frame = gains_by_part(self.parts._choices, self.weights, own.genotypes[chosen].tolist())
        return FigureTable(frame, f"Gain from selecting {chosen.size} of {len(own.labels)} by the index:")

    @public(weights=table_of(NUMBER), per=one_of(UNITS))
    def index(self, weights: Mapping[str, float], per: str = "unit") -> GenotypeValues:
        """A weighted sum over the levels of `by`, traits or environments, as values of their own.

        Parameters
        ----------
        weights : mapping of str to float
            Economic weight of each level; levels that are not named count nothing.
        per : {"unit", "sd"}
            What a weight counts: a unit of the trait, or a standard deviation of the true values (the root
            of half the mean variance of a difference), where traits have units of their own.

        Returns
        -------
        GenotypeValues
            With the covariances between the levels in the errors; large values are good. ``responses(k)`` is
            what selection by it does to each level.

        Examples
        --------
        >>> from fastlmm_core import datasets, lmm
        >>> fit = lmm("yield ~ county + (1|gen) + (1|county:gen)", datasets.load("besag_met"))
        >>> values = fit.genotype_values("gen", by="county")
        >>> values.index({"C1": 1.0, "C2": 2.0}).best(1).to_frame()["gen"].tolist()
        ['G05']
        """
        if len(self.by) != 1:
            raise OptionError("an index is over the levels of one factor: genotype_values(..., by='trait')")
        labels = self.rows.labels
        levels = list(dict.fromkeys(labels[self.by[0]].astype(str)))
        for name in weights:
            if name not in levels:
                raise OptionError(
                    f"weights: '{name}' is no level of {self.by[0]}{nearest_names(name, levels)}"
                )
        if not any(weights.values()):
            raise OptionError("weights: an index needs a weight that is not zero")
        each = {name: float(weight) for name, weight in weights.items()}
        if per == "sd":
            each = {name: weight / self._deviation(name) for name, weight in each.items()}
        factor = labels[self.by[0]].astype(str).map(lambda name: each.get(name, 0.0)).to_numpy()
        rows = rows_summed(self.rows, factor)
        return replace(self, rows=rows, by=(), largest=True, parts=self, weights=each)


def genotype_values(
    fit: FixedPart, term: str, by: Any, level: float, largest: bool, draws: int, seed: int,
    average: Any = None,
) -> GenotypeValues:  # fmt: skip
    """See ``LMMFit.genotype_values``."""
    k = find_term(fit, term)
    names, over = (
        () if own is None else (own,) if isinstance(own, str) else tuple(own) for own in (by, average)
    )
    rows, genotype = genotype_rows(fit, k, names, over), fit.design.random[k].group_variables[-1]
    renamed = distinct_names([str(name) for name in rows.labels.columns], COLUMNS)
    rows = replace(rows, labels=rows.labels.rename(columns=renamed))
    names = tuple(renamed.get(name, name) for name in names)
    genotype = renamed.get(genotype, genotype)
    return GenotypeValues(rows, names, genotype, level, bool(largest), draws, seed)
