"""Plots of the result CSVs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import batch_report
import matplotlib
import numpy as np
import pandas as pd
import records
from cases import CASES, EXACT
from kenward_roger import TASKS

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.ticker import NullFormatter

COLOURS = dict(zip(EXACT, ("#1f4e79", "#b8503c", "#d39a3a", "#6b8f5a", "#8a6fa8", "#7d7d7d"), strict=True))
QUIET: dict[Any, Any] = {
    "axes.spines.top": False,
    "axes.spines.right": False,
    "font.size": 9,
    "axes.grid": True,
    "grid.alpha": 0.25,
}


def draw(folder: Path) -> None:
    """benchmarks_fits.png, _growth, _kenward_roger and _batch in `folder`, as far as there are results."""
    folder.mkdir(exist_ok=True)
    with plt.rc_context(QUIET):
        fits, growth = records.load("fits"), records.load("growth")
        if len(fits):
            draw_fits(fits, folder / "benchmarks_fits.png")
        if len(growth):
            draw_growth(growth, folder / "benchmarks_growth.png")
        inference = records.load("kenward_roger")
        if len(inference):
            draw_inference(inference, folder / "benchmarks_kenward_roger.png")
        batch_report.draw(folder / "benchmarks_batch.png")


def draw_fits(table: pd.DataFrame, path: Path) -> None:
    """CPU time of every exact program whose criterion agrees, by case, on a log scale."""
    table = table[(table["status"] == "ok") & table["counts"].astype(bool)]
    shown = [case for case in CASES if case.name in set(table["case"])]
    figure, ax = plt.subplots(figsize=(8, 0.55 * len(shown) + 1.2))
    for program in EXACT:
        mine = table[table["program"] == program].set_index("case")["cpu_s"]
        places = [(mine[case.name], i) for i, case in enumerate(shown) if case.name in mine.index]
        if places:
            x, y = zip(*places, strict=True)
            ax.scatter(x, y, s=42, color=COLOURS[program], label=program, zorder=3)
    prepared = table[table["program"] == "fastlmm_core, prepared"].set_index("case")["cpu_s"]
    places = [(prepared[case.name], i) for i, case in enumerate(shown) if case.name in prepared.index]
    if places:
        x, y = zip(*places, strict=True)
        colour = COLOURS["fastlmm_core"]
        ax.scatter(x, y, s=42, facecolor="white", edgecolor=colour, label="from a Prepared", zorder=3)
    for i, case in enumerate(shown):
        times = table.loc[(table["case"] == case.name) & table["program"].isin(EXACT), "cpu_s"]
        ax.plot([times.min(), times.max()], [i, i], color="0.75", lw=1, zorder=1)
    ax.set(xscale="log", xlabel="CPU seconds of one fit, one thread", yticks=range(len(shown)))
    ax.set_yticklabels([case.title for case in shown])
    ax.invert_yaxis()
    ax.grid(axis="y", visible=False)
    ax.legend(
        loc="upper center", bbox_to_anchor=(0.3, -0.12), ncol=len(EXACT) + 1, frameon=False, handletextpad=0.1
    )
    figure.savefig(path, dpi=150, bbox_inches="tight")
    plt.close(figure)


def draw_growth(table: pd.DataFrame, path: Path) -> None:
    """Time over rows with the flop count beside it, over parameters, over contrasts."""
    figure, axes = plt.subplots(1, 3, figsize=(11, 3.6))
    size = table[table["over"] == "size"].sort_values("gflop")
    ax = axes[0]
    for column, label, colour in (
        ("fit_s", "fit", COLOURS["fastlmm_core"]),
        ("prepare_s", "of it: preparation", "#8fb0cc"),
        ("kenward_roger_s", "Kenward-Roger, all coefficients", COLOURS["lme4"]),
    ):
        ax.plot(size["rows"], size[column], "o", ms=4, color=colour, label=label)
    ax.set(xscale="log", yscale="log", xlabel="plots", ylabel="CPU seconds")
    ax.xaxis.set_minor_formatter(NullFormatter())
    twin = ax.twinx()
    twin.plot(size["rows"], size["gflop"], "x", color="0.5", label="GFLOP of one factorization")
    twin.set(yscale="log", ylabel="GFLOP of one factorization (×)")
    twin.grid(visible=False)
    twin.spines["right"].set_visible(True)
    ax.legend(frameon=False, fontsize=8)
    for ax, over, label in (
        (axes[1], "parameters", "variance parameters"),
        (axes[2], "contrasts", "contrasts"),
    ):
        part = table[table["over"] == over]
        part = part[part["rows"] == part["rows"].max()].sort_values(over)
        ax.plot(part[over], part["fit_s"], "o-", ms=4, color=COLOURS["fastlmm_core"], label="fit")
        ax.plot(part[over], part["kenward_roger_s"], "o-", ms=4, color=COLOURS["lme4"], label="Kenward-Roger")
        ax.set(xlabel=f"{label} ({part['rows'].max():,.0f} plots)", ylabel="CPU seconds")
        ax.legend(frameon=False, fontsize=8)
        if over == "contrasts":
            ax.set(xscale="log", yscale="log")
        else:
            ax.set(yscale="log", xticks=np.unique(part[over]))
    figure.tight_layout()
    figure.savefig(path, dpi=150)
    plt.close(figure)


def draw_inference(table: pd.DataFrame, path: Path) -> None:
    """Time of Kenward-Roger over rows (with pbkrtest), variance parameters and contrasts."""
    steps = {task.name: (task.over, task.step) for task in TASKS if task.over}
    steps |= {f"crossed_{n}": ("rows", n) for n in (1_500, 3_000, 6_000)}
    table = table[(table["status"] == "ok") & table["task"].isin(steps)]
    table = table.assign(
        over=[steps[name][0] for name in table["task"]], step=[steps[name][1] for name in table["task"]]
    )
    figure, axes = plt.subplots(1, 3, figsize=(11, 3.6))
    labels = {
        "rows": "rows, 4 variance parameters",
        "parameters": "variance parameters, 6,000 rows",
        "contrasts": "coefficients jointly, 60,000 rows",
    }
    for ax, (over, label) in zip(axes, labels.items(), strict=True):
        part = table[table["over"] == over].sort_values("step")
        own = part[part["program"] == "fastlmm_core"]
        ax.plot(own["step"], own["fit_s"], "o-", ms=4, color=COLOURS["fastlmm_core"], label="the fit")
        ax.plot(own["step"], own["cpu_s"], "o-", ms=4, color=COLOURS["lme4"], label="then Kenward-Roger")
        other = part[part["program"] != "fastlmm_core"]
        if len(other):
            ax.plot(other["step"], other["cpu_s"], "s-", ms=4, color="0.4", label="pbkrtest")
        ax.set(xlabel=label, ylabel="CPU seconds", yscale="log")
        if over != "parameters":
            ax.set(xscale="log")
            ax.xaxis.set_minor_formatter(NullFormatter())
        ax.legend(frameon=False, fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=150)
    plt.close(figure)
