"""One trial at a time through `prepare` and `Prepared.fit`: any formula, any size, and every message."""

from __future__ import annotations

import threading
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache, partial
from typing import Any

import numpy as np
import pandas as pd

from fastlmm_core.api import Prepared, prepare
from fastlmm_core.batch.engines.stopping import check_wanted
from fastlmm_core.batch.heritability import NOT_STANDARD, RELATED, WEIGHTED, heritability_columns
from fastlmm_core.batch.plan import BatchPlan
from fastlmm_core.batch.plan_options import STAGE_COLUMNS
from fastlmm_core.batch.tables import TableParts, failed_row, fit_columns, same_text
from fastlmm_core.batch.trials import TrialTable
from fastlmm_core.engine.solution import StructuredSolution
from fastlmm_core.errors import DataError, FastLMMError, FastLMMWarning, NotConvergedWarning
from fastlmm_core.formula.expressions import Name
from fastlmm_core.inference.heritability import harmonic_replication
from fastlmm_core.means.comparisons import half_difference_df
from fastlmm_core.means.estimates import FIGURES
from fastlmm_core.means.mean_tables import EmmeansTable
from fastlmm_core.means.table_labels import distinct_names
from fastlmm_core.results.blups import prediction_error_sums
from fastlmm_core.results.components.component_columns import plain_columns, structured_columns
from fastlmm_core.results.diagnostics.case_diagnostics import suspicious_residuals
from fastlmm_core.results.field.plot_rows import plot_rows
from fastlmm_core.results.field.trend import has_trend
from fastlmm_core.results.fit import LMMFit
from fastlmm_core.results.genotypes.fixed_means import fixed_means
from fastlmm_core.results.genotypes.heritability import (
    HeritabilityTable,
    heritability_of_all,
    heritability_within,
    is_one_effect,
    standard_heritability,
)
from fastlmm_core.results.genotypes.heritability_levels import find_term, labels_with_data, levels_of
from fastlmm_core.results.genotypes.trial_summary import trial_summary

# Warnings become columns; the filter of the process is changed by one thread at a time.
_FILTER = threading.Lock()


def fit_units(table: TrialTable, units: np.ndarray, parts: TableParts, stop: np.ndarray) -> None:
    """Fit trial x trait combinations and add their rows to `parts`; a failure becomes a row.

    Traits with missing values in the same rows share design, pattern and symbolic analysis.
    """
    labels = len(table.plan.labels)
    trials = units // labels
    for trial in np.unique(trials):
        prepared: dict[bytes, Prepared] = {}
        for unit in units[trials == trial]:
            check_wanted(stop)
            began = time.perf_counter()
            n = int(table.ptr[trial + 1] - table.ptr[trial])
            try:
                fit = fit_unit(table, int(trial), int(unit % labels), prepared)
                components = fit.variance_components
                row = fit_row(fit, table.plan, n)
            except Exception as error:
                parts.add_fit(failed_row(n, *reason(error)), int(unit))
                continue
            frame = table.frame.iloc[int(table.ptr[trial]) : int(table.ptr[trial + 1])]
            add_tables(fit, frame, table.plan, components, row, int(unit), parts)
            parts.add_fit(row | {"seconds": time.perf_counter() - began}, int(unit))
            if table.plan.name:  # one of several models
                parts.add_used([np.isin(np.arange(n), fit.design.rows)], np.array([unit]))


def reason(error: Exception) -> tuple[str, str]:
    """Status and message of a failure."""
    if isinstance(error, FastLMMError):
        return error.code, str(error)
    if isinstance(error, np.linalg.LinAlgError):
        return "numerical", str(error)
    return "error", f"{type(error).__name__}: {error}"


