"""Means and contrasts on the scale of the response, where the formula transforms it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastlmm_core.display.figure_tables import FigureTable
from fastlmm_core.errors import OptionError
from fastlmm_core.means.estimates import Estimates
from fastlmm_core.means.response_scale import ResponseScale

Floats = NDArray[np.floating]


def known_scale(table: Estimates) -> ResponseScale:
    """The scale of the response of the table's model.

    Raises
    ------
    OptionError
        When the response is a plain column, or cannot be read off its expression; for slopes.
    """
    if table.scale is None:
        raise OptionError(
            "there is no way back to the response: that is for means, and their contrasts, where the formula "
            "transforms the response by log, sqrt, powers, 1/y, asin(sqrt(y)) and the like"
        )
    return table.scale


def back_transform(table: Estimates) -> FigureTable:
    """Figures on the scale of the response; see ``EstimateTable.back_transform``."""
    scale = known_scale(table)
    if table.weights is None:
        value, slope = scale.back(table.estimate), scale.slope(table.estimate)
        lower, upper = scale.limits_back(table.lower, table.upper)
        title, names = f"{table.title} of {scale.variable}", table.labels
    else:
        value, slope, lower, upper, what = contrasts_back(table, scale)
        title, names = f"{table.title}: {what}", table.labels.copy()
        if scale.log_factor is not None and "contrast" in names:
            names["contrast"] = [text.replace(" - ", " / ") for text in names["contrast"]]
    figures = {
        "estimate": value, "se": np.abs(slope) * table.se, "df": table.df, "t": table.t, "p": table.p,
        "lower": lower, "upper": upper, "status": table.status,
    }  # fmt: skip
    own = (f"Estimates and limits are transformed back from {scale.text}; tests are on that scale",)
    hidden = (("t", "p") if table.weights is None else ()) + (() if np.isnan(value).any() else ("status",))
    return FigureTable(
        table.labelled(figures, names), title, (*table.notes, *own), table.by_columns(), hidden
    )


def contrasts_back(table: Estimates, scale: ResponseScale) -> tuple[Floats, Floats, Floats, Floats, str]:
    """Estimate, slope, limits (c,) and what contrasts are on the scale of the response.

    Raises
    ------
    OptionError
        When they are not differences, or the transformation is neither a logarithm nor a change of units.
    """
    assert table.weights is not None
    sums = np.abs(np.asarray(table.weights.sum(axis=1)).ravel())
    if np.any(sums > 1e-9 * abs(table.weights).max()):
        raise OptionError(
            "these are not differences, so that they are nothing on the scale of the response; transform the "
            "means back first: table.regrid().contrast(...)"
        )
    estimate, lower, upper = table.estimate, table.lower, table.upper
    if scale.log_factor is not None:
        f = scale.log_factor
        ends = np.exp(f * lower), np.exp(f * upper)
        value = np.exp(f * estimate)
        return value, f * value, np.fmin(*ends), np.fmax(*ends), f"ratios of {scale.inner}"
    if scale.linear_factor is not None:
        f = scale.linear_factor
        ends = f * lower, f * upper
        slope = np.full(estimate.shape, f)
        return f * estimate, slope, np.fmin(*ends), np.fmax(*ends), f"differences of {scale.variable}"
    raise OptionError(
        f"differences of {scale.text} are nothing on the scale of {scale.variable}; compare the means there: "
        "table.regrid().contrast(...) on the table of means"
    )


def regrid(table: Any) -> Any:
    """The table of means with figures on the scale of the response; see ``EmmeansTable.regrid``."""
    scale = known_scale(table)
    functions = table.functions
    eta = np.asarray(functions.estimate) + table.shift
    value, slope = scale.back(eta), scale.slope(eta)
    usable = np.isfinite(value) & np.isfinite(slope)
    D = np.where(usable, slope, 1.0)
    moved = functions.rescaled(np.where(usable, value, 0.0), D)
    note = f"Means are transformed back from {scale.text}; standard errors by the delta method"
    return replace(
        table, functions=moved, K=table.K.multiply(D[:, None]).tocsr(), shift=np.zeros_like(table.shift),
        undefined=table.undefined | ~usable, scale=None, title=f"{table.title} of {scale.variable}",
        remarks=(*table.remarks, note),
    )  # fmt: skip
