"""Figures of a factor-analytic report: latent regressions, and performance against stability."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from fastlmm_core.errors import DataError, OptionError, nearest_names
from fastlmm_core.gate import public
from fastlmm_core.options import AXES, NAMES, SWITCH, having, optional, whole
from fastlmm_core.plots.canvas import COLOURS, GREY, own_axes, plain_frame, pyplot
from fastlmm_core.plots.labels_apart import write_labels

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from fastlmm_core.results.factor_analytic.factor_analysis import FactorAnalysis

PANELS = 9
ANALYSIS = having("the result of fit.factor_analysis()", "factor_scores", "gamma", "performance")


@public(analysis=ANALYSIS, levels=optional(NAMES), factor=whole(1), specific=SWITCH)
def plot_latent_regressions(
    analysis: FactorAnalysis, levels: str | Sequence[str] | None = None, *, factor: int = 1,
    specific: bool = False,
) -> Figure:  # fmt: skip
    """Common effects of some levels against the loadings of the environments, with latent regressions.

    The slope of a line is the level's score. For a later factor the parts of those before are taken off, as
    Smith & Cullis (2018) draw them, so that what is left scatters about the line by the factors after it.

    Parameters
    ----------
    analysis : FactorAnalysis
    levels : list of str, optional
        A panel for each; by default the nine with the highest overall performance.
    factor : int
        1, 2, ..., k.
    specific : bool
        Add the specific effects, which scatter about the line of the last factor too.

    Returns
    -------
    Figure

    Raises
    ------
    DataError
        For an unknown level.
    OptionError
        For a factor that the model does not have.

    Examples
    --------
    >>> from fastlmm_core import datasets, lmm, plots
    >>> model = "yield ~ county + fa(0 + county | gen, k=1) + (1 | county:rep:block)"
    >>> fit = lmm(model, datasets.load("besag_met"), residual="units | county")
    >>> figure = plots.plot_latent_regressions(fit.factor_analysis(), ["G01", "G02"])
    """
    if factor > analysis.k:
        raise OptionError(f"factor={factor}: the model has {analysis.k}")
    rows = _rows(analysis, levels)
    r = factor - 1
    loading = analysis.gamma[:, r]
    left = analysis.factor_scores[:, r:] @ analysis.gamma[:, r:].T
    if specific:
        left = left + analysis.effects - analysis.common_effects.to_numpy()
    wide = int(np.ceil(np.sqrt(len(rows))))
    tall = int(np.ceil(len(rows) / wide))
    figure, axes = pyplot().subplots(
        tall, wide, figsize=(2.6 * wide + 0.6, 2.3 * tall + 0.6), layout="constrained",
        sharex=True, sharey=True, squeeze=False,
    )  # fmt: skip
    reach = np.array([min(loading.min(), 0.0), max(loading.max(), 0.0)])
    for ax, i in zip(axes.ravel(), rows, strict=False):
        ax.axhline(0, color=GREY, linewidth=0.6)
        ax.plot(reach, analysis.factor_scores[i, r] * reach, color=COLOURS[1], linewidth=1.2)
        ax.plot(loading, left[i], "o", color=COLOURS[0], markersize=4)
        ax.set_title(analysis.levels[i], fontsize=10)
        plain_frame(ax)
    for ax in axes.ravel()[len(rows) :]:
        ax.set_visible(False)
    percent = analysis.factors["percent"].iloc[r]
    figure.supxlabel(f"loading on factor {factor} ({percent:.1f}% of the variance)")
    effect = "effect" if specific else "common effect"
    figure.supylabel(effect if r == 0 else f"{effect} less factors 1 to {r}")
    return figure


def _rows(analysis: FactorAnalysis, levels: Any) -> list[int]:
    if levels is None:
        best = analysis.performance.sort_values("OP", ascending=False, kind="stable")
        return [int(i) for i in best.index[:PANELS]]
    asked = [levels] if isinstance(levels, str) else [str(level) for level in levels]
    for level in asked:
        if level not in analysis.levels:
            hint = nearest_names(level, analysis.levels)
            raise DataError(f"'{level}' is no level of {analysis.group}{hint}")
    return [analysis.levels.index(level) for level in asked]


@public(analysis=ANALYSIS, label=whole(0), ax=AXES)
def plot_performance(analysis: FactorAnalysis, *, label: int = 15, ax: Axes | None = None) -> Axes:
    """Overall performance against RMSD (Smith & Cullis 2018): good and stable ones are low to the right.

    Parameters
    ----------
    analysis : FactorAnalysis
    label : int
        So many levels with the highest performance get their names.
    ax : Axes, optional
        Where to draw; a new figure without it.

    Returns
    -------
    Axes

    Examples
    --------
    >>> from fastlmm_core import datasets, lmm, plots
    >>> model = "yield ~ county + fa(0 + county | gen, k=1) + (1 | county:rep:block)"
    >>> fit = lmm(model, datasets.load("besag_met"), residual="units | county")
    >>> ax = plots.plot_performance(fit.factor_analysis())
    """
    frame = analysis.performance
    ax = own_axes(ax)
    ax.axvline(0, color=GREY, linewidth=0.8)
    ax.plot(frame["OP"], frame["RMSD"], "o", color=COLOURS[0], markersize=4, alpha=0.8)
    best = frame.sort_values("OP", ascending=False, kind="stable").head(label)
    ax.set(xlabel="overall performance (OP)", ylabel="root mean square deviation (RMSD)")
    ax.set_ylim(bottom=-0.03 * max(float(frame["RMSD"].max()), 1e-300))
    plain_frame(ax)
    write_labels(ax, best["OP"].to_numpy(), best["RMSD"].to_numpy(), list(best["level"]))
    return ax