def fit_unit(table: TrialTable, trial: int, trait: int, prepared: dict[bytes, Prepared]) -> LMMFit:
    """Fit one trait of one trial; raises what `lmm` raises."""
    plan = table.plan
    fault = table.faults.get((trial, trait))
    if fault:
        raise DataError(fault)
    if table.nameless[trial]:
        name = str(table.keys.columns[table.keys.iloc[trial].isna()][0])
        raise DataError(f"column '{name}' does not name the trial: its value is missing")
    lo, hi = int(table.ptr[trial]), int(table.ptr[trial + 1])
    own = plan.structures
    options: dict[str, Any] = {
        "reml": plan.reml, "weights": plan.weights, "residual": own.residual,
        "relationships": own.relationships, "fixed_parameters": own.held,
    }  # fmt: skip
    with _FILTER, warnings.catch_warnings():
        warnings.simplefilter("ignore", FastLMMWarning)
        if not plan.traits:
            return prepare(plan.parsed, table.frame.iloc[lo:hi], **options).fit(start=own.start or None)
        name, y = plan.traits[trait], table.y[trait, lo:hi]
        present = ~np.isnan(y)
        if not present.any():
            raise DataError(f"column '{name}' has no values in this trial")
        key = present.tobytes()
        if key not in prepared:
            formula = replace(plan.parsed, response=Name(0, name))
            prepared[key] = prepare(formula, table.frame.iloc[lo:hi].assign(**{name: y}), **options)
        model = prepared[key]
        return model.fit(y=y[model.design.rows], start=own.start or None)


def add_tables(
    fit: LMMFit, frame: pd.DataFrame, plan: BatchPlan, components: pd.DataFrame, row: dict[str, Any],
    unit: int, parts: TableParts,
) -> None:  # fmt: skip
    """All rows of one fit but its own, `row`: a table that cannot be had leaves its reason there.

    Tables are made one by one, so that one that cannot be had costs no other.  What made the status is said
    before the warnings of the fit: summaries of a batch show the beginning of a message.
    """
    parts.add("variance_components", components, unit)
    fitted = row["status"] == "ok"
    lost: list[str] = []
    for make in tables_of(fit, frame, plan, row, unit, parts):
        try:
            make()
        except Exception as error:
            status, message = reason(error)
            if row["status"] == "ok":
                row["status"] = status if status not in ("option", "data") else "inference"
            lost.append(message)
    said = (*dict.fromkeys(lost), row["message"]) if fitted else (row["message"], *dict.fromkeys(lost))
    row["message"] = "; ".join(filter(None, said))


def tables_of(
    fit: LMMFit, frame: pd.DataFrame, plan: BatchPlan, row: dict[str, Any], unit: int, parts: TableParts
) -> Iterator[Callable[[], None]]:
    """What makes the tables asked for, in an order that `add_tables` may follow or break anywhere."""
    options: dict[str, Any] = {"ddf": plan.ddf, "information": plan.information, "level": plan.level}
    if plan.blups:
        yield lambda: add_blups(fit, plan, unit, parts)
    if plan.fixed:
        yield lambda: parts.add("fixed", fit.fixed_effects(**options), unit)
    for spec in plan.emmeans:
        yield partial(add_means, fit, spec, options, plan, unit, parts)
    residuals = cache(lambda: suspicious_residuals(fit))
    if plan.plots:
        yield lambda: parts.add(
            "plots", plot_rows(fit, frame, residuals(), plan.plots, plan.genotypes), unit
        )
    if plan.genotypes:
        term = plan.genotypes
        yield lambda: parts.add("genotype_values", genotype_values(fit, term, plan.level), unit)
        yield lambda: add_trial(fit, frame, plan, residuals(), row, unit, parts)
    if plan.trends and has_trend(fit):
        yield lambda: parts.add("trends", fit.trend(), unit)


def genotype_values(fit: LMMFit, term: str, level: float) -> pd.DataFrame:
    """Values of the genotypes; `untested` says which of them are predicted from their relatives alone.

    Checks beside new lines are fixed, and have data. Without such rows there is no such column.
    """
    frame = pd.DataFrame(fit.genotype_values(term, level=level).to_frame(), copy=False)
    own = fit.design.random[find_term(fit, term)]
    names = frame[frame.columns[list(frame.columns).index("estimate") - 1]].astype(str)
    untested = ~names.isin(set(labels_with_data(own)))
    if "check" in frame.columns:
        untested &= ~frame["check"].eq(True)
    return frame.assign(untested=untested) if untested.any() else frame


