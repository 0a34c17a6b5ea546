"""Values of genotypes for a decision: mean + BLUP with errors, ranks, the best, selection and index."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import scipy.sparse as sp
from scipy.special import ndtri

from fastlmm_core.display.displayed import Displayed
from fastlmm_core.display.rendering import Table
from fastlmm_core.errors import OptionError, nearest_names
from fastlmm_core.gate import public
from fastlmm_core.inference.figure_tables import FigureTable
from fastlmm_core.inference.ranking import RankDraws, draw_ranks, expected_ranks, selection_intensity
from fastlmm_core.options import LEVEL, NUMBER, optional, table_of, whole
from fastlmm_core.results.effect_functions import EffectFunctions, effect_functions
from fastlmm_core.results.genotype_grid import GenotypeRows, genotype_rows
from fastlmm_core.results.heritability_levels import find_term

if TYPE_CHECKING:
    from fastlmm_core.results.fixed_part import FixedPart

DRAWS, SEED = 10_000, 1


@dataclass(frozen=True, eq=False, repr=False)
class GenotypeValues(Displayed):
    """Values of genotypes and the joint uncertainty of them (see ``LMMFit.genotype_values``).

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

    Examples
    --------
    >>> from fastlmm_core import datasets, lmm
    >>> fit = lmm("yield ~ rep + (1|gen) + (1|rep:block)", datasets.load("john_alpha"))
    >>> values = fit.genotype_values("gen")
    >>> len(values), round(float(values.estimate.max()), 3)
    (24, 4.981)
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
    def _covariances(self) -> list[np.ndarray]:
        out = []
        for own in self.groups:
            part = replace(self.rows.functions, unknowns=self.rows.functions.unknowns[:, own])
            out.append(part.covariance() + np.diag(self.rows.new[own]))
        return out

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
            draw_ranks(sign * self.estimate[own], cov, self.draws, self.seed)
            for own, cov in zip(self.groups, self._covariances, strict=True)
        ]

    @cached_property
    def frame(self) -> pd.DataFrame:
        """Labels, estimate, se, lower, upper, reliability, rank and its uncertainty, one row a value."""
        z = float(ndtri(0.5 + 0.5 * self.level))
        parts = []
        for g, own in enumerate(self.groups):
            cov, estimate = self._covariances[g], self.estimate[own]
            se, prior = np.sqrt(np.maximum(np.diag(cov), 0.0)), np.diag(self.rows.prior(own))
            sign = 1.0 if self.largest else -1.0
            low, high = self._draws[g].interval(self.level)
            part = self.rows.labels.iloc[own].copy()
            part["estimate"], part["se"] = estimate, se
            part["lower"], part["upper"] = estimate - z * se, estimate + z * se
            part["reliability"] = self._reliability(own, prior)
            part["rank"] = _ranks(sign * estimate)
            part["rank_expected"] = expected_ranks(sign * estimate, cov)
            part["rank_se"] = self._draws[g].se
            part["rank_lower"], part["rank_upper"] = low, high
            part["p_best"] = self._draws[g].among(1)
            parts.append(part)
        return pd.concat(parts).sort_index().reset_index(drop=True)

    def _reliability(self, own: np.ndarray, prior: np.ndarray) -> np.ndarray:
        """1 - Var(u_hat - u) / Var(u) of the random part alone."""
        functions = self.rows.functions
        weights = {k: [sp.csr_array(part)[own] for part in parts] for k, parts in self.rows.weights.items()}
        error = effect_variances(functions, weights) + self.rows.new[own]
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(prior > 0.0, 1.0 - error / prior, 0.0)

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
        note = f"ranks from {self.draws} draws of the joint distribution of the true values, seed {self.seed}"
        return FigureTable(self.frame, "Genotype values:", (note,), self.by)._shown()

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
        for g, own in enumerate(self.groups):
            self._check_count(k, own.size)
            chosen = self._top(own, k)
            part = self.rows.labels.iloc[own[chosen]].copy()
            part["estimate"] = self.estimate[own[chosen]]
            part["se"] = np.sqrt(np.diag(self._covariances[g])[chosen])
            part["p_among"] = self._draws[g].among(k)[chosen]
            part["p_all"] = self._draws[g].exactly(chosen)
            parts.append(part)
        title = f"The {k} best of {self.groups[0].size}:"
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
        if (k is None) == (share is None):
            raise OptionError("select takes either k, how many, or share=, which part of all")
        rows = []
        for g, own in enumerate(self.groups):
            count = k if k is not None else max(1, round(float(share or 0.0) * own.size))
            self._check_count(count, own.size)
            chosen = self._top(own, count)
            contrast = np.full(own.size, -1.0 / own.size)
            contrast[chosen] += 1.0 / count
            cov, prior = self._covariances[g], self.rows.prior(own)
            intensity = selection_intensity(own.size, count)
            variance, h2 = _difference_heritability(prior, cov)
            labels = dict(self.rows.labels.iloc[own[0]][list(self.by)])
            rows.append(labels | {
                "n": own.size, "k": count, "intensity": intensity,
                "gain": float(contrast @ self.estimate[own]),
                "gain_se": float(np.sqrt(max(contrast @ cov @ contrast, 0.0))),
                "h2": h2, "response": (1.0 if self.largest else -1.0) * intensity * np.sqrt(h2 * variance),
            })  # fmt: skip
        return FigureTable(pd.DataFrame(rows), "Gain from selection:")

    @public(weights=table_of(NUMBER))
    def index(self, weights: Mapping[str, float]) -> GenotypeValues:
        """A weighted sum over the levels of `by`, traits or environments, as values of their own.

        Parameters
        ----------
        weights : mapping of str to float
            Economic weight of each level; levels that are not named count nothing.

        Returns
        -------
        GenotypeValues
            With the covariances between the levels in the errors; large values are good.

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
        genotypes, first = pd.factorize(labels[self.genotype])
        factor = labels[self.by[0]].astype(str).map(lambda name: float(weights.get(name, 0.0))).to_numpy()
        shape = (len(first), len(labels))
        A = sp.csr_array((factor, (genotypes, np.arange(len(labels)))), shape=shape)
        own = self.rows
        combined = GenotypeRows(
            pd.DataFrame({self.genotype: first}),
            replace(own.functions, unknowns=sp.csc_array(own.functions.unknowns @ A.T)),
            A @ own.shift, A.power(2) @ own.new,
            {k: [sp.csr_array(A @ part) for part in parts] for k, parts in own.weights.items()},
        )  # fmt: skip
        return replace(self, rows=combined, by=(), largest=True)

    def _top(self, own: np.ndarray, k: int) -> np.ndarray:
        sign = 1.0 if self.largest else -1.0
        return np.argsort(-sign * self.estimate[own], kind="stable")[:k]

    @staticmethod
    def _check_count(k: int, n: int) -> None:
        if k > n:
            raise OptionError(f"k={k} is more than the {n} genotypes")


def effect_variances(functions: EffectFunctions, weights: dict[int, list[sp.csr_array]]) -> np.ndarray:
    """Variances (r,) of the errors of the random parts alone."""
    return effect_functions(functions.fit, None, weights).variances()[0]


def _ranks(values: np.ndarray) -> np.ndarray:
    """1 for the largest; equal values share the smallest rank."""
    return np.asarray(1 + (values[None, :] > values[:, None]).sum(axis=1))


def _difference_heritability(prior: np.ndarray, errors: np.ndarray) -> tuple[float, float]:
    """Half the mean variance of a difference before the trial, and the part of it that the trial explains."""
    size = len(prior)
    scale = size * (size - 1.0)
    if size < 2:
        return np.nan, np.nan
    before = float((size * np.trace(prior) - prior.sum()) / scale)
    after = float((size * np.trace(errors) - errors.sum()) / scale)
    return before, max(0.0, 1.0 - after / before) if before > 0.0 else 0.0


def genotype_values(
    fit: FixedPart, term: str, by: Any, level: float, largest: bool, draws: int, seed: int
) -> GenotypeValues:
    """See ``LMMFit.genotype_values``."""
    k = find_term(fit, term)
    names = () if by is None else (by,) if isinstance(by, str) else tuple(by)
    rows = genotype_rows(fit, k, names)
    return GenotypeValues(
        rows, names, fit.design.random[k].group_variables[-1], level, bool(largest), draws, seed
    )
