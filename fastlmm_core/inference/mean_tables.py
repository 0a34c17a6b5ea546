"""Tables of marginal means and slopes, with letters, standard errors of differences, comparison intervals."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fastlmm_core.errors import InferenceError, OptionError
from fastlmm_core.inference.estimate_tables import OK, ContrastTable, EstimateTable
from fastlmm_core.inference.letters import compact_letters
from fastlmm_core.inference.mean_comparisons import (
    ComparisonIntervals,
    DifferenceErrors,
    comparison_intervals,
    difference_errors,
)
from fastlmm_core.inference.table_labels import group_rows

Floats = NDArray[np.floating]


@dataclass(frozen=True, eq=False, repr=False)
class EmmeansTable(EstimateTable):
    """Estimated marginal means, or slopes (`emtrends`), with what breeders read beside them."""

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
            The figures of the means, sorted by estimate within each group of `by`, and a column `group`.

        References
        ----------
        Piepho (2004), J. Comput. Graph. Stat. 13:456.
        """
        if not 0.0 < alpha < 1.0:
            raise OptionError(f"alpha={alpha!r} must lie above 0 and below 1")
        frame = self.to_frame()
        parts = []
        for rows, table in self._blocks(adjust):
            order = np.argsort(-self.estimate[rows] if reverse else self.estimate[rows], kind="stable")
            p = symmetric(table.p, rows.size)[np.ix_(order, order)]
            part = frame.iloc[rows[order]].copy()
            part["group"] = compact_letters(p < alpha)
            part.loc[part["status"] != OK, "group"] = ""
            parts.append(part)
        return pd.concat(parts, ignore_index=True)

    def difference_errors(self, level: float | None = None) -> DifferenceErrors:
        """Average, smallest and largest SED and LSD of all pairs of means (in the same group of `by`).

        Parameters
        ----------
        level : float, optional
            The LSD's confidence level, the table's own without it (0.95: the 5 % LSD).
        """
        table = self.contrast("pairwise", adjust="none", level=level)
        return difference_errors(table.se, table.df, table.level)

    def sed_matrix(self) -> Floats:
        """Standard errors of all differences (c, c), zero on the diagonal, across groups of `by` too."""
        return symmetric(self.contrast("pairwise", by=None, adjust="none").se, len(self), diagonal=0.0)

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
        """
        lower, upper = np.full(len(self), np.nan), np.full(len(self), np.nan)
        wrong = 0
        for rows, table in self._blocks(adjust, level):
            half = 0.5 * (table.upper - table.lower)
            part = comparison_intervals(self.estimate[rows], symmetric(half, rows.size, diagonal=0.0))
            lower[rows], upper[rows] = part.lower, part.upper
            wrong += part.n_disagree
        return ComparisonIntervals(lower, upper, wrong)

    def _blocks(
        self, adjust: str, level: float | None = None
    ) -> list[tuple[NDArray[np.integer], ContrastTable]]:
        """Rows of each `by` group and the table of their pairwise comparisons."""
        _, members = group_rows(self.labels, self.by)
        table = self.contrast("pairwise", adjust=adjust, level=level)
        rows = table.family.members()
        if len(rows) == 1:
            return [(members[0], table)]
        return [(m, one_group(table, r)) for m, r in zip(members, rows, strict=True)]


def one_group(table: ContrastTable, rows: NDArray[np.integer]) -> ContrastTable:
    """The rows of one `by` group as a table of their own."""
    weights = table.weights
    if weights is None:
        raise InferenceError("a table of contrasts always has weights")
    return replace(
        table,
        labels=table.labels.iloc[rows].reset_index(drop=True),
        weights=weights[rows],
        group=np.zeros(rows.size, dtype=np.int64),
    )


def symmetric(values: Floats, k: int, diagonal: float = np.nan) -> Floats:
    """Symmetric matrix (k, k) from its upper triangle by rows, (k (k - 1) / 2,)."""
    out = np.full((k, k), diagonal)
    i, j = np.triu_indices(k, 1)
    out[i, j] = values
    out[j, i] = values
    return out
