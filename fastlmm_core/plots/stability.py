"""Finlay-Wilkinson regression of genotypes on the mean of the environments."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from fastlmm_core.errors import DataError, nearest_names
from fastlmm_core.gate import public
from fastlmm_core.options import AXES, NAMES, having, optional
from fastlmm_core.plots.canvas import COLOURS, GREY, legend_beside, own_axes, plain_frame

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from fastlmm_core.multi_environment.summaries import GxE

SHOWN = 6


@public(summaries=having("the result of gxe()", "table", "stability"), genotypes=optional(NAMES), ax=AXES)
def plot_stability(
    summaries: GxE, genotypes: str | Sequence[str] | None = None, *, ax: Axes | None = None
) -> Axes:
    """Means of some genotypes against those of the environments with their regression lines.

    Parameters
    ----------
    summaries : GxE
    genotypes : list of str, optional
        Drawn in colour, the others as grey lines; by default the six with the highest means.
    ax : Axes, optional
        Where to draw; a new figure without it.

    Returns
    -------
    Axes

    Raises
    ------
    DataError
        For an unknown genotype.

    Examples
    --------
    >>> from fastlmm_core import datasets, gxe, plots
    >>> wheat = gxe(datasets.load("winter_wheat"), "gen", "env", "yield")
    >>> ax = plots.plot_stability(wheat)
    """
    table = summaries.table
    frame = summaries.stability().frame
    if genotypes is None:
        shown = [str(name) for name in frame.sort_values("mean", ascending=False)["genotype"].head(SHOWN)]
    else:
        shown = [genotypes] if isinstance(genotypes, str) else [str(name) for name in genotypes]
    for name in shown:
        if name not in table.genotypes:
            raise DataError(f"there is no genotype '{name}'{nearest_names(name, table.genotypes)}")
    x = table.means.mean(axis=0)
    ends = np.array([np.min(x), np.max(x)])
    ax = own_axes(ax)
    for i, name in enumerate(table.genotypes):
        line = frame["mean"][i] + frame["slope"][i] * (ends - x.mean())
        if name in shown:
            colour = COLOURS[shown.index(name) % len(COLOURS)]
            ax.plot(
                ends, line, color=colour, linewidth=1.4, label=f"{name}: {frame['slope'][i]:.2f}", zorder=3
            )
            ax.plot(x, table.means[i], "o", color=colour, markersize=4, zorder=3)
        else:
            ax.plot(ends, line, color=GREY, linewidth=0.5, alpha=0.5)
    ax.set(xlabel="mean of the environment", ylabel="mean of the genotype")
    legend_beside(ax, "genotype: slope")
    plain_frame(ax)
    return ax
