"""AMMI: additive main effects, multiplicative interaction by singular values."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from fastlmm_core.display.displayed import Displayed
from fastlmm_core.display.figure_tables import FigureTable
from fastlmm_core.display.frames import titled
from fastlmm_core.display.rendering import Table
from fastlmm_core.errors import OptionError, check_option
from fastlmm_core.multi_environment.two_way_table import BEST, TwoWayTable
from fastlmm_core.multiplicity.distributions import f_upper
from fastlmm_core.results.factor_analytic.biplot import Biplot

# Singular values below this part of the largest are rounding.
ROUNDING = 1e-12


@dataclass(frozen=True, eq=False, repr=False)
class AMMI(Displayed):
    """The interaction of a two-way table as a sum of products (Gauch 1988, Zobel, Wright & Gauch 1988).

    Attributes
    ----------
    table : TwoWayTable
    left, size, right : (g, n), (n,), (e, n)
        Singular vectors and values of the interaction residuals, n = min(g, e) - 1. The largest entry of
        a genotype vector is positive.
    k : int
        Axes of ``fitted`` and of what is printed.

    Examples
    --------
    >>> from fastlmm_core import datasets, gxe
    >>> wheat = gxe(datasets.load("winter_wheat"), "gen", "env", "yield")
    >>> print(wheat.ammi(2).genotype_scores.head(2))
    Scores of genotypes
     genotype   mean    IPCA1    IPCA2
     Ann       3.999  -0.3767   0.1277
     Ari       4.304  -0.2155  -0.2851
    """

    table: TwoWayTable
    left: np.ndarray
    size: np.ndarray
    right: np.ndarray
    k: int

    @property
    def percent(self) -> np.ndarray:
        """Share of the interaction sum of squares, (n,); NaN of a table that is additive."""
        return percent_of_squares(self.size)

    @property
    @titled("Scores of genotypes")
    def genotype_scores(self) -> pd.DataFrame:
        """genotype, mean, IPCA1, ..., IPCAk: left vectors times the roots of the singular values."""
        names = [f"IPCA{n + 1}" for n in range(self.k)]
        scores = (self.left * np.sqrt(self.size))[:, : self.k]
        head = {"genotype": self.table.genotypes, "mean": self.table.means.mean(axis=1)}
        return pd.concat([pd.DataFrame(head), pd.DataFrame(scores, columns=names)], axis=1)

    @property
    @titled("Scores of environments")
    def environment_scores(self) -> pd.DataFrame:
        """environment, mean, IPCA1, ..., IPCAk."""
        names = [f"IPCA{n + 1}" for n in range(self.k)]
        scores = (self.right * np.sqrt(self.size))[:, : self.k]
        head = {"environment": self.table.environments, "mean": self.table.means.mean(axis=0)}
        return pd.concat([pd.DataFrame(head), pd.DataFrame(scores, columns=names)], axis=1)

    @cached_property
    def anova(self) -> FigureTable:
        """axis, df, ss, ms, F, p, percent, cumulative on the scale of a plot; the rest after k axes last.

        Degrees of freedom g + e - 1 - 2 n of axis n and its F against the error (Gollob 1968, Psychometrika
        33:73). The F of an axis is too liberal; that of the rest after k axes, on (g - 1 - k)(e - 1 - k) df,
        is the test whether more are needed (Cornelius, Seyedsadr & Crossa 1992, Theor. Appl. Genet. 84:161).
        """
        g, e = self.table.means.shape
        n = np.arange(1, self.size.size + 1)
        df = (g + e - 1 - 2 * n).astype(float)
        ss = self.table.replications * self.size**2
        names = [f"IPCA{i}" for i in n]
        if self.k < n.size:
            names.append(f"rest after {self.k}")
            df = np.append(df, (g - 1 - self.k) * (e - 1 - self.k))
            ss = np.append(ss, ss[self.k :].sum())
        ms = ss / df
        F = ms / self.table.error_ms
        error_df = self.table.error_df
        p = [
            f_upper(v, d, error_df) if np.isfinite(v * error_df) else np.nan
            for v, d in zip(F, df, strict=True)
        ]
        percent = np.append(self.percent, np.full(F.size - n.size, 100.0 - self.percent[: self.k].sum()))
        cumulative = np.append(np.cumsum(self.percent), np.full(F.size - n.size, np.nan))
        frame = pd.DataFrame(
            {"axis": names, "df": df, "ss": ss, "ms": ms, "F": F, "p": p, "percent": percent,
             "cumulative": cumulative}
        )  # fmt: skip
        notes = () if np.isfinite(self.table.error_ms) else ("No error is known: axes have no test.",)
        return FigureTable(frame, "Axes of the interaction (AMMI)", notes)

    @titled("Means of the AMMI model")
    def fitted(self, k: int | None = None) -> pd.DataFrame:
        """Means (g, e) of the AMMI model with k axes.

        Examples
        --------
        >>> from fastlmm_core import datasets, gxe
        >>> wheat = gxe(datasets.load("winter_wheat"), "gen", "env", "yield")
        >>> wheat.ammi(2).fitted().shape
        (18, 9)
        """
        k = self.k if k is None else int(k)
        additive = self.table.means - self.table.interaction
        values = additive + (self.left[:, :k] * self.size[:k]) @ self.right[:, :k].T
        return pd.DataFrame(values, index=list(self.table.genotypes), columns=list(self.table.environments))

    @titled("Who wins where")
    def winners(self, k: int | None = None, best: str = "highest") -> pd.DataFrame:
        """environment, genotype, fitted: which has the highest, or lowest, mean of the model where.

        Examples
        --------
        >>> from fastlmm_core import datasets, gxe
        >>> wheat = gxe(datasets.load("winter_wheat"), "gen", "env", "yield")
        >>> print(wheat.ammi(2).winners().head(2))
        Who wins where
         environment  genotype  fitted
         BH93         Dia        5.201
         EA93         Fun        4.894
        """
        fitted = self.fitted(k)
        highest = check_option("best", best, BEST) == "highest"
        places = (fitted if highest else -fitted).to_numpy().argmax(axis=0)
        return pd.DataFrame(
            {
                "environment": list(fitted.columns),
                "genotype": [fitted.index[i] for i in places],
                "fitted": fitted.to_numpy()[places, np.arange(places.size)],
            }
        )

    @property
    def biplot(self) -> Biplot:
        """Coordinates for ``plot_biplot``."""
        root = np.sqrt(self.size)
        return Biplot(
            self.table.genotypes, self.table.environments, self.left * root, self.right * root, self.percent,
            "IPCA", "AMMI biplot",
        )  # fmt: skip

    def _shown(self) -> Table:
        return self.anova._shown()


def ammi(table: TwoWayTable, k: int, option: str = "k") -> AMMI:
    """See ``GxE.ammi``; `option` is what the caller calls k."""
    most = min(table.means.shape) - 1
    if not 1 <= k <= most:
        size_words = f"{len(table.means)} x {table.means.shape[1]} means"
        raise OptionError(f"{option}={k} may be 1 to {most} for {size_words}")
    left, size, right = singular_vectors(table.interaction, most)
    return AMMI(table, left, size, right, k)


def percent_of_squares(size: np.ndarray) -> np.ndarray:
    """Shares (n,) of singular values in the sum of squares; NaN where all are zero."""
    with np.errstate(invalid="ignore"):
        return np.asarray(100.0 * size**2 / np.sum(size**2))


def singular_vectors(matrix: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The n largest, (g, n), (n,), (e, n); the largest entry of each left vector is positive."""
    left, size, right = np.linalg.svd(matrix, full_matrices=False)
    left, size, right = left[:, :n], size[:n], right[:n].T
    size = np.where(size > ROUNDING * max(size[0], np.finfo(float).tiny), size, 0.0)
    sign = np.sign(left[np.abs(left).argmax(axis=0), np.arange(left.shape[1])])
    return left * sign, size, right * sign
