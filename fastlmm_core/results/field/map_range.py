"""The values that the colours of a map part: one plot far from all others leaves no colours for these."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

FENCE = 3.0  # interquartile ranges from the quartiles: Tukey's "far out" (1977, Exploratory Data Analysis)


@dataclass(frozen=True)
class MapRange:
    """Ends of a colour scale.

    Attributes
    ----------
    low, high : float
    below, above : bool
        There are values beyond; they have the colour of the end.
    """

    low: float
    high: float
    below: bool
    above: bool


def map_range(values: np.ndarray, around_zero: bool) -> MapRange:
    """The range of the values (any shape, NaN where there is none) but those far out.

    `around_zero` makes it symmetric. Without a spread of the inner half, it holds all values.
    """
    seen = values[np.isfinite(values)]
    if not seen.size:
        return MapRange(0.0, 1.0, False, False)
    q1, q3 = np.quantile(seen, [0.25, 0.75])
    fence = FENCE * (q3 - q1)
    inside = seen[(seen >= q1 - fence) & (seen <= q3 + fence)] if fence > 0.0 else seen
    low, high = float(inside.min()), float(inside.max())
    if around_zero:
        high = max(-low, high)
        low = -high
    return MapRange(low, high, bool((seen < low).any()), bool((seen > high).any()))
