"""Models with more and more factors side by side."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from fastlmm_core.display.frames import titled
from fastlmm_core.gate import public
from fastlmm_core.options import NAME, optional
from fastlmm_core.results.factor_analytic.factor_analysis import STRUCTURES, factor_analysis
from fastlmm_core.results.term_tests import compare

if TYPE_CHECKING:
    from fastlmm_core.results.fit import LMMFit


@public(term=optional(NAME))
@titled("Comparison of numbers of factors")
def compare_factors(*fits: LMMFit, term: str | None = None) -> pd.DataFrame:
    """Fits with an increasing number of factors in one table.

    Parameters
    ----------
    *fits : LMMFit
        Two or more of one response and one fixed part; those without factors (``diag``, ``us``) may stand
        among them.
    term : str, optional
        Grouping factor of the term with factors; by default the first of each fit.

    Returns
    -------
    DataFrame
        structure, k, explained (percentage of the variance that the factors explain), singular, and the
        columns of ``compare``: formula, npar, criterion, loglik, aic, bic, chisq, df, p.

    Raises
    ------
    OptionError, DesignError
        As ``compare``.

    Notes
    -----
    The likelihood-ratio p holds where the smaller model is inside the larger: with a specific variance
    at zero it is conservative, and AIC, BIC and the variance explained are read beside it.

    Examples
    --------
    >>> from fastlmm_core import compare_factors, datasets, lmm
    >>> trials = datasets.load("besag_met")
    >>> model = "yield ~ county + fa(0 + county | gen, k={}) + (1 | county:rep:block)"
    >>> fits = [lmm(model.format(k), trials, residual="units | county") for k in (1, 2)]
    >>> compare_factors(*fits)["npar"].tolist()
    [25, 30]
    """
    table = compare(*fits)
    ordered = sorted(fits, key=lambda fit: fit.npar)
    rows = [_factors(fit, term) for fit in ordered]
    head = pd.DataFrame(rows, columns=["structure", "k", "explained", "singular"])
    return pd.concat([head, table], axis=1)


def _factors(fit: LMMFit, term: str | None) -> tuple[str, float, float, bool]:
    structures = [own.structure for own in fit.design.random if not own.is_spline and len(own.columns) > 1]
    if not any(name in STRUCTURES for name in structures):
        return ", ".join(structures), np.nan, np.nan, fit.singular
    own = factor_analysis(fit, term, "average")
    return own.structure, own.k, own.percent_explained, fit.singular
