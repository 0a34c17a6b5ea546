"""Residual panel: against fitted values, normal quantiles, by a factor, on the field."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy.special import ndtri

from fastlmm_core.design.values.labels import label_texts
from fastlmm_core.errors import DataError, nearest_names
from fastlmm_core.gate import public
from fastlmm_core.options import having
from fastlmm_core.plots.canvas import COLOURS, GREY, draw_map, plain_frame, pyplot
from fastlmm_core.reading.columns import ordered_labels
from fastlmm_core.results.field.layout import check_table

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from fastlmm_core.results.fit import LMMFit


# Along an axis of a panel, as long as labels side by side do not meet.
MOST_CHARACTERS, MOST_VALUES = 48, 6


@public(fit=having("a fit of lmm()", "sigma", "design"))
def plot_residuals(
    fit: LMMFit, *, by: Any = None, row: Any = None, column: Any = None, data: pd.DataFrame | None = None
) -> Figure:
    """Four views of the scaled residuals (Pearson residuals over sigma).

    Parameters
    ----------
    fit : LMMFit
    by : str or (n,) array, optional
        Factor of the third panel; by default the first grouping factor, else the first factor of the model.
    row, column : str or (n,) array, optional
        Field positions; with both, the fourth panel is the field layout, else it shows the size of the
        residuals against the fitted values.
    data : DataFrame, optional
        The table the model was fitted to, when a name above is not among the model's variables.

    Returns
    -------
    Figure

    Raises
    ------
    DataError
        For an unknown column, an array of another length, or a row without a column.

    Examples
    --------
    >>> from fastlmm_core import datasets, lmm, plots
    >>> field = datasets.load("durban_rowcol")
    >>> fit = lmm("yield ~ gen + (1|rep)", field)
    >>> figure = plots.plot_residuals(fit, by="rep", row="row", column="bed", data=field)
    """
    if (row is None) != (column is None):
        raise DataError("the field layout needs both row and column")
    residuals = _scaled(fit)
    fitted = np.asarray(fit.fitted, dtype=float)
    name, labels, groups = _factor(fit, by, data)
    figure, axes = pyplot().subplots(2, 2, figsize=(9, 7), layout="constrained")
    _against_fitted(axes[0, 0], fitted, residuals)
    _quantiles(axes[0, 1], residuals)
    _by_factor(axes[1, 0], name, labels, groups, residuals)
    if row is None:
        _size_against_fitted(axes[1, 1], fitted, residuals)
    else:
        rows, columns = (_values(fit, given, data)[1].to_numpy() for given in (row, column))
        _field(axes[1, 1], rows, columns, residuals)
    return figure


def _scaled(fit: LMMFit) -> np.ndarray:
    """Residuals (n,) over the standard deviations of their errors; as they are where there is no variance."""
    if np.isfinite(fit.sigma):
        scale = fit.sigma if fit.sigma > 0 else 1.0
        return np.asarray(fit.residuals_pearson, dtype=float) / scale
    return np.asarray(fit.residuals / fit.solved.residual_sd)  # type: ignore[union-attr]


def _values(fit: LMMFit, given: Any, data: pd.DataFrame | None) -> tuple[str, pd.Series]:
    """Name and the n values, in the order of the residuals, of a column given by name or by itself."""
    if not isinstance(given, str):
        shape = np.shape(given)
        if shape != (fit.nobs,):
            raise DataError(f"an array for the residual panel must have {fit.nobs} values, not {shape}")
        return "", pd.Series(given)
    if given in fit.design.frame.columns:
        return given, fit.design.frame[given]
    if data is not None and given in data.columns:
        check_table(fit, data)
        return given, data[given].iloc[fit.design.rows]
    known = [*fit.design.frame.columns, *([] if data is None else data.columns)]
    hint = "" if data is not None else " (pass data= for a column the model does not use)"
    raise DataError(f"there is no column '{given}'{nearest_names(given, known)}{hint}")


def _factor(fit: LMMFit, by: Any, data: pd.DataFrame | None) -> tuple[str, list[str], np.ndarray]:
    """Name, labels in the order of the levels, and the label of every residual (n,)."""
    grouping = [term for term in fit.design.random if not term.is_spline]
    factors = [variable.name for variable in fit.design.variables.values() if variable.kind == "factor"]
    if by is None and grouping:
        term = grouping[-1]
        return term.group, list(term.levels), np.asarray(term.levels)[term.codes]
    if by is None and not factors:
        return "all", [""], np.repeat("", fit.nobs)
    name, values = _values(fit, factors[0] if by is None else by, data)
    text = label_texts(values.to_numpy(dtype=object))
    known = {label for label in text.tolist() if label is not None}
    if isinstance(values.dtype, pd.CategoricalDtype):
        labels = label_texts(values.cat.categories.to_numpy(dtype=object)).tolist()
    else:
        labels = ordered_labels(known)
    return name, [label for label in labels if label in known], text


def _against_fitted(ax: Axes, fitted: np.ndarray, residuals: np.ndarray) -> None:
    ax.axhline(0, color=GREY, linewidth=0.8)
    ax.plot(fitted, residuals, "o", color=COLOURS[0], markersize=3.5, alpha=0.7)
    ax.set(xlabel="fitted", ylabel="scaled residual")
    ax.locator_params(axis="x", nbins=MOST_VALUES)
    plain_frame(ax)


def _quantiles(ax: Axes, residuals: np.ndarray) -> None:
    """Ordered residuals against normal quantiles at (i - 3/8) / (n + 1/4) (Blom 1958)."""
    n = residuals.size
    expected = ndtri((np.arange(1, n + 1) - 0.375) / (n + 0.25))
    ax.plot(expected, np.sort(residuals), "o", color=COLOURS[0], markersize=3.5, alpha=0.7)
    q1, q3 = np.quantile(residuals, [0.25, 0.75])
    slope = (q3 - q1) / (2 * ndtri(0.75))
    ax.axline((0.0, (q1 + q3) / 2), slope=slope, color=GREY, linewidth=0.8)
    ax.set(xlabel="normal quantile", ylabel="scaled residual")
    plain_frame(ax)


def _by_factor(
    ax: Axes, name: str, labels: list[str], groups: np.ndarray, residuals: np.ndarray
) -> None:  # fmt: skip
    ax.axhline(0, color=GREY, linewidth=0.8)
    parts = [residuals[groups == label] for label in labels]
    ax.boxplot(parts, widths=0.6, medianprops={"color": COLOURS[1]})
    wide = sum(len(label) + 2 for label in labels) > MOST_CHARACTERS
    if len(labels) <= 40:
        ax.set_xticks(range(1, len(labels) + 1), labels, rotation=90 if wide else 0)
    else:
        ax.set_xticks([])
    ax.set(xlabel=name, ylabel="scaled residual")
    plain_frame(ax)


def _size_against_fitted(ax: Axes, fitted: np.ndarray, residuals: np.ndarray) -> None:
    ax.plot(fitted, np.sqrt(np.abs(residuals)), "o", color=COLOURS[0], markersize=3.5, alpha=0.7)
    ax.set(xlabel="fitted", ylabel="√|scaled residual|")
    ax.locator_params(axis="x", nbins=MOST_VALUES)
    plain_frame(ax)


def _field(ax: Axes, rows: np.ndarray, columns: np.ndarray, residuals: np.ndarray) -> None:
    """Residuals as a map of the field; plots without an observation stay white."""
    row_labels, i = np.unique(rows, return_inverse=True)
    column_labels, j = np.unique(columns, return_inverse=True)
    total = np.zeros((len(row_labels), len(column_labels)))
    count = np.zeros_like(total)
    np.add.at(total, (i, j), residuals)
    np.add.at(count, (i, j), 1)
    with np.errstate(invalid="ignore"):
        field = np.where(count > 0, total / count, np.nan)
    draw_map(ax, field, row_labels, column_labels, "scaled residual")
    ax.set(xlabel="column", ylabel="row")