def fit_row(fit: LMMFit, plan: BatchPlan, rows: int) -> dict[str, Any]:
    """The row of `fits`; see `fit_batch`."""
    row = fit_columns(
        n=fit.nobs, n_dropped=rows - fit.nobs, rank=fit.rank, npar=fit.npar, criterion=fit.criterion,
        sigma=fit.sigma, converged=fit.converged, singular=fit.singular, iterations=fit.optimum.iterations,
        status="ok" if fit.converged else NotConvergedWarning.flag,
        message="; ".join(str(w) for w in fit.warnings),
    )  # fmt: skip
    return row | (structured_columns(fit) if fit.structured else plain_columns(fit, formula_order(fit, plan)))


def formula_order(fit: LMMFit, plan: BatchPlan) -> list[int]:
    """Places of the random terms of a fit, which are in lme4's order, in the order of the formula."""
    terms, out = fit.design.random, list[int]()
    for part in plan.parsed.random:
        out += [k for k, term in enumerate(terms) if term.label == part.label and k not in out]
    return out


def add_blups(fit: LMMFit, plan: BatchPlan, unit: int, parts: TableParts) -> None:
    """BLUPs of the terms asked for, and the heritability of those that are one effect of their levels.

    Cullis and co-workers need one variance and the prediction errors of differences, whatever the residual.
    """
    terms = fit.design.random
    wanted = [k for k, term in enumerate(terms) if plan.wants_blups(term.group, term.label)]
    for group in dict.fromkeys(terms[k].group for k in wanted):
        if not all(terms[k].is_spline for k in wanted if terms[k].group == group):
            parts.add("blups", fit.blups(group, level=plan.level), unit)
    for k in wanted:
        term = terms[k]
        if not is_one_effect(term):
            continue
        own = levels_of(fit, k)
        h2, status = standard_heritability(fit, own)
        if fit.weights is not None and not fit.structured:
            h2, status = np.nan, WEIGHTED
        used = term.codes[(term.codes >= 0) & (term.values[:, 0] != 0.0)]
        levels, variance, trace, total = len(term.levels), own.variance, np.nan, np.nan
        if not own.related:  # levels without data add their variance to either sum
            levels, idle = own.chosen.size, (len(term.levels) - own.chosen.size) * variance
            trace, total = (figure - idle for figure in prediction_errors(fit, k))
        columns = heritability_columns(
            same_text(term.group, 1), np.array([levels]), np.array([replication(used, own.related)]),
            np.array([np.nan if own.related else variance]), None, np.array([np.nan]), np.array([trace]),
            np.array([total]), RELATED if own.related else NOT_STANDARD + status,
        )  # fmt: skip
        if np.isfinite(h2):
            columns |= {"h2_standard": np.array([h2]), "status": same_text(status, 1)}
        if own.related:
            columns["h2_cullis"] = np.array([np.nan])
        parts.add_columns("heritability", columns, np.array([unit]))


def prediction_errors(fit: LMMFit, k: int) -> tuple[float, float]:
    """Sums of the diagonal and of all elements of the prediction error covariance of a term of one effect."""
    if not isinstance(fit.solved, StructuredSolution):
        return prediction_error_sums(fit.solved, k)
    if not fit.solved.covariance(k).any():
        return 0.0, 0.0
    return float(fit.solved.prediction_error(k).sum()), total_prediction_error(fit.solved, k)


def replication(codes: np.ndarray, related: bool) -> float:
    """Harmonic mean of the observations per level; NaN where some levels have none."""
    return np.nan if related else harmonic_replication(codes)


