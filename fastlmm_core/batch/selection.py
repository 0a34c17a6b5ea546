"""Across the trials of a batch: an index over traits, and which genotypes trials have in common."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
import scipy.sparse as sp

from fastlmm_core.errors import OptionError, nearest_names
from fastlmm_core.means.table_labels import joined_labels


def selection_index(
    values: pd.DataFrame, keys: list[str], genotype: str, weights: Mapping[str, float]
) -> pd.DataFrame:
    """Weighted sums of the values of several traits, genotype by genotype within each trial.

    Parameters
    ----------
    values : DataFrame
        The table `genotype_values` of a batch.
    keys : list of str
        Columns that name a trial.
    genotype : str
    weights : mapping of str to float
        Economic weight of each trait, in units of the index for one unit of the trait.

    Returns
    -------
    DataFrame
        Keys, genotype, estimate, se, rank within the trial; genotypes with a value of every trait. Checks
        that are fixed effects (column `check`) have no rank. The errors of different traits are taken as
        independent, for they come from fits of their own: one fit of all traits,
        ``genotype_values(..., by="trait").index(weights)``, has their covariances.

    Raises
    ------
    OptionError
        For a trait that the table does not have.
    """
    known = list(dict.fromkeys(values["trait"]))
    for name in weights:
        if name not in known:
            raise OptionError(f"weights: trait '{name}' is not in the batch{nearest_names(name, known)}")
    if not any(weights.values()):
        raise OptionError("weights: an index needs a weight that is not zero")
    own = values[values["trait"].isin(list(weights))]
    factor = own["trait"].map(lambda name: float(weights[name])).to_numpy()
    parts = own[[*keys, genotype]].assign(
        estimate=factor * own["estimate"].to_numpy(), se=(factor * own["se"].to_numpy()) ** 2, traits=1
    )
    table = parts.groupby([*keys, genotype], sort=False, observed=True).sum().reset_index()
    table = table[table.pop("traits") == len(weights)].reset_index(drop=True)
    table["se"] = np.sqrt(table["se"])
    if "check" in values.columns:
        fixed = values[values["check"].eq(True)][[*keys, genotype]].drop_duplicates()
        table = table.merge(fixed.assign(check=True), on=[*keys, genotype], how="left")
        table["check"] = table["check"].eq(True)
    chosen = table if "check" not in table.columns else table[~table["check"]]
    groups = chosen.groupby(keys, sort=False, observed=True) if keys else chosen
    rank = groups["estimate"].rank(ascending=False, method="min")
    table["rank"] = rank.astype(int) if len(rank) == len(table) else rank
    return table


def common_genotypes(values: pd.DataFrame, keys: list[str], genotype: str) -> pd.DataFrame:
    """How many genotypes every two trials have in common: square, with the trials as index and columns.

    The diagonal is the number in the trial itself. Trials that share none, not even through others, cannot be
    compared. Genotypes that a trial has no plots of, which are predicted from their relatives, do not count.
    """
    labels = joined_labels(values[keys], ":") if keys else np.full(len(values), "1", dtype=object)
    trial, names = pd.factorize(labels, sort=True)
    present = occurrence(trial, values[genotype], with_plots(values))
    found = (present @ present.T).toarray()
    index = pd.Index(names, name=":".join(keys) or "trial")
    return pd.DataFrame(found, index=index, columns=list(names))


def with_plots(values: pd.DataFrame) -> np.ndarray:
    """Which values (n,) are of genotypes that have plots in their trial: all but those `untested` there."""
    if "untested" not in values:
        return np.ones(len(values), bool)
    # missing of trials in which none is
    return ~values["untested"].eq(True).fillna(False).to_numpy(bool)


def occurrence(trial: np.ndarray, genotype: pd.Series, counts: np.ndarray) -> sp.csr_array:
    """Which genotypes stand in which trials.

    Parameters
    ----------
    trial : (n,) int64
        Number of the trial of every row.
    genotype : (n,) Series
    counts : (n,) bool
        Rows that count.

    Returns
    -------
    (trials, genotypes) csr_array of int64
        One where a genotype has rows in a trial.
    """
    level, names = pd.factorize(genotype.astype(str))
    size = (int(trial.max()) + 1 if trial.size else 0, len(names))
    ones = np.ones(np.count_nonzero(counts), np.int64)
    present = sp.csr_array((ones, (trial[counts], level[counts])), shape=size)
    present.sum_duplicates()
    present.data[:] = 1
    return present
