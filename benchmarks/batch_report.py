"""Table, goals and figure of the batch measurements, from results/batch.csv."""

from __future__ import annotations

from pathlib import Path

import matplotlib
import pandas as pd
import records

matplotlib.use("Agg")
import matplotlib.pyplot as plt

# (task, what it is called, ratio to reach)
GOALS = (
    ("alpha 60x3, fit", "trials of 180 plots: fit", 80.0),
    ("alpha 60x3, means", "trials of 180 plots: fit, 60 Kenward-Roger means, 59 contrasts", 600.0),
    ("alpha 60x3, blups", "trials of 180 plots: genotypes random, BLUPs and PEV", 70.0),
    ("alpha 40x3, fit", "trials of 120 plots: fit", 2.0),
    ("1000 traits, 500 plots", "1,000 traits on one design of 500 plots", 3.0),
    ("fit, two workers", "4,000 trials: fit; two workers, wall time", 1.7),
    ("means, two workers", "4,000 trials: fit, means, contrasts; two workers, wall time", 1.7),
    ("blups, two workers", "4,000 trials: genotypes random, BLUPs and PEV; two workers, wall time", 1.7),
)
TITLES = {task: title for task, title, _ in GOALS} | {
    "alpha 60x3, alike": "trials of 180 plots, all laid out alike: fit"
}


def short(value: float) -> str:
    """Three digits, or a whole number."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def goals() -> pd.DataFrame:
    """Rows of what was measured, the goal and whether it is met."""
    table = records.load("batch")
    rows = []
    for task, title, goal in GOALS:
        found = table[table["task"] == task] if len(table) else table
        if found.empty or pd.isna(found.iloc[-1]["ratio"]):
            continue
        last = found.iloc[-1]
        rows.append({"what": f"batch, {title}", "measured": f"{short(last['ratio'])} × {last['other']}",
                     "goal": f"≥ {goal:g} ×", "met": "yes" if last["ratio"] >= goal else "no"})  # fmt: skip
    return pd.DataFrame(rows)


def table() -> str:
    """All measurements as a Markdown table, with machine and load."""
    found = records.load("batch")
    if found.empty:
        return ""
    timed = found[found["ms"].notna()]
    lines = [
        "| batch | ms a fit | fits a second and core | beside | ms | ratio |",
        "|---|---|---|---|---|---|",
    ]
    for _, r in timed.iterrows():
        there = pd.notna(r["other_ms"])
        theirs, ratio = (short(r["other_ms"]), short(r["ratio"])) if there else ("", "")
        figures = f"{r['ms']:.3g} | {r['fits_per_s']:,.0f} | {r['other']} | {theirs} | {ratio}"
        lines.append(f"| {TITLES.get(str(r['task']), r['task'])} | {figures} |")
    lines += ["", "| streamed from Parquet | peak memory |", "|---|---|"]
    lines += [f"| {r.task} | {r.peak_mb:.0f} MB |" for r in found[found["peak_mb"].notna()].itertuples()]
    machine = ", ".join(sorted(set(found["machine"])))
    lines += ["", f"{machine}; Python {found['python'].iloc[-1]}. Load average at the start of a part: "
              f"{found['load'].min():.1f} to {found['load'].max():.1f}."]  # fmt: skip
    return "\n".join(lines)


def draw(path: Path) -> None:
    """Peak memory over the number of trials; time of a fit beside the other programs."""
    found = records.load("batch")
    if found.empty:
        return
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.4))
    memory = found[found["peak_mb"].notna()].sort_values("trials")
    left.plot(memory["trials"], memory["peak_mb"], "o-", color="#1f4e79")
    left.set(xscale="log", xlabel="trials of 180 plots, streamed from Parquet", ylabel="peak memory, MB")
    left.set_ylim(0, 1.2 * memory["peak_mb"].max() if len(memory) else 1)
    timed = found[found["other_ms"].notna()].iloc[::-1]
    places = range(len(timed))
    right.scatter(timed["ms"], places, color="#1f4e79", label="fit_batch", zorder=3)
    right.scatter(timed["other_ms"], places, color="#b8503c", label="beside", zorder=3)
    right.set_yticks(list(places), [f"{r.task} | {r.other}" for r in timed.itertuples()], fontsize=7)
    right.set(xscale="log", xlabel="milliseconds a fit")
    right.legend(frameon=False, fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=150)
    plt.close(figure)