def total_prediction_error(solution: StructuredSolution, k: int) -> float:
    """Sum of all elements of the prediction error covariance of term k, which has one coefficient."""
    e = solution.equations
    K = np.zeros((e.natural.size, 1))
    K[e.natural.rows[k][:, 0]] = float(e.terms[k].basis[0, 0])
    right = e.gather(solution.point.loadings, K)
    return float(solution.sigma2 * np.sum(right * solution.factor.solve(right)))


def add_trial(
    fit: LMMFit, frame: pd.DataFrame, plan: BatchPlan, residuals: np.ndarray, row: dict[str, Any], unit: int,
    parts: TableParts,
) -> None:  # fmt: skip
    """BLUEs of the genotypes, heritabilities and the summary of the trial."""
    term, level = str(plan.genotypes), plan.level
    means = fixed_means(fit, term)
    parts.add("blues", means.to_frame(), unit)
    table, within = heritability_of_all(fit, term), heritability_within(fit, term)
    if table is None:
        parts.add("heritabilities", within, unit)
    else:
        parts.add("heritabilities", table.to_frame() if within.empty else with_each(table, within), unit)
    summary = trial_summary(fit, term, level, table, plan.plots or None, frame, residuals, means)
    columns = {name: one_value(value) for name, value in summary.items()}
    columns = {"rows": np.array([row["n"] + row["n_dropped"]])} | columns
    parts.add_columns("trials", columns, np.array([unit]))


def with_each(table: HeritabilityTable, within: pd.DataFrame) -> pd.DataFrame:
    """Heritabilities of the mean over environments, coefficient "mean", and below them those within each."""
    mean = table.to_frame()
    mean = mean[np.isfinite(mean["estimate"])].assign(coefficient="mean")
    return pd.concat([mean, within], ignore_index=True)[list(within.columns)]


def one_value(value: Any) -> Any:
    """A column of one row."""
    return same_text(value, 1) if isinstance(value, str) else np.array([value])


def add_means(
    fit: LMMFit, spec: str, options: dict[str, Any], plan: BatchPlan, unit: int, parts: TableParts
) -> None:
    """Marginal means and their contrasts; several specifications are told apart by a column `spec`."""
    means = fit.emmeans(spec, **options)
    parts.add("emmeans", named(means.to_frame(), spec, plan), unit)
    if plan.covariances:
        parts.add("covariances", named(covariance_rows(means), spec, plan), unit)
    if plan.contrasts:
        method: Any = plan.contrasts if isinstance(plan.contrasts, str) else dict(plan.contrasts or ())
        contrasts = means.contrast(method, ref=plan.ref, adjust=plan.adjust)
        parts.add("contrasts", named(contrasts.to_frame(), spec, plan), unit)


def covariance_rows(means: EmmeansTable) -> pd.DataFrame:
    """Means that the data determine: labels, estimate, and `covariance`, the row of the lower triangle.

    The covariance is that of the model at its variances, without Kenward & Roger's adjustment. The degrees
    of freedom of the mean variance of a difference of these means stand in `df_difference`.
    """
    kept = np.flatnonzero(np.isfinite(means.estimate))
    matrix = means.functions.cov_unadjusted[np.ix_(kept, kept)]
    renamed = distinct_names([str(name) for name in means.labels.columns], (*FIGURES, *STAGE_COLUMNS))
    frame = means.labels.iloc[kept].reset_index(drop=True).rename(columns=renamed)
    frame["estimate"] = means.estimate[kept]
    frame["df_difference"] = half_difference_df(means.functions)
    frame["covariance"] = pd.Series([matrix[i, : i + 1].copy() for i in range(kept.size)], dtype=object)
    return frame


def named(frame: pd.DataFrame, spec: str, plan: BatchPlan) -> pd.DataFrame:
    """The table with its specification in front, where there are several."""
    if len(plan.emmeans) > 1:
        frame = frame.rename(columns=distinct_names(list(frame.columns), ("spec",)))
        frame.insert(0, "spec", spec)
    return frame
