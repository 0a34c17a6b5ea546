"""Variance of genotypes, of their interaction with environments, and of the error: of a fit or of a table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from fastlmm_core.display.figure_tables import FigureTable
from fastlmm_core.engine.solution import StructuredSolution
from fastlmm_core.errors import InferenceError, name_list
from fastlmm_core.formula.functions import names_read
from fastlmm_core.multi_environment.fitted_means import level_labels, with_numbers
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

    Of the covariance T of a genotype's effects in m environments, by all its terms together, the variance
    of genotypes is the mean covariance, the interaction what the mean variance has beyond it. Where variances
    may differ it is split into the variance of the standard deviations (heterogeneity of scale) and the rest
    (lack of correlation; Robertson 1959, Cooper & DeLacy 1994, Theor. Appl. Genet. 88:561). Other terms and
    the residual follow, each with its variance in the mean of the plots; among them ``(1 | gen:ar1(env))``,
    whose environments are correlated. Effects of related levels have the component times A_ii, of which the
    mean over the plots counts: the scale of a G, and inbreeding, would decide otherwise. `percent` is of all
    but the two parts, and of splines, whose variances are smoothing parameters.
    """
    blocks, means = _by_term(fit), _mean_diagonals(fit)
    found = _genotype_shares(fit, blocks, means, genotype, environment)
    shares: dict[str, Share] = {}
    for k, (random, block) in enumerate(zip([*fit.design.random, None], blocks, strict=True)):
        if random is not None and random.is_spline:
            continue
        if random is None or not _is_of(random, genotype, environment):
            share = _mean_share(random, block, means[k])
            old = shares.get(share.name)
            if old is not None:
                share = Share(share.name, old.value + share.value, old.slope + share.slope)
            shares[share.name] = share
    found += shares.values()
    try:
        variance = slope_variances(fit, np.array([share.slope for share in found]))
    except InferenceError:
        variance = np.full(len(found), np.nan)
    frame = pd.DataFrame(
        {"component": [share.name for share in found], "variance": [share.value for share in found],
         "se": np.sqrt(np.where(variance > 0.0, variance, np.nan))}
    )  # fmt: skip
    splines = list(dict.fromkeys(random.label for random in fit.design.random if random.is_spline))
    notes = [f"{name_list(splines)}: left out, smoothing is no variance of plots."] if splines else []
    notes += dict.fromkeys(
        f"'{random.group}': the component times {mean:.4g}, the mean over plots of the diagonal of A."
        for random, mean in zip(fit.design.random, means, strict=False) if abs(mean - 1.0) > 1e-9
    )  # fmt: skip
    title = "Variance components (se from average information)"
    return FigureTable(_with_percent(frame), title, tuple(notes))


def _by_term(fit: LMMFit) -> list[CovarianceBlock]:
    """Blocks of the random terms, and one of the residual with the mean of its variances."""
    blocks = covariance_blocks(fit, as_shown=False)
    count = len(fit.design.random)
    rest = blocks[count:]
    T = np.mean([np.trace(block.T) / len(block.T) for block in rest])
    slope = np.mean([np.trace(block.slopes, axis1=1, axis2=2) / len(block.T) for block in rest], axis=0)
    return [*blocks[:count], CovarianceBlock("Residual", ["mean"], np.array([[T]]), slope[:, None, None])]


def _mean_diagonals(fit: LMMFit) -> list[float]:
    """Mean over the plots of A_ii, by random term and of the residual: 1 for levels that are not related."""
    means = [1.0] * (len(fit.design.random) + 1)
    if isinstance(fit.solved, StructuredSolution):
        for k, random in enumerate(fit.design.random):
            if not random.is_spline:
                own, places = fit.solved.level_variance(k), [codes for codes, _ in random.layers]
                means[k] = float(np.mean(np.concatenate([own[codes[codes >= 0]] for codes in places])))
    return means


def _mean_share(random: Any, block: CovarianceBlock, mean: float) -> Share:
    """The variance of a term that is not of the genotypes, or of the residual, in the mean of the plots."""
    if random is None:
        return Share(block.group, float(block.T[0, 0]), block.slopes[:, 0, 0])
    name = block.group
    if random.at is not None:
        name = random.label
        if random.columns == ("(Intercept)",):
            name = name.removeprefix("(1 | ").removesuffix(")")
    z = np.asarray(random.values, float) * (random.codes >= 0)[:, None]
    weights = mean * (z.T @ z) / len(z)
    return Share(name, float(np.sum(block.T * weights)), np.einsum("tij,ij->t", block.slopes, weights))


def _is_of(random: Any, genotype: str, environment: str) -> bool:
    """Whether a term is of genotypes, or of these in environments as levels without a correlation."""
    variables = () if random.is_spline else random.group_variables
    if genotype not in variables or not set(variables) <= {genotype, environment}:
        return False
    related = () if random.relation is None else zip(random.relation.factors, random.axes, strict=True)
    return all(own.kind == "id" or environment not in names_read(axis.nodes) for own, axis in related)


def _genotype_shares(
    fit: LMMFit, blocks: list[CovarianceBlock], means: list[float], genotype: str, environment: str
) -> list[Share]:
    """Those of T, the sum of a_k W T_k W' with W (m, c) the coefficients' values in the environments.

    a_k is the mean of A_ii over the plots.
    """
    environments = level_labels(fit, environment)
    m = len(environments)
    cells = {genotype: level_labels(fit, genotype)[:1] * m, environment: environments}
    grid = with_numbers(fit, pd.DataFrame(cells))
    T, slopes = np.zeros((m, m)), np.zeros((len(blocks[0].slopes), m, m))
    main = split = apart = False
    for random, block, mean in zip(fit.design.random, blocks[:-1], means[:-1], strict=True):
        if not _is_of(random, genotype, environment):
            continue
        W = np.sum([values for _, values in random.evaluate_layers(grid)], axis=0)
        across = environment not in random.group_variables  # else an effect of its own in every environment
        same = mean * (np.ones((m, m)) if across else np.eye(m))
        T += (W @ block.T @ W.T) * same
        slopes += (W @ block.slopes @ W.T) * same
        main, apart = main or across, apart or not across
        split = split or len(random.columns) > 1 or random.at is not None
    off = (np.ones((m, m)) - np.eye(m)) / (m * (m - 1))
    value, slope = float(np.sum(T * off)), np.einsum("tij,ij->t", slopes, off)
    mean, mean_slope = float(np.trace(T)) / m, np.trace(slopes, axis1=1, axis2=2) / m
    out = [Share(GENOTYPE, value, slope)] if main else []
    interaction = Share(INTERACTION, mean - value, mean_slope - slope)
    out += [interaction] if apart or split else []
    if split:
        sd = np.sqrt(np.diag(T))
        own = np.diagonal(slopes, axis1=1, axis2=2) / (2.0 * np.where(sd > 0.0, sd, np.inf))
        scale = Share(HETEROGENEITY, float(sd.var(ddof=1)), 2.0 / (m - 1) * own @ (sd - sd.mean()))
        out += [scale, Share(CROSSOVER, interaction.value - scale.value, interaction.slope - scale.slope)]
    return out


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
