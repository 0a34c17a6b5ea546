"""GGE: genotypes plus their interaction, by singular values of the means centred by environment."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from fastlmm_core.display.displayed import Displayed
from fastlmm_core.display.figure_tables import FigureTable
from fastlmm_core.display.frames import titled
from fastlmm_core.display.rendering import Table
from fastlmm_core.errors import DataError, check_option
from fastlmm_core.multi_environment.ammi import percent_of_squares, singular_vectors
from fastlmm_core.multi_environment.two_way_table import BEST, TwoWayTable
from fastlmm_core.results.factor_analytic.biplot import Biplot

SCALES = ("none", "sd")
#: What of a singular value goes to the genotypes, by what the biplot is to show truly.
PARTITIONS = {"genotype": 1.0, "environment": 0.0, "symmetric": 0.5}


@dataclass(frozen=True, eq=False, repr=False)
class GGE(Displayed):
    """The table centred by environment, as a sum of products (Yan & Kang 2003; Yan & Tinker 2006).

    Attributes
    ----------
    table : TwoWayTable
    left, size, right : (g, n), (n,), (e, n)
        Singular vectors and values. Axis 1 has environments on its positive side.
    scale, partition : str
        As ``GxE.gge`` was asked.

    Examples
    --------
    >>> from fastlmm_core import datasets, gxe
    >>> wheat = gxe(datasets.load("winter_wheat"), "gen", "env", "yield")
    >>> wheat.gge(scale="sd").scale
    'sd'
    """

    table: TwoWayTable
    left: np.ndarray
    size: np.ndarray
    right: np.ndarray
    scale: str
    partition: str

    @property
    def percent(self) -> np.ndarray:
        """Share of the sum of squares of genotypes and interaction, (n,)."""
        return percent_of_squares(self.size)

    @property
    def biplot(self) -> Biplot:
        """Coordinates for ``plot_biplot``."""
        part = PARTITIONS[self.partition]
        return Biplot(
            self.table.genotypes, self.table.environments, self.left * self.size**part,
            self.right * self.size ** (1.0 - part), self.percent, "PC", "GGE biplot",
        )  # fmt: skip

    def with_axes(self, frame: pd.DataFrame, scores: np.ndarray) -> pd.DataFrame:
        """The frame (r rows) with coordinates (r, k) on the first two axes, PC1 and PC2.

        Parameters
        ----------
        frame : DataFrame (r rows)
            Of genotypes or environments, in the order of the scores.
        scores : (r, k) float64
            A column for each axis, such as ``biplot.column_scores`` of the environments.

        Returns
        -------
        DataFrame
            The columns of the frame, PC1 and, of two axes or more, PC2.

        Examples
        --------
        >>> from fastlmm_core import datasets, gxe
        >>> wheat = gxe(datasets.load("winter_wheat"), "gen", "env", "yield").gge()
        >>> wheat.with_axes(wheat.environments(), wheat.biplot.column_scores).columns.tolist()[-2:]
        ['PC1', 'PC2']
        """
        names = [f"PC{i + 1}" for i in range(min(2, scores.shape[1]))]
        return pd.concat([frame, pd.DataFrame(scores[:, : len(names)], columns=names)], axis=1)

    @titled("Who wins where")
    def winners(self, axes: int = 2, best: str = "highest") -> pd.DataFrame:
        """environment, genotype: which won where, by the first axes; the lowest wins where that is best.

        Examples
        --------
        >>> from fastlmm_core import datasets, gxe
        >>> wheat = gxe(datasets.load("winter_wheat"), "gen", "env", "yield")
        >>> wheat.gge().winners()["genotype"].tolist()
        ['Fun', 'Fun', 'Fun', 'Fun', 'Zav', 'Fun', 'Zav', 'Fun', 'Fun']
        """
        fitted = (self.left[:, :axes] * self.size[:axes]) @ self.right[:, :axes].T
        highest = check_option("best", best, BEST) == "highest"
        places = (fitted if highest else -fitted).argmax(axis=0)
        return pd.DataFrame(
            {"environment": self.table.environments, "genotype": [self.table.genotypes[i] for i in places]}
        )

    @titled("Ranking on the axis of the average environment")
    def ranking(self, best: str = "highest") -> pd.DataFrame:
        """genotype, performance, instability, rank on the axis of the average environment (Yan 2001).

        Projections on the direction of the mean environment vector of two axes, and the length across it, in
        the units of the table where it is not scaled. Rank 1 has the highest performance, or the lowest.

        Examples
        --------
        >>> from fastlmm_core import datasets, gxe
        >>> wheat = gxe(datasets.load("winter_wheat"), "gen", "env", "yield")
        >>> wheat.gge().ranking().nsmallest(2, "rank")["genotype"].tolist()
        ['Fun', 'Cas']
        """
        lowest = check_option("best", best, BEST) == "lowest"
        scores = self.left[:, :2] * self.size[:2]
        mean = self.right[:, :2].mean(axis=0)
        length = float(np.linalg.norm(mean))
        along = scores @ mean
        across = (scores @ np.array([-mean[1], mean[0]])) / length
        return pd.DataFrame(
            {"genotype": self.table.genotypes, "performance": along, "instability": np.abs(across),
             "rank": pd.Series(along).rank(ascending=lowest, method="min").astype(int)}
        )  # fmt: skip

    @titled("Environments")
    def environments(self) -> pd.DataFrame:
        """environment, length, cosine: how far it tells genotypes apart, and how typical it is.

        Length of its vector in two axes (environment-metric, per genotype), and cosine of its angle to the
        average environment.

        Examples
        --------
        >>> from fastlmm_core import datasets, gxe
        >>> wheat = gxe(datasets.load("winter_wheat"), "gen", "env", "yield")
        >>> wheat.gge().environments().columns.tolist()
        ['environment', 'length', 'cosine']
        """
        vectors = self.right[:, :2] * self.size[:2] / np.sqrt(len(self.left) - 1)
        mean = vectors.mean(axis=0)
        length = np.linalg.norm(vectors, axis=1)
        with np.errstate(divide="ignore", invalid="ignore"):
            cosine = vectors @ mean / (length * np.linalg.norm(mean))
        return pd.DataFrame({"environment": self.table.environments, "length": length, "cosine": cosine})

    def axes(self) -> FigureTable:
        """axis, ss, percent, cumulative.

        Examples
        --------
        >>> from fastlmm_core import datasets, gxe
        >>> wheat = gxe(datasets.load("winter_wheat"), "gen", "env", "yield")
        >>> wheat.gge().axes().to_frame()["axis"].tolist()[:2]
        ['PC1', 'PC2']
        """
        frame = pd.DataFrame(
            {"axis": [f"PC{i + 1}" for i in range(self.size.size)], "ss": self.size**2,
             "percent": self.percent, "cumulative": np.cumsum(self.percent)}
        )  # fmt: skip
        return FigureTable(frame, "Axes of genotypes and interaction (GGE)")

    def _shown(self) -> Table:
        return self.axes()._shown()


def gge(table: TwoWayTable, scale: str, partition: str) -> GGE:
    """See ``GxE.gge``."""
    centred = table.means - table.means.mean(axis=0)
    if scale == "sd":
        sd = centred.std(axis=0, ddof=1)
        if not (sd > 0.0).all():
            flat = table.environments[int(np.argmin(sd))]
            raise DataError(f"all genotypes have the same mean in '{flat}': it has no sd to scale by")
        centred = centred / sd
    left, size, right = singular_vectors(centred, min(len(centred) - 1, centred.shape[1]))
    sign = np.where(right.sum(axis=0) < 0.0, -1.0, 1.0)
    return GGE(table, left * sign, size, right * sign, scale, partition)
