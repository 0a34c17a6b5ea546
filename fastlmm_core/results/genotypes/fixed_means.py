"""BLUEs of the genotypes of a random term from a second fit, their test, and errors of their differences."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from fastlmm_core.errors import FastLMMError
from fastlmm_core.means.comparisons import difference_errors
from fastlmm_core.means.pair_streams import PairSource
from fastlmm_core.results.genotypes.fixed_levels import FixedLevels, fixed_levels
from fastlmm_core.results.genotypes.heritability_levels import find_term, labels_with_data

if TYPE_CHECKING:
    from fastlmm_core.means.mean_tables import EmmeansTable
    from fastlmm_core.results.fixed_part import FixedPart

FIGURES = ("df_genotypes", "df_error", "F_genotypes", "p_genotypes", "sed_mean", "lsd_mean", "sed_rms")
BESIDE_CHECKS = ("sed_check", "lsd_check")


@dataclass(frozen=True)
class FixedMeans:
    """Genotypes as fixed effects.

    Attributes
    ----------
    means : EmmeansTable or None
        None where there is no such fit.
    test : dict
        df_num, df_den, F and p of the genotypes; of ``(0 + new | gen)`` of the differences between new lines.
    checks : (L,) bool
        Which of the means are those of checks, fixed in the first fit already.
    why : str
        Why there are none.
    """

    means: EmmeansTable | None
    test: Any = None
    checks: Any = None
    why: str = ""

    @property
    def lost(self) -> int:
        """Means that are not estimable."""
        return 0 if self.means is None else int(np.count_nonzero(np.isnan(self.means.estimate)))

    def to_frame(self) -> pd.DataFrame:
        """Labels, estimate, se, df; no rows without a fit."""
        if self.means is None:
            return pd.DataFrame()
        return self.means.to_frame().drop(columns=["t", "p", "lower", "upper", "status"])

    def figures(self, level: float) -> dict[str, float]:
        """Test of the genotypes, mean SED and LSD between two of them, and between one and a check.

        The latter, `sed_check` and `lsd_check`, where there are checks; `sed_rms` is the root of the mean
        variance of a difference.
        """
        names = (*FIGURES, *(BESIDE_CHECKS if self.checks is not None and self.checks.any() else ()))
        if self.means is None:
            return dict.fromkeys(names, np.nan)
        try:
            se, df = PairSource.of(self.means, "none", level).errors()
        except FastLMMError:
            return dict.fromkeys(names, np.nan)
        first, second = np.triu_indices(len(self.means), 1)
        count = self.checks[first].astype(int) + self.checks[second]  # checks in a pair
        out = [float(self.test[name]) for name in ("df_num", "df_den", "F", "p")]
        if not out[1] > 0.0:  # Kenward & Roger's formula has no solution
            out[1:] = [np.nan, np.nan, np.nan]
        for n in range(1 + (len(names) > len(FIGURES))):
            errors = difference_errors(se[count == n], df[count == n], level)
            out += [errors.sed_mean, errors.lsd_mean, *([errors.sed_rms] if n == 0 else [])]
        return dict(zip(names, out, strict=True))


def fixed_means(fit: FixedPart, term: str) -> FixedMeans:
    """Means (BLUEs) of the genotypes of a random term, of checks that are fixed too, and the test."""
    k = find_term(fit, term)
    try:
        second = fixed_levels(fit, k)
        means = second.means()
        test = test_of_levels(fit, second)
    except FastLMMError as error:
        return FixedMeans(None, why=str(error))
    random = {str(name) for name in labels_with_data(fit.design.random[k])}
    checks = ~means.labels[second.name].astype(str).isin(random).to_numpy()
    return FixedMeans(means, test, checks)


def test_of_levels(fit: FixedPart, second: FixedLevels) -> dict[str, float]:
    """F test of no difference between the levels, over environments where they have effects in each."""
    if second.within is not None and second.coefficient:
        lines = labels_with_data(fit.design.random[second.k]).tolist()
        return second.test_of_effects(lines, second.fit.default_ddf)
    if second.within is not None:
        functions = second.means().functions
        n = len(functions.estimable)
        found = functions.f_test(np.hstack([-np.ones((n - 1, 1)), np.eye(n - 1)]))
        return {"df_num": found.df_num, "df_den": found.df_den, "F": found.F, "p": found.p}
    before = {term.label for term in fit.design.terms}
    label = next(term.label for term in second.fit.design.terms if term.label not in before)
    tests = second.fit.anova()
    row = tests[tests["term"] == label].iloc[0]
    return {name: float(row[name]) for name in ("df_num", "df_den", "F", "p")}
