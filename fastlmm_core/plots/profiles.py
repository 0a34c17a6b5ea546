"""Profiles of parameters: how straight zeta is says how good a symmetric interval would be."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fastlmm_core.errors import DataError, nearest_names
from fastlmm_core.gate import public
from fastlmm_core.intervals.profile import normal_height
from fastlmm_core.options import LEVEL, NAMES, having, optional
from fastlmm_core.plots.canvas import COLOURS, GREY, plain_frame, pyplot

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.figure import Figure

    from fastlmm_core.intervals.profile import Profile


@public(profile=having("a profile of a fit", "points", "conf_int"), parameters=optional(NAMES), level=LEVEL)
def plot_profile(
    profile: Profile, parameters: str | Sequence[str] | None = None, *, level: float = 0.95
) -> Figure:
    """Signed root of the rise of the deviance over every parameter, with the interval.

    A straight line belongs to a likelihood that is normal in the parameter; where the curve ends above the
    lower line the bound of the parameter is inside the interval.

    Parameters
    ----------
    profile : Profile
        Of ``fit.profile()``.
    parameters : str or list of str, optional
        Default all.
    level : float
        Of the intervals.

    Returns
    -------
    Figure

    Raises
    ------
    DataError
        For a parameter that was not profiled.

    Examples
    --------
    >>> from fastlmm_core import datasets, lmm, plots
    >>> fit = lmm("Yield ~ 1 + (1|Batch)", datasets.load("dyestuff"))
    >>> figure = plots.plot_profile(fit.profile("sigma"))
    """
    intervals = profile.conf_int(level).set_index("parameter")
    points = profile.points  # with those that the intervals have added
    wanted = list(profile.names) if parameters is None else np.atleast_1d(parameters).tolist()
    for name in wanted:
        if name not in profile.names:
            raise DataError(f"'{name}' was not profiled{nearest_names(name, profile.names)}")
    columns = min(3, len(wanted))
    rows = -(-len(wanted) // columns)
    figure, axes = pyplot().subplots(
        rows, columns, figsize=(3.2 * columns, 2.6 * rows), layout="constrained", squeeze=False, sharey=True
    )
    height = normal_height(level)
    for ax, name in zip(axes.flat, wanted, strict=False):
        own = points[points["parameter"] == name]
        ax.axhline(0.0, color=GREY, linewidth=0.8)
        for side in (-height, height):
            ax.axhline(side, color=GREY, linewidth=0.8, linestyle=":")
        ax.plot(own["value"], own["zeta"], "o", color=COLOURS[0], markersize=3)
        ax.plot(*smooth(own["value"].to_numpy(), own["zeta"].to_numpy()), color=COLOURS[0], linewidth=1.2)
        limits = intervals.loc[name, ["lower", "upper"]].to_numpy(float)
        for limit in limits[np.isfinite(limits)]:
            ax.axvline(limit, color=COLOURS[1], linewidth=1.0, linestyle="--")
        ax.set_title(name, fontsize="small")
        plain_frame(ax)
    for ax in axes.flat[len(wanted) :]:
        ax.set_visible(False)
    figure.supylabel("zeta")
    return figure


def smooth(value: np.ndarray, zeta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A monotone curve through the points of a profile."""
    from scipy.interpolate import PchipInterpolator

    rising = np.append(True, np.diff(zeta) > 0.0)
    if rising.sum() < 2:
        return value, zeta
    fine = np.linspace(zeta[rising][0], zeta[rising][-1], 200)
    return PchipInterpolator(zeta[rising], value[rising])(fine), fine
