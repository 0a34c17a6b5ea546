"""One row that says whether a trial was any good: precision, differences, heritability, suspicious plots."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from fastlmm_core.design.values.labels import label_text
from fastlmm_core.engine.solution import StructuredSolution
from fastlmm_core.errors import name_list
from fastlmm_core.inference.heritability import harmonic_replication
from fastlmm_core.means.mean_specs import column_of
from fastlmm_core.reading import Places, ordered_labels
from fastlmm_core.results.components.component_columns import component_columns
from fastlmm_core.results.diagnostics.case_diagnostics import suspicious_residuals
from fastlmm_core.results.field.plot_places import plot_places
from fastlmm_core.results.genotypes.fixed_means import FixedMeans, fixed_means
from fastlmm_core.results.genotypes.heritability import HeritabilityTable, heritability
from fastlmm_core.results.genotypes.heritability_levels import find_term, one_effect_each

if TYPE_CHECKING:
    from fastlmm_core.results.fixed_part import FixedPart

# Conditional residuals beyond so many of their own standard deviations are suspicious: one in 2,000 of a
# normal distribution.
SUSPICIOUS = 3.5
# Definitions of heritability in the order in which they stand for the trial: of unrelated and related levels.
SHOWN = ("cullis", "oakey")
# What is worth a word: part of the plots that is missing, a p-value of genotypes, and a heritability.
MANY_MISSING, NO_DIFFERENCE, LITTLE = 0.2, 0.05, 0.2


def trial_summary(
    fit: FixedPart, term: str, level: float = 0.95, table: HeritabilityTable | None = None,
    plots: Sequence[str] | str | bool | None = None, data: pd.DataFrame | None = None,
    residuals: np.ndarray | None = None, means: FixedMeans | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Figures of a trial by name.

    Parameters
    ----------
    fit : FixedPart
        With the genotypes random; any structures.
    term : str
        Their grouping factor.
    level : float
        1 less the level of the LSD.
    table : HeritabilityTable, optional
        When it has been made already.
    plots, data
        Columns that name the plots; see ``fastlmm_core.results.field.plot_places.plot_places``.
    residuals : (n,), optional
        Studentized ones, when they have been made already.
    means : FixedMeans, optional
        As of `fixed_means`, likewise.

    Returns
    -------
    dict
        - n, missing (rows without a value), genotypes, replication (harmonic mean), replication_least and
          replication_most, grand_mean, cv (%, the root of the mean residual variance over the grand mean)
        - h2 by `h2_definition`, "cullis", or "oakey" of related levels, with h2_se; h2_cullis
        - outliers, plots whose conditional residual is more than 3.5 of its own standard deviations, and
          outlier_plots, the first of them by name; duplicates, plots whose place or number another has, and
          duplicate_plots
        - the components var_<group>, cor_<...> and edf_<...>
        - from a second fit with the genotypes fixed F_genotypes, its df and p, sed_mean, lsd_mean, and
          sed_rms, the root of the mean variance of a difference; NaN where there is none
        - where checks are fixed effects beside new lines, ``group + (0 + new | gen)``, all of the above is of
          the new lines, and there are checks, their number, and sed_check, lsd_check of a line and a check
        - warnings, in words: those of the fit, and what of the above a breeder should look at
    """
    k = find_term(fit, term)
    own = fit.design.random[k]
    used = own.codes[(own.codes >= 0) & (own.values != 0.0).any(axis=1)]
    counts = np.unique(used, return_counts=True)[1]
    mean = float(np.average(fit.response, weights=fit.weights))
    places = plot_places(fit, plots, data)
    residuals = suspicious_residuals(fit) if residuals is None else residuals
    odd = np.flatnonzero(np.abs(np.nan_to_num(residuals)) > SUSPICIOUS)
    odd = odd[np.argsort(-np.abs(residuals[odd]), kind="stable")]
    twice = places.duplicates()
    means = fixed_means(fit, term) if means is None else means
    others = number_of_checks(fit, k)
    out: dict[str, Any] = {
        "n": fit.nobs, "missing": fit.n_dropped, "genotypes": int(counts.size),
        "replication": harmonic_replication(used),
        "replication_least": int(np.min(counts)), "replication_most": int(np.max(counts)), "grand_mean": mean,
        "cv": 100.0 * residual_scale(fit) / abs(mean) if mean else np.nan,
        **_heritability(fit, term, table),
        "outliers": int(odd.size), "outlier_plots": places.names(odd),
        "duplicates": int(twice.size), "duplicate_plots": places.names(twice),
        **({} if others is None else {"checks": others}), **component_columns(fit), **means.figures(level),
    }  # fmt: skip
    words = warnings_in_words(fit, out)
    if means.why:
        words.append(f"no F test and differences of the genotypes: {means.why}")
    if means.lost:
        words.append(f"BLUEs of {means.lost} of {out['genotypes'] + (others or 0)} genotypes are not "
                     "estimable beside the other fixed effects")  # fmt: skip
    lost = [] if data is None else unused_levels(fit, own.group_variables[-1], data)
    if lost:
        words.append(f"no plot of {name_list(lost, 5)} is used, for want of a value in a column of the model")
    if one_effect_each(own):
        words.append(f"{own.group} has a variance for each of {name_list(own.columns)}: heritability needs "
                     "coefficient=, one of them")  # fmt: skip
    return out | {"warnings": "; ".join(words)}


