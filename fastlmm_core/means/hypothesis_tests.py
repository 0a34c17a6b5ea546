"""Tests of estimates against values other than zero: one-sided, non-inferiority, equivalence."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fastlmm_core.display.figure_tables import FigureTable
from fastlmm_core.errors import InferenceError, OptionError, check_option
from fastlmm_core.means.estimates import Estimates, half_widths
from fastlmm_core.multiplicity.adjustments import STEPWISE, Family, adjusted_p_values, sidak_tail, stepwise_p
from fastlmm_core.multiplicity.distributions import t_quantile, t_two_sided

Floats = NDArray[np.floating]

SIDES = {"two-sided": 0, "both": 0, ">": 1, "greater": 1, "right": 1, "<": -1, "less": -1, "left": -1}
TWO_SIDED_ONLY = ("tukey", "scheffe", "dunnettx")
CLAIMS = {0: "equivalence", 1: "non-inferiority", -1: "non-superiority"}


def run_tests(table: Estimates, null: float, side: str, delta: float) -> FigureTable:
    """Tests as described in ``EstimateTable.test``."""
    check_option("side", side, SIDES)
    for name, value in (("null", null), ("delta", delta)):
        if not isinstance(value, (int, float, np.number)) or not np.isfinite(value):
            raise OptionError(f"{name}={value!r} must be a finite number")
    if delta < 0.0:
        raise OptionError(f"delta={delta!r} must not be negative: it is a tolerance")
    sign, distance = SIDES[side], table.estimate - null
    excess = np.abs(distance) - delta if sign == 0 and delta > 0.0 else distance + sign * delta
    t = np.divide(excess, table.se, out=np.full(excess.shape, np.nan), where=table.se > 0.0)
    tail = sign if sign else (-1 if delta > 0.0 else 0)
    method, notes = method_for(table, tail)
    if tail == 0:
        p = adjusted_p_values(t, table.df, method, table.family)
    else:
        p = adjust_one_sided(one_sided(t, table.df, tail), method, table.family)
    lower, upper = table.limits if sign == 0 else one_sided_limits(table, sign, method)
    figures = {
        "estimate": table.estimate, "se": table.se, "df": table.df, "null": np.full(t.shape, float(null)),
        "t": t, "p": p, "lower": lower, "upper": upper, "status": table.status,
    }  # fmt: skip
    if delta > 0.0:
        notes = (*notes, f"Tests of {CLAIMS[sign]} with a tolerance of {delta:g}")
    if tail != 0:
        notes = (*notes, f"P values are {'right' if tail > 0 else 'left'}-tailed")
    hidden = () if np.isnan(t).any() else ("status",)
    return FigureTable(
        table.labelled(figures),
        f"Tests: {table.title}",
        (*table.common_notes, *notes),
        table.by_columns(figures),
        hidden,
    )


def method_for(table: Estimates, tail: int) -> tuple[str, tuple[str, ...]]:
    """Adjustment that goes with the tail, and notes on it.

    Raises
    ------
    InferenceError
        For mvt with one-sided p values.
    """
    method = table.adjustment.p_method
    if tail == 0:
        return method, table.adjustment.notes
    if method == "mvt":
        raise InferenceError("adjust='mvt' is for two-sided tests here; use sidak, bonferroni or holm")
    notes = () if method == "none" else (f"P value adjustment: {method} method",)
    if method in TWO_SIDED_ONLY:
        notes = (f"adjust='{method}' is for two-sided tests; sidak was used for one-sided p values instead",)
        method = "sidak"
    return method, notes


def one_sided(t: Floats, df: Floats, tail: int) -> Floats:
    """P(T > t) for `tail` 1, P(T < t) for -1."""
    half = 0.5 * t_two_sided(t, df)
    return np.where(tail * t > 0.0, half, 1.0 - half)


def adjust_one_sided(p: Floats, method: str, family: Family) -> Floats:
    """One-sided p values (c,) by none, sidak, bonferroni or a stepwise method."""
    size = family.sizes()
    if method == "none":
        return p
    if method == "sidak":
        return sidak_tail(p, size)
    if method == "bonferroni":
        return np.minimum(1.0, p * size)
    out = np.full(p.shape, np.nan)
    for rows in family.members():
        out[rows] = stepwise_p(p[rows], method)
    return out


def one_sided_limits(table: Estimates, sign: int, method: str) -> tuple[Floats, Floats]:
    """A lower limit and inf for `sign` 1, else -inf and an upper limit; Bonferroni's for stepwise methods."""
    size, alpha = table.family.sizes(), 1.0 - table.level
    if method == "bonferroni" or method in STEPWISE:
        one = alpha / size
    elif method == "sidak":
        one = -np.expm1(np.log(table.level) / size)
    else:
        one = np.full(size.shape, alpha)
    half = half_widths(t_quantile(2.0 * one, table.df), table.se)
    endless = np.where(np.isnan(half), np.nan, np.inf)
    return (table.estimate - half, endless) if sign > 0 else (-endless, table.estimate + half)
