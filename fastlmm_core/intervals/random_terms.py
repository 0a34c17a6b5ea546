"""A table of likelihood-ratio tests of the random terms, as lmerTest's ``ranova``."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from fastlmm_core.errors import FastLMMWarning, InferenceError
from fastlmm_core.intervals.boundary_tests import boundary_mixture, reduced_designs
from fastlmm_core.intervals.exact_test import exact_p
from fastlmm_core.multiplicity.distributions import chi2_upper

if TYPE_CHECKING:
    from fastlmm_core.results.random_part import RandomPart

COLUMNS = ["term", "npar", "loglik", "aic", "chisq", "df", "p", "p_boundary", "mixture"]
# A ratio this small, in units of the rounding of the criterion, is zero.
ROUNDING = 1e-12


def ranova(fit: RandomPart, exact: bool, draws: int, seed: int | None) -> pd.DataFrame:
    """Tests of the random terms; see ``LMMFit.ranova``."""
    if not fit.design.random:
        raise InferenceError("a linear model has no random terms to test")
    rows: list[tuple[Any, ...]] = [
        ("<none>", fit.npar, fit.loglik, fit.aic, np.nan, np.nan, np.nan, np.nan, None)
    ]
    exacts = [(np.nan, np.nan)]
    for label, design in reduced_designs(fit):
        small = refit_reduced(fit, design)
        criterion, npar = ratio_criterion(fit, small)
        chisq = criterion - fit.criterion
        chisq = 0.0 if chisq < ROUNDING * (abs(fit.criterion) + fit.nobs) else chisq
        df = fit.npar - npar
        mixture = boundary_mixture(small, fit)
        p_boundary = np.nan if mixture is None else mixture.upper(chisq)
        words = None if mixture is None else str(mixture)
        rows.append(
            (label, npar, -0.5 * criterion, criterion + 2.0 * npar, chisq, df, chi2_upper(chisq, df),
             p_boundary, words)
        )  # fmt: skip
        if exact:
            exacts.append(exact_p(fit, chisq, draws, seed))
    table = pd.DataFrame(rows, columns=COLUMNS)
    if exact:
        table["p_exact"], table["p_exact_se"] = np.array(exacts).T
    return table


def refit_reduced(fit: RandomPart, design: Any) -> RandomPart:
    """The fit of a design with fewer random terms, by the same method."""
    prepared = fit.prepared.again(fit.reml, design)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FastLMMWarning)
        return prepared.fit(y=fit.response)


def ratio_criterion(fit: RandomPart, small: RandomPart) -> tuple[float, int]:
    """Criterion of the smaller model by the method of the larger, and its parameters.

    A linear model by least squares has the likelihood of R's lm; beside a REML fit its restricted one counts.
    """
    if small.method == "OLS" and fit.reml:
        return float(small.solved.criterion), small.npar
    return small.criterion, small.npar
