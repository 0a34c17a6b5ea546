"""Values of genotypes: mean + BLUP with errors, their ranks and how uncertain these are."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
from scipy.special import ndtri

from fastlmm_core.display.displayed import Displayed
from fastlmm_core.display.figure_tables import FigureTable
from fastlmm_core.display.rendering import Table
from fastlmm_core.errors import OptionError
from fastlmm_core.inference.ranking import RankDraws, draw_ranks, expected_ranks
from fastlmm_core.results.effect_functions import effect_functions
from fastlmm_core.results.genotypes.decisions import JointValues, difference_heritability, rows_kept
from fastlmm_core.results.genotypes.grid import GenotypeRows

RANKS = ("rank", "rank_expected", "rank_se", "rank_lower", "rank_upper", "p_best")


@dataclass(frozen=True, eq=False, repr=False)
class RankedValues(Displayed):
    """Values of genotypes in groups, with the joint distribution of their errors and what it says of ranks.

    Attributes
    ----------
    rows : GenotypeRows
    by : tuple of str
    genotype : str
        Column of the genotypes.
    level : float
    largest : bool
        Whether large values are good.
    draws, seed : int
        Of the simulation of ranks.
    """

    rows: GenotypeRows
    by: tuple[str, ...]
    genotype: str
    level: float
    largest: bool
    draws: int
    seed: int

    def __len__(self) -> int:
        return len(self.rows.labels)

    @cached_property
    def estimate(self) -> np.ndarray:
        """Mean + BLUP (r,)."""
        return self.rows.functions.estimate() + self.rows.shift

    @cached_property
    def groups(self) -> list[np.ndarray]:
        """Rows of each combination of the levels of `by`."""
        if not self.by:
            return [np.arange(len(self))]
        codes = self.rows.labels.groupby(list(self.by), sort=False).ngroup().to_numpy()
        return [np.flatnonzero(codes == g) for g in range(int(np.max(codes)) + 1)]

    @cached_property
    def checks(self) -> list[str]:
        """Genotypes that are fixed effects, and so no candidates, in order.

        Examples
        --------
        >>> from fastlmm_core import datasets, lmm
        >>> trial = datasets.load("trials").query("trial == 'T1'").assign(
        ...     new=lambda plots: (plots["gen"] != "CHECK").astype(int))
        >>> lmm("yield ~ rep + new + (0 + new|gen)", trial).genotype_values("gen").checks
        ['CHECK']
        """
        names = self.rows.labels[self.genotype][self.rows.checks]
        return list(dict.fromkeys(names.astype(str)))

    @cached_property
    def candidates(self) -> list[np.ndarray]:
        """Places in every group of the genotypes to choose from: all but checks that are fixed effects."""
        return [np.flatnonzero(~self.rows.checks[own]) for own in self.groups]

    @cached_property
    def _covariances(self) -> list[np.ndarray]:
        parts = [rows_kept(self.rows, own) for own in self.groups]
        return [part.functions.covariance() + np.diag(part.new) for part in parts]

    def covariance(self, group: int = 0) -> np.ndarray:
        """Covariance (L, L) of the errors of the values in one group of `by`.

        Examples
        --------
        >>> from fastlmm_core import datasets, lmm
        >>> fit = lmm("yield ~ rep + (1|gen) + (1|rep:block)", datasets.load("john_alpha"))
        >>> values = fit.genotype_values("gen")
        >>> values.covariance().shape
        (24, 24)
        """
        return self._covariances[group]

    @cached_property
    def _draws(self) -> list[RankDraws]:
        sign = 1.0 if self.largest else -1.0
        return [
            draw_ranks(sign * own.estimate, own.covariance, self.draws, self.seed) for own in self._choices
        ]

    @cached_property
    def frame(self) -> pd.DataFrame:
        """Labels, estimate, se, lower, upper, reliability, rank and its uncertainty, one row a value.

        Where there are checks that are fixed effects, a column `check` tells them; they have no reliability
        and no rank, which is that among the others.
        """
        z = float(ndtri(0.5 + 0.5 * self.level))
        parts = []
        for g, own in enumerate(self.groups):
            cov, estimate = self._covariances[g], self.estimate[own]
            se, prior = np.sqrt(np.maximum(np.diag(cov), 0.0)), np.diag(self.rows.prior(own))
            part = self.rows.labels.iloc[own].copy()
            part["estimate"], part["se"] = estimate, se
            part["lower"], part["upper"] = estimate - z * se, estimate + z * se
            part["reliability"] = self._reliability(own, prior)
            part[list(RANKS)] = self._ranks_of(g, own.size)
            if self.rows.checks.any():
                part["check"] = self.rows.checks[own]
            else:
                part = part.astype(dict.fromkeys(("rank", "rank_lower", "rank_upper"), np.int64))
            parts.append(part)
        return pd.concat(parts).sort_index().reset_index(drop=True)

    def _ranks_of(self, g: int, size: int) -> np.ndarray:
        """The columns `RANKS` (size, 6) of a group, NaN where there is no candidate."""
        sign, chosen, drawn = 1.0 if self.largest else -1.0, self._choices[g], self._draws[g]
        low, high = drawn.interval(self.level)
        out = np.full((size, len(RANKS)), np.nan)
        out[self.candidates[g]] = np.column_stack(
            [
                _ranks(sign * chosen.estimate), expected_ranks(sign * chosen.estimate, chosen.covariance),
                drawn.se, low, high, drawn.among(1),
            ]
        )  # fmt: skip
        return out

    def _reliability(self, own: np.ndarray, prior: np.ndarray) -> np.ndarray:
        """1 - Var(u_hat - u) / Var(u) of the random part alone."""
        kept = rows_kept(self.rows, own)
        error = effect_functions(kept.functions.fit, None, kept.weights).variances()[0] + kept.new
        with np.errstate(divide="ignore", invalid="ignore"):
            known = np.where(prior > 0.0, 1.0 - error / prior, 0.0)
        return np.where(self.rows.checks[own], np.nan, known)

    def to_frame(self) -> pd.DataFrame:
        """A copy of the figures, unrounded.

        Examples
        --------
        >>> from fastlmm_core import datasets, lmm
        >>> fit = lmm("yield ~ rep + (1|gen) + (1|rep:block)", datasets.load("john_alpha"))
        >>> values = fit.genotype_values("gen")
        >>> values.to_frame().nsmallest(2, "rank")["gen"].tolist()
        ['G01', 'G05']
        """
        return self.frame.copy()

    def _shown(self) -> Table:
        of = "the joint distribution of the true values"
        drawn = f"ranks from {self.draws} draws of {of}, seed {self.seed}"
        count = len(self.checks)
        checks = (f"without a rank: {count} check{'s' * (count > 1)}, fixed effects",) if count else ()
        return FigureTable(
            self.frame, "Genotype values:", (*self.rows.notes, *checks, drawn), self.by
        )._shown()  # fmt: skip

    @property
    def _joint(self) -> list[JointValues]:
        """Values of each group with the covariance of their errors."""
        return [
            JointValues(self.rows.labels.iloc[own], self.estimate[own], cov)
            for own, cov in zip(self.groups, self._covariances, strict=True)
        ]

    @cached_property
    def _choices(self) -> list[JointValues]:
        """The same of the candidates."""
        return [
            JointValues(own.labels.iloc[at], own.estimate[at], own.covariance[np.ix_(at, at)])
            for own, at in zip(self._joint, self.candidates, strict=True)
        ]

    def _deviation(self, level: str) -> float:
        """Standard deviation of the true values at one level of `by`, by differences."""
        labels = self.rows.labels[self.by[0]].astype(str).to_numpy()
        own = np.flatnonzero((labels == level) & ~self.rows.checks)
        variance = difference_heritability(self.rows.prior(own), np.zeros((own.size, own.size)))[0]
        if not variance > 0.0:
            raise OptionError(f"per='sd': the variance of the genotypes in '{level}' is zero; use per='unit'")
        return float(np.sqrt(variance))

    def _count(self, k: int | None, share: float | None, n: int) -> int:
        """How many of n are selected."""
        if (k is None) == (share is None):
            raise OptionError("select takes either k, how many, or share=, which part of all")
        count = k if k is not None else max(1, round(float(share or 0.0) * n))
        self._check_count(count, n)
        return count

    def _top(self, g: int, k: int) -> np.ndarray:
        """Places (k,) of the best among the candidates of a group."""
        sign = 1.0 if self.largest else -1.0
        return np.argsort(-sign * self._choices[g].estimate, kind="stable")[:k]

    @staticmethod
    def _check_count(k: int, n: int) -> None:
        if k > n:
            raise OptionError(f"k={k} is more than the {n} genotypes")


def _ranks(values: np.ndarray) -> np.ndarray:
    """1 for the largest; equal values share the smallest rank."""
    return np.asarray(1 + (values[None, :] > values[:, None]).sum(axis=1))
