"""What every figure needs: matplotlib or a clear message, colours, saving."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import DependencyError
from ..gate import public
from ..options import PATH, check, having, whole

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Okabe & Ito's palette: told apart by colour-blind readers too.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
GREY = "#7F7F7F"
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
    """
    figure: Any = getattr(drawing, "figure", None) or drawing
    check("drawing", figure, DRAWING)
    target = Path(path)
    figure.savefig(target, dpi=dpi)
    pyplot().close(figure)
    return target
