"""Names beside points, moved apart where they would cover each other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes

NEAREST = 7.0  # a name farther from its point is joined to it by a line
# Places tried around a point (points to the right and up), nearest first.
RADII, ANGLES = (NEAREST, 12.0, 18.0, 25.0, 34.0, 45.0), np.pi * np.arange(12) / 6 + 0.3
PLACES = [(radius * np.cos(angle), radius * np.sin(angle)) for radius in RADII for angle in ANGLES]


def write_labels(
    ax: Axes, x: np.ndarray, y: np.ndarray, names: Sequence[str], *, size: float = 8.0, color: str = "black"
) -> None:
    """Write `names` beside the points (x, y), each at the first place that is free of names and of points,
    named or not, else at the last; a thin line joins those that are not beside their own point to it."""
    if len(names) == 0:
        return
    ax.figure.canvas.draw()  # the extents below are those of the laid out figure
    ppi = ax.figure.dpi / 72.0
    points = ax.transData.transform(np.column_stack([x, y]))
    taken: list[tuple[float, float, float, float]] = list(getattr(ax, "_label_boxes", []))
    drawn = [line.get_xydata() for line in ax.lines if line.get_marker() not in ("None", "", " ", None)]
    others = ax.transData.transform(np.vstack([np.column_stack([x, y]), *drawn]))
    taken += [(px - 2 * ppi, py - 2 * ppi, px + 2 * ppi, py + 2 * ppi) for px, py in others]
    for (px, py), own_x, own_y, name in zip(points, x, y, names, strict=True):
        width, height = 0.62 * size * len(name) * ppi, size * 1.1 * ppi
        for dx, dy in PLACES:
            left = px + dx * ppi - (width if dx < 0 else 0.0)
            low = py + dy * ppi - 0.5 * height
            box = (left, low, left + width, low + height)
            if not any(_overlap(box, other) for other in taken):
                break
        taken.append(box)
        far = np.hypot(dx, dy) > NEAREST + 0.5
        joined = {"arrowstyle": "-", "color": color, "linewidth": 0.5, "shrinkA": 0.0, "shrinkB": 2.0}
        ax.annotate(name, (own_x, own_y), xytext=(dx, dy), textcoords="offset points", fontsize=size,
                    color=color, ha="right" if dx < 0 else "left", va="center",
                    arrowprops=joined if far else None)  # fmt: skip
    keep: Any = ax
    keep._label_boxes = taken


def _overlap(a: tuple[float, float, float, float], b: tuple[float, float, float, float]) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]
