"""The first page of a batch: how it went, and every trial in one row with a link to its page."""

from __future__ import annotations

from html import escape
from typing import Any

import numpy as np
import pandas as pd

from fastlmm_core.reports import figures
from fastlmm_core.reports.content import BatchContent, name_of_trial
from fastlmm_core.reports.html import boxes, card, number, page, table, warning_box
from fastlmm_core.results.components.component_columns import shared_variances

TITLE = "Trial report"
COLUMNS = (
    "n",
    "missing",
    "grand_mean",
    "cv",
    "p_genotypes",
    "lsd_mean",
    "h2",
    "outliers",
    "duplicates",
    "shared",
)
NAMES = {"n": "plots", "missing": "no value", "grand_mean": "mean", "cv": "CV %", "p_genotypes": "p",
         "sed_mean": "SED", "lsd_mean": "LSD", "h2": "h\N{SUPERSCRIPT TWO}", "duplicates": "twice",
         "shared": "shared", "outliers": "outliers"}  # fmt: skip
KINDS = {"p_genotypes": "p"}
# What the headings of the table are short for.
SAID = {"p_genotypes": "p: of the F test of the genotypes.",
        "lsd_mean": "LSD: mean least significant difference of two genotypes.",
        "h2": "h\N{SUPERSCRIPT TWO}: Cullis, of related genotypes Oakey.",
        "shared": "Shared: its genotypes that stand in other trials, too."}  # fmt: skip
MOST_STRIP = 400
MOST_COLOURS = 6  # components that a legend tells apart


def overview_page(content: BatchContent, links: list[str], title: str | None = None) -> str:
    """The page; `links` to those of the trials."""
    result, frame = content.result, content.table
    formulas = [own.formula for own in result.plan.models]
    head = f"<h1>{escape(title or TITLE)}</h1>" + "".join(
        f'<p class="soft"><code>{escape(own)}</code></p>' for own in formulas[:6]
    )
    if len(formulas) > 6:
        head += f'<p class="soft">and {len(formulas) - 6} more formulas</p>'
    link = links_of_rows(content, links)
    body = card("At a glance", glance(content)) + heritabilities(content, link)
    body += card("Trials", trial_rows(content, link)) + losses(frame)
    return page(title or TITLE, head, body)


def links_of_rows(content: BatchContent, links: list[str]) -> list[str]:
    """The page of every row of the table."""
    by = list(content.result.plan.by)
    if not by:
        return [links[0]] * len(content.table)
    place = {
        tuple(map(str, key)): own
        for key, own in zip(content.keys.itertuples(index=False), links, strict=True)
    }
    return [place[tuple(map(str, key))] for key in content.table[by].itertuples(index=False)]


def glance(content: BatchContent) -> str:
    """Counts, and what is worth a look."""
    frame, fits = content.table, content.result.fits
    observed = fits.loc[fits["criterion"].notna(), "n"].sum()  # without fit n is the rows
    found = [
        ("trials", number(len(content.keys))), ("traits", number(frame["trait"].nunique())),
        ("fits", number(len(frame))), ("not fitted", number(int((frame["status"] != "ok").sum()))),
        ("observations", number(float(observed))),
    ]  # fmt: skip
    if "h2" in frame:
        median = float(frame["h2"].median())
        found += [
            ("median heritability", f"{median:.2f}" if np.isfinite(median) else "\N{EN DASH}"),
            ("median CV %", number(frame["cv"].median())),
            ("outlying plots", number(frame["outliers"].sum())),
            ("plots twice", number(frame["duplicates"].sum())),
        ]  # fmt: skip
    found = [own for own in found if own != ("traits", "1")]
    bad = [name for name, value in found if name in ("not fitted", "plots twice") and value != "0"]
    return boxes(found, bad) + warning_box(whole_words(content))


def whole_words(content: BatchContent) -> list[str]:
    """What is to say of the batch as a whole."""
    frame, words = content.table, list(content.result.notes)
    if "network" in frame:
        parts = frame.groupby("trait", observed=True)["network"].nunique().max()
        if parts > 1:
            words.append(f"the trials fall into {parts} groups without a genotype in common, even through "
                         "others: their values do not compare between groups")  # fmt: skip
    if "h2" not in frame:
        words.append("this batch was made without genotypes=, so that it has no values, heritabilities and "
                     "tests of genotypes")  # fmt: skip
    if "plots" not in content.result.plan.tables:
        words.append("this batch was made without plots=, so that there are no maps and residuals")
    return words


