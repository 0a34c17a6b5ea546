"""Variance of genotypes, of their interaction with environments, and of the error: of a fit or of a table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from fastlmm_core.display.figure_tables import FigureTable
from fastlmm_core.errors import InferenceError
from fastlmm_core.multi_environment.two_way_table import TwoWayTable
from fastlmm_core.results.components.component_rows import CovarianceBlock, covariance_blocks, slope_variances

if TYPE_CHECKING:
    from fastlmm_core.results.fit import LMMFit

GENOTYPE, INTERACTION, HETEROGENEITY, CROSSOVER = (
    "genotype", "interaction", "  heterogeneity of scale", "  lack of correlation",
)  # fmt: skip


@dataclass(frozen=True)
class Share:
    """A variance and its derivative (t,) in the variance parameters."""

    name: str
    value: float
    slope: np.ndarray


def fitted_shares(fit: LMMFit, genotype: str, environment: str) -> FigureTable:
    """component, variance, se, percent of a fit with random genotypes.

    Of a T between m environments the variance of genotypes is the mean covariance, the interaction what the
    mean variance has beyond it: the variance of the standard deviations (heterogeneity of scale) and the rest
    (lack of correlation; Robertson 1959, Cooper & DeLacy 1994, Theor. Appl. Genet. 88:561). Other terms and
    the residual follow, each with its mean variance. `percent` is of all but the two parts.
    """
    shares: dict[str, Share] = {}
    for random, block in zip([*fit.design.random, None], _by_term(fit), strict=True):
        for share in _shares(random, block, genotype, environment):
            old = shares.get(share.name)
            if old is not None:
                share = Share(share.name, old.value + share.value, old.slope + share.slope)
            shares[share.name] = share
    order = [name for name in (GENOTYPE, INTERACTION, HETEROGENEITY, CROSSOVER) if name in shares]
    found = [shares[name] for name in [*order, *(name for name in shares if name not in order)]]
    try:
        variance = slope_variances(fit, np.array([share.slope for share in found]))
    except InferenceError:
        variance = np.full(len(found), np.nan)
    frame = pd.DataFrame(
        {"component": [share.name for share in found], "variance": [share.value for share in found],
         "se": np.sqrt(np.where(variance > 0.0, variance, np.nan))}
    )  # fmt: skip
    return FigureTable(_with_percent(frame), "Variance components (se from average information)")


def _by_term(fit: LMMFit) -> list[CovarianceBlock]:
    """Blocks of the random terms, and one of the residual with the mean of its variances."""
    blocks = covariance_blocks(fit)
    count = len(fit.design.random)
    rest = blocks[count:]
    T = np.mean([np.trace(block.T) / len(block.T) for block in rest])
    slope = np.mean([np.trace(block.slopes, axis1=1, axis2=2) / len(block.T) for block in rest], axis=0)
    return [*blocks[:count], CovarianceBlock("Residual", ["mean"], np.array([[T]]), slope[:, None, None])]


def _shares(random: Any, block: CovarianceBlock, genotype: str, environment: str) -> list[Share]:
    """What the variances of one term are of."""
    m = len(block.T)
    mean = Share(block.group, float(np.trace(block.T)) / m, np.trace(block.slopes, axis1=1, axis2=2) / m)
    if random is None or random.is_spline or genotype not in random.group_variables:
        return [mean]
    variables = set(random.group_variables)
    if variables == {genotype, environment}:
        return [Share(INTERACTION, mean.value, mean.slope)]
    if variables != {genotype}:
        return [mean]
    if m == 1:
        return [Share(GENOTYPE, mean.value, mean.slope)]
    pairs = m * (m - 1)
    main = Share(
        GENOTYPE, float(block.T.sum() - np.trace(block.T)) / pairs,
        (block.slopes.sum(axis=(1, 2)) - np.trace(block.slopes, axis1=1, axis2=2)) / pairs,
    )  # fmt: skip
    interaction = Share(INTERACTION, mean.value - main.value, mean.slope - main.slope)
    sd = block.sd
    own = np.diagonal(block.slopes, axis1=1, axis2=2) / (2.0 * np.where(sd > 0.0, sd, np.inf))
    scale = Share(HETEROGENEITY, float(sd.var(ddof=1)), 2.0 / (m - 1) * own @ (sd - sd.mean()))
    crossing = Share(CROSSOVER, interaction.value - scale.value, interaction.slope - scale.slope)
    return [main, interaction, scale, crossing]


def table_shares(table: TwoWayTable) -> FigureTable:
    """component, variance, percent of a two-way table, genotypes and environments both random.

    From the mean squares of the analysis of variance; estimates can be negative and count as 0 in `percent`.
    """
    g, e = table.means.shape
    genotype = e * table.means.mean(axis=1).var(ddof=1)
    environment = g * table.environment_index.var(ddof=1)
    interaction = float(np.sum(table.interaction**2)) / ((g - 1) * (e - 1))
    known = np.isfinite(table.error_ms)
    rows = {
        GENOTYPE: (genotype - interaction) / e,
        INTERACTION if known else "interaction and error": interaction
        - (table.error_of_mean if known else 0.0),
        "environment": (environment - interaction) / g,
    }
    if known:
        rows["error of a plot" if table.replications != 1.0 else "error of a mean"] = table.error_ms
    frame = pd.DataFrame({"component": list(rows), "variance": list(rows.values())})
    return FigureTable(_with_percent(frame), f"Variance components ({table.source})")


def _with_percent(frame: pd.DataFrame) -> pd.DataFrame:
    """Share of each component in the sum of all but the parts of another, negative ones as 0."""
    value = frame["variance"].clip(lower=0.0)
    part = frame["component"].str.startswith("  ")
    return frame.assign(percent=100.0 * value / value[~part].sum())
