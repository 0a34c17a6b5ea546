"""What is read beside a table of means: SED, LSD, intervals for comparisons by eye, and the best of them."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fastlmm_core.display.displayed import Displayed
from fastlmm_core.display.rendering import Table
from fastlmm_core.errors import OptionError, check_option
from fastlmm_core.inference.heritability import half_difference
from fastlmm_core.inference.linear_functions import LinearFunctions
from fastlmm_core.means.pair_streams import PairSource
from fastlmm_core.multiplicity.distributions import t_quantile

Floats = NDArray[np.floating]


def half_difference_df(functions: LinearFunctions) -> float:
    """Degrees of freedom of half the mean variance of a difference of the rows that are estimable.

    Satterthwaite's, 2 v^2 / Var(v), of v = tr(M C) with M = (I - J / r) / (r - 1);
    NaN of fewer than two rows.

    Examples
    --------
    >>> from fastlmm_core import datasets, lmm
    >>> fit = lmm("Y ~ V*N + (1|B/V)", datasets.load("oats"))
    >>> round(half_difference_df(fit.emmeans("N").functions), 4)
    45.0
    """
    at = np.flatnonzero(functions.estimable)
    if at.size < 2:
        return np.nan
    own = np.ix_(at, at)
    v, *slopes = (half_difference(C[own]) for C in (functions.cov_unadjusted, *functions.gradients))
    return float(functions.df_of(np.array([v]), np.reshape(slopes, (-1, 1)), np.array([True]))[0])


@dataclass(frozen=True, repr=False)
class DifferenceErrors(Displayed):
    """Standard errors of differences (SED) and least significant differences (LSD) over all pairs of means.

    Attributes
    ----------
    n_pairs : int
        Pairs with an estimable difference.
    sed_mean, sed_min, sed_max : float
        On the scale of the response.
    sed_rms : float
        Root of the mean squared SED.
    lsd_mean, lsd_min, lsd_max : float
        t quantile at each pair's df times its SED.
    level : float
        Confidence level of the LSD.

    Examples
    --------
    >>> from fastlmm_core import datasets, lmm
    >>> fit = lmm("Y ~ V*N + (1|B/V)", datasets.load("oats"))
    >>> means = fit.emmeans("N")
    >>> errors = means.difference_errors()
    >>> round(errors.sed_mean, 3), round(errors.lsd_mean, 3)
    (4.436, 8.934)
    """

    n_pairs: int
    sed_mean: float
    sed_min: float
    sed_max: float
    sed_rms: float
    lsd_mean: float
    lsd_min: float
    lsd_max: float
    level: float

    def _shown(self) -> Table:
        frame = pd.DataFrame({
            "": ["SED", f"LSD, level {self.level:g}"], "mean": [self.sed_mean, self.lsd_mean],
            "min": [self.sed_min, self.lsd_min], "max": [self.sed_max, self.lsd_max],
        })  # fmt: skip
        kinds = dict.fromkeys(("mean", "min", "max"), "scale")
        return Table(frame, f"Differences of means, {self.n_pairs:,} pairs", kinds=kinds)

    def to_frame(self) -> pd.DataFrame:
        """One row with all figures.

        Examples
        --------
        >>> from fastlmm_core import datasets, lmm
        >>> fit = lmm("Y ~ V*N + (1|B/V)", datasets.load("oats"))
        >>> means = fit.emmeans("N")
        >>> means.difference_errors().to_frame().shape
        (1, 9)
        """
        return pd.DataFrame([asdict(self)])


def difference_errors(se: Floats, df: Floats, level: float) -> DifferenceErrors:
    """Summary of the standard errors `se` (m,) of m differences with `df` (m,) degrees of freedom."""
    valid = ~np.isnan(se)
    if not valid.any():
        none = float("nan")
        return DifferenceErrors(0, none, none, none, none, none, none, none, level)
    sed = se[valid]
    lsd = t_quantile(1.0 - level, df[valid]) * sed
    return DifferenceErrors(
        int(sed.size), float(sed.mean()), float(np.min(sed)), float(np.max(sed)),
        float(np.sqrt((sed**2).mean())), float(lsd.mean()), float(np.min(lsd)), float(np.max(lsd)), level,
    )  # fmt: skip


@dataclass(frozen=True, repr=False)
class ComparisonIntervals(Displayed):
    """Intervals around means that overlap where the means do not differ significantly.

    Attributes
    ----------
    lower, upper : ndarray (c,)
    n_disagree : int
        Pairs where overlap and test do not agree, because no set of intervals fits all pairs.

    Examples
    --------
    >>> from fastlmm_core import datasets, lmm
    >>> fit = lmm("Y ~ V*N + (1|B/V)", datasets.load("oats"))
    >>> means = fit.emmeans("N")
    >>> means.comparison_intervals().upper.round(1)
    array([ 85.3, 104.8, 120.1, 129.3])
    """

    lower: Floats
    upper: Floats
    n_disagree: int

    def _shown(self) -> Table:
        note = f"{self.n_disagree} pairs where overlap and test do not agree"
        return Table(self.to_frame(), "Comparison intervals", (note,), max_rows=60)

    def to_frame(self) -> pd.DataFrame:
        """Columns lower, upper.

        Examples
        --------
        >>> from fastlmm_core import datasets, lmm
        >>> fit = lmm("Y ~ V*N + (1|B/V)", datasets.load("oats"))
        >>> means = fit.emmeans("N")
        >>> means.comparison_intervals().to_frame().shape
        (4, 2)
        """
        return pd.DataFrame({"lower": self.lower, "upper": self.upper})


def comparison_intervals(estimate: Floats, least_difference: Floats) -> ComparisonIntervals:
    """Half-widths w with w_i + w_j as near as possible to the least significant difference of each pair.

    Least squares over all pairs: with D_i the sum of row i and S the sum of all w,
    w_i = (D_i - S) / (k - 2), S = sum(D) / (2 (k - 1)); for two means each gets half.

    Parameters
    ----------
    estimate : ndarray (k,)
        NaN for means that are not estimable; they are left out.
    least_difference : ndarray (k, k)
        Least significant differences, zero on the diagonal.
    """
    lower, upper = np.full(estimate.shape, np.nan), np.full(estimate.shape, np.nan)
    valid = np.flatnonzero(~np.isnan(estimate))
    k = valid.size
    if k < 2:
        return ComparisonIntervals(lower, upper, 0)
    D = least_difference[np.ix_(valid, valid)]
    D = np.where(np.isnan(D), np.nanmean(D[~np.eye(k, dtype=bool)]), D)
    if k == 2:
        half = np.full(2, 0.5 * D[0, 1])
    else:
        half = (D.sum(axis=1) - D.sum() / (2.0 * (k - 1))) / (k - 2)
    half = np.maximum(half, 0.0)
    value = estimate[valid]
    lower[valid], upper[valid] = value - half, value + half
    gap = np.abs(value[:, None] - value[None, :])
    disagree = (gap > half[:, None] + half[None, :]) != (gap > D)
    return ComparisonIntervals(lower, upper, int(np.count_nonzero(np.triu(disagree, 1))))


@dataclass(frozen=True)
class BestMeans:
    """Ranks of means and their differences from the best and from the k-th.

    Attributes
    ----------
    rank : ndarray (m,)
        From 1 for the best; NaN for means that are not estimable.
    best, kth : tuple of four ndarray (m,)
        Difference from that mean, its standard error, df and least significant difference; zero for the
        mean itself, whose df is NaN.
    """

    rank: Floats
    best: tuple[Floats, Floats, Floats, Floats]
    kth: tuple[Floats, Floats, Floats, Floats]

    def to_frame(self) -> pd.DataFrame:
        """Columns rank, then from_, sed_, df_, lsd_ and like_ of the best and the k-th."""
        out: dict[str, object] = {"rank": pd.Series(self.rank).astype("Int64")}
        for name, (difference, sed, df, lsd) in (("best", self.best), ("kth", self.kth)):
            out |= {f"from_{name}": difference, f"sed_{name}": sed, f"df_{name}": df, f"lsd_{name}": lsd}
            out[f"like_{name}"] = np.abs(difference) <= lsd
        return pd.DataFrame(out)


ONE_REFERENCE = ("none", "tukey", "sidak", "bonferroni", "scheffe")


def best_means(source: PairSource, group: int, estimate: Floats, k: int, largest: bool) -> BestMeans:
    """Ranks of one group's means (m,) and their differences from the best and the k-th.

    Raises
    ------
    OptionError
        For a `k` below one, or an adjustment that needs all pairs.
    """
    if isinstance(k, bool) or not isinstance(k, (int, np.integer)) or k < 1:
        raise OptionError(f"k={k!r} must be a whole number of means, at least 1")
    check_option("adjust", source.adjust, ONE_REFERENCE)
    order = np.argsort(-estimate if largest else estimate, kind="stable")
    valid = int(np.count_nonzero(~np.isnan(estimate)))
    rank = np.full(estimate.size, np.nan)
    rank[order[:valid]] = np.arange(1.0, valid + 1.0)
    references = order[[0, min(k, max(valid, 1)) - 1]]
    everyone = np.arange(estimate.size)
    figures = []
    for reference in references:
        others = everyone[everyone != reference]
        chunk = source.chunk(np.full(others.size, group), others, np.full(others.size, reference))
        own = 0.0 if valid else np.nan
        filled = [np.insert(x, reference, own) for x in (chunk.estimate, chunk.se)]
        least = np.insert(0.5 * (chunk.upper - chunk.lower), reference, own)
        figures.append((filled[0], filled[1], np.insert(chunk.df, reference, np.nan), least))
    return BestMeans(rank, *figures)
