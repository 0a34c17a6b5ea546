"""Figures as SVG text: axes, points, maps. Most colours are classes of the style sheet.

Points are one path of strokes without length and round ends: 20 characters a point, whatever their number.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np

# Anchors of a scale of colours from light to dark, as a printer needs them.
SEQUENTIAL = ("#f7fbe8", "#c9e4a6", "#8fd0a0", "#4db5a5", "#2c94a3", "#2a7093", "#304b7c", "#2f2a5c")
SHADES = 33


def spread_colours(anchors: Sequence[str], count: int = SHADES) -> list[str]:
    """`count` colours, linear between the anchors."""
    rgb = np.array([[int(own[i : i + 2], 16) for i in (1, 3, 5)] for own in anchors], float)
    at = np.linspace(0.0, len(anchors) - 1.0, count)
    columns = [np.interp(at, np.arange(len(anchors)), channel) for channel in rgb.T]
    return [f"#{int(r):02x}{int(g):02x}{int(b):02x}" for r, g, b in zip(*columns, strict=True)]


def nice_ticks(low: float, high: float, most: int = 6) -> np.ndarray:
    """Round numbers within an interval, at most so many."""
    width = high - low
    if not np.isfinite(width) or width <= 0.0:
        return np.array([low])
    step = 10.0 ** np.floor(np.log10(width / most))
    step *= next(m for m in (1.0, 2.0, 2.5, 5.0, 10.0, 20.0) if width / (m * step) <= most)
    return np.arange(np.ceil(low / step - 1e-9), np.floor(high / step + 1e-9) + 1.0) * step


def tick_label(value: float) -> str:
    return f"{value + 0.0:.6g}".replace("-", "\N{MINUS SIGN}")


@dataclass(frozen=True)
class Axes:
    """A rectangle of a drawing with the numbers along its sides.

    Attributes
    ----------
    x, y : (low, high)
    left, top, width, height : float
        In units of the drawing.
    """

    x: tuple[float, float]
    y: tuple[float, float]
    left: float = 46.0
    top: float = 8.0
    width: float = 300.0
    height: float = 200.0

    def at(self, x: np.ndarray | float, y: np.ndarray | float) -> tuple[np.ndarray, np.ndarray]:
        """Places in the drawing."""
        across = (np.asarray(x, float) - self.x[0]) / max(self.x[1] - self.x[0], 1e-300)
        up = (np.asarray(y, float) - self.y[0]) / max(self.y[1] - self.y[0], 1e-300)
        return self.left + self.width * across, self.top + self.height * (1.0 - up)

    def frame(self, xlabel: str, ylabel: str, with_x: bool = True) -> str:
        """Lines, ticks and labels of both sides."""
        bottom, parts = self.top + self.height, []
        for value in nice_ticks(*self.y):
            y = float(self.at(self.x[0], value)[1])
            parts.append(f'<path class="grid" d="M{self.left:g} {y:.1f}h{self.width:g}"/>')
            parts.append(text(self.left - 5, y + 3.5, tick_label(float(value)), "tick end"))
        for value in nice_ticks(*self.x) if with_x else ():
            x = float(self.at(value, self.y[0])[0])
            parts.append(text(x, bottom + 13, tick_label(float(value)), "tick mid"))
        parts.append(f'<path class="axis" d="M{self.left:g} {bottom:g}h{self.width:g}"/>')
        middle = self.top + 0.5 * self.height
        parts.append(text(self.left + 0.5 * self.width, bottom + 27, xlabel, "label mid"))
        turned = f'transform="rotate(-90 12 {middle:g})"'
        parts.append(text(12, middle, ylabel, "label mid", turned))
        return "".join(parts)


def text(x: float, y: float, words: str, kind: str, more: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" class="{kind}" {more}>{escape(words)}</text>'


def dots(x: np.ndarray, y: np.ndarray, kind: str = "dots") -> str:
    """Points at places of the drawing."""
    strokes = "".join(f"M{a:.1f} {b:.1f}h0" for a, b in zip(x, y, strict=True))
    return f'<path class="{kind}" d="{strokes}"/>' if strokes else ""


def named_dots(x: np.ndarray, y: np.ndarray, names: Sequence[str], kind: str = "odd") -> str:
    """Points with what is said when the mouse is over them."""
    return "".join(
        f'<circle class="{kind}" cx="{a:.1f}" cy="{b:.1f}" r="3.4"><title>{escape(name)}</title></circle>'
        for a, b, name in zip(x, y, names, strict=True)
    )


def line(x: np.ndarray, y: np.ndarray, kind: str) -> str:
    """A line through places of the drawing."""
    steps = " ".join(f"{a:.1f} {b:.1f}" for a, b in zip(x, y, strict=True))
    return f'<polyline class="{kind}" points="{steps}"/>'


def drawing(width: float, height: float, body: str, label: str, more: str = "") -> str:
    """The whole figure, as wide as there is room."""
    return (
        f'<svg viewBox="0 0 {width:g} {height:g}" role="img" aria-label="{escape(label, quote=True)}" {more}>'
        f"{body}</svg>"
    )


def padded(values: np.ndarray, by: float = 0.05) -> tuple[float, float]:
    """The range of some values with room on both sides."""
    seen = values[np.isfinite(values)]
    if not seen.size:
        return 0.0, 1.0
    low, high = float(seen.min()), float(seen.max())
    room = by * (high - low) or 0.5 * abs(high) or 0.5
    return low - room, high + room
