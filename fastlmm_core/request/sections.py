"""Sections of the answer, in JSON's own types."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ..errors import OptionError
from .functions import functions_block, prediction_block
from .genotypes_in_environments import gxe_section
from .schema import GRID_OPTIONS
from .structures import (
    block_sections,
    component_section,
    correlation_section,
    effect_section,
    factor_section,
    function_section,
    heritability_section,
    marker_section,
)

if TYPE_CHECKING:
    from ..results.fit import LMMFit

Request = Mapping[str, Any]
# Differences of means in one factor at a time, at the same levels of the others.
WITHIN_OTHERS = "pairwise within the other factors"
# Kenward-Roger by section: information, and whether second derivatives of V are in it.
ADJUSTED = {
    "kr_linear": ("expected", False),
    "kr_linear_observed": ("observed", False),
    "kr_full_natural": ("observed", True),
}
Section = Callable[["LMMFit", Request], Any]


def fit_section(fit: LMMFit, head: int = 0) -> dict[str, Any]:
    """Section ``fit``: criterion, variance components, coefficients, first fitted values and residuals."""
    kept = _kept_names(fit)
    beta = dict(zip(fit.coef_names, fit.beta, strict=True))
    se = dict(zip(fit.coef_names, fit.se, strict=True))
    section = {
        "method": fit.method,
        "nobs": fit.nobs,
        "rank": fit.rank,
        "npar": fit.npar,
        "criterion": fit.criterion,
        "loglik": fit.loglik,
        "aic": fit.aic,
        "bic": fit.bic,
        "sigma": fit.sigma,
        "singular": fit.singular,
        "converged": fit.converged,
        "warnings": [{"flag": warning.flag, "message": str(warning)} for warning in fit.warnings],
        "varcomp": component_section(fit) if fit.structured else _components(fit),
        "theta": fit.theta,
        "theta_names": fit.theta_names,
        "beta": {name: beta[name] for name in kept},
        "se": {name: se[name] for name in kept},
        "vcov_names": kept,
        "vcov": fit.cov_beta,
        "coef_names": fit.coef_names,
        "dropped_columns": fit.dropped_columns,
        "n_dropped": fit.n_dropped,
        "fitted_head": fit.fitted[:head],
        "residual_head": fit.residuals[:head],
    }
    if fit.method == "OLS":
        return {**section, "df_residual": fit.df_residual}
    return {**section, **block_sections(fit)}


def _components(fit: LMMFit) -> list[dict[str, Any]]:
    return [
        {"group": row.group, "var1": row.var1, "var2": row.var2, "vcov": row.estimate, "sdcor": row.sd_or_cor}
        for row in fit.variance_components.itertuples(index=False)
    ]


def _kept_names(fit: LMMFit) -> list[str]:
    """Names of the coefficients that were not dropped."""
    return [fit.coef_names[j] for j in fit.design.kept]


def ranef_section(fit: LMMFit) -> dict[str, Any]:
    """Section ``ranef``: conditional modes and conditional variances by grouping factor.

    Terms on one factor are joined, as lme4 does for ``(x||g)``.
    """
    blups = fit.blups()
    section: dict[str, Any] = {}
    for group, rows in blups.groupby("group", sort=False):
        levels = list(dict.fromkeys(rows["level"]))
        columns = list(dict.fromkeys(rows["term"]))
        wide = rows.set_index(["level", "term"])
        section[str(group)] = {
            "n_levels": len(levels),
            "levels": [str(level) for level in levels],
            "columns": columns,
            **{
                key: wide[source].unstack("term").loc[levels, columns].to_numpy(float)
                for key, source in (("values", "estimate"), ("condvar_diag", "condvar"), ("pev_diag", "pev"))
            },
        }
    return section


def kr_section(
    fit: LMMFit, information: str | None = None, second_derivatives: bool = False
) -> dict[str, Any]:  # fmt: skip
    """Section ``kr``: adjusted covariance of the coefficients, their standard errors and df."""
    names = _kept_names(fit)
    rows = fit.coefficient_functions(
        ddf="kenward-roger", information=information, second_derivatives=second_derivatives
    )
    return {
        "names": names,
        "vcov_adj": rows.cov,
        "se": dict(zip(names, rows.se(), strict=True)),
        "ddf_per_coef": dict(zip(names, rows.df(), strict=True)),
    }


def adjusted_section(fit: LMMFit, name: str) -> dict[str, Any]:
    """``kr_linear``, ``kr_linear_observed`` or ``kr_full_natural``: Kenward-Roger of every coefficient."""
    information, second = ADJUSTED[name]
    said = {"information": information, "second_derivatives": second}
    return {**said, **kr_section(fit, information, second)}


def _by_term(effects: pd.DataFrame, column: str) -> dict[str, float]:
    kept = effects[effects["estimate"].notna()]
    return dict(zip(kept["term"], kept[column], strict=True))


def anova_section(fit: LMMFit, asked: Mapping[str, Any]) -> dict[str, Any]:
    """Section ``anova``: a table per df method under ``type3_kr``, ``type3_satt``, ``type3_residual``."""
    kind = int(asked.get("type") or 3)
    short = {"kenward-roger": "kr", "satterthwaite": "satt"}
    section = {}
    ddf = ["kenward-roger"] if asked.get("ddf") is None else asked["ddf"]  # an empty list asks for no table
    for method in [ddf] if isinstance(ddf, str) else ddf:
        section[f"type{kind}_{short.get(method, method)}"] = [
            {
                "term": row["term"],
                "numdf": row["df_num"],
                "dendf": row["df_den"],
                "F": row["F"],
                "p": row["p"],
            }
            for row in _records(fit.anova(type=kind, ddf=method))
        ]
    return section


def _grid_options(fit: LMMFit, block: Mapping[str, Any], ddf_key: str, request: Request) -> dict[str, Any]:
    options: dict[str, Any] = {
        "by": block.get("by"),
        "at": block.get("at"),
        "ddf": block.get(ddf_key) or fit.default_ddf,
        "information": request.get("information"),
    }
    if block.get("weights") is not None:
        options["weights"] = block["weights"]
    if block.get("level") is not None:
        options["level"] = block["level"]
    return options


def _means_options(block: Mapping[str, Any]) -> dict[str, Any]:
    """Options that means have and slopes have not."""
    return {key: block[key] for key in GRID_OPTIONS if block.get(key) is not None}


def means_block(
    fit: LMMFit, block: Mapping[str, Any], where: str, request: Mapping[str, Any]
) -> dict[str, Any]:
    """One block of ``emmeans``."""
    options = {**_grid_options(fit, block, "method", request), **_means_options(block)}
    table = fit.emmeans(block["specs"], **options)
    return {**_asked(block), "method": table.ddf, "table": _means_rows(table)}


def _trend_delta(fit: LMMFit, block: Mapping[str, Any], where: str) -> float | None:
    """Increment of the slope's difference quotient: emmeans' 0.001 of the range unless ``delta`` is given.

    ``"exact"`` asks for the derivative.  The two differ only where the model is not linear in the covariate.
    """
    delta = block.get("delta")
    if delta == "exact":
        return None
    if delta is not None:
        if delta == 0:
            raise OptionError(f"{where}.delta=0 is not known; allowed: a number other than 0, 'exact'")
        return float(delta)
    var = block["var"]
    from ..inference.emmeans import slope_covariate

    try:
        column = slope_covariate(fit.design, var).column
    except OptionError:
        return None  # emtrends() itself says what is wrong
    return 0.001 * float(np.ptp(fit.design.used_column(column)[0])) or None


def trends_block(
    fit: LMMFit, block: Mapping[str, Any], where: str, request: Mapping[str, Any]
) -> dict[str, Any]:
    """One block of ``emtrends``."""
    options = _grid_options(fit, block, "method", request)
    table = fit.emtrends(block["specs"], block["var"], **options, delta=_trend_delta(fit, block, where))
    return {**_asked(block), "method": table.ddf, "table": _means_rows(table)}


def values_block(
    fit: LMMFit, block: Mapping[str, Any], where: str, request: Mapping[str, Any]
) -> dict[str, Any]:
    """One block of ``genotype_values``."""
    options = {key: block[key] for key in ("by", "level", "largest") if block.get(key) is not None}
    values = fit.genotype_values(block["term"], **options)
    if block.get("index") is not None:
        values = values.index(block["index"], block.get("per", "unit"))
    answer = {}
    if block.get("check") is not None:  # beside all others, also those that are no candidates
        answer["against"] = _records(values.against(block["check"], block.get("margin", 0.0)))
    if block.get("without") is not None:
        values = values.without(block["without"])
    if block.get("best") is not None:
        answer["best_table"] = _records(values.best(block["best"]))
    if block.get("select") is not None:
        answer["gain"] = _records(values.select(block["select"]))
    if block.get("select") is not None and values.parts is not None:
        answer["responses"] = _records(values.responses(block["select"]))
    seeded = {"draws": values.draws, "seed": values.seed}
    return {**_asked(block), **seeded, "table": _records(values), **answer}


def contrast_block(
    fit: LMMFit, block: Mapping[str, Any], where: str, request: Mapping[str, Any]
) -> dict[str, Any]:
    """One block of ``contrasts``: those of the rows of means, or of slopes when ``var`` is given."""
    options = _grid_options(fit, block, "df_method", request)
    if block.get("df_method") is None:
        # contrasts of means that the same request asks for by another method go by that method
        same = [b for b in request.get("emmeans") or [] if b["specs"] == block["specs"] and b.get("method")]
        if same:
            options["ddf"] = same[0]["method"]
    if block.get("var") is not None:
        means = fit.emtrends(block["specs"], block["var"], **options, delta=_trend_delta(fit, block, where))
    else:
        means = fit.emmeans(block["specs"], **options, **_means_options(block))
    method: Any = block.get("method", "pairwise")
    how: dict[str, Any] = {"adjust": block["adjust"]} if block.get("adjust") is not None else {}
    if method == "custom":
        if not block.get("coef"):
            raise OptionError(
                f"{where}: method 'custom' needs coef = {{label: [weights on the rows of the means]}}"
            )
        method = dict(block["coef"])
    elif method == WITHIN_OTHERS:
        method = pairs_within_others(means)
        how.setdefault("adjust", "none")
    elif method == "interaction":
        if not block.get("interaction"):
            raise OptionError(f"{where}: method 'interaction' needs interaction = [a family for each factor]")
        method, how["interaction"] = "pairwise", block["interaction"]
    for key in ("ref", "reverse", "wts", "cmtype", "family"):
        if block.get(key) is not None:
            how[key] = block[key]
    table = means.contrast(method, **how)
    said = {"method": "pairwise", "adjust": table.adjust, **_asked(block), "df_method": table.ddf}
    return {**said, "adjust_used": table.adjust, "table": _contrast_rows(table)}


def pairs_within_others(means: Any) -> dict[str, list[float]]:
    """Pairwise differences of means that differ in one of their factors, by label: weights on the rows."""
    frame = means.to_frame()
    factors = list(frame.columns[: list(frame.columns).index("estimate")])
    rows = [tuple(row) for row in frame[factors].itertuples(index=False, name=None)]
    out = {}
    for i, first in enumerate(rows):
        for j in range(i + 1, len(rows)):
            if sum(a != b for a, b in zip(first, rows[j], strict=True)) == 1:
                weights = [0.0] * len(rows)
                weights[i], weights[j] = 1.0, -1.0
                out[f"{' '.join(map(str, first))} - {' '.join(map(str, rows[j]))}"] = weights
    return out


def _asked(block: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in block.items() if key != "coef"}


RENAMED = {"se": "SE"}
KEPT_BACK = ("status", "ddf", "estimable")


def _means_rows(table: Any) -> list[dict[str, Any]]:
    names = {**RENAMED, "estimate": "emmean"}
    tests = ("t", "p")  # of a mean against zero: nobody asks
    return [_row({k: v for k, v in record.items() if k not in tests}, names) for record in _records(table)]


def _contrast_rows(table: Any) -> list[dict[str, Any]]:
    """Rows of a contrast table; a covariate among the labels is written as text, as emmeans does."""
    statistics = {"estimate", "se", "df", "t", "p", "lower", "upper"}
    rows = []
    for record in _records(table):
        labels = {k: _label(v) for k, v in record.items() if k not in statistics and k not in KEPT_BACK}
        rows.append(_row({**record, **labels}, RENAMED))
    return rows


def _label(value: Any) -> Any:
    return f"{value:.15g}" if isinstance(value, (int, float, np.number)) else value


def _row(record: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    row = {names.get(key, key): value for key, value in record.items() if key not in KEPT_BACK}
    estimate = record.get("estimate")
    if estimate is not None and math.isnan(float(estimate)):
        row["nonEst"] = True
    return row


def _records(table: Any) -> list[dict[str, Any]]:
    frame = table if isinstance(table, pd.DataFrame) else table.to_frame()
    return [
        dict(zip(map(str, frame.columns), row, strict=True))
        for row in frame.itertuples(index=False, name=None)
    ]


def _blocks(key: str, section: Callable[..., dict[str, Any]]) -> Section:
    """A section of one answer for each block of a list."""

    def answer(fit: LMMFit, request: Request) -> list[dict[str, Any]]:
        return [section(fit, block, f"{key}[{i}]", request) for i, block in enumerate(request[key])]

    return answer


def _effects(fit: LMMFit) -> dict[str, Any]:
    """Section ``ranef``; terms of one group are joined as lme4 does for ``(x||g)``."""
    groups = [term.group for term in fit.design.random]
    joined = not fit.structured and len(set(groups)) < len(groups)
    return ranef_section(fit) if joined else effect_section(fit)


def _named(asked: bool | str) -> str | None:
    """The term that a section is for; None for the first."""
    return asked if isinstance(asked, str) else None


def _adjusted(name: str) -> Section:
    return lambda fit, request: adjusted_section(fit, name)


#: What each key that asks for a section is answered with; in the order of the answer.
SECTIONS: dict[str, Section] = {
    "ranef": lambda fit, request: _effects(fit),
    "kr": lambda fit, request: kr_section(fit, request.get("information")),
    **{name: _adjusted(name) for name in ADJUSTED},
    "vpredict": lambda fit, request: function_section(fit, request["vpredict"]),
    "heritability": lambda fit, request: {
        term: heritability_section(fit, term) for term in request["heritability"]
    },
    "genotype_values": _blocks("genotype_values", values_block),
    "correlations": lambda fit, request: correlation_section(fit),
    "factor_analysis": lambda fit, request: factor_section(fit, _named(request["factor_analysis"])),
    "gxe": lambda fit, request: gxe_section(fit, request["gxe"]),
    "marker_effects": lambda fit, request: marker_section(fit),
    "satterthwaite": lambda fit, request: {"df": _by_term(fit.fixed_effects(ddf="satterthwaite"), "df")},
    "anova": lambda fit, request: anova_section(fit, request["anova"]),
    "emmeans": _blocks("emmeans", means_block),
    "contrasts": _blocks("contrasts", contrast_block),
    "emtrends": _blocks("emtrends", trends_block),
    "linear_functions": _blocks("linear_functions", functions_block),
    "predict": _blocks("predict", prediction_block),
}


def plain(value: Any) -> Any:
    """`value` in JSON's own types: arrays as lists, NaN as None, infinity as "Inf"."""
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, np.ndarray):
        if value.dtype.kind in "fiub" and np.isfinite(value).all():  # a covariance has thousands of elements
            return value.tolist()
        return plain(value.tolist())
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    if value is None or isinstance(value, (str, bool)):
        return value
    if isinstance(value, np.bool_):
        return bool(value)
    if isinstance(value, (int, np.integer)):
        return int(value)
    if isinstance(value, (float, np.floating)):
        number = float(value)
        if math.isnan(number):
            return None
        return number if math.isfinite(number) else ("Inf" if number > 0 else "-Inf")
    if pd.isna(value):
        return None
    return str(value)
