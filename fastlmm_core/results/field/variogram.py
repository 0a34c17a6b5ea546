"""Sample variogram of residuals over a field (Gilmour, Cullis & Verbyla 1997)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from fastlmm_core.results.field.layout import FieldLayout


@dataclass(frozen=True)
class Variogram:
    """Half the mean squared difference of two plots, by their displacement.

    Attributes
    ----------
    semivariance : (R, C) float64
        At |row - row'| = i, |column - column'| = j; NaN where there is no pair, 0 at i = j = 0.
    pairs : (R, C) int64
    """

    semivariance: np.ndarray
    pairs: np.ndarray


def sample_variogram(grid: np.ndarray) -> Variogram:
    """v_ij = mean of (e - e')^2 / 2 over the pairs of plots i rows and j columns apart.

    Parameters
    ----------
    grid : (R, C) float64
        Residuals of a field, NaN where there is none.

    References
    ----------
    Gilmour, Cullis & Verbyla (1997), J. Agric. Biol. Environ. Stat. 2, 269-293, section 3.
    """
    R, C = grid.shape
    total, pairs = np.zeros((R, C)), np.zeros((R, C), dtype=np.int64)
    for i in range(R):
        upper, lower = grid[: R - i], grid[i:]
        for j in range(C):
            # to the right, and to the left where that is another direction
            for a, b in ((upper[:, : C - j], lower[:, j:]), (upper[:, j:], lower[:, : C - j]))[
                : 1 + (i * j > 0)
            ]:
                half = 0.5 * (a - b) ** 2
                seen = np.isfinite(half)
                total[i, j] += half[seen].sum()
                pairs[i, j] += np.count_nonzero(seen)
    with np.errstate(invalid="ignore", divide="ignore"):
        return Variogram(np.where(pairs > 0, total / pairs, np.nan), pairs)


def variogram_table(layout: FieldLayout, residuals: np.ndarray) -> pd.DataFrame:
    """Columns: the trials' name (where there are several), row_lag, column_lag, semivariance, pairs."""
    frames = []
    for label, rows in layout.fields:
        own = sample_variogram(layout.grid(residuals, rows))
        i, j = np.nonzero(own.pairs)
        frame = pd.DataFrame({"row_lag": i, "column_lag": j, "semivariance": own.semivariance[i, j],
                              "pairs": own.pairs[i, j]})  # fmt: skip
        if layout.by is not None:
            frame.insert(0, layout.by.name, label)
        frames.append(frame)
    return pd.concat(frames, ignore_index=True)
