"""Two-way means of a batch: those of its trials, and what is known of their errors."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from fastlmm_core.errors import DataError, OptionError, name_list, nearest_names, nothing_of
from fastlmm_core.inference.heritability import half_difference
from fastlmm_core.means.table_labels import joined_labels
from fastlmm_core.multi_environment.two_way_table import TwoWayTable

if TYPE_CHECKING:
    from fastlmm_core.batch.result import BatchResult

BETWEEN = " "
# Error variances, relative to that of other trials, that are rounding of a trial without error.
ROUNDING = 1e-12


def from_batch(
    batch: BatchResult, genotype: str, environment: str | None, trait: str | None
) -> TwoWayTable:  # fmt: skip
    """Means of every genotype in every trial: its BLUEs (``genotypes=``), or marginal means (``emmeans=``).

    The error of a mean is half the mean variance of a difference, over all trials that know one; its degrees
    of freedom are those of Satterthwaite for a mean of independent estimates, (sum v)^2 / sum (v^2 / df). The
    source says which trials do not: those whose plots leave no error.

    Raises
    ------
    OptionError
        When the batch has no means of that factor, several traits, or no such key.
    DataError
        When no trial gave means, or several stand for one environment.
    """
    means, name = _means(batch, genotype), _trait(batch, trait)
    means = means[means["trait"].astype(str) == name]
    keys = _keys(batch, environment)
    if not len(means):
        raise nothing_of("means")
    labels = joined_labels(means[keys], BETWEEN) if keys else np.full(len(means), "", dtype=object)
    y = means["estimate"].to_numpy(float)
    title = means.columns[list(means.columns).index("estimate") - 1]  # "se_level" of genotypes called "se"
    cells = pd.DataFrame({"g": means[title].astype(str).to_numpy(), "e": labels, "y": y})
    kept = means.loc[np.isfinite(y), keys]
    cells = cells[np.isfinite(y)]
    if not len(cells):
        raise nothing_of("means")
    twice = cells[cells.duplicated(["g", "e"])]
    if len(twice):
        own = twice.iloc[0]
        raise DataError(
            f"'{own['g']}' has several means in '{own['e']}'; a trial is named by {name_list(batch.plan.by)}"
        )
    wide = cells.pivot(index="g", columns="e", values="y")
    variance, df, without = _error(batch, genotype, name, kept)
    source = f"means of {name} in the trials of the batch"
    if without:
        source += f"; error without {name_list(without)}, whose plots leave none"
    return TwoWayTable(
        tuple(wide.index), tuple(wide.columns), wide.to_numpy(float), 1.0, variance, df,
        source,
    )  # fmt: skip


def _means(batch: BatchResult, genotype: str) -> pd.DataFrame:
    """The table with a mean for every genotype of every trial."""
    plan = batch.plan
    if _of_genotypes(batch, genotype):
        return batch.blues
    if genotype not in plan.emmeans:
        known = [own for own in (plan.genotypes, *plan.emmeans) if own]
        raise OptionError(
            f"the batch has no means of '{genotype}'{nearest_names(genotype, known)}; ask for them with "
            f"genotypes='{genotype}', or emmeans='{genotype}' where it is fixed"
        )
    table = batch.emmeans
    return table[table["spec"] == genotype] if len(plan.emmeans) > 1 else table


def _of_genotypes(batch: BatchResult, genotype: str) -> bool:
    """Whether a factor is that of ``genotypes=``, by its name or its column; means asked for go before."""
    plan = batch.plan
    if plan.genotypes is None or plan.genotypes == genotype or genotype in plan.emmeans:
        return plan.genotypes == genotype
    columns = [str(name) for name in batch.blues.columns]
    if "estimate" not in columns:
        return False
    labels = columns[: columns.index("estimate")]  # vm(gen, A) has its means under the column alone
    return [name for name in labels if name not in (*plan.by, "trait", "model")] == [genotype]


def _trait(batch: BatchResult, trait: str | None) -> str:
    known = batch.plan.labels
    if trait is None and len(known) > 1:
        raise OptionError(f"the batch has several traits: give value=, one of {name_list(known)}")
    if trait is not None and trait not in known:
        raise OptionError(f"value='{trait}' is no trait of the batch{nearest_names(trait, known)}")
    return str(known[0] if trait is None else trait)


def _keys(batch: BatchResult, environment: str | None) -> list[str]:
    """Keys that name an environment: those of the trials, or the one that is asked for."""
    keys = list(batch.plan.by)
    if environment is None:
        return keys
    if environment not in keys:
        raise OptionError(f"environment='{environment}' names no trials{nearest_names(environment, keys)}")
    return [environment]


def _error(
    batch: BatchResult, genotype: str, trait: str, environments: pd.DataFrame
) -> tuple[float, float, list[str]]:  # fmt: skip
    """Error variance of a mean, its df, and trials without one; NaN where the batch keeps nothing of it.

    Parameters
    ----------
    environments : DataFrame
        Keys of the environments, whose trials count.
    """
    keys = list(environments.columns)
    if _of_genotypes(batch, genotype):
        own = batch.trials
        own = own[own["trait"].astype(str) == trait]
        if keys:
            known, wanted = (pd.MultiIndex.from_frame(f[keys].astype(str)) for f in (own, environments))
            own = own[known.isin(wanted)]
        v, df = 0.5 * own["sed_rms"].to_numpy(float) ** 2, own["df_error"].to_numpy(float)
        return _pooled(v, df, own[list(batch.plan.by)])
    if not batch.plan.covariances:
        return np.nan, np.nan, []
    from fastlmm_core.batch.two_stages import stage_blocks

    found = stage_blocks(batch, trait, genotype if len(batch.plan.emmeans) > 1 else None)
    several = np.array([len(block) > 1 for block in found.blocks])
    v = np.array([half_difference(block) for block in found.blocks if len(block) > 1])
    return _pooled(v, found.df[several], found.trials[several])


def _pooled(v: np.ndarray, df: np.ndarray, trials: pd.DataFrame) -> tuple[float, float, list[str]]:
    """Mean of independent estimates of variances, its degrees of freedom, and trials that have none.

    Where no df are known at all the variances still are.
    """
    told = np.isfinite(v) & (np.nan_to_num(v) > ROUNDING * np.nan_to_num(v).max(initial=0.0))
    if (told & np.isfinite(df)).any():
        told &= np.isfinite(df)
    without = [BETWEEN.join(map(str, row)) for row in trials[~told].itertuples(index=False)]
    if not told.any():
        return np.nan, np.nan, []
    v, df = v[told], df[told]
    return float(v.mean()), float(v.sum() ** 2 / np.sum(v**2 / df)), without
