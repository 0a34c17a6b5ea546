"""Tables of the benchmark cases, simulated from fixed seeds.

Every generator returns a DataFrame whose factors are categoricals with sorted labels, so that each program
sees the same levels in the same order, and whose response is rounded to 4 decimals.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

# Standard deviations of the multi-environment trials.
MET_SD = {"gen": 2.0, "gen:env": 1.5, "env:rep": 0.7, "env:rep:block": 1.0, "residual": 2.0}


def factor(codes: np.ndarray, prefix: str, count: int) -> pd.Categorical:
    """Codes (n,) in 0..count-1 as a categorical with labels prefix01, prefix02 ..., empty levels dropped."""
    width = len(str(count))
    labels = [f"{prefix}{i + 1:0{width}d}" for i in range(count)]
    return pd.Categorical(np.array(labels)[codes])


def met_trials(
    genotypes: int,
    environments: int,
    replicates: int = 2,
    block_size: int = 10,
    *,
    tested: int | None = None,
    seed: int = 20260101,
) -> pd.DataFrame:
    """Multi-environment trial in incomplete blocks: environments x replicates x genotypes in random order.

    Parameters
    ----------
    genotypes, environments, replicates, block_size : int
    tested : int, optional
        Genotypes drawn for each environment (sparse testing); default all.
    """
    rng = np.random.default_rng(seed)
    tested = genotypes if tested is None else tested
    n_blocks = -(-tested // block_size)
    block_in_rep = np.arange(tested) // block_size
    parts = []
    for trial in range(environments):
        chosen = rng.choice(genotypes, tested, replace=False) if tested < genotypes else np.arange(genotypes)
        for replicate in range(replicates):
            in_order = rng.permutation(chosen)
            parts.append(
                np.array([np.full(tested, trial), np.full(tested, replicate), block_in_rep, in_order])
            )
    e, r, b, g = np.concatenate(parts, axis=1)
    y: np.ndarray = 50.0 + rng.normal(0.0, 8.0, environments)[e]
    y += rng.normal(0.0, MET_SD["gen"], genotypes)[g]
    y += rng.normal(0.0, MET_SD["gen:env"], (genotypes, environments))[g, e]
    y += rng.normal(0.0, MET_SD["env:rep"], (environments, replicates))[e, r]
    y += rng.normal(0.0, MET_SD["env:rep:block"], (environments, replicates, n_blocks))[e, r, b]
    y += rng.normal(0.0, MET_SD["residual"], y.size)
    return pd.DataFrame(
        {
            "env": factor(e, "E", environments),
            "rep": factor(r, "R", replicates),
            "block": factor(b, "B", n_blocks),
            "gen": factor(g, "G", genotypes),
            "y": y.round(4),
        }
    )


def family_trials(
    trees: int = 190_000, trials: int = 31, mothers: int = 1_200, blocks: int = 25, *, seed: int = 20260102
) -> pd.DataFrame:
    """Open-pollinated families in forest trials of single-tree plots, a sample of mothers in each.

    Every trial grows the same number of mothers, one tree of each in every block; trees die at random until
    `trees` are left.
    """
    rng = np.random.default_rng(seed)
    grown = -(-trees // (trials * blocks))
    grown += max(1, grown // 50)
    mother = np.concatenate(
        [np.repeat(rng.choice(mothers, grown, replace=False), blocks) for _ in range(trials)]
    )
    trial = np.repeat(np.arange(trials), grown * blocks)
    block = np.tile(np.arange(blocks), trials * grown)
    alive = np.sort(rng.choice(trial.size, trees, replace=False))
    mother, trial, block = mother[alive], trial[alive], block[alive]
    y = 180.0 + rng.normal(0.0, 25.0, trials)[trial]
    y += rng.normal(0.0, 8.0, (trials, blocks))[trial, block]
    y += rng.normal(0.0, 7.0, mothers)[mother]
    y += rng.normal(0.0, 5.0, (trials, mothers))[trial, mother]
    y += rng.normal(0.0, 30.0, trees)
    return pd.DataFrame(
        {
            "trial": factor(trial, "T", trials),
            "block": factor(block, "B", blocks),
            "mother": factor(mother, "M", mothers),
            "dbh": y.round(4),
        }
    )


def zipf_ratings(
    rows: int = 1_000_000,
    users: int = 6_000,
    items: int = 3_700,
    *,
    exponent: float = 0.75,
    seed: int = 20260103,
) -> pd.DataFrame:
    """Crossed ratings: distinct (user, item) pairs, activity and popularity falling as rank^-exponent."""
    rng = np.random.default_rng(seed)
    p_user = np.arange(1, users + 1) ** -exponent
    p_item = np.arange(1, items + 1) ** -exponent
    p_user /= p_user.sum()
    p_item /= p_item.sum()
    # every user and every item has at least one rating
    pairs = np.unique(
        np.concatenate(
            (
                np.arange(users) * items + rng.choice(items, users, p=p_item),
                rng.choice(users, items, p=p_user) * items + np.arange(items),
            )
        )
    )
    while pairs.size < rows:
        more = 2 * (rows - pairs.size) + 100
        drawn = rng.choice(users, more, p=p_user) * items + rng.choice(items, more, p=p_item)
        fresh = np.setdiff1d(drawn, pairs)
        pairs = np.union1d(pairs, rng.permutation(fresh)[: rows - pairs.size])
    pairs = rng.permutation(pairs)
    user, item = pairs // items, pairs % items
    user, item = rng.permutation(users)[user], rng.permutation(items)[item]
    y = (
        3.5
        + rng.normal(0.0, 0.45, users)[user]
        + rng.normal(0.0, 0.6, items)[item]
        + rng.normal(0.0, 0.9, rows)
    )
    return pd.DataFrame({"user": factor(user, "u", users), "item": factor(item, "i", items), "y": y.round(4)})


def insteval_twin(
    rows: int = 73_421, students: int = 2_972, lecturers: int = 1_128, *, seed: int = 20260104
) -> pd.DataFrame:
    """Students who rate lecturers, of the size and shape of lme4's InstEval."""
    rng = np.random.default_rng(seed)
    table = zipf_ratings(rows, students, lecturers, exponent=0.5, seed=seed)
    service = rng.integers(0, 2, rows)
    rating = table["y"].to_numpy() - 0.1 * service
    return pd.DataFrame(
        {
            "s": factor(table["user"].cat.codes.to_numpy(), "s", students),
            "d": factor(table["item"].cat.codes.to_numpy(), "d", lecturers),
            "service": factor(service, "sv", 2),
            "y": np.clip(np.round(rating), 1, 5),
        }
    )


