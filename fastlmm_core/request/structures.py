"""Sections of a request's answer about covariance structures: blocks, components, effects, functions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from fastlmm_core.engine.solution import StructuredSolution
from fastlmm_core.errors import InferenceError
from fastlmm_core.request.answer_tables import Rows, Spread, rows_of
from fastlmm_core.results.blups import level_figures
from fastlmm_core.results.components.component_rows import covariance_blocks, slope_variances
from fastlmm_core.results.components.correlations import correlation_table
from fastlmm_core.results.components.structured_blocks import (
    independent_labels,
    residual_blocks,
    whole_blocks,
)
from fastlmm_core.results.components.vpredict import vpredict

if TYPE_CHECKING:
    from fastlmm_core.results.fit import LMMFit

INFORMATION = {"se_ai": "average", "se_expected": "expected", "se_observed": "observed"}


def block_sections(fit: LMMFit) -> dict[str, Any]:
    """``fit.terms`` and ``fit.residual``: one entry a block."""
    return {
        "terms": [block.section() for block in whole_blocks(fit)],
        "residual": [block.section() for block in residual_blocks(fit)],
    }


def component_section(fit: LMMFit) -> list[dict[str, Any]]:
    """``fit.varcomp``: rows V1, V2, ... with standard errors by every information that can be had."""
    blocks = covariance_blocks(fit)
    rows = [(number, row) for number, block in enumerate(blocks, 1) for row in block.rows()]
    slopes, errors = np.array([row.slope for _, row in rows]), {}
    for key, kind in INFORMATION.items():
        try:
            errors[key] = np.sqrt(np.maximum(slope_variances(fit, slopes, kind), 0.0))
        except InferenceError:
            errors[key] = np.full(len(rows), np.nan)
    return [
        {"V": f"V{i + 1}", "block": number, "group": row.group, "var1": row.var1, "var2": row.var2,
         "vcov": row.value, "sdcor": row.sd_or_cor,
         **{key: own[i] if own[i] > 0 else None for key, own in errors.items()}}
        for i, (number, row) in enumerate(rows)
    ]  # fmt: skip


def marker_section(fit: LMMFit) -> dict[str, Any]:
    """``marker_effects`` of the first group whose relationship came from markers.

    Of several coefficients each marker has an effect on every one, and `term` says on which.
    """
    found = fit.marker_effects()
    columns = {"term": "term"} if found["term"].nunique() > 1 else {}
    columns |= {"markers": "marker", "values": "estimate", "pev": "pev"}
    inline = {key: found[column].to_numpy() for key, column in columns.items()}
    return {"table": Spread(inline, lambda: found[list(columns.values())])}


def correlation_section(fit: LMMFit) -> Rows:
    """``correlations``: rows group, var1, var2, estimate and standard errors by every information."""
    tables = {key: correlation_table(fit, None, kind).frame for key, kind in INFORMATION.items()}
    first = tables["se_ai"][["group", "var1", "var2", "estimate"]]
    return Rows.of(first.assign(**{key: own["se"].to_numpy(float) for key, own in tables.items()}))


def factor_section(fit: LMMFit, term: str | None) -> dict[str, Any]:
    """``factor_analysis``: loadings, scores, variance explained, performance of one term."""
    found = fit.factor_analysis(term)
    frames = {
        name: getattr(found, name) for name in ("factors", "loadings", "explained", "scores", "performance")
    }
    return {
        "term": found.term, "group": found.group, "struct": found.structure, "k": found.k,
        "explained_percent": found.percent_explained, "environments": found.environments,
        "cor": found.correlations.to_numpy(), "order": found.order(),
        **{name: rows_of(frame) for name, frame in frames.items()},
    }  # fmt: skip


def effect_section(fit: LMMFit) -> dict[str, Any]:
    """``ranef``: predictions of every level with prediction error variance, reliability and accuracy."""
    section: dict[str, Any] = {}
    figures = level_figures(fit)
    nuisance = _nuisance(fit)
    for k, (random, (values, pev, condvar, prior)) in enumerate(zip(fit.design.random, figures, strict=True)):
        if random.is_spline or k in nuisance:
            continue
        with np.errstate(divide="ignore", invalid="ignore"):
            reliability = np.where(prior > 0, 1.0 - pev / prior, np.nan)
        levels, columns = [str(level) for level in random.levels], list(random.columns)
        labels = independent_labels(random)
        if (
            labels is not None and random.relation is not None
        ):  # env:vm(gen, A): a column for every environment, a row for every level of A
            columns = labels
            levels = [str(level) for level in random.relation.factors[1].levels]
            shape = (len(columns), len(levels))
            values, pev, condvar, reliability = (
                x.reshape(shape).T for x in (values, pev, condvar, reliability)
            )
        matrices = {
            "values": values, "condvar_diag": condvar, "pev": pev, "pev_diag": pev,
            "reliability": reliability, "accuracy": np.sqrt(np.maximum(reliability, 0.0)),
        }  # fmt: skip
        own = {"term": random.label, "at": random.at, **effects_of_levels(levels, columns, matrices)}
        section[random.group if random.group not in section else random.label] = own
    return section


# Names of the figures of effects in a table, as `blups` has them.
IN_TABLES = {"values": "estimate", "condvar_diag": "condvar", "pev_diag": "pev"}


def effects_of_levels(
    levels: list[str], columns: list[str], figures: Mapping[str, np.ndarray]
) -> dict[str, Any]:
    """What ``ranef`` says of one term: matrices of a row a level, or a table of a row a level and column.

    Parameters
    ----------
    figures : mapping of str to (L, m)
    """

    def table() -> pd.DataFrame:
        labels = {"level": np.repeat(levels, len(columns)), "term": np.tile(columns, len(levels))}
        return pd.DataFrame({**labels, **{IN_TABLES.get(k, k): own.ravel() for k, own in figures.items()}})

    inline = {"levels": levels, **figures}
    return {"n_levels": len(levels), "columns": columns, "table": Spread(inline, table)}


def _nuisance(fit: LMMFit) -> set[int]:
    """Terms that are held while others are estimated: what an earlier stage has dealt with is not shown."""
    if not isinstance(fit.solved, StructuredSolution):
        return set()
    free = [bool(fit.solved.free[own].any() or fit.solved.free[level].any())
            for own, level in fit.solved.equations.slices[0]]  # fmt: skip
    return {k for k, own in enumerate(free) if not own} if any(free) else set()


# The definitions by the names that Schmidt et al. (2019) give them.
H2 = {
    "cullis": "H2_Cullis", "oakey": "H2_Oakey", "piepho": "H2_Piepho", "delta_blup": "H2_Delta_BLUP",
    "delta_blue": "H2_Delta_BLUE",
}  # fmt: skip


def heritability_section(fit: LMMFit, term: str) -> dict[str, Any]:
    """``heritability`` of one term: figures by definition, by level, and all with errors in ``table``."""
    found = fit.heritability(term)
    own: dict[str, Any] = {label: found[name] for name, label in H2.items()}
    for name in ("delta_blup", "delta_blue"):
        if name in found.by_level:
            levels = zip(found.by_level["level"], found.by_level[name], strict=True)
            own[f"{H2[name]}_i"] = {str(level): value for level, value in levels}
    frame = found.to_frame().drop(columns="group")
    return {**own, "table": Rows.of(frame)}


def function_section(fit: LMMFit, asked: Sequence[Mapping[str, Any]]) -> Rows:
    """``vpredict``: functions of the components V1, V2, ... with their standard errors."""
    out = []
    for own in asked:
        found = {key: vpredict(fit, own["expr"], kind) for key, kind in INFORMATION.items()}
        first = found["se_ai"]
        out.append(
            {"label": own.get("label", own["expr"]), "expr": own["expr"], "estimate": first.estimate,
             **{key: result.se for key, result in found.items()}}
        )  # fmt: skip
    return Rows.of(pd.DataFrame(out))
