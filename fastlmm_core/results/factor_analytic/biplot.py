"""Coordinates of a biplot: rows and columns of a matrix of low rank, and what their positions say."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fastlmm_core.display.displayed import Displayed


@dataclass(frozen=True, eq=False, repr=False)
class Biplot(Displayed):
    """Scores of rows and columns whose inner products approximate a matrix (Gabriel 1971).

    Attributes
    ----------
    rows, columns : (g,) and (e,) tuples of str
        Genotypes and environments.
    row_scores, column_scores : (g, k) and (e, k)
    percent : (k,)
        Of the sum of squares, or of the variance, on each axis.
    axis : str
        What an axis is called: ``"PC"``, ``"IPCA"``, ``"factor "``.
    title : str
    """

    rows: tuple[str, ...]
    columns: tuple[str, ...]
    row_scores: np.ndarray
    column_scores: np.ndarray
    percent: np.ndarray
    axis: str
    title: str

    def _shown(self) -> str:
        axes = ", ".join(self.label(n + 1) for n in range(min(2, len(self.percent))))
        return f"{self.title}: {len(self.rows)} genotypes, {len(self.columns)} environments; {axes}"

    def label(self, axis: int) -> str:
        """Label of axis 1, 2, ..."""
        return f"{self.axis}{axis} ({self.percent[axis - 1]:.1f}%)"


def convex_hull(points: np.ndarray) -> np.ndarray:
    """Corners (h,) of the smallest convex polygon around points (n, 2), anticlockwise (monotone chain)."""
    order = np.lexsort((points[:, 1], points[:, 0]))

    def half(places: np.ndarray) -> list[int]:
        chain: list[int] = []
        for i in places:
            while len(chain) > 1 and _turn(points[chain[-2]], points[chain[-1]], points[i]) <= 0.0:
                chain.pop()
            chain.append(int(i))
        return chain[:-1]

    if len(points) < 3:
        return order
    return np.array(half(order) + half(order[::-1]))


def _turn(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> float:
    """Positive where a, b, c turn left."""
    return float((b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0]))
