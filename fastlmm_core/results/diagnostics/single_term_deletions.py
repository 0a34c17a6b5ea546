"""What each fixed term does for the model beside all others: the table of R's ``drop1``.

A term that others contain stays while they do (marginality): of ``a*b`` only ``a:b`` can be dropped. F tests
leave the fit as it is; likelihood ratios compare ML fits with and without the term, which a spline that is
the deviation from it does not allow.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from fastlmm_core.errors import OptionError, check_option, name_list
from fastlmm_core.formula.expressions import deparse, label_of
from fastlmm_core.formula.parts import ParsedFormula, TermList
from fastlmm_core.multiplicity.distributions import chi2_upper
from fastlmm_core.results.genotypes.fixed_levels import fit_formula
from fastlmm_core.results.term_tests import anova_table

if TYPE_CHECKING:
    from fastlmm_core.inference.linear_functions import LinearFunctions
    from fastlmm_core.results.fixed_part import FixedPart

TESTS = ("F", "chisq")


def drop1_table(
    fit: FixedPart, functions_of: Callable[..., LinearFunctions], test: str, ddf: str, information: str
) -> pd.DataFrame:
    """See ``LMMFit.drop1``."""
    check_option("test", test, TESTS)
    dropped = droppable_terms(fit.design.formula.fixed)
    if not dropped:
        raise OptionError("the model has no fixed term that could be dropped")
    if test == "chisq":
        splines = spline_variables(fit)
        free = [term for term in dropped if not any(set(map(label_of, term)) <= names for names in splines)]
        if not free:
            kept = name_list([term_label(term) for term in dropped])
            raise OptionError(f"the splines are deviations from {kept}: no fit is without; use test='F'")
        return likelihood_ratios(fit, free)
    # among terms that no other contains the tests of type II are those beside all others
    table = anova_table(fit, functions_of, 2, ddf, information)
    names = {term_label(term) for term in dropped}
    return table[table["term"].isin(names)].reset_index(drop=True)


def droppable_terms(fixed: TermList) -> list[tuple[str, ...]]:
    """Terms that no other term contains."""
    return [own for own in fixed.terms if not any(set(own) < set(other) for other in fixed.terms)]


def term_label(term: tuple[str, ...]) -> str:
    """The term as all tables show it."""
    return label_of(":".join(term))


def spline_variables(fit: FixedPart) -> list[set[str]]:
    """Of every spline the labels whose products the fixed part has to have, those of ``at()`` among them."""
    out = []
    for term in fit.design.random:
        if term.is_spline:
            factors = [label_of(deparse(node)) for node, _ in term.at_factors]
            out.append({*term.names, *factors, *(f"factor({name})" for name in factors)})
    return out


def likelihood_ratios(fit: FixedPart, dropped: list[tuple[str, ...]]) -> pd.DataFrame:
    """term, npar, criterion, aic, bic, chisq, df, p of ML fits; the first row is the model itself."""
    held = fit.prepared.fixed_parameters
    whole = fit_formula(fit, replace(fit.design.formula, offsets=()), False, held) if fit.reml else fit
    rows = [("<none>", whole.npar, whole.criterion, whole.aic, whole.bic, np.nan, np.nan, np.nan)]
    for term in dropped:
        less = fit_formula(fit, without_term(fit.design.formula, term), False, held)
        chisq, df = max(less.criterion - whole.criterion, 0.0), whole.npar - less.npar
        p = chi2_upper(chisq, df) if df > 0 else np.nan
        rows.append((term_label(term), less.npar, less.criterion, less.aic, less.bic, chisq, df, p))
    return pd.DataFrame(rows, columns=["term", "npar", "criterion", "aic", "bic", "chisq", "df", "p"])


def without_term(parsed: ParsedFormula, term: tuple[str, ...]) -> ParsedFormula:
    """The formula without a fixed term, and without its offset."""
    fixed = parsed.fixed
    kept = tuple(own for own in fixed.terms if own != term)
    return replace(
        parsed, text=f"{parsed.text} without {':'.join(term)}", offsets=(),
        fixed=TermList(fixed.intercept, kept, fixed.atoms),
    )  # fmt: skip
