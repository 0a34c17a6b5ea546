"""Makes data/trials.csv: eight simulated alpha-lattice trials with two traits, a check and real-life faults.

Run ``python tools/make_trials.py`` in the root of the repository; the seed is fixed.

Every trial has 24 genotypes (23 entries and CHECK) in 3 replicates of 6 incomplete blocks of 4 plots, dealt
to the blocks at random.

    yield (t/ha) = 6 + genotype (sd 0.6) + replicate (sd 0.3) + block (sd 0.5, none in T3) + plot (sd 0.5)
    height (cm) = 95 + 5 times the genotype's effect on yield + plot (sd 4)

Some plots are lost (T2), height is scored in two replicates only (T5), T7 was never harvested, and
T8 has one replicate left.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

GENOTYPES, REPLICATES, BLOCK = 24, 3, 4


def simulate_trial(name: str, rng: np.random.Generator) -> pd.DataFrame:
    """One complete trial."""
    labels = np.array([*(f"G{g:02d}" for g in range(1, GENOTYPES)), "CHECK"])
    gen = np.concatenate([rng.permutation(GENOTYPES) for _ in range(REPLICATES)])
    rep = np.repeat(np.arange(REPLICATES), GENOTYPES)
    block = np.tile(np.repeat(np.arange(GENOTYPES // BLOCK), BLOCK), REPLICATES)
    effect = rng.normal(0.0, 0.6, GENOTYPES)
    block_sd = 0.0 if name == "T3" else 0.5
    blocks = rng.normal(0.0, 0.3, REPLICATES)[rep]
    blocks = blocks + rng.normal(0.0, block_sd, (REPLICATES, GENOTYPES // BLOCK))[rep, block]
    yields = 6.0 + effect[gen] + blocks + rng.normal(0.0, 0.5, gen.size)
    height = 95.0 + 5.0 * effect[gen] + rng.normal(0.0, 4.0, gen.size)
    return pd.DataFrame(
        {
            "trial": name,
            "gen": labels[gen],
            "rep": np.array([f"R{r + 1}" for r in range(REPLICATES)])[rep],
            "block": np.array([f"B{b + 1}" for b in range(GENOTYPES // BLOCK)])[block],
            "yield": yields.round(3),
            "height": height.round(1),
        }
    )


def simulate_trials(seed: int = 20260101) -> pd.DataFrame:
    """All trials with their faults."""
    rng = np.random.default_rng(seed)
    frame = pd.concat([simulate_trial(f"T{t}", rng) for t in range(1, 9)], ignore_index=True)
    lost = frame.index[frame["trial"] == "T2"][[5, 17, 40, 41, 66]]
    frame.loc[lost, ["yield", "height"]] = np.nan
    frame.loc[(frame["trial"] == "T5") & (frame["rep"] == "R3"), "height"] = np.nan
    frame.loc[frame["trial"] == "T7", "yield"] = np.nan
    return frame[~((frame["trial"] == "T8") & (frame["rep"] != "R1"))].reset_index(drop=True)


if __name__ == "__main__":
    target = Path(__file__).resolve().parent.parent / "data" / "trials.csv"
    simulate_trials().to_csv(target, index=False, na_rep="NA")
    print(f"{target.name}: written")
