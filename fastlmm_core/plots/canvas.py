"""What every figure needs: matplotlib or a clear message, colours, saving."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fastlmm_core.display.colours import DIVERGING, SIDES
from fastlmm_core.errors import DependencyError
from fastlmm_core.gate import public
from fastlmm_core.options import PATH, check, having, whole
from fastlmm_core.results.field.map_range import map_range

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Okabe & Ito's palette: told apart by colour-blind readers too.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
GREY = "#7F7F7F"
MOST_TICKS = 12  # along a side of a map
DRAWING = having("Axes or a Figure of matplotlib", "savefig")


def pyplot() -> Any:
    """matplotlib.pyplot, which falls back to Agg where there is no display.

    Raises
    ------
    DependencyError
        When matplotlib is missing.
    """
    try:
        import matplotlib.pyplot as plt
    except ImportError as err:
        raise DependencyError("figures need matplotlib: pip install 'fastlmm_core[plots]'") from err
    return plt


def own_axes(ax: Axes | None, width: float = 6.4, height: float = 4.2) -> Axes:
    """`ax`, or the axes of a new figure (inches)."""
    if ax is not None:
        return ax
    return pyplot().subplots(figsize=(width, height), layout="constrained")[1]


def plain_frame(ax: Axes) -> None:
    """Take away the upper and right spine."""
    ax.spines[["top", "right"]].set_visible(False)


def legend_beside(ax: Axes, title: str = "", **options: Any) -> None:
    """The legend to the right of the axes, where it covers no figure."""
    ax.legend(title=title or None, frameon=False, loc="upper left", bbox_to_anchor=(1.0, 1.0), **options)


def draw_map(
    ax: Axes, values: np.ndarray, rows: Any, columns: Any, label: str, around_zero: bool = True
) -> None:
    """Values (R, C) as a map with the first row on top; NaN stays white.

    `around_zero` takes colours that part at zero, symmetric to both sides. Values far from all others have
    the colour of the end of the scale, which is pointed there.
    """
    ends = map_range(values, around_zero)
    shades: dict[str, Any] = {"cmap": parted_at_zero() if around_zero else "viridis"}
    if ends.high > ends.low:
        shades |= {"vmin": ends.low, "vmax": ends.high}
    elif around_zero:
        shades |= {"vmin": -1.0, "vmax": 1.0}
    image = ax.imshow(values, aspect="auto", interpolation="none", **shades)
    pointed = {(False, False): "neither", (True, False): "min", (False, True): "max", (True, True): "both"}
    label = f"{label} ({SIDES})" if around_zero else label
    ax.figure.colorbar(image, ax=ax, label=label, extend=pointed[ends.below, ends.above])
    label_positions(ax.xaxis, columns)
    label_positions(ax.yaxis, rows)


def parted_at_zero() -> Any:
    """The colours of reports as a colormap."""
    pyplot()  # or a clear message
    from matplotlib.colors import LinearSegmentedColormap

    return LinearSegmentedColormap.from_list("parted_at_zero", DIVERGING)


def label_positions(axis: Any, labels: Any) -> None:
    """Labels of positions 0, 1, ... along an axis, as many as there is room for."""
    places = range(0, len(labels), 1 + (len(labels) - 1) // MOST_TICKS)
    axis.set_ticks(places, [str(labels[i]) for i in places])


@public(path=PATH, dpi=whole(1))
def save(drawing: Axes | Figure, path: str | Path, dpi: int = 150) -> Path:
    """Write the figure of an Axes or Figure to a file and close it.

    Parameters
    ----------
    drawing : Axes or Figure
    path : path
        The suffix decides the format.
    dpi : int
        Dots per inch.

    Returns
    -------
    Path
        The file written.

    Examples
    --------
    >>> from fastlmm_core import datasets, lmm, plots
    >>> fit = lmm("Yield ~ 1 + (1|Batch)", datasets.load("dyestuff"))
    >>> plots.save(plots.plot_blups(fit), "batches.svg").name
    'batches.svg'
    """
    figure: Any = getattr(drawing, "figure", None) or drawing
    check("drawing", figure, DRAWING)
    target = Path(path)
    figure.savefig(target, dpi=dpi)
    pyplot().close(figure)
    return target
