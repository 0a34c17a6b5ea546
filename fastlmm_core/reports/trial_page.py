"""The page of one trial: for each trait its figures, the field, residuals, genotypes, components."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import numpy as np
import pandas as pd

from fastlmm_core.display.colours import SIDES
from fastlmm_core.display.rendering import format_frame
from fastlmm_core.formula.structured_parts import names_spline
from fastlmm_core.reports import figures
from fastlmm_core.reports.content import UnitContent
from fastlmm_core.reports.html import boxes, card, data_block, number, p_value, page, table, warning_box
from fastlmm_core.results.components.component_columns import in_every_plot
from fastlmm_core.results.genotypes.trial_summary import SUSPICIOUS

# Rows of a table that a page shows; the whole stands in the tables of the batch.
MOST_ROWS = 2_000
MAPS = ("response", "trend", "fitted", "studentized")
HEADINGS = {"lower": "from", "upper": "to", "se": "SE", "blue": "BLUE", "blue_se": "SE of BLUE", "var1": "",
            "var2": "", "sd_or_cor": "SD, correlation", "p_best": "P(best)", "rank_lower": "rank from",
            "rank_upper": "rank to"}  # fmt: skip
# Columns of the values of genotypes that a page shows, in this order.
VALUES = ("rank", "estimate", "se", "lower", "upper", "blue", "blue_se", "reliability", "rank_lower",
          "rank_upper", "p_best")  # fmt: skip
HERITABILITIES = (
    ("heritabilities", "Heritability by definition"), ("heritability_within", "Heritability within"),
    ("heritability", "Heritability"),
)  # fmt: skip
HIDDEN = ("ddf", "scaling")


def trial_page(title: str, units: Sequence[UnitContent], navigation: str = "") -> str:
    """A whole page.

    Parameters
    ----------
    title : str
        Of the trial.
    units : sequence of UnitContent
        Its traits.
    navigation : str
        HTML of the links to other pages.
    """
    head = f"{navigation}<h1>{escape(title)}</h1>"
    if len(units) > 1:
        links = "".join(f'<a href="#trait-{n}">{escape(own.trait)}</a>' for n, own in enumerate(units))
        head += f"<nav>{links}</nav>"
    return page(title, head, "".join(unit_sections(own, n) for n, own in enumerate(units)))


def unit_sections(own: UnitContent, n: int) -> str:
    """The parts of a page about one trait."""
    row, lost = own.row, not own.good
    words = [word for word in str(row.get("warnings") or "").split("; ") if word]
    formula = f'<p class="soft"><code>{escape(own.formula)}</code></p>'
    first = formula + ("" if lost else summary_boxes(row)) + warning_box(words, lost)
    parts = [card(own.trait, first, f'id="trait-{n}"')]
    if not lost:
        parts += [
            plot_section(own, n),
            genotype_section(own, n),
            component_section(own),
            effect_sections(own, n),
        ]
    return "".join(parts)


def summary_boxes(row: dict[str, Any]) -> str:
    """What a breeder looks at first."""
    found = [
        ("plots", number(row.get("n"))), ("without a value", number(row.get("missing"))),
        ("genotypes", number(row.get("genotypes"))), ("checks", number(row.get("checks"))),
        ("replication", replication(row)),
        ("grand mean", number(row.get("grand_mean"), 4)), ("CV %", number(row.get("cv"))),
        (h2_name(row), with_error(row.get("h2"), row.get("h2_se"))),
        ("F of genotypes", number(row.get("F_genotypes"))),
        ("p of genotypes", p_value(row.get("p_genotypes"))),
        ("mean SED", number(row.get("sed_mean"))), ("mean LSD", number(row.get("lsd_mean"))),
        ("SED of line and check", number(row.get("sed_check"))),
        ("LSD of line and check", number(row.get("lsd_check"))),
        ("outlying plots", number(row.get("outliers"))), ("plots twice", number(row.get("duplicates"))),
        ("genotypes in other trials", number(row.get("shared"))),
    ]  # fmt: skip
    known = [(name, value) for name, value in found if value not in ("\N{EN DASH}", "")]
    bad = [name for name, value in known if name in ("outlying plots", "plots twice") and value != "0"]
    return boxes(known, bad)


def h2_name(row: dict[str, Any]) -> str:
    definition = row.get("h2_definition")
    return f"heritability ({str(definition).capitalize()})" if definition else "heritability"


def with_error(value: Any, error: Any) -> str:
    """A figure and its standard error."""
    if value is None or not np.isfinite(float(value)):
        return "\N{EN DASH}"
    known = error is not None and np.isfinite(float(error))
    return f"{float(value):.2f}" + (f" \N{PLUS-MINUS SIGN} {float(error):.2f}" if known else "")


def replication(row: dict[str, Any]) -> str:
    """The number, or its least and most."""
    least, most = row.get("replication_least"), row.get("replication_most")
    if least is None or most is None or pd.isna(least) or pd.isna(most):
        return ""
    return number(least) if least == most else f"{number(least)} to {number(most)}"


def plot_section(own: UnitContent, n: int) -> str:
    """Maps of the field, or of the field of every environment, and the residuals."""
    plots = own.table("plots")
    if not len(plots):
        return ""
    fields = figures.fields_of(plots)
    names = figures.plot_names(plots, fields)
    panel = "".join(figures.residual_panel(plots, names))
    out = card("Residuals", f'<div class="row">{panel}</div>') if panel else ""
    lost = "".join(f'<p class="soft">{escape(own)}</p>' for own in figures.places_twice(plots))
    if not fields:
        return (card("Field", lost) if lost else "") + out
    maps = "".join(
        field_maps(plots, field, names, f"plots-{n}" + (f"-{k}" if field.name else ""))
        for k, field in enumerate(fields)
    )
    note = (f"Grey places have no value; rings are residuals beyond {SUSPICIOUS:g} of their standard "
            f"deviations. Trend and residuals: {SIDES}.")  # fmt: skip
    title = "Fields" if len(fields) > 1 else "Field"
    return card(title, f'{maps}<p class="soft">{note}</p>{lost}') + out


def field_maps(plots: pd.DataFrame, field: figures.Field, names: list[str], identity: str) -> str:
    """Maps of one field, with what the mouse is told over them; `identity` is the name of these data."""
    own = plots.iloc[field.plots]
    shown = [name for name in MAPS if own[name].notna().any()]
    if "trend" in shown:
        shown.remove("fitted")
    marked = own["studentized"].abs().to_numpy() > SUSPICIOUS
    maps = "".join(
        figures.field_map(field, own[name].to_numpy(float), name, marked, turn).replace(
            "<svg ", f'<svg data-plots="{identity}" ', 1
        )
        for turn, name in enumerate(shown)
    )
    values = [[None if not np.isfinite(v) else float(f"{v:.4g}") for v in own[name]] for name in shown]
    said = {
        "cell": (field.i * len(field.columns) + field.j).tolist(), "names": [names[n] for n in field.plots],
        "values": values, "words": [figures.WORDS[name] for name in shown],
    }  # fmt: skip
    heading = f"<h3>{escape(field.name)}</h3>" if field.name else ""
    return f'{heading}<div class="row">{maps}</div>{data_block(identity, said)}'


def genotype_section(own: UnitContent, n: int) -> str:
    """Values of the genotypes: figure and table, with their means as fixed effects beside."""
    values, genotype = own.table("genotype_values"), own.genotype
    if not len(values) or genotype is None:
        return ""
    blues = own.table("blues")
    if genotype in blues.columns:
        beside = blues.set_index(blues[genotype].astype(str))[["estimate", "se"]]
        beside.columns = pd.Index(["blue", "blue_se"])
        values = values.join(beside.reindex(values[genotype].astype(str)).reset_index(drop=True))
    values = values.sort_values("estimate", ascending=False, kind="stable").reset_index(drop=True)
    shown = values[[genotype, *(name for name in VALUES if name in values.columns)]]
    figure = figures.caterpillar(values, genotype, f"{own.trait}: mean + BLUP")
    words = "" if "blue" not in values else "; BLUE, the mean of the genotype as a fixed effect"
    checks, cells = figures.is_check(values), {}
    if checks.any():
        words += "; checks, in red, have their fixed mean and no rank"
        ranks = zip(format_frame(shown[["rank"]], {}, 3)["rank"], checks, strict=True)
        cells["rank"] = ['<span class="pill no">check</span>' if c else escape(r) for r, c in ranks]
    note = f'<p class="soft">Mean + BLUP of every genotype with its interval and rank{words}.</p>'
    rows = long_table(shown, f"genotypes-{n}", cells)
    return card("Genotypes", f'<div class="scroll">{figure}</div>{note}{rows}')


def component_section(own: UnitContent) -> str:
    """Variance components with their shares, and heritability by every definition."""
    components, parts = own.table("variance_components"), []
    if len(components):
        variances = components[components["var2"].isna()]
        labels = [component_name(row) for row in variances.itertuples()]
        sizes = variances["estimate"].to_numpy(float)
        bar = ""
        if (
            np.all(sizes >= 0.0)
            and sizes.sum() > 0.0
            and not any(map(names_spline, labels))  # whose variances are smoothing parameters, no shares
            and not any(map(of_coefficient, variances.itertuples()))  # which do not add up in a plot
        ):
            shares = sizes / sizes.sum()
            bar = figures.share_bar(labels, shares) + figures.legend(labels, shares)
        empty = [c for c in ("var1", "var2") if c in components and components[c].isna().all()]
        shown = components.drop(columns=[c for c in ("component", *empty) if c in components])
        parts.append(f"<div><h3>Variance components</h3>{bar}{table(shown, names=HEADINGS)}</div>")
    for name, title in HERITABILITIES:
        if len(own.table(name)):
            frame = own.table(name)
            frame = frame[
                [c for c in frame.columns if c not in ("group", "levels") or name == "heritability"]
            ]
            if "status" in frame and (frame["status"] == "ok").all():
                frame = frame.drop(columns="status")
            parts.append(f"<div><h3>{title}</h3>{table(frame, names=HEADINGS)}</div>")
    return card("Components", f'<div class="columns">{"".join(parts)}</div>') if parts else ""


def component_name(row: Any) -> str:
    return f"{row.group} {row.var1}" if has_coefficient(row) else str(row.group)


def has_coefficient(row: Any) -> bool:
    return not (row.var1 is None or pd.isna(row.var1) or row.var1 == "(Intercept)")


def of_coefficient(row: Any) -> bool:
    """Whether a variance is of a slope, of one environment, or of the plots of one: not of every plot."""
    return has_coefficient(row) or not in_every_plot([str(row.group)])


def effect_sections(own: UnitContent, n: int) -> str:
    """Means, contrasts, fixed effects and BLUPs, where the batch has them."""
    parts = []
    titles = (
        ("values_within", "Genotypes within environments: mean + BLUP"),
        ("emmeans", "Means"),
        ("contrasts", "Contrasts"),
        ("fixed", "Fixed effects"),
        ("blups", "BLUPs"),
    )
    for name, title in titles:
        frame = own.table(name)
        if len(frame):
            frame = frame.drop(columns=[c for c in HIDDEN if c in frame.columns])
            if "status" in frame and (frame["status"] == "ok").all():
                frame = frame.drop(columns="status")
            parts.append(card(title, long_table(frame, f"{name}-{n}")))
    return "".join(parts)


def long_table(
    frame: pd.DataFrame, identity: str, cells: Mapping[str, Sequence[str]] | None = None
) -> str:  # fmt: skip
    """A table that sorts, filters where it is long, and scrolls in itself; `cells` as of ``html.table``."""
    own = {name: texts[:MOST_ROWS] for name, texts in (cells or {}).items()}
    shown = table(
        frame.head(MOST_ROWS), sortable=True, identity=identity, names=HEADINGS, kinds={"p_best": "p"},
        cells=own,
    )  # fmt: skip
    box = ""
    if len(frame) > 20:
        words = 'placeholder="Filter rows" aria-label="Filter rows"'
        box = f'<input type="search" data-filter="{identity}" {words}>'
    left = len(frame) - MOST_ROWS
    note = f'<p class="soft">{left} more rows stand in the tables of the batch.</p>' if left > 0 else ""
    return f'{box}<div class="tall">{shown}</div>{note}'
