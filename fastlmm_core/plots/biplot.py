"""Biplots of AMMI, GGE and factor-analytic models."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from fastlmm_core.errors import OptionError
from fastlmm_core.gate import public
from fastlmm_core.options import AXES, SWITCH, having, whole
from fastlmm_core.plots.canvas import COLOURS, GREY, own_axes, plain_frame
from fastlmm_core.plots.labels_apart import write_labels
from fastlmm_core.results.factor_analytic.biplot import Biplot, convex_hull

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Part of the reach of the points that the longest vector takes.
REACH = 0.9


@public(source=having("an AMMI, GGE or factor analysis", "biplot"), polygon=SWITCH, label=whole(0), ax=AXES)
def plot_biplot(
    source: Any,
    axes: Sequence[int] = (1, 2),
    *,
    polygon: bool = False,
    label: int = 60,
    ax: Axes | None = None,
) -> Axes:
    """Genotypes as points and environments as vectors of one plane.

    Parameters
    ----------
    source : AMMI, GGE or FactorAnalysis
    axes : pair of int
        Which two, counted from 1.
    polygon : bool
        Draw the polygon of the outermost genotypes and the lines that cut it into sectors: which won where
        (Yan et al. 2000); for GGE.
    label : int
        So many genotypes, the farthest from the origin, get their names.
    ax : Axes, optional
        Where to draw; a new figure without it.

    Returns
    -------
    Axes
        Vectors are drawn to the scale of the points: what counts is their direction and their length beside
        each other.

    Raises
    ------
    OptionError
        For axes that the model does not have.

    Examples
    --------
    >>> from fastlmm_core import datasets, gxe, plots
    >>> wheat = gxe(datasets.load("winter_wheat"), "gen", "env", "yield")
    >>> ax = plots.plot_biplot(wheat.gge(), polygon=True)
    """
    plot: Biplot = source.biplot
    first, second = _pair(axes, plot.row_scores.shape[1])
    points, vectors = plot.row_scores[:, [first, second]], plot.column_scores[:, [first, second]]
    reach = float(np.linalg.norm(points, axis=1).max(initial=0.0))
    longest = float(np.linalg.norm(vectors, axis=1).max(initial=0.0))
    vectors = vectors * (REACH * reach / longest if longest > 0.0 else 1.0)
    ax = own_axes(ax, width=6.6, height=6.0)
    ax.axhline(0, color=GREY, linewidth=0.6)
    ax.axvline(0, color=GREY, linewidth=0.6)
    ax.plot(points[:, 0], points[:, 1], "o", color=COLOURS[0], markersize=4)
    for x, y in vectors:
        ax.annotate(
            "", (x, y), (0, 0), arrowprops={"arrowstyle": "->", "color": COLOURS[1], "lw": 1.0, "shrinkA": 0}
        )
    ax.set_aspect("equal", adjustable="datalim")
    ax.set(xlabel=plot.label(first + 1), ylabel=plot.label(second + 1), title=plot.title)
    ax.update_datalim(np.vstack([points, vectors]))
    ax.autoscale_view()
    ax.margins(0.12)
    if polygon:
        _draw_sectors(ax, points)
    plain_frame(ax)
    write_labels(ax, vectors[:, 0], vectors[:, 1], plot.columns, color=COLOURS[1])
    far = np.argsort(-np.linalg.norm(points, axis=1), kind="stable")[:label]
    write_labels(ax, points[far, 0], points[far, 1], [plot.rows[i] for i in far], color=COLOURS[0])
    return ax


def _pair(axes: Sequence[int], count: int) -> tuple[int, int]:
    """Places of two axes."""
    pair = [int(axis) for axis in axes]
    if len(pair) != 2 or not all(1 <= axis <= count for axis in pair) or pair[0] == pair[1]:
        raise OptionError(f"axes={tuple(axes)!r} must be two of 1 to {count}; a biplot needs two axes")
    return pair[0] - 1, pair[1] - 1


def _draw_sectors(ax: Axes, points: np.ndarray) -> None:
    """The convex hull and, from the origin, the perpendiculars to its sides."""
    corners = points[convex_hull(points)]
    closed = np.vstack([corners, corners[:1]])
    ax.plot(closed[:, 0], closed[:, 1], color=COLOURS[2], linewidth=1.0)
    far = 3.0 * float(np.abs(points).max())
    rays = []
    for a, b in pairwise(closed):
        normal = np.array([b[1] - a[1], a[0] - b[0]])
        length = float(np.linalg.norm(normal))
        if length > 0.0:
            end = normal / length * far * (1.0 if normal @ a >= 0.0 else -1.0)
            rays.append([(0.0, 0.0), (float(end[0]), float(end[1]))])
    # they reach beyond the axes, whose limits are those of the points
    ax.add_collection(_lines(rays), autolim=False)


def _lines(rays: list[list[tuple[float, float]]]) -> Any:
    from matplotlib.collections import LineCollection

    return LineCollection(rays, colors=GREY, linewidths=0.9, linestyles="--")