def unused_levels(fit: FixedPart, name: str, data: pd.DataFrame) -> list[str]:
    """Labels of a column of which the fit uses no row, since all of theirs miss something."""
    column = column_of(name)
    if column not in data or data.columns.tolist().count(column) > 1:
        return []
    kept = Places.of(data).labels(column)
    codes, levels = pd.factorize(data[column]) if kept is None else (kept.codes, kept.levels)
    lost = np.setdiff1d(codes[codes >= 0], codes[fit.design.rows])
    return ordered_labels(label_text(levels[k]) for k in lost)


def number_of_checks(fit: FixedPart, k: int) -> int | None:
    """Genotypes in the data without an effect in random term k; None where every one has one."""
    term = fit.design.random[k]
    gen = fit.design.level_codes(term.group_variables[-1])[0]
    random = (term.codes >= 0) & (term.values != 0.0).any(axis=1)
    return None if random.all() else len(set(gen[~random]) - set(gen[random]))


def residual_scale(fit: FixedPart) -> float:
    """Root of the mean variance of a plot's residual, units of the response."""
    if isinstance(fit.solved, StructuredSolution):
        return float(np.sqrt(np.mean(fit.solved.residual_sd**2)))
    shares = 1.0 if fit.weights is None else float(np.mean(1.0 / fit.weights))
    return float(fit.sigma * np.sqrt(shares))


def _heritability(fit: FixedPart, term: str, table: HeritabilityTable | None) -> dict[str, Any]:
    """Cullis' heritability, and that of the definition that holds for these levels."""
    if table is None and one_effect_each(fit.design.random[find_term(fit, term)]):
        return {"h2": np.nan, "h2_se": np.nan, "h2_definition": "", "h2_cullis": np.nan}
    table = heritability(fit, term, SHOWN, None, None, "average") if table is None else table
    rows = table.frame.set_index("definition")
    held = [name for name in SHOWN if np.isfinite(float(rows.loc[name, "estimate"]))]  # type: ignore[arg-type]
    name = held[0] if held else SHOWN[0]
    h2, se = (float(rows.loc[name, column]) for column in ("estimate", "se"))  # type: ignore[arg-type]
    return {
        "h2": h2, "h2_se": se, "h2_definition": name if held else "",
        "h2_cullis": float(rows.loc["cullis", "estimate"]),  # type: ignore[arg-type]
    }  # fmt: skip


def warnings_in_words(fit: FixedPart, figures: dict[str, Any]) -> list[str]:
    """What to look at before the trial is used."""
    words = [str(warning) for warning in fit.warnings]
    if figures["duplicates"]:
        many = "s" if figures["duplicates"] > 1 else ""
        words.append(f"{figures['duplicates']} plot{many} with a place or number that another has: "
                     f"{figures['duplicate_plots']}")  # fmt: skip
    if figures["outliers"]:
        words.append(f"outlying residuals: {figures['outlier_plots']}")
    rows = fit.nobs + figures["missing"]
    if figures["missing"] > MANY_MISSING * rows:
        words.append(f"{figures['missing']} of {rows} plots have no value")
    if figures["replication_most"] == 1 and not figures.get("checks"):
        words.append("no genotype is replicated: genotypes and plots are told apart by the model alone")
    if figures["df_genotypes"] > 0.0 and not figures["df_error"] > 0.0:
        words.append("the Kenward-Roger test of the genotypes has no degrees of freedom")
    if figures["p_genotypes"] > NO_DIFFERENCE:
        words.append(f"no difference between genotypes is shown (p = {figures['p_genotypes']:.2f})")
    if figures["h2"] < LITTLE:
        words.append(f"heritability is {figures['h2']:.2f}: its values say little of the genotypes")
    return words