def heritabilities(content: BatchContent, link: list[str]) -> str:
    """The heritability of every trial as a figure, trait by trait."""
    frame = content.table
    if "h2" not in frame or len(frame) < 2:
        return ""
    parts = []
    for trait, own in frame.groupby("trait", sort=False, observed=True):
        if len(own) < 2 or len(own) > MOST_STRIP or not own["h2"].notna().any():
            continue
        names = row_names(own, list(content.result.plan.by))
        links = [link[int(n)] for n in frame.index.get_indexer(own.index)]
        h2, se = (own[name].to_numpy(float) for name in ("h2", "h2_se"))
        figure = figures.strip(h2, se, names, links, "heritability")
        heading = f"<h3>{escape(str(trait))}</h3>" if frame["trait"].nunique() > 1 else ""
        parts.append(f'{heading}<div class="scroll">{figure}</div>')
    return card("Heritability of every trial, with its standard error", "".join(parts)) if parts else ""


def row_names(frame: pd.DataFrame, by: list[str]) -> list[str]:
    return [name_of_trial(key) for key in frame[by].itertuples(index=False)] if by else ["all"] * len(frame)


def trial_rows(content: BatchContent, link: list[str]) -> str:
    """The table of the trials."""
    frame, by = content.table, list(content.result.plan.by)
    shown = pd.DataFrame({"trial": row_names(frame, by)}, index=frame.index)
    if frame["trait"].nunique() > 1:
        shown["trait"] = frame["trait"].astype(str)
    shown["status"] = frame["status"].astype(str)
    for name in COLUMNS:
        if name in frame and not (name == "duplicates" and not frame[name].fillna(0).any()):
            shown[name] = frame[name].astype(float)
    known = any(name.startswith("var_") for name in frame.columns)
    source = frame if known else content.result.fits
    variances, splines = shared_variances(source.columns)
    if variances:
        shown["variance"] = ""
    shown["to look at"] = frame["warnings"].fillna("").astype(str)
    cells: dict[str, list[str]] = {
        "trial": [trial_link(to, name) for to, name in zip(link, shown["trial"], strict=True)],
        "status": [pill(word) for word in shown["status"]],
        "to look at": [words_cell(words) for words in frame["warnings"]],
    }  # fmt: skip
    if variances:
        names, rows = list(variances.values()), source[list(variances)].to_numpy(float)
        cells["variance"] = [variance_bar(row, names) for row in rows]
    if "h2" in shown:
        cells["h2"] = [h2_cell(value) for value in shown["h2"]]
    box = '<input type="search" data-filter="trials" placeholder="Filter trials" aria-label="Filter trials">'
    body = table(shown, sortable=True, identity="trials", names=NAMES, cells=cells, kinds=KINDS)
    notes = [words for name, words in SAID.items() if name in shown]
    colours = figures.legend(list(variances.values())) if 0 < len(variances) <= MOST_COLOURS else ""
    if variances:
        beside = " beside the splines" if splines else ""
        notes.append(f"Variance: shares of the components{beside}, the residual in grey.")
    return f'{box}<div class="scroll">{body}</div>{colours}<p class="soft">{" ".join(notes)}</p>'


def trial_link(to: str, name: str) -> str:
    return f'<a href="{escape(to, quote=True)}">{escape(name)}</a>'


def words_cell(words: Any) -> str:
    """The warnings as one line of the table, whole under the mouse and in print."""
    whole = "; ".join(word for word in str(words or "").split("; ") if word)
    return f'<span class="words" title="{escape(whole, quote=True)}">{escape(whole)}</span>'


def pill(word: str) -> str:
    return f'<span class="pill{"" if word == "ok" else " no"}">{escape(word)}</span>'


def h2_cell(value: float) -> str:
    """A heritability and its bar."""
    if not np.isfinite(value):
        return ""
    width = 100.0 * float(np.clip(value, 0.0, 1.0))
    return f'{value:.2f}<span class="bar"><i style="width:{width:.0f}%"></i></span>'


def variance_bar(row: np.ndarray, names: list[str]) -> str:
    """Shares of the variances of a trial."""
    kept = np.where(np.isfinite(row), row, 0.0)
    total = float(kept.sum())
    return figures.share_bar(names, kept / total) if total > 0.0 else ""


def losses(frame: pd.DataFrame) -> str:
    """Why trials could not be fitted, most frequent first."""
    lost = frame[frame["status"] != "ok"]
    if not len(lost):
        return ""
    counts = lost.groupby(["status", "warnings"], observed=True).size().rename("fits").reset_index()
    counts = counts.sort_values("fits", ascending=False, kind="stable").head(50)
    return card("Not fitted, and why", table(counts, names={"warnings": "reason"}))
