"""Figures of one trial: maps of its field, its residuals, the values of its genotypes, its variances."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from html import escape

import numpy as np
import pandas as pd
from scipy.special import ndtri

from fastlmm_core.display.colours import DIVERGING
from fastlmm_core.reports.svg import (
    SEQUENTIAL,
    Axes,
    dots,
    drawing,
    line,
    named_dots,
    padded,
    spread_colours,
    text,
    tick_label,
)
from fastlmm_core.results.field.map_range import MapRange, map_range
from fastlmm_core.results.field.plot_places import plain
from fastlmm_core.results.genotypes.trial_summary import SUSPICIOUS

# Cells above which a map is no field, and the widest it gets.
MOST_CELLS, MAP_WIDTH = 250_000, 330.0
MOST_TICKS = 12
MOST_NAMES = 12  # trials that a figure of all of them names
WORDS = {"response": "response", "fitted": "fitted value", "trend": "trend", "residual": "residual",
         "studentized": "studentized residual"}  # fmt: skip


@dataclass(frozen=True)
class Field:
    """Places of the plots on a grid, the first row on top.

    Attributes
    ----------
    rows, columns : list of str
    i, j : (n,) int64
    plots : (n,) int64
        Their rows in the table of plots.
    name : str
        Of the environment, ``"env E1"``; empty where there is one.
    """

    rows: list[str]
    columns: list[str]
    i: np.ndarray
    j: np.ndarray
    plots: np.ndarray
    name: str = ""

    def words(self) -> list[str]:
        """The place of every plot."""
        prefix = f"{self.name}, " if self.name else ""
        return [
            f"{prefix}row {self.rows[i]} column {self.columns[j]}"
            for i, j in zip(self.i, self.j, strict=True)
        ]


def fields_of(plots: pd.DataFrame) -> list[Field]:
    """The grid of every environment that the table tells apart, of those with one plot a place."""
    found = [(field_of(plots.iloc[at]), at, name) for name, at in environments_of(plots)]
    return [replace(own, plots=at, name=name) for own, at, name in found if own is not None]


def environments_of(plots: pd.DataFrame) -> list[tuple[str, np.ndarray]]:
    """Name, ``"env E1"``, and rows of every environment of the table; else one without name."""
    before = plots.columns[: list(plots.columns).index("row")]
    by = [name for name in before if plots[name].notna().any()]
    if not by:
        return [("", np.arange(len(plots)))]
    groups = plots.groupby(by, observed=True).ngroup()  # missing where the environment is
    codes = groups.fillna(-1).to_numpy(np.int64)
    rows = [np.flatnonzero(codes == code) for code in np.unique(codes[codes >= 0])]
    names = [", ".join(f"{column} {plain(plots[column].iloc[at[0]])}" for column in by) for at in rows]
    return list(zip(names, rows, strict=True))


def places_twice(plots: pd.DataFrame) -> list[str]:
    """Why fields have no map: places that several plots claim, in words, an environment each."""
    out = []
    for name, at in environments_of(plots):
        places = plots.iloc[at][["row", "column"]]
        if places.isna().any(axis=None):
            continue
        counts = places.value_counts(sort=False)
        counts = counts[counts > 1]
        if len(counts):
            row, column = counts.index[0]
            more = f", and several at {len(counts) - 1} more places" if len(counts) > 1 else ""
            field = f"the field of {name}" if name else "this field"
            out.append(f"There is no map of {field}: {int(counts.iloc[0])} plots stand at row {plain(row)} "
                       f"column {plain(column)}{more}.")  # fmt: skip
    return out


def field_of(plots: pd.DataFrame) -> Field | None:
    """The grid of the plots; None without one plot a place."""
    if plots[["row", "column"]].isna().any(axis=None) or not len(plots):
        return None
    (rows, i), (columns, j) = (positions(plots[name]) for name in ("row", "column"))
    if len(rows) * len(columns) > MOST_CELLS or len(np.unique(i * len(columns) + j)) < len(plots):
        return None
    return Field(rows, columns, i, j, np.arange(len(plots)))


def positions(values: pd.Series) -> tuple[list[str], np.ndarray]:
    """Labels in order, numbers a whole step apart also where no plot stands, and the place of each value."""
    used, codes = np.unique(values.to_numpy(), return_inverse=True)
    if values.dtype.kind == "f" and np.all(used == np.round(used)) and np.ptp(used) < MOST_CELLS:
        whole = used.astype(np.int64)
        step = math.gcd(*np.diff(whole).tolist()) if used.size > 1 else 1
        first = int(whole[0])
        count = (int(whole[-1]) - first) // step + 1
        return [str(first + step * k) for k in range(count)], (whole[codes.ravel()] - first) // step
    return [plain(value) for value in used.tolist()], codes.ravel()


def field_map(field: Field, values: np.ndarray, name: str, marked: np.ndarray, turn: int) -> str:
    """Values (n,) of a field as a map; those of `marked` get a ring, places without a value stay hatched.

    `turn` is the place of the values in the data of the page, which the mouse asks for.
    """
    R, C = len(field.rows), len(field.columns)
    side = min(MAP_WIDTH / C, 26.0)
    height = float(np.clip(side, 6.0, 26.0)) if R <= 40 else float(max(240.0 / R, 2.0))
    left, top, width, tall = 34.0, 22.0, side * C, height * R
    diverging = name in ("residual", "studentized", "trend")
    colours = spread_colours(DIVERGING if diverging else SEQUENTIAL)
    seen = np.isfinite(values)
    ends = map_range(values, diverging)
    low, high = ends.low, ends.high
    share = (values[seen] - low) / (high - low) if high > low else np.full(int(seen.sum()), 0.5)
    shade = np.clip((share * len(colours)).astype(int), 0, len(colours) - 1)
    body = [f'<rect class="ground" x="{left:g}" y="{top:g}" width="{width:g}" height="{tall:g}"/>']
    i, j = field.i[seen], field.j[seen]
    cell = f"h{side:.4g}v{height:.4g}h-{side:.4g}z"
    for k in np.unique(shade):
        at = np.flatnonzero(shade == k)
        path = "".join(f"M{left + side * j[n]:.4g} {top + height * i[n]:.4g}{cell}" for n in at)
        body.append(f'<path fill="{colours[k]}" d="{path}"/>')
    for n in np.flatnonzero(marked & seen):
        x, y = left + side * (field.j[n] + 0.5), top + height * (field.i[n] + 0.5)
        body.append(
            f'<circle class="ring" cx="{x:.1f}" cy="{y:.1f}" r="{0.42 * min(side, height) + 1:.1f}"/>'
        )
    body.append(text(left, 12, WORDS[name], "title"))
    for labels, across in ((field.rows, False), (field.columns, True)):
        for k in range(0, len(labels), 1 + (len(labels) - 1) // MOST_TICKS):
            if across:
                body.append(text(left + side * (k + 0.5), top + tall + 12, labels[k], "tick mid"))
            else:
                body.append(text(left - 4, top + height * (k + 0.5) + 3.5, labels[k], "tick end"))
    bar = left + width + 10
    body += colour_bar(bar, top, max(tall, 90.0), colours, ends)
    grid = json.dumps([left, top, side, height, R, C, turn])
    total = max(tall, 90.0)
    return drawing(bar + 62, top + total + 20, "".join(body), f"map of {WORDS[name]}",
                   f'class="map" style="max-width:{bar + 62:.0f}px" data-grid="{grid}"')  # fmt: skip


def colour_bar(x: float, y: float, tall: float, colours: list[str], ends: MapRange) -> list[str]:
    """The scale of a map with its ends and middle; an end says where values lie beyond."""
    low, high = ends.low, ends.high
    beyond = {0.0: "\N{LESS-THAN OR EQUAL TO}" * ends.below, 1.0: "\N{GREATER-THAN OR EQUAL TO}" * ends.above}
    step = tall / len(colours)
    out = [
        f'<rect x="{x:g}" y="{y + tall - step * (k + 1):.2f}" width="10" height="{step + 0.4:.2f}" '
        f'fill="{own}"/>'
        for k, own in enumerate(colours)
    ]
    digits = 3 if max(abs(low), abs(high)) < 1e5 else 6
    for share in (0.0, 0.5, 1.0):
        label = beyond.get(share, "") + tick_label(float(f"{low + share * (high - low):.{digits}g}"))
        out.append(text(x + 14, y + tall * (1.0 - share) + 3.5, label, "tick"))
    return out


def plot_names(plots: pd.DataFrame, fields: Sequence[Field]) -> list[str]:
    """What is said of every plot: its number or place, and its genotype."""
    out = []
    places = {int(n): words for own in fields for n, words in zip(own.plots, own.words(), strict=True)}
    number, genotype = plots["plot"].tolist(), plots["genotype"].tolist()
    for n in range(len(plots)):
        parts = [] if pd.isna(number[n]) else [f"plot {plain(number[n])}"]
        parts += [places[n]] if n in places else []
        parts += [] if genotype[n] is None or pd.isna(genotype[n]) else [str(genotype[n])]
        out.append(", ".join(parts) or f"observation {n + 1}")
    return out


def residual_panel(plots: pd.DataFrame, names: list[str]) -> list[str]:
    """Studentized residuals against fitted values, and in order against normal quantiles."""
    seen = np.flatnonzero(plots["studentized"].notna() & plots["fitted"].notna())
    if not seen.size:
        return []
    fitted = plots["fitted"].to_numpy(float)[seen]
    r = plots["studentized"].to_numpy(float)[seen]
    limit = max(3.9, 1.08 * float(np.max(np.abs(r))))
    said = [f"{names[n]}: {value:+.2f}" for n, value in zip(seen, r, strict=True)]
    order = np.argsort(r, kind="stable")
    expected = np.empty(r.size)
    expected[order] = ndtri((np.arange(1, r.size + 1) - 0.375) / (r.size + 0.25))  # Blom 1958
    reach = float(np.max(np.abs(expected)) * 1.05)
    size = {"width": 430.0, "height": 220.0}
    against = Axes(padded(fitted), (-limit, limit), **size)
    quantiles = Axes((-reach, reach), (-limit, limit), **size)
    straight = np.array([-min(reach, limit), min(reach, limit)])
    return [
        residual_figure(against, fitted, r, said, "fitted value", ""),
        residual_figure(quantiles, expected, r, said, "normal quantile",
                        line(*quantiles.at(straight, straight), "guide")),
    ]  # fmt: skip


def residual_figure(ax: Axes, x: np.ndarray, r: np.ndarray, said: list[str], xlabel: str, more: str) -> str:
    """Studentized residuals over x, with lines where they are suspicious."""
    body = ax.frame(xlabel, "studentized residual")
    for level, kind in ((0.0, "guide"), (SUSPICIOUS, "limit"), (-SUSPICIOUS, "limit")):
        body += line(*ax.at(np.array(ax.x), np.array([level, level])), kind)
    odd = np.abs(r) > SUSPICIOUS
    body += more + dots(*ax.at(x[~odd], r[~odd]))
    body += named_dots(*ax.at(x[odd], r[odd]), [said[n] for n in np.flatnonzero(odd)])
    return drawing(490, 262, body, f"studentized residuals against {xlabel}", 'class="figure"')


def is_check(values: pd.DataFrame) -> np.ndarray:
    """(L,) bool: genotypes that are fixed effects in the model of their values."""
    if "check" not in values.columns:
        return np.zeros(len(values), bool)
    return values["check"].eq(True).fillna(False).to_numpy(bool)


def caterpillar(values: pd.DataFrame, genotype: str, unit: str) -> str:
    """Values of the genotypes in order with their intervals, checks in red; the mouse tells their names."""
    own = values.sort_values("estimate", ascending=False, kind="stable")
    n = len(own)
    y, low, high = (own[name].to_numpy(float) for name in ("estimate", "lower", "upper"))
    ax = Axes((0.2, n + 0.8), padded(np.concatenate([low, high])), width=880.0, height=200.0)
    x = np.arange(1, n + 1)
    checks = is_check(own)
    body = ax.frame(f"place of {genotype}" if checks.any() else f"rank of {genotype}", unit)
    at, bottom = ax.at(x, low)
    top, place = ax.at(x, high)[1], ax.at(x, y)[1]
    sticks = "".join(f"M{a:.1f} {b:.1f}V{c:.1f}" for a, b, c in zip(at, bottom, top, strict=True))
    body += f'<path class="sticks" d="{sticks}"/>' + dots(at, place)
    texts = own[genotype].astype(str)
    names = [f"check {name}" if c else name for name, c in zip(texts, checks, strict=True)]
    said = [
        f"{name}: {value:.4g} ({a:.4g} to {b:.4g})"
        for name, value, a, b in zip(names, y, low, high, strict=True)
    ]
    for mine, kind in ((~checks, "sense"), (checks, "odd")):
        body += named_dots(at[mine], place[mine], [said[i] for i in np.flatnonzero(mine)], kind)
    return drawing(940, 246, body, f"values of {genotype} with intervals", 'class="wide"')


def share_bar(names: list[str], shares: np.ndarray) -> str:
    """Parts of a whole as one bar, each with its name under the mouse."""
    x, parts = 0.0, []
    for k, (name, share) in enumerate(zip(names, shares, strict=True)):
        if not share > 0.0:  # one that this trial has not: the others keep their colours
            continue
        said = escape(f"{name}: {100.0 * share:.0f} %")
        kind = "rest" if name.startswith("Residual") else f"part{k % 6}"
        parts.append(f'<rect class="{kind}" x="{x:.2f}" y="0" width="{100.0 * share:.2f}" height="10">'
                     f"<title>{said}</title></rect>")  # fmt: skip
        x += 100.0 * share
    body = "".join(parts)
    return f'<svg class="shares" viewBox="0 0 100 10" preserveAspectRatio="none" role="img">{body}</svg>'


def legend(names: list[str], shares: np.ndarray | None = None) -> str:
    """What the colours of a bar stand for."""
    colours = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
    items = []
    for k, name in enumerate(names):
        own = "#c6ced6" if name.startswith("Residual") else colours[k % 6]
        share = "" if shares is None else f" {100.0 * shares[k]:.0f} %"
        items.append(f'<span><i style="background:{own}"></i>{escape(name)}{share}</span>')
    return f'<p class="legend">{"".join(items)}</p>'


def strip(values: np.ndarray, errors: np.ndarray, names: list[str], links: list[str], label: str) -> str:
    """One figure of every trial in order, with its standard error, each a link to its page."""
    n = len(values)
    reach = np.concatenate([values - np.nan_to_num(errors), values + np.nan_to_num(errors)])
    low, high = padded(reach)
    ax = Axes((0.3, n + 0.7), (max(0.0, low), min(1.0, high)), width=1080.0, height=150.0)
    x = np.arange(1, n + 1)
    few = n <= MOST_NAMES
    body = ax.frame("" if few else "trial, in the order of the table", label, with_x=not few)
    for k, name in enumerate(names) if few else ():
        short = name if len(name) <= 15 else name[:14] + "\N{HORIZONTAL ELLIPSIS}"
        body += text(float(ax.at(k + 1, 0.0)[0]), ax.top + ax.height + 14, short, "tick mid")
    at, place = ax.at(x, np.clip(values, *ax.y))
    for k in np.flatnonzero(np.isfinite(values)).tolist():
        ends = ax.at(x[k], np.clip(values[k] + np.array([-1.0, 1.0]) * np.nan_to_num(errors[k]), *ax.y))[1]
        said = escape(f"{names[k]}: {values[k]:.2f}")
        stick = f'<path class="sticks" d="M{at[k]:.1f} {ends[0]:.1f}V{ends[1]:.1f}"/>'
        body += (f'<a href="{escape(links[k], quote=True)}">{stick}<circle class="point" cx="{at[k]:.1f}" '
                 f'cy="{place[k]:.1f}" r="3.6"><title>{said}</title></circle></a>')  # fmt: skip
    return drawing(1140, 178 if few else 192, body, label, 'class="wide"')
