"""Result tables from the arrays of the compiled path, for all units of a run at once."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastlmm_core.batch.compiled.coded import CodedTrials
from fastlmm_core.batch.compiled.labels import (
    coefficient_labels,
    contrast_labels,
    expand,
    group_labels,
    level_codes,
)
from fastlmm_core.batch.compiled.runs import UnitArrays
from fastlmm_core.batch.heritability import NOT_STANDARD, WEIGHTED, heritability_columns
from fastlmm_core.batch.plan import BatchPlan
from fastlmm_core.batch.tables import TableParts, fit_columns, same_text, text_column
from fastlmm_core.batch.trials import TrialTable
from fastlmm_core.inference.component_figures import component_errors, user_covariances
from fastlmm_core.inference.heritability import SLOPES, harmonic_counts, interactions
from fastlmm_core.kernels.thresholds import BOUNDARY
from fastlmm_core.means.estimates import NOT_ESTIMABLE, figure_columns
from fastlmm_core.means.table_labels import distinct_names
from fastlmm_core.multiplicity.adjustments import (
    Family,
    adjusted_p_values,
    critical_values,
    resolve_adjustment,
)
from fastlmm_core.multiplicity.distributions import t_statistics
from fastlmm_core.multiplicity.t_tables import t_quantiles, t_tails
from fastlmm_core.results.blups import blup_columns
from fastlmm_core.results.coefficients import DROPPED
from fastlmm_core.results.components.component_columns import variance_names
from fastlmm_core.results.components.variance_components import (
    ComponentTerm,
    component_table_of,
    zero_variances,
)
from fastlmm_core.results.fit_warnings import dropped_warning, singular_warning


def add_unit_tables(
    table: TrialTable,
    coded: CodedTrials,
    arrays: UnitArrays,
    good: np.ndarray,
    seconds: float,
    parts: TableParts,
) -> None:
    """Add all tables of the units `good` (positions in `arrays`)."""
    plan = table.plan
    if good.size == 0:
        return
    components, errors, order_groups = variance_components(coded, arrays, good)
    add_fits(table, coded, arrays, good, components, seconds, parts)
    for places, rows in order_groups:
        add_components(coded, arrays, places, rows, components, errors, parts)
    if plan.fixed:
        add_fixed(plan, coded, arrays, good, parts)
    for s in range(len(coded.specs)):
        add_means(plan, coded, arrays, good, s, parts)
    for s in range(len(coded.specs) if coded.family else 0):
        add_contrasts(plan, coded, arrays, good, s, parts)
    if plan.blups:
        for places, _ in order_groups:
            add_blups(plan, coded, arrays, places, components, parts)


OrderGroups = list[tuple[np.ndarray, np.ndarray]]


def variance_components(
    coded: CodedTrials, arrays: UnitArrays, good: np.ndarray
) -> tuple[np.ndarray, np.ndarray, OrderGroups]:
    """User covariances (u, K, w, w), their standard errors, and (good units, order) for each order of terms.

    Both are indexed by position in `good` and place in lme4's order; errors[:, K, 0, 0] is the residual's.
    """
    K, w = arrays.n_terms, coded.width
    covariance = np.zeros((good.size, K, w, w))
    errors = np.full((good.size, K + 1, w, w), np.nan)
    groups: OrderGroups = []
    orders, member = np.unique(arrays.order[good], axis=0, return_inverse=True)
    for g, order in enumerate(orders):
        at = np.flatnonzero(member.ravel() == g)
        units = good[at]
        parameters = coded.parameters(order)
        found = arrays.results
        sigma2, values, bases = found.figures[units, 1], found.natural[units], found.bases[units]
        covariance[at] = user_covariances(parameters, values, bases, sigma2)
        errors[at, :K], errors[at, K, 0, 0] = component_errors(
            parameters, values, bases, found.average[units], sigma2
        )
        groups.append((at, order))
    return covariance, errors, groups


def add_fits(
    table: TrialTable, coded: CodedTrials, arrays: UnitArrays, good: np.ndarray, components: np.ndarray,
    seconds: float, parts: TableParts,
) -> None:  # fmt: skip
    """The table `fits`; the time of a run is shared out over its units."""
    units = arrays.units[good]
    rows = np.diff(table.ptr)[units // len(table.plan.labels)]
    figures = arrays.results.figures[good]
    place_of = np.argsort(arrays.order[good], axis=1)
    unit = np.arange(good.size)
    variances: dict[str, Any] = {}
    for k, term in enumerate(coded.random):
        for a, name in enumerate(variance_names(term)):
            variances[name] = components[unit, place_of[:, k], a, a]
    singular = figures[:, 3] > 0
    dropped = arrays.rank[good] < arrays.n_columns[good]
    words_of: dict[str, int] = {"": 0}
    message = np.zeros(good.size, np.int64)
    for u in np.flatnonzero(singular | dropped):
        words = [dropped_words(coded, arrays, int(good[u]))] if dropped[u] else []
        words += [singular_words(coded, arrays, int(good[u]))] if singular[u] else []
        message[u] = words_of.setdefault("; ".join(words), len(words_of))
    columns = fit_columns(
        n=arrays.n[good], n_dropped=rows - arrays.n[good], rank=arrays.rank[good],
        npar=arrays.rank[good] + coded.n_theta + 1, criterion=figures[:, 0], sigma=np.sqrt(figures[:, 1]),
        converged=np.ones(good.size, bool), singular=singular, iterations=figures[:, 2].astype(np.int64),
        seconds=np.full(good.size, seconds / max(1, arrays.units.size)),
        status=same_text("ok", good.size), message=text_column(words_of, message),
    )  # fmt: skip
    parts.add_columns("fits", columns | variances, units)
    if table.plan.name:  # one of several models
        parts.add_used([used_rows(table, coded, unit) for unit in units.tolist()], units)


def used_rows(table: TrialTable, coded: CodedTrials, unit: int) -> np.ndarray:
    """Which rows (rows of the trial,) bool the fit of a unit uses."""
    trial, trait = divmod(unit, len(table.plan.labels))
    own = slice(int(table.ptr[trial]), int(table.ptr[trial + 1]))
    return np.asarray(coded.ok[own] & ~np.isnan(coded.y[trait, own]))


def singular_words(coded: CodedTrials, arrays: UnitArrays, u: int) -> str:
    """Which variances are zero, as `lmm` says it; other boundaries are left to the general path."""
    words = []
    order = arrays.order[u]
    for j, place in enumerate(coded.parameters(order).term):
        term = coded.random[order[place]]
        if len(term.columns) == 1 and arrays.results.natural[u, j] < BOUNDARY**2:
            words.append(zero_variances(term.columns, term.group))
    return str(singular_warning(words))


def dropped_words(coded: CodedTrials, arrays: UnitArrays, u: int) -> str:
    """Which columns depend on earlier ones, as `lmm` says it."""
    labels, codes, _ = coefficient_labels(coded, arrays, np.array([u]))
    lost = np.setdiff1d(np.arange(arrays.n_columns[u]), arrays.kept(u))
    return str(dropped_warning([labels[code] for code in codes[lost]]))


def add_components(
    coded: CodedTrials, arrays: UnitArrays, at: np.ndarray, order: np.ndarray, covariance: np.ndarray,
    errors: np.ndarray, parts: TableParts,
) -> None:  # fmt: skip
    """The table `variance_components` of units that share the order of their terms."""
    good = np.flatnonzero(arrays.status == 0)[at]
    K = arrays.n_terms
    terms = [ComponentTerm(t.group, t.columns, t.diagonal) for t in (coded.random[k] for k in order)]
    names, figures = component_table_of(
        terms, covariance[at], errors[at, :K], arrays.results.figures[good, 1], errors[at, K, 0, 0]
    )
    each = np.tile(np.arange(len(names)), at.size)
    columns: dict[str, Any] = {
        name: text_column([row[c] for row in names], each) for c, name in enumerate(("group", "var1", "var2"))
    }
    for c, name in enumerate(("estimate", "sd_or_cor", "se")):
        columns[name] = figures[:, :, c].ravel()
    parts.add_columns("variance_components", columns, np.repeat(arrays.units[good], len(names)))


def statistic_columns(figures: np.ndarray, level: float) -> dict[str, np.ndarray]:
    """estimate, se, df, t, p, lower, upper without adjustment from estimate, se, df (r, 3).

    Always by the tables of t, so that a trial has the same figures to the last bit in every batch.
    """
    estimate, se, df = figures.T
    t = t_statistics(estimate, se)
    return figure_columns(estimate, se, df, t, t_tails(t, df, worth=1), t_quantiles(1.0 - level, df, worth=1))


def add_fixed(
    plan: BatchPlan, coded: CodedTrials, arrays: UnitArrays, good: np.ndarray, parts: TableParts
) -> None:
    """The table `fixed`."""
    assert arrays.fixed is not None
    labels, codes, place = coefficient_labels(coded, arrays, good)
    rows = expand(arrays.fixed.offsets[good, 0], arrays.n_columns[good])[0]
    figures = arrays.fixed.rows[rows]
    columns = {"term": text_column(labels, codes), **statistic_columns(figures, plan.level)}
    columns |= {"status": status_column(figures, DROPPED), "ddf": same_text(plan.ddf, rows.size)}
    parts.add_columns("fixed", columns, arrays.units[good[place]])


def status_column(figures: np.ndarray, otherwise: str) -> Any:
    """ "ok", or `otherwise` where there is no estimate."""
    return text_column(["ok", otherwise], np.isnan(figures[:, 0]).astype(np.int64))


def add_means(
    plan: BatchPlan, coded: CodedTrials, arrays: UnitArrays, good: np.ndarray, s: int, parts: TableParts
) -> None:
    """The table `emmeans` of specification `s`."""
    table = arrays.means[s]
    rows, place, within = expand(table.offsets[good, 0], table.sizes[good, 0])
    u = good[place]
    columns: dict[str, Any] = spec_column(plan, s, rows.size)
    factors = coded.specs[s].factors
    titles = distinct_names([coded.column_of[name] for name in factors], plan.mean_columns)
    rest = within
    for name in factors:
        f = coded.factors.index(name)
        size = arrays.level_counts[u, f]
        title = coded.column_of[name]
        columns[titles.get(title, title)] = text_column(
            coded.levels[f], level_codes(coded, arrays, u, name, rest % size)
        )
        rest = rest // size
    if not factors:
        columns["1"] = same_text("overall", rows.size)
    figures = table.rows[rows]
    columns |= {**statistic_columns(figures, plan.level), "status": status_column(figures, NOT_ESTIMABLE)}
    parts.add_columns("emmeans", columns, arrays.units[u])


def spec_column(plan: BatchPlan, s: int, n: int) -> dict[str, Any]:
    """The column `spec`, where there are several specifications."""
    return {"spec": same_text(plan.emmeans[s], n)} if len(plan.emmeans) > 1 else {}


def add_contrasts(
    plan: BatchPlan, coded: CodedTrials, arrays: UnitArrays, good: np.ndarray, s: int, parts: TableParts
) -> None:
    """The table `contrasts`, with adjusted p values and limits for all families of one size together."""
    assert coded.family is not None
    kind, adjust = coded.family.kind, coded.family.adjust
    table = arrays.means[s]
    sizes = table.sizes[good, 2]
    for r in np.unique(sizes):
        members = good[sizes == r]
        rows, place, within = expand(table.offsets[members, 1], table.sizes[members, 1])
        u = members[place]
        n_tests = coded.family.among(int(r), int(table.sizes[members[0], 3])).size
        groups = table.sizes[members, 1] // n_tests
        group = (np.cumsum(groups) - groups)[place] + within // n_tests
        figures = table.contrasts[rows]
        estimate, se, df = np.ascontiguousarray(figures.T)
        t = t_statistics(estimate, se)
        family = Family(group, kind, int(r), tested=~np.isnan(estimate))
        used = resolve_adjustment(adjust, family)
        critical = critical_values(plan.level, df, used.limit_method, family)
        p = adjusted_p_values(t, df, used.p_method, family)
        columns = {
            **spec_column(plan, s, rows.size),
            **contrast_labels(coded, arrays, members, s, int(r), n_tests, plan.mean_columns),
            **figure_columns(estimate, se, df, t, p, critical),
            "status": status_column(figures, NOT_ESTIMABLE),
        }
        parts.add_columns("contrasts", columns, arrays.units[u])


def add_blups(
    plan: BatchPlan, coded: CodedTrials, arrays: UnitArrays, at: np.ndarray, components: np.ndarray,
    parts: TableParts,
) -> None:  # fmt: skip
    """The tables `blups` and `heritability` of units that share the order of their terms."""
    good = np.flatnonzero(arrays.status == 0)[at]
    order = arrays.order[good[0]]
    start = arrays.results.offsets[good, 0].copy()
    for k in range(arrays.n_terms):
        term = coded.random[order[k]]
        m = len(term.columns)
        counts = arrays.counts[good, k]
        rows, place, within = expand(start, counts * m)
        start = start + counts * m
        if not plan.wants_blups(term.group):
            continue
        u = good[place]
        estimate, pev, given = arrays.blups.rows[rows].T
        prior = components[at[place], k, within % m, within % m]
        columns = {
            "group": same_text(term.group, rows.size),
            "level": group_labels(coded, arrays, u, order[k], arrays.blups.cells[rows]),
            "term": text_column(term.columns, within % m),
            **blup_columns(estimate, pev, given, prior, plan.level),
        }
        parts.add_columns("blups", columns, arrays.units[u])
        plain = good[arrays.blups.terms[good, k, 4] > 0.0]
        if plain.size:
            prior0, trace, total, reciprocal, levels = arrays.blups.terms[plain, k].T
            weighted = plan.weights is not None
            between = None if weighted else interaction_variances(coded, arrays, plain, order, k)
            columns = heritability_columns(
                same_text(term.group, plain.size), levels.astype(np.int64), 1.0 / reciprocal, prior0, between,
                arrays.results.figures[plain, 1], trace, total,
                NOT_STANDARD + (WEIGHTED if weighted else SLOPES),
            )  # fmt: skip
            parts.add_columns("heritability", columns, arrays.units[plain])


def interaction_variances(
    coded: CodedTrials, arrays: UnitArrays, good: np.ndarray, order: np.ndarray, k: int
) -> np.ndarray | None:
    """Part of the variance of a mean over environments that the interactions of the term at place k make.

    Of the units `good` (u,); None where the interactions are no plain effects of their levels. A term that is
    an effect of some levels only has none here (``coded.has_subset_interactions``).
    """
    terms = [coded.random[o] for o in order]
    found = interactions(
        k, [term.factors for term in terms], [term.columns == ("(Intercept)",) for term in terms]
    )
    if found is None:
        return None
    total = np.zeros(good.size)
    for h in found:
        before = sum(arrays.counts[good, j] * len(terms[j].columns) for j in range(h))
        rows, place, _ = expand(arrays.results.offsets[good, 0] + before, arrays.counts[good, h])
        rest, own = arrays.blups.cells[rows], np.zeros(rows.size, np.int64)
        for name in reversed(terms[h].factors):
            size = arrays.level_counts[good, coded.factors.index(name)][place]
            if name in terms[k].factors:
                own = own * size + rest % size
            rest = rest // size
        total += arrays.blups.terms[good, h, 0] / harmonic_counts(place, own)
    return total
