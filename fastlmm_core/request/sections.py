"""Sections of the answer: what each key of a request is answered with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import pandas as pd

from fastlmm_core.request.answer_tables import Rows
from fastlmm_core.request.functions import functions_block, prediction_block
from fastlmm_core.request.genotype_values import values_block
from fastlmm_core.request.genotypes_in_environments import gxe_section
from fastlmm_core.request.means import contrast_block, means_block, trends_block
from fastlmm_core.request.structures import (
    IN_TABLES,
    block_sections,
    component_section,
    correlation_section,
    effect_section,
    effects_of_levels,
    factor_section,
    function_section,
    heritability_section,
    marker_section,
)
from fastlmm_core.request.uncertainty import (
    diagnostics_section,
    interval_section,
    random_terms_section,
    simulation_section,
)
from fastlmm_core.results.components.variance_components import component_figures

if TYPE_CHECKING:
    from fastlmm_core.results.fit import LMMFit

Request = Mapping[str, Any]
# Kenward-Roger by section: information, and whether second derivatives of V are in it.
ADJUSTED = {
    "kr_linear": ("expected", False),
    "kr_linear_observed": ("observed", False),
    "kr_full_natural": ("observed", True),
}
OF_ANOVA = {"df_num": "numdf", "df_den": "dendf"}
Section = Callable[["LMMFit", Request], Any]


def fit_section(fit: LMMFit, request: Request) -> dict[str, Any]:
    """Section ``fit``: criterion, variance components, coefficients, first fitted values and residuals."""
    head = request.get("head", 0)
    kept = _kept_names(fit)
    beta = dict(zip(fit.coef_names, fit.beta, strict=True))
    se = dict(zip(fit.coef_names, fit.se, strict=True))
    section = {
        "formula": fit.formula,
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
        **({"vcov": fit.cov_beta} if request.get("vcov", True) else {}),
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
    names, figures = component_figures(fit, errors=False)
    return [
        {"group": group, "var1": var1, "var2": var2, "vcov": vcov, "sdcor": sdcor}
        for (group, var1, var2), (vcov, sdcor, _) in zip(names, figures.tolist(), strict=True)
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
        figures = {
            key: wide[source].unstack("term").loc[levels, columns].to_numpy(float)
            for key, source in IN_TABLES.items()
        }
        section[str(group)] = effects_of_levels([str(level) for level in levels], columns, figures)
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
        found = pd.DataFrame(fit.anova(type=kind, ddf=method)).rename(columns=OF_ANOVA)
        section[f"type{kind}_{short.get(method, method)}"] = Rows.of(
            found[["term", "numdf", "dendf", "F", "p"]]
        )
    return section


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
    "conf_int": lambda fit, request: interval_section(fit, request["conf_int"]),
    "ranova": lambda fit, request: random_terms_section(fit),
    "diagnostics": lambda fit, request: diagnostics_section(fit),
    "simulate": lambda fit, request: simulation_section(fit, request["simulate"]),
}
