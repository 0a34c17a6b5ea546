"""Estimated marginal means with intervals: of one model, or of several side by side."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from fastlmm_core.errors import DataError, check_option
from fastlmm_core.gate import public
from fastlmm_core.options import ANY, AXES, LEVEL, NUMBER, TEXT, check, having, optional, table_of
from fastlmm_core.plots.canvas import COLOURS, GREY, legend_beside, own_axes, plain_frame

if TYPE_CHECKING:
    from matplotlib.axes import Axes

STATISTICS = frozenset({"estimate", "se", "df", "t", "p", "lower", "upper", "status", "ddf", "n", "group"})
BARS = ("interval", "se")
MEANS = having("a table of emmeans()", "comparison_intervals", "to_frame")


def means_frame(means: Any) -> tuple[pd.DataFrame, list[str]]:
    """The figures of a table of means and the names of its label columns."""
    if not isinstance(means, pd.DataFrame):
        check("means", means, MEANS)
    frame = means if isinstance(means, pd.DataFrame) else means.to_frame()
    lacking = {"estimate", "se", "lower", "upper"} - set(frame.columns)
    if lacking:
        raise DataError(
            f"a table of means has the columns estimate, se, lower, upper; lacking: {sorted(lacking)}"
        )
    return frame, [str(name) for name in frame.columns if name not in STATISTICS]


def _labels(frame: pd.DataFrame, columns: list[str]) -> list[str]:
    return [" ".join(_label(v) for v in row) for row in frame[columns].itertuples(index=False)]


def _label(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, (float, np.floating)) else str(value)


def _bar_lengths(frame: pd.DataFrame, bars: str) -> np.ndarray:
    """(2, m) lengths below and above each mean."""
    if bars == "se":
        return np.vstack([frame["se"], frame["se"]]).astype(float)
    return np.vstack([frame["estimate"] - frame["lower"], frame["upper"] - frame["estimate"]]).astype(float)


@public(bars=TEXT, ax=AXES)
def plot_emmeans(means: Any, *, bars: str = "interval", ax: Axes | None = None) -> Axes:
    """Means with their intervals.

    Parameters
    ----------
    means : EmmeansTable or DataFrame
        Columns of labels, then estimate, se, lower, upper. The first label column goes along the axis;
        the others set the colour.
    bars : {"interval", "se"}
        Confidence limits, or one standard error to each side.
    ax : Axes, optional
        Where to draw; a new figure without it.

    Returns
    -------
    Axes

    Raises
    ------
    OptionError
        For an unknown `bars`.

    Examples
    --------
    >>> from fastlmm_core import datasets, lmm, plots
    >>> fit = lmm("Y ~ V*N + (1|B/V)", datasets.load("oats"))
    >>> ax = plots.plot_emmeans(fit.emmeans("~ N * V"))
    >>> plots.save(ax, "means.png").name
    'means.png'
    """
    check_option("bars", bars, BARS)
    frame, columns = means_frame(means)
    across, others = columns[:1], columns[1:]
    series = _labels(frame, others) if others else [""] * len(frame)
    groups = {name: frame[np.array(series) == name] for name in dict.fromkeys(series)}
    ax = own_axes(ax, width=max(6.4, 0.35 * frame[across[0]].nunique() * max(1, len(groups)) ** 0.5))
    _draw_groups(ax, groups, across, bars)
    ax.set_xlabel(across[0])
    ax.set_ylabel("estimated marginal mean")
    if others:
        legend_beside(ax, ", ".join(others))
    return ax


def _draw_groups(ax: Axes, groups: Mapping[str, pd.DataFrame], across: list[str], bars: str) -> list[str]:
    """Draw each group beside the others at the common positions; returns the labels along the axis."""
    labels = list(dict.fromkeys(label for frame in groups.values() for label in _labels(frame, across)))
    position = {label: i for i, label in enumerate(labels)}
    for i, (name, frame) in enumerate(groups.items()):
        x = np.array([position[label] for label in _labels(frame, across)]) + _offset(i, len(groups))
        ax.errorbar(
            x,
            frame["estimate"].to_numpy(float),
            yerr=_bar_lengths(frame, bars),
            fmt="o",
            color=COLOURS[i % len(COLOURS)],
            capsize=3,
            label=name or None,
        )
    crowded = sum(len(label) for label in labels) > 60
    ax.set_xticks(range(len(labels)), labels, rotation=90 if crowded else 0)
    plain_frame(ax)
    return labels


def _offset(i: int, n: int, width: float = 0.18) -> float:
    return (i - (n - 1) / 2) * min(width, 0.7 / n)


@public(models=table_of(ANY), bars=TEXT, differences=optional(table_of(NUMBER)), legend_title=TEXT, ax=AXES)
def plot_emmeans_by_model(
    models: Mapping[str, Any],
    *,
    bars: str = "se",
    differences: Mapping[str, float] | None = None,
    legend_title: str = "",
    ax: Axes | None = None,
) -> Axes:
    """Means of two or more models side by side, coloured by model.

    Parameters
    ----------
    models : mapping of model name to EmmeansTable or DataFrame
        Tables over the same labels.
    bars : {"se", "interval"}
        One standard error to each side of a mean, or its confidence limits.
    differences : mapping of model name to float, optional
        Standard error of a difference of two means; drawn once for each model, beside the means. Where the
        pairs differ in theirs, ``difference_errors().sed_rms`` of the table is the root mean square.
    legend_title : str
        Heading of the legend.
    ax : Axes, optional
        Where to draw; a new figure without it.

    Returns
    -------
    Axes

    Raises
    ------
    DataError
        When a table lacks its columns, or `differences` names a model that is not drawn.
    OptionError
        For an unknown `bars`.

    Examples
    --------
    >>> from fastlmm_core import datasets, lmm, plots
    >>> table = datasets.load("cochrancox_kfert")
    >>> fixed, random = lmm("yield ~ K2O_lbac + rep", table), lmm("yield ~ K2O_lbac + (1|rep)", table)
    >>> ax = plots.plot_emmeans_by_model(
    ...     {"fixed": fixed.emmeans("K2O_lbac"), "random": random.emmeans("K2O_lbac")}
    ... )
    """
    check_option("bars", bars, BARS)
    unknown = set(differences or {}) - set(models)
    if unknown:
        raise DataError(f"differences names {sorted(unknown)}, models are {sorted(models)}")
    if not models:
        raise DataError("models={} holds no table of means to draw")
    frames = {name: means_frame(table) for name, table in models.items()}
    across = next(iter(frames.values()))[1]
    ax = own_axes(ax, width=7.2)
    labels = _draw_groups(ax, {name: frame for name, (frame, _) in frames.items()}, across, bars)
    ax.set_xlabel(" ".join(across))
    ax.set_ylabel("estimated marginal mean")
    if differences:
        middle = float(
            np.nanmean(np.concatenate([f["estimate"].to_numpy(float) for f, _ in frames.values()]))
        )
        _draw_differences(ax, list(models), differences, middle, len(labels))
    ax.legend(title=legend_title or None, frameon=False)
    return ax


def _draw_differences(
    ax: Axes, models: list[str], differences: Mapping[str, float], middle: float, n_labels: int
) -> None:
    """A bar as long as the standard error of a difference for each model, right of the last mean."""
    centre = n_labels + 0.1
    for i, name in enumerate(models):
        if name in differences:
            length = float(differences[name])
            ax.errorbar(
                [centre + _offset(i, len(models))],
                [middle],
                yerr=[[length / 2], [length / 2]],
                fmt="none",
                ecolor=COLOURS[i % len(COLOURS)],
                elinewidth=2.5,
                capsize=5,
            )
    ax.axvline(n_labels - 0.45, color=GREY, linewidth=0.6, linestyle=":")
    ticks, labels = ax.get_xticks(), [t.get_text() for t in ax.get_xticklabels()]
    ax.set_xticks([*ticks, centre], [*labels, "SE of a\ndifference"])
    ax.set_xlim(-0.5, n_labels + 0.6)


@public(means=MEANS, ax=AXES, adjust=TEXT, level=optional(LEVEL))
def plot_comparison_intervals(
    means: Any, *, adjust: str = "tukey", level: float | None = None, ax: Axes | None = None
) -> Axes:
    """Means with intervals that overlap where two means do not differ, sorted within each group of `by`.

    Parameters
    ----------
    means : EmmeansTable
    adjust : str
        Adjustment of the pairwise comparisons behind the intervals.
    level : float, optional
        Their confidence level, the table's own without it.
    ax : Axes, optional
        Where to draw; a new figure without it.

    Returns
    -------
    Axes
        Where overlap and test disagree for some pairs, because no set of intervals fits all of them, the
        title says for how many.

    Examples
    --------
    >>> from fastlmm_core import datasets, lmm, plots
    >>> fit = lmm("Y ~ V*N + (1|B/V)", datasets.load("oats"))
    >>> ax = plots.plot_comparison_intervals(fit.emmeans("N"))
    """
    intervals = means.comparison_intervals(adjust=adjust, level=level)
    frame, columns = means_frame(means)
    frame = frame.assign(lower=intervals.lower, upper=intervals.upper).dropna(subset=["estimate"])
    by = [name for name in columns if name in means.by]
    frame = frame.sort_values([*by, "estimate"], kind="stable").reset_index(drop=True)
    ax = own_axes(ax, height=max(4.2, 0.16 * len(frame)))
    series = _labels(frame, by) if by else [""] * len(frame)
    for i, name in enumerate(dict.fromkeys(series)):
        rows = np.flatnonzero(np.array(series) == name)
        part = frame.iloc[rows]
        length = [part["estimate"] - part["lower"], part["upper"] - part["estimate"]]
        colour = COLOURS[i % len(COLOURS)]
        ax.errorbar(part["estimate"], rows, xerr=length, fmt="o", color=colour, label=name or None)
    shown = [name for name in columns if name not in by] or columns
    ax.set_yticks(range(len(frame)), _labels(frame, shown))
    ax.set_xlabel("estimated marginal mean")
    ax.set_ylabel(" ".join(shown))
    if intervals.n_disagree:
        ax.set_title(f"overlap misleads for {intervals.n_disagree} pairs", fontsize="medium")
    if by:
        legend_beside(ax, ", ".join(by))
    plain_frame(ax)
    return ax
