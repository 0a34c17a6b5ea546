"""Differences of the BLUEs of genotypes, from a second fit in which these are fixed."""

from __future__ import annotations

from contextlib import suppress
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from fastlmm_core.errors import FastLMMError, InferenceError
from fastlmm_core.inference import heritability as numbers
from fastlmm_core.results.genotypes.fixed_levels import (
    NO_DATA,
    NOT_ESTIMABLE,
    NOT_PLAIN,
    FixedLevels,
    fixed_levels,
)
from fastlmm_core.results.genotypes.heritability_levels import TermLevels

if TYPE_CHECKING:
    from fastlmm_core.results.fixed_part import FixedPart


class BlueDifferences:
    """Variances of the differences of BLUEs, from a second fit made when they are asked for."""

    def __init__(self, fit: FixedPart, own: TermLevels):
        self.fit, self.own = fit, own

    @cached_property
    def second(self) -> FixedLevels | str:
        """The fit with the levels fixed, or why there is none."""
        if self.own.related and len(self.fit.design.random[self.own.k].group_variables) != 1:
            return NOT_PLAIN
        try:
            return fixed_levels(self.fit, self.own.k)
        except FastLMMError as error:
            return str(error)

    def covariance(self, adjusted: bool) -> np.ndarray:
        """Covariance (S, S) of the BLUEs or of their differences to one of them, which serve as well.

        Raises
        ------
        FastLMMError
            Where there are none.
        """
        if isinstance(self.second, str):
            raise InferenceError(self.second)
        place = self.own.coefficient
        if not self.second.means_differ_by_effects:
            return self.second.differences(self.own.labels.tolist(), adjusted, place)
        means = self.second.means("kenward-roger", place) if adjusted else self.second.any_means(place)
        places = {str(label): i for i, label in enumerate(means.labels[self.second.name])}
        at = [places[str(label)] for label in self.own.labels if str(label) in places]
        if len(at) < self.own.chosen.size:
            raise InferenceError(NO_DATA)
        if not means.functions.estimable[at].all():
            if not self.second.coefficient:
                raise InferenceError(NOT_ESTIMABLE)
            return self.second.differences(self.own.labels.tolist(), adjusted, place)
        found = means.functions.cov if adjusted else means.functions.cov_unadjusted
        return np.asarray(found[np.ix_(at, at)])

    def adjust_first(self) -> None:
        """Make the table with Kenward & Roger's errors before others: it serves for both."""
        with suppress(FastLMMError):
            self.covariance(adjusted=True)

    @cached_property
    def plain(self) -> np.ndarray | None:
        """Variances of differences (S, S); None where there are none."""
        try:
            return numbers.difference_variances(self.covariance(adjusted=False))
        except FastLMMError:
            return None

    def answer(self, name: str) -> tuple[float, float, str]:
        """Estimate and status by a definition; no standard error, for two fits have their own estimates."""
        try:
            covariance = self.covariance(adjusted=name == "piepho_kr")
        except FastLMMError as error:
            return np.nan, np.nan, str(error)
        errors = numbers.difference_variances(covariance)
        if name == "delta_blue":
            genetic = numbers.difference_variances(self.own.variance * self.own.relation)
            pairs = numbers.delta_blue(genetic, errors)
            return numbers.level_means(pairs, harmonic=True)[1], np.nan, "ok"
        size = len(errors)
        mean = float(errors.sum()) / (size * (size - 1.0))
        return numbers.piepho(self.own.variance, mean), np.nan, "ok"
