"""Caterpillar plot of the BLUPs of one grouping factor."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fastlmm_core.errors import DataError, nearest_names
from fastlmm_core.gate import public
from fastlmm_core.options import AXES, LEVEL, NAME, having, optional
from fastlmm_core.plots.canvas import COLOURS, GREY, own_axes, plain_frame

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from fastlmm_core.results.fit import LMMFit


@public(
    fit=having("a fit of lmm()", "blups"), ax=AXES, group=optional(NAME), coefficient=optional(NAME),
    level=LEVEL,
)  # fmt: skip
def plot_blups(
    fit: LMMFit,
    group: str | None = None,
    *,
    coefficient: str | None = None,
    level: float = 0.95,
    ax: Axes | None = None,
) -> Axes:
    """BLUPs in order of size with intervals from the prediction error variance.

    Parameters
    ----------
    fit : LMMFit
    group : str, optional
        Grouping factor, as ``fit.design.random`` names it; the first one by default.
    coefficient : str, optional
        "(Intercept)", "Days" ...; the first one of the term by default.
    level : float
        Of the intervals.
    ax : Axes, optional
        Where to draw; a new figure without it.

    Returns
    -------
    Axes

    Raises
    ------
    DataError
        For an unknown group or coefficient, or a model without random effects.

    Examples
    --------
    >>> from fastlmm_core import datasets, lmm, plots
    >>> fit = lmm("yield ~ rep + (1|gen) + (1|rep:block)", datasets.load("john_alpha"))
    >>> ax = plots.plot_blups(fit, "gen")
    """
    blups = fit.blups(level=level)
    if blups.empty:
        raise DataError("a linear model has no BLUPs to draw")
    group = str(blups["group"].iloc[0]) if group is None else group
    rows = blups[blups["group"] == group]
    if rows.empty:
        raise DataError(f"there is no random term '{group}'{nearest_names(group, blups['group'].unique())}")
    coefficient = str(rows["term"].iloc[0]) if coefficient is None else coefficient
    rows = rows[rows["term"] == coefficient].sort_values("estimate")
    if rows.empty:
        known = blups.loc[blups["group"] == group, "term"].unique()
        raise DataError(f"'{group}' has no coefficient '{coefficient}'{nearest_names(coefficient, known)}")
    y = np.arange(len(rows))
    ax = own_axes(ax, height=float(np.clip(0.18 * len(rows), 3, 12)))
    ax.axvline(0, color=GREY, linewidth=0.8)
    ax.hlines(y, rows["lower"], rows["upper"], color=COLOURS[0], linewidth=1.2)
    ax.plot(rows["estimate"], y, "o", color=COLOURS[0], markersize=4)
    if len(rows) <= 80:
        ax.set_yticks(y, [str(v) for v in rows["level"]])
    else:
        ax.set_yticks([])
    ax.set_xlabel(f"BLUP of {coefficient} with {100 * level:g}% interval")
    ax.set_ylabel(group)
    plain_frame(ax)
    return ax
