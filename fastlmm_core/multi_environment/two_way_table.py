"""The two-way table of means, genotypes by environments, and where it comes from."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from fastlmm_core.design.values.columns import read_column
from fastlmm_core.design.values.labels import label_text
from fastlmm_core.display.displayed import Displayed
from fastlmm_core.display.rendering import Table
from fastlmm_core.errors import DataError, OptionError, name_list, nearest_names

# Which values are the best.
BEST = ("highest", "lowest")
# Interaction and environment index relative to the largest mean, below which they are rounding.
ROUNDING = 1e-13


@dataclass(frozen=True, eq=False, repr=False)
class TwoWayTable(Displayed):
    """Means of every genotype in every environment and their precision.

    Attributes
    ----------
    genotypes, environments : (g,) and (e,) tuples of str
    means : (g, e)
    replications : float
        Plots of a mean, harmonic mean over the cells; 1 where only means are known.
    error_ms, error_df : float
        Variance of a plot (of a mean for 1 replication) and its degrees of freedom; NaN where unknown.
    source : str
        Where the means come from, in words.
    shrunken : bool
        They are predictions, of which tests of means do not hold.
    plots : (g, e) or None
        Plots of every mean, where they are known.
    """

    genotypes: tuple[str, ...]
    environments: tuple[str, ...]
    means: np.ndarray
    replications: float = 1.0
    error_ms: float = np.nan
    error_df: float = np.nan
    source: str = "means as given"
    shrunken: bool = False
    plots: np.ndarray | None = None

    def _shown(self) -> Table:
        g, e = self.means.shape
        frame = self.frame().reset_index(names="genotype")
        kinds = dict.fromkeys(map(str, self.environments), "scale")
        return Table(frame, f"{g} genotypes in {e} environments: {self.source}", kinds=kinds, max_rows=60,
                     all_rows=".frame()")  # fmt: skip

    @property
    def error_of_mean(self) -> float:
        """Error variance of a mean."""
        return self.error_ms / self.replications

    @property
    def environment_index(self) -> np.ndarray:
        """Mean of an environment less the grand mean, (e,); zeros where all are rounding."""
        return self._beyond_rounding(self.means.mean(axis=0) - self.means.mean())

    @property
    def interaction(self) -> np.ndarray:
        """Residuals (g, e) from the additive model: doubly centred means; zeros where all are rounding."""
        centred = self.means - self.means.mean(axis=0)
        return self._beyond_rounding(centred - centred.mean(axis=1, keepdims=True))

    def _beyond_rounding(self, effects: np.ndarray) -> np.ndarray:
        rounding = ROUNDING * np.abs(self.means).max()
        return effects if np.abs(effects).max() > rounding else np.zeros_like(effects)

    @property
    def without_index(self) -> tuple[str, ...]:
        """The note of a table of environments with the same mean."""
        if self.environment_index.any():
            return ()
        return ("The environments have the same mean: there is no regression on it.",)

    def frame(self) -> pd.DataFrame:
        """The means, a row a genotype, a column an environment."""
        return pd.DataFrame(self.means, index=list(self.genotypes), columns=list(self.environments))


def checked(table: TwoWayTable) -> TwoWayTable:
    """The table, where it is complete and large enough.

    Raises
    ------
    DataError
        Naming empty cells, or what there is too little of.
    """
    g, e = table.means.shape
    for count, what in ((g, "genotypes"), (e, "environments")):
        if count < 3:
            raise DataError(f"the table has {count} {what}; interaction is described from 3 on")
    gaps = np.argwhere(~np.isfinite(table.means))
    if gaps.size:
        cells = [f"{table.genotypes[i]} in {table.environments[j]}" for i, j in gaps]
        raise DataError(
            f"{len(gaps)} of {g * e} cells have no mean: {name_list(cells, 4)}; common=True leaves out "
            "these genotypes; or give a fit with fa(0 + env | gen), which predicts them"
        )
    return table


def from_wide(frame: pd.DataFrame) -> TwoWayTable:
    """A table of means with genotypes as its index and environments as its columns."""
    twice = frame.columns[frame.columns.duplicated()]
    if len(twice):
        raise DataError(f"environment {name_list(twice[:1])} has more than one column")
    wrong = [str(name) for name in frame.columns if not _holds_numbers(frame[name])]
    if wrong:
        raise DataError(
            f"columns {name_list(wrong)} hold no numbers; a wide table has genotypes as index and "
            "environments as columns, of a long one name genotype=, environment= and value="
        )
    repeated = frame.index[frame.index.duplicated()]
    if len(repeated):
        raise DataError(f"genotype {name_list(repeated[:1])} has more than one row")
    means = [read_column(str(name), frame[name]).values for name in frame.columns]  # refuses infinite ones
    return TwoWayTable(
        tuple(map(label_text, frame.index)), tuple(map(label_text, frame.columns)),
        np.array(means, float).reshape(frame.shape[::-1]).T.copy(),
    )  # fmt: skip


def from_long(
    frame: pd.DataFrame, genotype: str, environment: str, value: str, block: str | None
) -> TwoWayTable:
    """Cell means of a table of plots or means; the error from within the cells, or beside blocks."""
    names = [genotype, environment, value, *([] if block is None else [block])]
    twice = {name for name in names if names.count(name) > 1}
    if twice:
        words = "genotype, environment, value and block are columns of their own"
        raise OptionError(f"'{min(twice)}' is named twice; {words}")
    for name in names:
        if name not in frame.columns:
            raise DataError(f"there is no column '{name}'{nearest_names(name, frame.columns)}")
    if not _holds_numbers(frame[value]):
        raise DataError(f"column '{value}' holds no numbers")
    known = frame[names].notna().all(axis=1).to_numpy()
    used = frame.loc[known, names]
    genotypes, g = _levels(used[genotype])
    environments, e = _levels(used[environment])
    y = read_column(value, frame[value]).values[known]  # refuses infinite ones
    shape = len(genotypes), len(environments)
    count, total = np.zeros(shape), np.zeros(shape)
    np.add.at(count, (g, e), 1.0)
    np.add.at(total, (g, e), y)
    means = np.divide(total, count, out=np.full(shape, np.nan), where=count > 0)
    if not (count > 1).any():
        return TwoWayTable(genotypes, environments, means, source=f"means of {value}")
    residual, df = y - means[g, e], float(y.size - np.count_nonzero(count))
    if block is not None:
        residual, df = _beside_blocks(used, block, y, (g, e), shape)
    return TwoWayTable(
        genotypes, environments, means, harmonic_mean(count), float(residual @ residual) / df, df,
        f"cell means of {y.size} plots of {value}", plots=count,
    )  # fmt: skip


def harmonic_mean(plots: np.ndarray) -> float:
    """Of the plots (g, e) of the cells that have some."""
    return float(np.count_nonzero(plots) / np.sum(1.0 / plots[plots > 0]))


def _holds_numbers(column: pd.Series) -> bool:
    return pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column)


def _levels(column: pd.Series) -> tuple[tuple[str, ...], np.ndarray]:
    """Labels in their order, those of a categorical in its own, and the code of every row."""
    codes, labels = pd.factorize(column, sort=True)
    return tuple(map(label_text, labels)), codes


def _beside_blocks(
    used: pd.DataFrame,
    block: str,
    y: np.ndarray,
    cells: tuple[np.ndarray, np.ndarray],
    shape: tuple[int, int],
) -> tuple[np.ndarray, float]:
    """Residuals of complete blocks within environments, and their degrees of freedom."""
    blocks, b = _levels(used[block])
    g, e = cells
    plots = np.full((*shape, len(blocks)), np.nan)
    plots[g, e, b] = y
    if y.size != plots.size or not np.isfinite(plots).all():
        raise DataError(
            f"every genotype has to stand once in every '{block}' of every environment; for other designs "
            "fit the model and give the fit"
        )
    residual = (
        plots - plots.mean(axis=2, keepdims=True) - plots.mean(axis=0) + plots.mean(axis=(0, 2))[:, None]
    )
    return residual.ravel(), float(shape[1] * (shape[0] - 1) * (len(blocks) - 1))


def in_all(table: TwoWayTable) -> TwoWayTable:
    """The genotypes with a mean in every environment alone."""
    kept = np.isfinite(table.means).all(axis=1)
    if kept.all():
        return table
    genotypes = tuple(name for name, own in zip(table.genotypes, kept, strict=True) if own)
    words = f"{table.source}; {kept.sum()} of {kept.size} genotypes are in all environments"
    left = replace(table, genotypes=genotypes, means=table.means[kept], source=words)
    if table.plots is None or not kept.any():
        return left
    plots = table.plots[kept]  # the error is pooled over all plots, the replications are of the means left
    return replace(left, plots=plots, replications=harmonic_mean(plots))


def given_error(table: TwoWayTable, **known: float | None) -> TwoWayTable:
    """The table with `replications`, `error_ms` and `error_df` where the caller knows them.

    Raises
    ------
    OptionError
        Where the table has an error of its own and it is another.
    """
    given: dict[str, Any] = {name: float(value) for name, value in known.items() if value is not None}
    for name, value in given.items() if np.isfinite(table.error_ms) else ():
        own = getattr(table, name)
        if not np.isclose(value, own, rtol=1e-3):
            raise OptionError(
                f"{name}={value:g} is for means whose error is not known; these ({table.source}) have "
                f"{name}={own:.6g} of their own"
            )
    return replace(table, **given)
