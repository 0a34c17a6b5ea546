"""Small multi-trial tables with known faults, and how tables are compared, for the tests of this folder."""

from __future__ import annotations

import numpy as np
import pandas as pd


def alpha_trials(
    n_trials: int, genotypes: int = 12, reps: int = 3, block_size: int = 4, seed: int = 1
) -> pd.DataFrame:
    """Alpha lattices, each randomized: trial, gen, rep, block, moisture, weight, yield, height."""
    rng = np.random.default_rng(seed)
    blocks = genotypes // block_size
    parts = []
    for trial in range(n_trials):
        gen = np.concatenate([rng.permutation(genotypes) for _ in range(reps)])
        rep = np.repeat(np.arange(reps), genotypes)
        block = np.tile(np.repeat(np.arange(blocks), block_size), reps)
        n = gen.size
        y = (
            5
            + rng.normal(0, 1, genotypes)[gen]
            + rng.normal(0, 1, (reps, blocks))[rep, block]
            + rng.normal(0, 0.7, n)
        )
        parts.append(
            pd.DataFrame(
                {
                    "trial": f"T{trial:04d}",
                    "gen": np.array([f"G{g:02d}" for g in range(genotypes)])[gen],
                    "rep": np.array([f"R{r}" for r in range(reps)])[rep],
                    "block": np.array([f"B{b}" for b in range(blocks)])[block],
                    "moisture": rng.normal(14, 1, n),
                    "weight": rng.uniform(0.5, 2.0, n),
                    "yield": y,
                    "height": 80 + 4 * y + rng.normal(0, 3, n),
                }
            )
        )
    return pd.concat(parts, ignore_index=True)


def spoil(trials: pd.DataFrame) -> tuple[pd.DataFrame, dict[str, str]]:
    """Make seven trials unusable, each in its own way; returns the table and trial -> word of the message."""
    frame = trials.copy()
    names = frame["trial"].unique()
    frame["yield"] = frame["yield"].astype(object)

    def rows(k: int) -> pd.Index:
        return frame.index[frame["trial"] == names[k]]

    frame.loc[rows(1), "rep"] = "R0"  # one level
    frame.loc[rows(3)[4], "yield"] = "12,5"  # not a number
    frame = frame.drop(rows(5)[6:])  # too few rows
    frame.loc[rows(7), "yield"] = None  # nothing observed
    frame.loc[rows(9)[2], "yield"] = np.inf
    frame.loc[rows(11), "block"] = frame.loc[rows(11), "gen"] + frame.loc[rows(11), "rep"]  # a block a plot
    frame.loc[rows(13), "gen"] = None
    words = {1: "one level|only the level", 3: "numeric", 5: "not enough|levels for|only the level",
             7: "no values", 9: "infinite", 11: "levels for", 13: "missing"}  # fmt: skip
    return frame.reset_index(drop=True), {names[k]: text for k, text in words.items()}


def sized_trials(sizes: list[int], seed: int = 3) -> pd.DataFrame:
    """Unbalanced alpha lattices with so many genotypes each, 2 to 4 replicates, a tenth of the plots lost."""
    rng = np.random.default_rng(seed)
    parts = []
    for t, size in enumerate(sizes):
        part = alpha_trials(1, size, int(rng.integers(2, 5)), 2 if size % 4 else 4, seed=seed + t)
        lost = rng.choice(len(part), len(part) // 10, replace=False)
        parts.append(part.drop(index=lost).assign(trial=f"S{t:04d}"))
    return pd.concat(parts, ignore_index=True)


def close(ours: pd.DataFrame, theirs: pd.DataFrame, tolerance: float = 1e-8) -> None:
    """Assert that two tables have the same columns, labels and figures."""
    assert list(ours.columns) == list(theirs.columns)
    assert len(ours) == len(theirs)
    for name in ours.columns:
        a, b = ours[name].to_numpy(), theirs[name].to_numpy()
        if pd.api.types.is_numeric_dtype(theirs[name].dtype):
            np.testing.assert_allclose(
                a.astype(float), b.astype(float), rtol=tolerance, atol=tolerance, err_msg=name
            )
        else:
            assert [str(v) for v in ours[name].fillna("-")] == [str(v) for v in theirs[name].fillna("-")]


# Models of `incomplete_plots` that take both paths: formula, and the factors of the means asked for.
INCOMPLETE = {
    "blocks": ("y ~ rep + gen + x + (1|rep:block)", ("gen",)),
    "crossed": ("y ~ rep + x + (1|rep:block) + (1|gen)", ("rep",)),
    "slopes": ("y ~ rep + (x|gen) + (1|rep:block)", ("rep",)),
    "slopes apart": ("y ~ 0 + rep + (x||gen) + (1|rep:block)", ("rep",)),
    "dependent": ("y ~ rep*side + x + twice + (1|gen)", ("rep", "side")),
    "weighted": ("y ~ gen + (1|rep:block) + (1|rep)", ("gen",)),
}


def incomplete_plots() -> pd.DataFrame:
    """Eight genotypes in three replicates of two blocks; some plots are missing."""
    r = np.random.default_rng(11)
    rep, block = np.repeat([0, 1, 2], 8), np.tile(np.repeat([0, 1], 4), 3)
    gen = np.concatenate([r.permutation(8) for _ in range(3)])
    x = 3.0 + r.normal(size=24)
    y = 20.0 + 2.0 * rep + 2.0 * r.normal(size=8)[gen] + 1.5 * r.normal(size=(3, 2))[rep, block]
    y += 1.5 * r.normal(size=8)[gen] * (x - 3.0) + 0.5 * r.normal(size=24)
    frame = pd.DataFrame(
        {"trial": "A", "rep": [f"R{k}" for k in rep], "block": [f"B{k}" for k in block], "x": x, "y": y,
         "gen": [f"G{k}" for k in gen], "w": r.uniform(0.5, 2.0, 24), "twice": 1.0 + 2.0 * x}
    )  # fmt: skip
    frame["side"] = np.where(frame["rep"] == "R0", "left", frame["block"].map({"B0": "left", "B1": "right"}))
    return frame.drop(index=[4, 17]).reset_index(drop=True)
