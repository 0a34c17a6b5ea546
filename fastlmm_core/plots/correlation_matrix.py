"""Heat map of a correlation matrix, like ones together, with the tree that orders them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from fastlmm_core.display.colours import SIDES
from fastlmm_core.errors import DataError
from fastlmm_core.gate import public
from fastlmm_core.options import AXES, NAME, SWITCH, one_of, optional
from fastlmm_core.plots.canvas import COLOURS, parted_at_zero, pyplot
from fastlmm_core.results.components.correlations import dendrogram

if TYPE_CHECKING:
    from matplotlib.axes import Axes

ORDERS = ("dendrogram", "given")
# Up to so many rows the correlations are written into the cells.
WRITTEN = 12
LABELLED = 60


@public(group=optional(NAME), order=one_of(ORDERS), tree=SWITCH, ax=AXES)
def plot_correlations(
    source: Any, group: str | None = None, *, order: str = "dendrogram", tree: bool = True,
    ax: Axes | None = None,
) -> Axes:  # fmt: skip
    """Heat map of correlations.

    Parameters
    ----------
    source : LMMFit, CorrelationTable, FactorAnalysis, GxE or DataFrame (m, m)
        A fit shows one of its terms, a DataFrame is the correlation matrix itself.
    group : str, optional
        Grouping factor, or ``"Residual"``, of a fit or a table of correlations; the first by default.
    order : {"dendrogram", "given"}
        Like ones together (average linkage of 1 - r), or as they come.
    tree : bool
        Draw the dendrogram above the map, where that is the order.
    ax : Axes, optional
        Where to draw; a new figure without it.

    Returns
    -------
    Axes

    Raises
    ------
    DataError
        When `source` holds no correlation matrix.
    OptionError
        For an unknown group.

    Examples
    --------
    >>> from fastlmm_core import datasets, lmm, plots
    >>> model = "yield ~ county + fa(0 + county | gen, k=1) + (1 | county:rep:block)"
    >>> fit = lmm(model, datasets.load("besag_met"), residual="units | county")
    >>> ax = plots.plot_correlations(fit.factor_analysis())
    """
    title, matrix = _matrix(source, group)
    values = matrix.to_numpy(float)
    m = len(values)
    leaves, branches = dendrogram(values) if order == "dendrogram" else (np.arange(m), None)
    values, names = values[np.ix_(leaves, leaves)], [str(matrix.columns[int(j)]) for j in leaves]
    if ax is None:
        side = float(np.clip(0.45 * m + 1.6, 3.6, 11.0))
        ax = pyplot().subplots(figsize=(side + 0.9, side), layout="constrained")[1]
    image = ax.imshow(values, cmap=parted_at_zero(), vmin=-1.0, vmax=1.0, interpolation="nearest")
    ax.figure.colorbar(image, ax=ax, label=f"correlation ({SIDES})", shrink=0.8)
    if m <= LABELLED:
        ax.set_xticks(range(m), names, rotation=90 if max(map(len, names)) > 3 else 0)
        ax.set_yticks(range(m), names)
    ax.tick_params(length=0)
    if m <= WRITTEN:
        for i in range(m):
            for j in range(m):
                if i != j and np.isfinite(values[i, j]):
                    light = abs(values[i, j]) > 0.65
                    ax.text(j, i, f"{values[i, j]:.2f}", ha="center", va="center", fontsize=8,
                            color="white" if light else "black")  # fmt: skip
    if branches is not None and tree and m > 2:
        _draw_tree(ax, branches, m)
    ax.set_title(title)
    return ax


def _matrix(source: Any, group: str | None) -> tuple[str, pd.DataFrame]:
    """Title and square frame of what may be given."""
    if isinstance(source, pd.DataFrame):
        matrix, title = source, ""
    elif hasattr(source, "matrix") and hasattr(source, "groups"):
        matrix, title = source.matrix(group), group or source.groups()[0]
    elif hasattr(source, "correlations"):
        found = source.correlations
        if callable(found):
            found = found() if group is None else found(group)
        if not isinstance(found, pd.DataFrame):
            return _matrix(found, group)
        matrix, title = found, str(getattr(source, "group", ""))
    else:
        raise DataError(
            f"a {type(source).__name__} holds no correlation matrix; give a fit or a square frame"
        )
    rows, columns = matrix.shape
    if rows != columns or rows == 0:
        raise DataError(f"a correlation matrix is square; this table is {rows} x {columns}")
    return title, matrix


def _draw_tree(ax: Axes, branches: np.ndarray, m: int) -> None:
    """The dendrogram on top of the map, its leaves over the columns."""
    from scipy.cluster.hierarchy import dendrogram as coordinates

    above = ax.inset_axes((0.0, 1.01, 1.0, 0.16), transform=ax.transAxes)
    drawn = coordinates(branches, no_plot=True)
    for x, y in zip(drawn["icoord"], drawn["dcoord"], strict=True):
        above.plot((np.asarray(x) - 5.0) / 10.0, y, color=COLOURS[-1], linewidth=0.8)
    above.set_xlim(-0.5, m - 0.5)
    above.set_ylim(bottom=0.0)
    above.axis("off")
