"""Overview of a batch: heritabilities, variance components and failures over trials."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from fastlmm_core.gate import public
from fastlmm_core.options import NAME, having, optional
from fastlmm_core.plots.canvas import COLOURS, GREY, legend_beside, plain_frame, pyplot
from fastlmm_core.results.components.component_columns import shared_variances

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from fastlmm_core.batch import BatchResult

MOST_TICKS = 40
RESULT = having("a result of fit_batch()", "fits", "plan")


@public(result=RESULT, trait=optional(NAME))
def plot_trials(result: BatchResult, trait: str | None = None) -> Figure:
    """Heritabilities (where there are BLUPs), shares of the variance, and the outcome of every trial.

    Parameters
    ----------
    result : BatchResult
    trait : str, optional
        The trait to show; the first one by default.

    Returns
    -------
    Figure

    Examples
    --------
    >>> from fastlmm_core import datasets, fit_batch, plots
    >>> model = "yield ~ rep + (1|gen) + (1|rep:block)"
    >>> batch = fit_batch(datasets.path("trials"), model, by="trial", blups="gen", progress=False)
    >>> figure = plots.plot_trials(batch)
    """
    fits = result.fits
    shown = trait or str(fits["trait"].iloc[0])
    own = fits[fits["trait"] == shown].reset_index(drop=True)
    keys = own[list(result.plan.by)].astype(str)
    names = keys.agg(" ".join, axis=1) if result.plan.by else pd.Series(["all"])
    with_heritability = "heritability" in result.plan.tables and len(result.heritability) > 0
    panels = 3 if with_heritability else 2
    width = float(np.clip(0.16 * len(own) + 3.0, 6.4, 16.0))
    figure, axes = pyplot().subplots(
        panels, 1, sharex=True, figsize=(width, 2.1 * panels + 0.8), layout="constrained",
        height_ratios=[*([2.0] * (panels - 1)), 0.6],
    )  # fmt: skip
    if with_heritability:
        draw_heritability(axes[0], result, own, shown)
    draw_shares(axes[panels - 2], own)
    draw_outcomes(axes[panels - 1], own)
    axes[-1].set_xlim(-0.6, len(own) - 0.4)
    if len(own) <= MOST_TICKS:
        axes[-1].set_xticks(range(len(own)), names, rotation=90, fontsize="small")
    else:
        axes[-1].set_xlabel(f"trial, 1 to {len(own)}")
    lost = int((own["status"] != "ok").sum())
    figure.suptitle(f"{shown}: {len(own)} trials, {lost} with problems", fontsize="medium")
    return figure


def draw_heritability(ax: Axes, result: BatchResult, own: pd.DataFrame, trait: str) -> None:
    """Cullis' heritability of every trial, one colour a grouping factor."""
    keys = [*result.plan.by, "trait"]
    table = result.heritability
    table = table[table["trait"] == trait]
    for colour, (group, part) in zip(COLOURS, table.groupby("group", sort=False), strict=False):
        merged = own[keys].merge(part[[*keys, "h2_cullis"]], on=keys, how="left") if keys else part
        ax.plot(merged["h2_cullis"].to_numpy(), "o", ms=4, color=colour, label=str(group))
    ax.set_ylim(-0.05, 1.05)
    ax.set_ylabel("heritability (Cullis)")
    legend_beside(ax, fontsize="small")
    plain_frame(ax)


def draw_shares(ax: Axes, own: pd.DataFrame) -> None:
    """Variance components as shares of their sum, stacked; those of splines are no variances of plots."""
    shown, splines = shared_variances(own.columns)
    values = own[list(shown)].to_numpy(dtype=float)
    values = np.where(np.isnan(values), 0.0, values)
    total = values.sum(axis=1, keepdims=True)
    share = np.divide(values, total, out=np.zeros_like(values), where=total > 0)
    base = np.zeros(len(own))
    for k, group in enumerate(shown.values()):
        residual = group == "Residual"
        colour: Any = GREY if residual else COLOURS[k % len(COLOURS)]
        ax.bar(np.arange(len(own)), share[:, k], bottom=base, width=0.9, color=colour,
               alpha=0.45 if residual else 0.9, label=group)  # fmt: skip
        base += share[:, k]
    ax.set_ylim(0, 1)
    beside = "\n(beside the splines)" if splines else ""
    beside = beside if shown else "\n(none: they do not add up in a plot)"
    ax.set_ylabel(f"share of variance{beside}")
    if shown:
        legend_beside(ax, fontsize="small")
    plain_frame(ax)


def draw_outcomes(ax: Axes, own: pd.DataFrame) -> None:
    """One mark a trial: good, singular, or the kind of its failure."""
    outcome = np.where(own["status"] != "ok", own["status"], np.where(own["singular"], "singular", "ok"))
    kinds = ["ok", "singular", *sorted(set(outcome) - {"ok", "singular"})]
    kinds = [kind for kind in kinds if (outcome == kind).any()]
    palette = {"ok": COLOURS[2], "singular": COLOURS[4]}
    for row, kind in enumerate(kinds):
        at = np.flatnonzero(outcome == kind)
        ax.plot(at, np.full(at.size, row), "|", ms=9, mew=2, color=palette.get(kind, COLOURS[1]))
    labels = [f"{kind} ({int((outcome == kind).sum())})" for kind in kinds]
    ax.set_yticks(range(len(kinds)), labels, fontsize="small")
    ax.set_ylim(-0.6, len(kinds) - 0.4)
    ax.invert_yaxis()
    plain_frame(ax)
