"""One row that says whether a trial was any good: precision, differences, heritability, suspicious plots."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fastlmm_core.errors import FastLMMError
from fastlmm_core.inference.heritability import harmonic_replication
from fastlmm_core.results.component_rows import component_rows
from fastlmm_core.results.fixed_levels import fit_fixed_levels
from fastlmm_core.results.heritability import HeritabilityTable, find_term, heritability

if TYPE_CHECKING:
    from fastlmm_core.results.fixed_part import FixedPart

# Standardized conditional residuals beyond this are suspicious: one in 2,000 of a normal distribution.
SUSPICIOUS = 3.5
BLUES = ("df_genotypes", "df_error", "F_genotypes", "p_genotypes", "sed_mean", "lsd_mean")


def trial_summary(
    fit: FixedPart, term: str, level: float = 0.95, table: HeritabilityTable | None = None
) -> dict[str, float]:
    """Figures of a trial by name.

    Parameters
    ----------
    fit : FixedPart
        With the genotypes random.
    term : str
        Their grouping factor.
    level : float
        1 less the level of the LSD.
    table : HeritabilityTable, optional
        When it has been made already.

    Returns
    -------
    dict
        n, missing (rows without a value), genotypes, replication (harmonic mean), grand_mean, cv (%, the
        residual standard deviation over the grand mean), the components var_<group>, h2_cullis and h2_se,
        outliers (plots whose conditional residual is more than 3.5 standard deviations), and from a second
        fit with the genotypes fixed F_genotypes, its df and p, sed_mean, lsd_mean; NaN where there is none.
    """
    k = find_term(fit, term)
    own = fit.design.random[k]
    used = own.codes[(own.codes >= 0) & (own.values != 0.0).any(axis=1)]
    mean = float(np.average(fit.response, weights=fit.weights))
    table = heritability(fit, term, "cullis", None, None, "average") if table is None else table
    row = table.frame[table.frame["definition"] == "cullis"]
    (estimate, error), *_ = row[["estimate", "se"]].to_numpy(float).tolist()
    out = {
        "n": fit.nobs, "missing": fit.n_dropped, "genotypes": int(np.unique(used).size),
        "replication": harmonic_replication(np.unique(used, return_inverse=True)[1]), "grand_mean": mean,
        "cv": 100.0 * fit.sigma / abs(mean) if mean else np.nan,
        "h2_cullis": estimate, "h2_se": error,
        "outliers": int(np.sum(np.abs(standardized_residuals(fit)) > SUSPICIOUS)),
    }  # fmt: skip
    for component in component_rows(fit):
        if component.var2 is None and component.var1 in (None, "(Intercept)"):
            out[f"var_{component.group}"] = component.value
    return out | _of_blues(fit, k, level)


def standardized_residuals(fit: FixedPart) -> np.ndarray:
    """Conditional residuals (n,) over their standard deviations; zeros where there is no variance."""
    scale = fit.sigma
    if not np.isfinite(scale):  # one for each group of rows
        return np.asarray(fit.residuals / fit.solved.residual_sd)  # type: ignore[union-attr]
    return fit.residuals_pearson / scale if scale > 0.0 else np.zeros(fit.nobs)


def _of_blues(fit: FixedPart, k: int, level: float) -> dict[str, float]:
    """Test of the genotypes and errors of their differences."""
    try:
        second = fit_fixed_levels(fit, k)
        name = fit.design.random[k].group_variables[0]
        before = {term.label for term in fit.design.terms}
        label = next(term.label for term in second.design.terms if term.label not in before)
        tests = second.anova().set_index("term").loc[label]
        errors = second.emmeans([name]).difference_errors(level)
    except FastLMMError:
        return dict.fromkeys(BLUES, np.nan)
    figures = (tests["df_num"], tests["df_den"], tests["F"], tests["p"], errors.sed_mean, errors.lsd_mean)
    return dict(zip(BLUES, np.array(figures, dtype=float).tolist(), strict=True))