def crossed_treatments(rows: int, *, seed: int = 20260105) -> pd.DataFrame:
    """Treatments on genotypes at locations: every genotype with every treatment at every location.

    Rows are 4 treatments x 15 locations x rows / 60 genotypes.
    """
    rng = np.random.default_rng(seed)
    locations, treatments = 15, 4
    genotypes = rows // (locations * treatments)
    g, loc, t = (
        a.ravel()
        for a in np.meshgrid(np.arange(genotypes), np.arange(locations), np.arange(treatments), indexing="ij")
    )
    y = 10.0 + np.array([0.0, 0.3, 0.5, 0.9])[t]
    y += rng.normal(0.0, 1.0, genotypes)[g] + rng.normal(0.0, 0.8, locations)[loc]
    y += rng.normal(0.0, 0.7, (genotypes, locations))[g, loc] + rng.normal(0.0, 1.0, y.size)
    # one plot in a hundred is lost, so that nothing is balanced
    keep = np.sort(rng.choice(y.size, y.size - y.size // 100, replace=False))
    return pd.DataFrame(
        {
            "trt": factor(t, "T", treatments),
            "gen": factor(g, "G", genotypes),
            "loc": factor(loc, "L", locations),
            "y": y.round(4),
        }
    ).iloc[keep]


def one_trial(
    genotypes: int = 60, replicates: int = 3, block_size: int = 6, *, seed: int = 20260106
) -> pd.DataFrame:
    """One trial in incomplete blocks: 180 plots of 60 genotypes."""
    table = met_trials(genotypes, 1, replicates, block_size, seed=seed)
    return table.drop(columns="env")
