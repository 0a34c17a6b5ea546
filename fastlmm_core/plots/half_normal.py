"""Half-normal plot of the BLUPs of one term, with the envelope that its own model simulates."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastlmm_core.gate import public
from fastlmm_core.options import AXES, LEVEL, NAME, having, optional, whole
from fastlmm_core.plots.canvas import COLOURS, GREY, own_axes, plain_frame
from fastlmm_core.plots.labels_apart import write_labels

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from fastlmm_core.results.fit import LMMFit

MOST_LABELS = 12


@public(
    fit=having("a fit of lmm()", "half_normal"), term=optional(NAME), coefficient=optional(NAME),
    draws=whole(19), level=LEVEL, seed=whole(0), ax=AXES,
)  # fmt: skip
def plot_half_normal(
    fit: LMMFit, term: str | None = None, *, coefficient: str | None = None, draws: int = 999,
    level: float = 0.95, seed: int = 1, ax: Axes | None = None,
) -> Axes:  # fmt: skip
    """Sizes of standardized BLUPs against half-normal quantiles; those above the envelope have names.

    Parameters
    ----------
    fit : LMMFit
    term, coefficient, draws, level, seed
        As of ``LMMFit.half_normal``.
    ax : Axes, optional
        Where to draw; a new figure without it.

    Returns
    -------
    Axes

    Raises
    ------
    OptionError, InferenceError
        For an unknown term or coefficient, or a variance of zero.

    Examples
    --------
    >>> from fastlmm_core import datasets, lmm, plots
    >>> fit = lmm("Reaction ~ Days + (Days|Subject)", datasets.load("sleepstudy"))
    >>> axes = plots.plot_half_normal(fit, "Subject", draws=99)
    """
    table = fit.half_normal(term, coefficient=coefficient, draws=draws, level=level, seed=seed)
    ax = own_axes(ax)
    words = f"{100 * level:g} % envelope of the model"
    ax.fill_between(table["quantile"], table["lower"], table["upper"], color=COLOURS[0], alpha=0.15,
                    linewidth=0, label=words)  # fmt: skip
    ax.plot(table["quantile"], table["median"], color=GREY, linewidth=0.9, label="median")
    ax.plot(table["quantile"], table["size"], "o", color=COLOURS[0], markersize=3.5)
    outside = table[table["outside"]]
    ax.plot(outside["quantile"], outside["size"], "o", color=COLOURS[1], markersize=4.5)
    named = table[table["size"] > table["upper"]].tail(MOST_LABELS)
    write_labels(ax, named["quantile"].to_numpy(), named["size"].to_numpy(), list(named["level"]),
                 color=COLOURS[1])  # fmt: skip
    own = fit.design.random[0].group if term is None else term
    ax.set(xlabel="half-normal quantile", ylabel=f"|BLUP of {own}| / its standard deviation")
    ax.legend(frameon=False, loc="upper left")
    plain_frame(ax)
    return ax
