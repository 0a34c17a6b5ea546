"""Tables of marginal means and slopes, with letters, standard errors of differences, comparison intervals."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import overload

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fastlmm_core.display.frames import FigureFrame, titled
from fastlmm_core.errors import InferenceError, OptionError
from fastlmm_core.gate import public
from fastlmm_core.means.back_transformation import regrid
from fastlmm_core.means.comparisons import (
    ComparisonIntervals,
    DifferenceErrors,
    best_means,
    comparison_intervals,
    difference_errors,
)
from fastlmm_core.means.estimate_tables import ContrastTable, EstimateTable
from fastlmm_core.means.estimates import OK
from fastlmm_core.means.letters import compact_letters
from fastlmm_core.means.pair_streams import (
    CHUNK,
    PairsForecast,
    PairSource,
    forecast,
    stream,
    write_parquet,
)
from fastlmm_core.means.table_labels import distinct_names, group_members
from fastlmm_core.multiplicity.adjustments import check_adjust
from fastlmm_core.options import LEVEL, SWITCH, TEXT, optional, whole

Floats = NDArray[np.floating]
LETTERS = "group"  # column of the letters of `cld`


@dataclass(frozen=True, eq=False, repr=False)
class EmmeansTable(EstimateTable):
    """Estimated marginal means, or slopes (`emtrends`), with what breeders read beside them.

    Examples
    --------
    >>> from fastlmm_core import datasets, lmm
    >>> fit = lmm("Y ~ V*N + (1|B/V)", datasets.load("oats"))
    >>> means = fit.emmeans("N")
    >>> print(means)
    Estimated marginal means
     N        estimate     se    df    lower    upper
     N0.0cwt    79.389  7.175  6.79   62.318   96.460
     N0.2cwt    98.889  7.175  6.79   81.818  115.960
     N0.4cwt   114.222  7.175  6.79   97.151  131.294
     N0.6cwt   123.389  7.175  6.79  106.318  140.460
    Averaged over V with equal weights
    Averages over the interaction V:N: look at the means within its cells too
    Degrees of freedom: Kenward-Roger
    Confidence level: 0.95
    """

    @public()
    def regrid(self) -> EmmeansTable:
        """The same means on the scale of the response, for contrasts, letters and errors there.

        For a response that the formula transforms. Standard errors follow by the delta method. Differences
        have df of their own from the derivatives of their variance, as on any scale (R's emmeans takes the
        smallest df of the means in a contrast after its `regrid`).

        Returns
        -------
        EmmeansTable

        Raises
        ------
        OptionError
            When the response is a plain column or cannot be transformed back.

        Examples
        --------
        >>> from fastlmm_core import datasets, lmm
        >>> fit = lmm("log(yield) ~ K2O_lbac + (1|rep)", datasets.load("cochrancox_kfert"))
        >>> means = fit.emmeans("K2O_lbac")
        >>> means.regrid().pairs().estimate.round(3)[:3]
        array([-0.205,  0.104,  0.339])
        """
        return regrid(self)

    @public(alpha=LEVEL, adjust=TEXT, reverse=SWITCH)
    def cld(self, alpha: float = 0.05, *, adjust: str = "tukey", reverse: bool = False) -> pd.DataFrame:
        """Compact letter display: means that share a letter do not differ at `alpha`.

        Parameters
        ----------
        alpha : float
            Level of the comparisons.
        adjust : str
            Adjustment of the pairwise p values.
        reverse : bool
            Give the letter "a" to the largest mean.

        Returns
        -------
        DataFrame
            The figures of the means, sorted by estimate within each group of `by`, and a column `group`; a
            factor of that name is `group_level`. One mean alone has the letter "a".

        References
        ----------
        Piepho (2004), J. Comput. Graph. Stat. 13:456.

        Examples
        --------
        >>> from fastlmm_core import datasets, lmm
        >>> fit = lmm("Y ~ V*N + (1|B/V)", datasets.load("oats"))
        >>> means = fit.emmeans("N")
        >>> means.cld()["group"].tolist()
        ['a', 'b', 'c', 'c']
        """
        if not 0.0 < alpha < 1.0:
            raise OptionError(f"alpha={alpha!r} must lie above 0 and below 1")
        frame = self.to_frame()
        frame = frame.rename(columns=distinct_names([str(name) for name in frame.columns], (LETTERS,)))
        parts = []
        for rows, table in self._blocks(adjust):
            order = np.argsort(-self.estimate[rows] if reverse else self.estimate[rows], kind="stable")
            p = symmetric(np.empty(0) if table is None else table.p, rows.size)[np.ix_(order, order)]
            part = frame.iloc[rows[order]].copy()
            part[LETTERS] = compact_letters(p < alpha)
            part.loc[part["status"] != OK, LETTERS] = ""
            parts.append(part)
        # letters of different groups say nothing of each other, and one table holds all groups
        within = f", within {', '.join(self.by)}" if self.by else ""
        title = f"Means with compact letters, alpha {alpha:g}, {adjust}{within}"
        return FigureFrame.of(pd.concat(parts, ignore_index=True), title)

    @public(level=optional(LEVEL))
    def difference_errors(self, level: float | None = None) -> DifferenceErrors:
        """Average, smallest and largest SED and LSD of all pairs of means (in the same group of `by`).

        Parameters
        ----------
        level : float, optional
            The LSD's confidence level, the table's own without it (0.95: the 5 % LSD).

        Examples
        --------
        >>> from fastlmm_core import datasets, lmm
        >>> fit = lmm("Y ~ V*N + (1|B/V)", datasets.load("oats"))
        >>> means = fit.emmeans("N")
        >>> means.difference_errors()
        Differences of means, 6 pairs
                           mean    min    max
         SED              4.436  4.436  4.436
         LSD, level 0.95  8.934  8.934  8.934
        Next: .to_frame()
        """
        source = PairSource.of(self, "none", level)
        return difference_errors(*source.errors(), source.level)

    @public()
    def sed_matrix(self) -> Floats:
        """Standard errors of all differences (c, c), zero on the diagonal, across groups of `by` too.

        Examples
        --------
        >>> from fastlmm_core import datasets, lmm
        >>> fit = lmm("Y ~ V*N + (1|B/V)", datasets.load("oats"))
        >>> means = fit.emmeans("N")
        >>> means.sed_matrix().round(2)
        array([[0.  , 4.44, 4.44, 4.44],
               [4.44, 0.  , 4.44, 4.44],
               [4.44, 4.44, 0.  , 4.44],
               [4.44, 4.44, 4.44, 0.  ]])
        """
        source = PairSource.of(replace(self, by=()), "none", None)
        return symmetric(source.errors()[0], len(self), diagonal=0.0)

    @public(adjust=TEXT, level=optional(LEVEL))
    def comparison_intervals(
        self, *, adjust: str = "tukey", level: float | None = None
    ) -> ComparisonIntervals:
        """Intervals whose overlap shows which means differ; data for a plot.

        Parameters
        ----------
        adjust : str
            Adjustment of the pairwise comparisons.
        level : float, optional
            Confidence level of the comparisons.

        Examples
        --------
        >>> from fastlmm_core import datasets, lmm
        >>> fit = lmm("Y ~ V*N + (1|B/V)", datasets.load("oats"))
        >>> means = fit.emmeans("N")
        >>> intervals = means.comparison_intervals()
        >>> intervals.lower.round(1), intervals.n_disagree
        (array([ 73.5,  93. , 108.3, 117.5]), 0)
        """
        lower, upper = np.full(len(self), np.nan), np.full(len(self), np.nan)
        wrong = 0
        for rows, table in self._blocks(adjust, level):
            if table is None:
                continue
            half = 0.5 * (table.upper - table.lower)
            part = comparison_intervals(self.estimate[rows], symmetric(half, rows.size, diagonal=0.0))
            lower[rows], upper[rows] = part.lower, part.upper
            wrong += part.n_disagree
        return ComparisonIntervals(lower, upper, wrong)

    @overload
    def stream_pairs(
        self, path: None = None, *, adjust: str = ..., level: float | None = ..., chunk: int = ...,
        progress: bool = ...,
    ) -> Iterator[pd.DataFrame]: ...  # fmt: skip
    @overload
    def stream_pairs(
        self, path: str | Path, *, adjust: str = ..., level: float | None = ..., chunk: int = ...,
        progress: bool = ...,
    ) -> Path: ...  # fmt: skip
    @public(adjust=TEXT, level=optional(LEVEL), chunk=whole(1), progress=SWITCH)
    def stream_pairs(
        self,
        path: str | Path | None = None,
        *,
        adjust: str = "tukey",
        level: float | None = None,
        chunk: int = CHUNK,
        progress: bool = True,
    ) -> Iterator[pd.DataFrame] | Path:
        """All pairwise differences, a chunk at a time: the figures of `pairs().to_frame()` in little memory.

        Parameters
        ----------
        path : path, optional
            Parquet file to write; without it frames are given out one after another.
        adjust : str
            Adjustment over all pairs of a group; not mvt or hommel. Stepwise methods (holm, hochberg, fdr,
            by) compute every test twice and hold 16 bytes a pair.
        level : float, optional
            Confidence level, the table's own without it.
        chunk : int
            Pairs in a frame, or in a row group of the file.
        progress : bool
            Show the forecast and a bar where standard error is a terminal and tqdm is installed. The
            forecast goes to the log `fastlmm_core.pairs` in any case.

        Returns
        -------
        iterator of DataFrame, or Path

        Raises
        ------
        InferenceError
            For mvt and hommel, which need all pairs at once.
        MemoryForecastError
            When what is held at once will not fit.
        OptionError
            For an unknown adjustment or level, a `chunk` below one, or groups of one mean.

        Examples
        --------
        >>> from fastlmm_core import datasets, lmm
        >>> fit = lmm("Y ~ V*N + (1|B/V)", datasets.load("oats"))
        >>> means = fit.emmeans("N")
        >>> sum(len(frame) for frame in means.stream_pairs(progress=False))
        6
        """
        frames = stream(PairSource.of(self, adjust, level), chunk, progress)
        return frames if path is None else write_parquet(frames, path)

    @public(adjust=TEXT, chunk=whole(1))
    def forecast_pairs(self, *, adjust: str = "tukey", chunk: int = CHUNK) -> PairsForecast:
        """Time and memory that all pairs of the means would take, as one table and streamed.

        Examples
        --------
        >>> from fastlmm_core import datasets, lmm
        >>> fit = lmm("Y ~ V*N + (1|B/V)", datasets.load("oats"))
        >>> means = fit.emmeans("N")
        >>> means.forecast_pairs().n_pairs
        6
        """
        return forecast(PairSource.of(self, adjust, None), chunk)

    @public(k=whole(1), largest=SWITCH, adjust=TEXT, level=optional(LEVEL), everything=SWITCH)
    @titled("The {k} best means, compared with the first and the last of them")
    def best(
        self,
        k: int = 10,
        *,
        largest: bool = True,
        adjust: str = "none",
        level: float | None = None,
        everything: bool = False,
    ) -> pd.DataFrame:
        """The k best means of each group of `by`, compared with the best and with the k-th.

        Parameters
        ----------
        k : int
            How many to select; fewer where fewer can be estimated.
        largest : bool
            Whether large means are good ones.
        adjust : str
            "none" compares each difference with its own LSD. The best mean was found by looking at all of
            them, so that a test with an error rate needs the family of all pairs: "tukey", "sidak" or
            "bonferroni".
        level : float, optional
            Confidence level of the LSD, the table's own without it.
        everything : bool
            Give all means in their order, not the selected ones only.

        Returns
        -------
        DataFrame
            Label columns, rank, estimate, se, and for the best mean and the k-th: `from_best` (mean minus
            the best), `sed_best`, `df_best`, `lsd_best` (least significant difference), `like_best` (the
            difference is not larger than that), and the same for `kth`. Without figures: means that are not
            estimable.

        Raises
        ------
        OptionError
            For a `k` below one or an adjustment that needs all pairs.

        Examples
        --------
        >>> from fastlmm_core import datasets, lmm
        >>> fit = lmm("Y ~ V*N + (1|B/V)", datasets.load("oats"))
        >>> means = fit.emmeans("N")
        >>> means.best(2)["N"].tolist()
        ['N0.6cwt', 'N0.4cwt']
        """
        source = PairSource.of(self, adjust, level)
        parts = []
        for group, rows in enumerate(source.members):
            found = best_means(source, group, self.estimate[rows], k, largest)
            figures = found.to_frame()
            figures.insert(1, "estimate", self.estimate[rows])
            figures.insert(2, "se", self.se[rows])
            renamed = distinct_names(list(self.labels.columns), figures.columns)
            part = self.labels.iloc[rows].rename(columns=renamed).reset_index(drop=True)
            part = pd.concat([part, figures], axis=1).sort_values("rank", kind="stable")
            parts.append(part if everything else part[part["rank"] <= k])
        return pd.concat(parts, ignore_index=True)

    def _blocks(
        self, adjust: str, level: float | None = None
    ) -> list[tuple[NDArray[np.integer], ContrastTable | None]]:
        """Rows of each `by` group and the table of their pairwise comparisons, None for a single mean."""
        members = group_members(self.labels, self.by)
        if all(rows.size == 1 for rows in members):
            check_adjust(adjust)
            return [(rows, None) for rows in members]
        table = self.contrast("pairwise", adjust=adjust, level=level)
        if len(members) == 1:
            return [(members[0], table)]
        return [
            (rows, one_group(table, np.flatnonzero(table.group == g), rows.size) if rows.size > 1 else None)
            for g, rows in enumerate(members)
        ]


def one_group(table: ContrastTable, rows: NDArray[np.integer], n_means: int) -> ContrastTable:
    """The rows of one `by` group of `n_means` means as a table of their own."""
    weights = table.weights
    if weights is None:
        raise InferenceError("a table of contrasts always has weights")
    return replace(
        table,
        labels=table.labels.iloc[rows].reset_index(drop=True),
        weights=weights[rows],
        group=np.zeros(rows.size, dtype=np.int64),
        n_means=n_means,
        means_of=None,
    )


def symmetric(values: Floats, k: int, diagonal: float = np.nan) -> Floats:
    """Symmetric matrix (k, k) from its upper triangle by rows, (k (k - 1) / 2,)."""
    out = np.full((k, k), diagonal)
    i, j = np.triu_indices(k, 1)
    out[i, j] = values
    out[j, i] = values
    return out
