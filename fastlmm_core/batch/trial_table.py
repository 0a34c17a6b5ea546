"""One row for every trial and trait of a batch, also of what could not be fitted, and how trials connect."""

from __future__ import annotations

import numpy as np
import pandas as pd
import scipy.sparse as sp
from scipy.sparse.csgraph import connected_components

from fastlmm_core.batch.selection import occurrence, with_plots

# Columns of `fits` that stand in the row of a trial; the rest are those of `trials`.
OF_FITS = ("status", "model", "n", "converged", "singular", "message")
AT_A_TIME = 256  # trials whose pairs with all others are in memory


def trial_table(
    fits: pd.DataFrame, trials: pd.DataFrame | None, values: pd.DataFrame | None, keys: list[str],
    genotype: str | None,
) -> pd.DataFrame:  # fmt: skip
    """Rows of all trials: what became of them, how good they were, and what connects them.

    Parameters
    ----------
    fits, trials, values : DataFrame
        The tables `fits`, `trials` and `genotype_values` of a batch; the latter two where there are such.
    keys : list of str
        Columns that name a trial.
    genotype : str
        Column of the genotypes in `values`.

    Returns
    -------
    DataFrame
        Keys, trait, status, model (of several), the columns of `trials`, those of `connections`, and
        warnings, which for a trial without figures is why it has none.
    """
    on = [*keys, "trait"]
    out = fits[[*on, *(name for name in OF_FITS if name in fits.columns)]]
    if trials is not None and len(trials):
        known = [name for name in out.columns if name not in on and name in trials.columns]
        out = out.drop(columns=known).merge(trials, on=on, how="left", sort=False)
        out["n"] = out["n"].fillna(fits["n"].reset_index(drop=True)).astype(np.int64)
    if values is not None and genotype is not None and len(values):
        out = out.merge(connections(values, keys, genotype), on=on, how="left", sort=False)
    out["warnings"] = words_of(out)
    kept = [name for name in out.columns if name not in ("warnings", "message")]
    return out[[*kept, "warnings"]]


def words_of(table: pd.DataFrame) -> pd.Series:
    """The warnings of a trial, with its message in place of missing ones."""
    message = table["message"].fillna("").astype(str)
    if "warnings" not in table.columns:
        return message
    own = table["warnings"].fillna("").astype(str)
    return own.where(own != "", message.where(table["status"] != "ok", own))


def connections(values: pd.DataFrame, keys: list[str], genotype: str) -> pd.DataFrame:
    """What every trial has in common with the others of its trait.

    Returns
    -------
    DataFrame
        Keys, trait, connected (number of other trials with which it shares genotypes), common (most genotypes
        that it shares with one of them), shared (its genotypes that stand in another trial) and network:
        trials of different networks share no genotypes even through others, so that nothing compares them.
    """
    parts = [
        _of_trait(own, [*keys, "trait"], genotype)
        for _, own in values.groupby("trait", sort=False, observed=True)
    ]
    return pd.concat(parts, ignore_index=True)


def _of_trait(values: pd.DataFrame, on: list[str], genotype: str) -> pd.DataFrame:
    """The same of one trait."""
    trial = values.groupby(on, sort=False, observed=True, dropna=False).ngroup().to_numpy()
    present = occurrence(trial, values[genotype], with_plots(values))
    connected, common = _shared_with_others(present)
    elsewhere = present.sum(axis=0) > 1
    both = sp.block_array([[None, present], [present.T, None]])  # trials through their genotypes
    network = connected_components(both, directed=False)[1][: present.shape[0]]
    first = values.iloc[np.unique(trial, return_index=True)[1]][on].reset_index(drop=True)
    return first.assign(
        connected=connected, common=common, shared=present @ elsewhere.astype(np.int64), network=1 + network
    )


def _shared_with_others(present: sp.csr_array) -> tuple[np.ndarray, np.ndarray]:
    """With how many other trials each shares genotypes, and the most that it shares with one of them.

    A check connects every trial with every other, so that all pairs at once would need memory of the square
    of their number: it is some trials with all at a time.
    """
    count = present.shape[0]
    connected, common = np.zeros(count, np.int64), np.zeros(count, np.int64)
    genotypes = sp.csr_array(present.T)
    for lo in range(0, count, AT_A_TIME):
        block = sp.csr_array(present[lo : lo + AT_A_TIME] @ genotypes)
        size = np.diff(block.indptr)
        block.data[block.indices == np.repeat(np.arange(lo, lo + size.size), size)] = 0  # with itself
        connected[lo : lo + size.size] = size - 1
        common[lo : lo + size.size] = np.maximum.reduceat(block.data, block.indptr[:-1])
    return connected, common
