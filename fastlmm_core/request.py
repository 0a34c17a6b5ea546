"""The request document: a plain JSON object in, a plain JSON object out, for wrappers in any language.

The schema is documented in docs/request.md.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from .errors import DataError, FastLMMWarning, OptionError, check_option, nearest_names
from .reading import read_table

if TYPE_CHECKING:
    from .results.fit import LMMFit

DDF_METHODS = ("kenward-roger", "satterthwaite", "residual", "asymptotic")
INFORMATION = ("expected", "observed", "average")
KEYS = (
    "data", "columns", "formula", "method", "weights", "offset", "head", "ranef", "kr", "satterthwaite",
    "anova", "emmeans", "contrasts", "emtrends", "information",
)  # fmt: skip
MEAN_KEYS = ("specs", "by", "at", "method", "weights", "level")
TREND_KEYS = (*MEAN_KEYS, "var", "delta")
CONTRAST_KEYS = (
    "specs", "by", "at", "weights", "df_method", "method", "adjust", "interaction", "ref", "coef", "reverse",
    "level", "var", "delta",
)  # fmt: skip


def run(request: Mapping[str, Any]) -> dict[str, Any]:
    """Fit the model a request document describes and answer its sections.

    Parameters
    ----------
    request : mapping
        Keys ``data`` and ``formula`` are needed; ``columns, method, weights, offset, head, ranef, kr,
        satterthwaite, anova, emmeans, contrasts, emtrends, information`` are optional (docs/request.md).

    Returns
    -------
    dict
        ``fit`` and the sections asked for, of numbers, strings, lists and dicts only: it can be written as
        JSON as it is. Missing figures are None, infinite ones "Inf".

    Raises
    ------
    FastLMMError
        Naming the key, column, level or option that is wrong and what would be right.
    """
    request = _checked_request(request)
    from .api import lmm  # after the checks: it loads the compiled kernels

    frame = read_table(request["data"], request.get("columns"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FastLMMWarning)  # the answer carries them
        fit = lmm(
            request["formula"],
            frame,
            reml=request.get("method", "REML") != "ML",
            weights=_column(frame, request, "weights"),
            offset=_column(frame, request, "offset"),
        )
    answer: dict[str, Any] = {"fit": fit_section(fit, request.get("head", 0))}
    if request.get("ranef"):
        answer["ranef"] = ranef_section(fit)
    if request.get("kr"):
        answer["kr"] = kr_section(fit, request["information"])
    if request.get("satterthwaite"):
        answer["satterthwaite"] = {"df": _by_term(fit.fixed_effects(ddf="satterthwaite"), "df")}
    if request.get("anova"):
        answer["anova"] = anova_section(fit, request["anova"])
    for key, section in (("emmeans", means_block), ("contrasts", contrast_block), ("emtrends", trends_block)):
        if request.get(key) is not None:
            blocks = request[key]
            answer[key] = [section(fit, block, f"{key}[{i}]", request) for i, block in enumerate(blocks)]
    return plain(answer)


# ------------------------------------------------------------------- reading
def _checked_request(request: Mapping[str, Any]) -> dict[str, Any]:
    if not isinstance(request, Mapping):
        raise OptionError(f"a request must be a JSON object, not {type(request).__name__}")
    _check_keys("request", request, KEYS)
    for key in ("data", "formula"):
        if request.get(key) is None:
            raise OptionError(f"the request lacks '{key}'")
    if not isinstance(request["formula"], str):
        raise OptionError("request.formula must be a string in lme4 notation")
    out = {key: value for key, value in request.items() if value is not None}
    method = check_option("method", out.get("method", "REML"), ("REML", "ML", "OLS"))
    if method == "OLS" and "|" in out["formula"]:
        raise OptionError(
            "method='OLS' fits no random effects; leave the terms with | out or use 'REML' or 'ML'"
        )
    if "columns" in out and not isinstance(out["columns"], Mapping):
        raise OptionError("request.columns must be an object {name: {'type': 'factor' | 'numeric'}}")
    head = out.get("head", 0)
    if isinstance(head, bool) or not isinstance(head, int) or head < 0:
        raise OptionError(f"head={head!r} must be a whole number, 0 or larger")
    check_option("information", out.setdefault("information", "expected"), INFORMATION)
    for key in ("ranef", "kr", "satterthwaite"):
        if not isinstance(out.get(key, False), bool):
            raise OptionError(f"{key}={out[key]!r} must be true or false")
    for key in ("emmeans", "contrasts", "emtrends"):
        _check_blocks(key, out.get(key, []))
    return out


def _check_blocks(key: str, blocks: Any) -> None:
    allowed = {"emmeans": MEAN_KEYS, "contrasts": CONTRAST_KEYS, "emtrends": TREND_KEYS}[key]
    if not isinstance(blocks, list) or not all(isinstance(block, Mapping) for block in blocks):
        raise OptionError(f"request.{key} must be a list of objects")
    for i, block in enumerate(blocks):
        _check_keys(f"{key}[{i}]", block, allowed)
        needed = ("specs", "var") if key == "emtrends" else ("specs",)
        for name in needed:
            if block.get(name) is None:
                raise OptionError(f"{key}[{i}] lacks '{name}'")


def _check_keys(where: str, given: Mapping[str, Any], allowed: Sequence[str]) -> None:
    for key in given:
        if key not in allowed:
            raise OptionError(f"{where} has no key '{key}'{nearest_names(str(key), allowed)}")


def _column(frame: pd.DataFrame, request: Mapping[str, Any], key: str) -> str | None:
    name = request.get(key)
    if name is not None and name not in frame.columns:
        raise DataError(f"{key} column '{name}' is not in the data{nearest_names(str(name), frame.columns)}")
    return name


# ----------------------------------------------------------------- answering
def fit_section(fit: LMMFit, head: int = 0) -> dict[str, Any]:
    """Section ``fit``: criterion, variance components, coefficients, first fitted values and residuals."""
    kept = [name for name in fit.coef_names if name not in set(fit.dropped_columns)]
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
        "varcomp": [
            {
                "group": row.group,
                "var1": row.var1,
                "var2": row.var2,
                "vcov": row.estimate,
                "sdcor": row.sd_or_cor,
            }
            for row in fit.variance_components.itertuples(index=False)
        ],
        "theta": fit.theta,
        "theta_names": fit.theta_names,
        "beta": {name: beta[name] for name in kept},
        "se": {name: se[name] for name in kept},
        "vcov_names": kept,
        "vcov": fit.cov_beta,
        "dropped_columns": fit.dropped_columns,
        "n_dropped": fit.n_dropped,
        "fitted_head": fit.fitted[:head],
        "residual_head": fit.residuals[:head],
    }
    if fit.method == "OLS":
        section["df_residual"] = fit.df_residual
    return section


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


def kr_section(fit: LMMFit, information: str = "expected") -> dict[str, Any]:
    """Section ``kr``: adjusted covariance of the coefficients, their standard errors and df."""
    dropped = set(fit.dropped_columns)
    keep = [j for j, name in enumerate(fit.coef_names) if name not in dropped]
    names = [fit.coef_names[j] for j in keep]
    rows = fit.coefficient_functions(ddf="kenward-roger", information=information)
    return {
        "names": names,
        "vcov_adj": rows.cov,
        "se": dict(zip(names, rows.se(), strict=True)),
        "ddf_per_coef": dict(zip(names, rows.df(), strict=True)),
    }


def _by_term(effects: pd.DataFrame, column: str) -> dict[str, float]:
    kept = effects[effects["estimate"].notna()]
    return dict(zip(kept["term"], kept[column], strict=True))


def anova_section(fit: LMMFit, asked: Mapping[str, Any]) -> dict[str, Any]:
    """Section ``anova``: a table per df method under ``type3_kr``, ``type3_satt``, ``type3_residual``."""
    if not isinstance(asked, Mapping):
        raise OptionError("request.anova must be an object {'type': 3, 'ddf': ['kenward-roger']}")
    _check_keys("anova", asked, ("type", "ddf"))
    kind = asked.get("type", 3)
    if kind not in (1, 2, 3):
        raise OptionError(f"anova.type={kind!r} is not known; allowed: 1, 2, 3")
    short = {"kenward-roger": "kr", "satterthwaite": "satt"}
    section = {}
    ddf = asked.get("ddf", ["kenward-roger"])
    for method in [ddf] if isinstance(ddf, str) else ddf:
        check_option("anova.ddf", method, DDF_METHODS)
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


def _grid_options(
    fit: LMMFit, block: Mapping[str, Any], where: str, ddf_key: str, request: Mapping[str, Any]
) -> dict[str, Any]:
    options: dict[str, Any] = {
        "by": block.get("by"),
        "at": block.get("at"),
        "ddf": check_option(f"{where}.{ddf_key}", block.get(ddf_key) or fit.default_ddf, DDF_METHODS),
        "information": request["information"],
    }
    if block.get("weights") is not None:
        options["weights"] = block["weights"]
    if block.get("level") is not None:
        options["level"] = block["level"]
    return options


def means_block(
    fit: LMMFit, block: Mapping[str, Any], where: str, request: Mapping[str, Any]
) -> dict[str, Any]:
    """One block of ``emmeans``."""
    table = fit.emmeans(block["specs"], **_grid_options(fit, block, where, "method", request))
    return {**_asked(block), "method": table.ddf, "table": _means_rows(table)}


def _trend_delta(fit: LMMFit, block: Mapping[str, Any], where: str) -> float | None:
    """Increment of the slope's difference quotient: emmeans' 0.001 of the range unless ``delta`` is given.

    ``"exact"`` asks for the derivative.  The two differ only where the model is not linear in the covariate.
    """
    delta = block.get("delta")
    if delta == "exact":
        return None
    if delta is not None:
        if isinstance(delta, bool) or not isinstance(delta, int | float) or delta == 0:
            raise OptionError(
                f"{where}.delta={delta!r} is not known; allowed: a number other than 0, 'exact'"
            )
        return float(delta)
    var = block["var"]
    known = fit.design.variables.get(var)
    if known is None or known.kind == "factor":
        return None  # emtrends() itself says what is wrong
    return 0.001 * float(np.ptp(np.asarray(fit.design.frame[var], dtype=float))) or None


def trends_block(
    fit: LMMFit, block: Mapping[str, Any], where: str, request: Mapping[str, Any]
) -> dict[str, Any]:
    """One block of ``emtrends``."""
    options = _grid_options(fit, block, where, "method", request)
    table = fit.emtrends(block["specs"], block["var"], **options, delta=_trend_delta(fit, block, where))
    return {**_asked(block), "method": table.ddf, "table": _means_rows(table)}


def contrast_block(
    fit: LMMFit, block: Mapping[str, Any], where: str, request: Mapping[str, Any]
) -> dict[str, Any]:
    """One block of ``contrasts``: those of the rows of means, or of slopes when ``var`` is given."""
    options = _grid_options(fit, block, where, "df_method", request)
    if block.get("var") is not None:
        means = fit.emtrends(block["specs"], block["var"], **options, delta=_trend_delta(fit, block, where))
    else:
        means = fit.emmeans(block["specs"], **options)
    method: Any = block.get("method", "pairwise")
    how: dict[str, Any] = {"adjust": block["adjust"]} if block.get("adjust") is not None else {}
    if method == "custom":
        if not isinstance(block.get("coef"), Mapping):
            raise OptionError(
                f"{where}: method 'custom' needs coef = {{label: [weights on the rows of the means]}}"
            )
        method = dict(block["coef"])
    elif method == "interaction":
        if not block.get("interaction"):
            raise OptionError(f"{where}: method 'interaction' needs interaction = [a family for each factor]")
        method, how["interaction"] = "pairwise", block["interaction"]
    for key in ("ref", "reverse"):
        if block.get(key) is not None:
            how[key] = block[key]
    table = means.contrast(method, **how)
    said = {"method": "pairwise", "adjust": table.adjust, **_asked(block), "df_method": table.ddf}
    return {**said, "adjust_used": table.adjust, "table": _contrast_rows(table)}


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


def plain(value: Any) -> Any:
    """`value` in JSON's own types: arrays as lists, NaN as None, infinity as "Inf"."""
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, np.ndarray):
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
