"""One row for every trial and trait of a batch, also of what could not be fitted, and how trials connect."""

from __future__ import annotations

import numpy as np
import pandas as pd
import scipy.sparse as sp
from scipy.sparse.csgraph import connected_components

# Columns of `fits` that stand in the row of a trial; the rest are those of `trials`.
OF_FITS = ("status", "model", "n", "converged", "singular", "message")


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
    level, names = pd.factorize(values[genotype].astype(str))
    size = int(np.max(trial)) + 1
    present = sp.csr_array((np.ones(len(values)), (trial, level)), shape=(size, len(names)))
    present.sum_duplicates()
    present.data[:] = 1.0
    common = sp.csr_array(present @ present.T)
    alone = sp.csr_array(sp.diags_array(common.diagonal()))
    others = sp.csr_array(common - alone)
    others.eliminate_zeros()
    elsewhere = np.asarray(present.sum(axis=0)).ravel() > 1.0
    first = values.iloc[np.unique(trial, return_index=True)[1]][on].reset_index(drop=True)
    return first.assign(
        connected=np.diff(others.indptr), common=others.max(axis=1).toarray().ravel().astype(np.int64),
        shared=np.asarray(present @ elsewhere.astype(float)).astype(np.int64),
        network=1 + connected_components(others, directed=False)[1],
    )  # fmt: skip
