"""Sections of a request's answer about means: marginal means, slopes and contrasts of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from fastlmm_core.errors import OptionError
from fastlmm_core.request.answer_tables import Rows, rows_of
from fastlmm_core.request.schema import GRID_OPTIONS

if TYPE_CHECKING:
    from fastlmm_core.results.fit import LMMFit

# Differences of means in one factor at a time, at the same levels of the others.
WITHIN_OTHERS = "pairwise within the other factors"
RENAMED = {"se": "SE"}
KEPT_BACK = ("status", "ddf", "estimable")
NOT_ESTIMABLE = "nonEst"


def _grid_options(
    fit: LMMFit, block: Mapping[str, Any], ddf_key: str, request: Mapping[str, Any]
) -> dict[str, Any]:
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
    from fastlmm_core.means.emmeans import slope_covariate

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


def contrast_block(
    fit: LMMFit, block: Mapping[str, Any], where: str, request: Mapping[str, Any]
) -> dict[str, Any]:
    """One block of ``contrasts``: those of the rows of means, or of slopes when ``var`` is given."""
    options = _grid_options(fit, block, "df_method", request)
    if block.get("df_method") is None:
        # contrasts of means that the same request asks for by another method go by that method
        same = [b.get("method") for b in request.get("emmeans") or [] if b["specs"] == block["specs"]]
        if same and same[0]:
            options["ddf"] = same[0]
    if block.get("var") is None and block.get("delta") is not None:
        raise OptionError(f"{where}.delta is the increment of a slope and needs var = the covariate")
    if block.get("var") is not None:
        means = fit.emtrends(block["specs"], block["var"], **options, delta=_trend_delta(fit, block, where))
    else:
        means = fit.emmeans(block["specs"], **options, **_means_options(block))
    asked = method = _method(block, where)
    how: dict[str, Any] = {"adjust": block["adjust"]} if block.get("adjust") is not None else {}
    if method == "custom":
        method = dict(block["coef"])
    elif method == WITHIN_OTHERS:
        method = pairs_within_others(means)
        how.setdefault("adjust", "none")
    elif method == "interaction":
        method, how["interaction"] = "pairwise", block["interaction"]
    for key in ("ref", "reverse", "wts", "cmtype", "family"):
        if block.get(key) is not None:
            how[key] = block[key]
    table = means.contrast(method, **how)
    said = {"adjust": table.adjust, **_asked(block), "method": asked, "df_method": table.ddf}
    return {**said, "adjust_used": table.adjust, "table": _contrast_rows(table)}


# Methods that need a key of their own, which belongs to no other, and what it holds.
OWN_KEYS = {
    "custom": ("coef", "{label: [weights on the rows of the means]}"),
    "interaction": ("interaction", "[a family for each factor]"),
}


def _method(block: Mapping[str, Any], where: str) -> Any:
    """The method of a block of contrasts; without a word that of the key that only it has.

    Raises
    ------
    OptionError
        Where method and key do not go together.
    """
    given = [method for method, (key, _) in OWN_KEYS.items() if block.get(key)]
    method = block.get("method") or (given[0] if given else "pairwise")
    for other in given:
        if other != method:
            key = OWN_KEYS[other][0]
            raise OptionError(f"{where}.{key} belongs to method '{other}', not to '{method}'")
    if method in OWN_KEYS and method not in given:
        key, words = OWN_KEYS[method]
        raise OptionError(f"{where}: method '{method}' needs {key} = {words}")
    return method


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


def _means_rows(table: Any) -> Rows:
    tests = ("t", "p")  # of a mean against zero: nobody asks
    return _answered_rows(table, {**RENAMED, "estimate": "emmean"}, (*KEPT_BACK, *tests))


def _contrast_rows(table: Any) -> Rows:
    """Rows of a contrast table; a covariate among the labels is written as text, as emmeans does."""
    rows = _answered_rows(table, RENAMED, KEPT_BACK)
    statistics = {"estimate", "SE", "df", "t", "p", "lower", "upper", NOT_ESTIMABLE}
    labels = {
        name: np.array([_label(own) for own in column], dtype=object)
        for name, column in rows.columns.items()
        if name not in statistics
    }
    return Rows({**rows.columns, **labels}, rows.marks)


def _label(value: Any) -> Any:
    return f"{value:.15g}" if isinstance(value, (int, float, np.number)) else value


def _answered_rows(table: Any, names: Mapping[str, str], left_out: Sequence[str]) -> Rows:
    """The table as an answer has it: columns left out or renamed, rows without an estimate marked."""
    columns = rows_of(table).columns
    missing = np.isnan(np.asarray(columns["estimate"], dtype=np.float64))
    answered = {names.get(name, name): own for name, own in columns.items() if name not in left_out}
    if not missing.any():
        return Rows(answered)
    return Rows({**answered, NOT_ESTIMABLE: missing}, (NOT_ESTIMABLE,))
