"""F tests of the terms of the fixed part, and the likelihood-ratio comparison of two fits."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import scipy.sparse as sp

from fastlmm_core.display.frames import titled
from fastlmm_core.errors import DesignError, OptionError, check_option, name_list
from fastlmm_core.gate import public
from fastlmm_core.inference.linear_functions import DDF_METHODS, NO_ERROR, NO_VARIANCE, LinearFunctions
from fastlmm_core.intervals.boundary_tests import boundary_mixture
from fastlmm_core.multiplicity.distributions import chi2_upper
from fastlmm_core.options import SWITCH
from fastlmm_core.results.nested_models import fixed_part_within, is_nested, standardized_columns

if TYPE_CHECKING:
    from fastlmm_core.results.fit_figures import FitFigures

# By how much, of itself, a criterion may lie above that of a special case: where two searches end.
ROUNDING = 1e-6


def anova_table(
    fit: FitFigures, functions_of: Callable[..., LinearFunctions], type: int, ddf: str, information: str
) -> pd.DataFrame:  # fmt: skip
    """term, df_num, df_den, F, p, scaling, status, ddf; see ``LMMFit.anova``.

    `functions_of` is ``LMMFit.linear_functions`` of the fit.
    """
    if type not in (1, 2, 3):
        raise OptionError(f"type={type!r} is not known; allowed: 1 (sequential), 2, 3")
    check_option("ddf", ddf, DDF_METHODS)
    hypotheses = _hypotheses(fit, type)
    stacked = [K for _, K in hypotheses if K.shape[0]]
    functions = (
        functions_of(sp.vstack(stacked, format="csr"), ddf=ddf, information=information)
        if stacked
        else None
    )
    rows = []
    first = 0
    for label, K in hypotheses:
        count = K.shape[0]
        if count == 0 or functions is None:
            rows.append((label, 0, np.nan, np.nan, np.nan, np.nan, "no estimable function of its own", ddf))
            continue
        own = np.arange(first, first + count)
        pick = sp.csr_array((np.ones(count), (np.arange(count), own)), shape=(count, functions.estimate.size))
        first += count
        if not functions.estimable[own].all():  # every hypothesis is; see `LMMFit.warnings`
            rows.append((label, count, np.nan, np.nan, np.nan, np.nan, NO_ERROR, ddf))
            continue
        if functions.without_variance:
            rows.append((label, count, np.nan, np.nan, np.nan, np.nan, NO_VARIANCE, ddf))
            continue
        test = functions.f_test(pick)
        rows.append((label, test.df_num, test.df_den, test.F, test.p, test.scaling, "ok", ddf))
    columns = ["term", "df_num", "df_den", "F", "p", "scaling", "status", "ddf"]
    return pd.DataFrame(rows, columns=columns)


def _hypotheses(fit: FitFigures, type: int) -> list[tuple[str, np.ndarray | sp.sparray]]:
    linear = fit.method == "OLS"
    if type == 1:
        return fit.design.type1_hypotheses(weighted=linear)
    if type == 2:
        return fit.design.type2_hypotheses(weighted=linear)
    return fit.design.type3_hypotheses(marginal=linear)


@public(conditional=SWITCH)
@titled("Comparison of fits")
def compare(*fits: FitFigures, conditional: bool = False) -> pd.DataFrame:
    """Likelihood-ratio comparison of nested fits of one response.

    Parameters
    ----------
    *fits : LMMFit
        Two or more; they are ordered by their number of parameters.
    conditional : bool
        Add edf and caic, the effective degrees of freedom and the conditional AIC of each
        (``LMMFit.conditional_aic``).

    Returns
    -------
    DataFrame
        formula (with the residual where it is not the ordinary one), npar, criterion, loglik, aic, bic,
        chisq, df, p, p_boundary, mixture; each row is tested against the one before. Fits that are not
        nested have no test, chisq and p are NaN: the fixed part of the smaller does not lie within that of
        the larger, the larger has the smaller likelihood, its plain random terms and residuals do not make
        the covariances of rows that those of the smaller make, as ``(x | g)`` does not for ``(1 | h)``, or
        the covariance that the smaller has for a term of both, or for the residual within subjects, is none
        that the larger could have, as ``fa(k=1)`` and ``rr(d=2)``. Whether other terms are special cases of
        each other is for the reader to say. A REML
        criterion depends on the coding of the fixed part: figures of all rows are those of the coding of the
        first. Where a variance is tested `p` is too large, and `p_boundary` that of the mixture of
        chi-squares that belongs to it (Self & Liang 1987; Stram & Lee 1994); NaN where no variance is
        tested, or the mixture is not known.

    Raises
    ------
    OptionError
        Fewer than two fits, REML with different fixed parts, or a mixture of methods.
    DesignError
        The fits are not of the same observations.

    Examples
    --------
    >>> from fastlmm_core import compare, datasets, lmm
    >>> sleep = datasets.load("sleepstudy")
    >>> slopes = lmm("Reaction ~ Days + (Days|Subject)", sleep, reml=False)
    >>> alone = lmm("Reaction ~ Days + (1|Subject)", sleep, reml=False)
    >>> print(compare(alone, slopes)[["npar", "loglik", "chisq", "df", "p_boundary"]])
    Comparison of fits
     npar  loglik   chisq  df  p_boundary
        4  -897.0
        6  -876.0  42.139   2      <.0001
    """
    if len(fits) < 2:
        raise OptionError("compare() needs two fits or more")
    strange = [type(fit).__name__ for fit in fits if not hasattr(fit, "criterion")]
    if strange:
        raise OptionError(f"compare() takes fits, not {name_list(strange)}")
    ordered = sorted(fits, key=lambda fit: fit.npar)
    first = ordered[0]
    for other in ordered[1:]:
        if not _same_response(first.response, other.response):
            raise DesignError(
                "the fits are not of the same observations; drop rows with missing values first"
            )
        for name in ("offset", "weights"):
            if not _same_rows(getattr(first, name), getattr(other, name)):
                raise DesignError(f"the fits have different {name}: their criteria are of different data")
        kinds = {first.method, other.method}
        if len(kinds) > 1 and "REML" in kinds:
            raise OptionError("a REML fit compares only with REML fits; fit both with reml=False")
        if other.method == "REML" and not _same_fixed_part(first, other):
            raise OptionError(
                "REML criteria of different fixed parts do not compare: the data they see differ; "
                "fit with reml=False"
            )
    rows = []
    shifted = [fit.criterion + _coding_shift(first, fit) for fit in ordered]
    for i, fit in enumerate(ordered):
        chisq = df = p = p_boundary = np.nan
        mixture = None
        if i:
            before = ordered[i - 1]
            df = fit.npar - before.npar
            fall = shifted[i - 1] - shifted[i]
            if fall >= -ROUNDING * (1.0 + abs(shifted[i])) and is_nested(before, fit):
                chisq = max(fall, 0.0)
                p = chi2_upper(chisq, df) if df > 0 else np.nan
                mixture = boundary_mixture(before, fit)
                p_boundary = np.nan if mixture is None else mixture.upper(chisq)
        shift = shifted[i] - fit.criterion
        criteria = (shifted[i], fit.loglik - 0.5 * shift, fit.aic + shift, fit.bic + shift)
        figures = (fit.npar, *criteria, chisq, df, p, p_boundary)
        rows.append((_model_text(fit), *figures, None if mixture is None else str(mixture)))
    names = ["npar", "criterion", "loglik", "aic", "bic", "chisq", "df", "p", "p_boundary", "mixture"]
    table = pd.DataFrame(rows, columns=["formula", *names])
    if conditional:
        own = [fit.conditional_aic() for fit in ordered]  # type: ignore[attr-defined]
        table["edf"], table["caic"] = [one.df for one in own], [one.caic for one in own]
    return table


def _model_text(fit: FitFigures) -> str:
    """What tells fits apart that share a formula."""
    residual = fit.design.residual
    return fit.formula if residual.is_plain else f"{fit.formula}, residual='{residual.text}'"


def _same_rows(a: np.ndarray | None, b: np.ndarray | None) -> bool:
    """Whether the offsets or weights of the rows are the same."""
    return a is b or (a is not None and b is not None and _same_response(a, b))


def _same_response(a: np.ndarray, b: np.ndarray) -> bool:
    """Equal but for what computing one of them in two ways may round, in units of the largest."""
    if a.shape != b.shape:
        return False
    rounding = 8.0 * np.finfo(float).eps * float(np.abs(a).max(initial=0.0))
    return bool(np.all(np.abs(a - b) <= rounding))


def _same_fixed_part(a: FitFigures, b: FitFigures) -> bool:
    """Both columns span the same space."""
    return a.rank == b.rank and fixed_part_within(b, a)


def _log_cross_product(fit: FitFigures) -> float:
    """log |X'X|, by the standardized columns: powers of a year are collinear to rounding as they are."""
    R = np.linalg.qr(standardized_columns(fit).toarray(), mode="r")
    outward = np.linalg.slogdet(fit.solved.equations.to_user.toarray())[1]
    return float(2.0 * (np.sum(np.log(np.abs(np.diag(R)))) - outward))


def _coding_shift(a: FitFigures, b: FitFigures) -> float:
    """What the coding of one fixed part in two ways adds to the difference of two REML criteria.

    X_b = X_a M changes log |X'V^-1 X| by 2 log |M|, at any V, and log |X'X| by the same.
    """
    if a.method != "REML" or (a.design.X - b.design.X).count_nonzero() == 0:
        return 0.0
    return _log_cross_product(a) - _log_cross_product(b)
