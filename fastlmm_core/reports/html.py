"""HTML of a page: its frame, tables, boxes. Every text of the user is escaped here or in svg.py."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cache
from html import escape
from importlib.resources import files
from typing import Any

import numpy as np
import pandas as pd

from fastlmm_core._version import __version__
from fastlmm_core.display.rendering import column_kind, format_frame

# By which pages of an earlier report are known.
GENERATOR = '<meta name="generator" content="fastlmm_core">'


@cache
def part(name: str) -> str:
    """A file of this package: the style sheet, the script."""
    return files(__package__).joinpath(name).read_text(encoding="utf-8")


def page(title: str, head: str, body: str) -> str:
    """A whole page with style and script inside; nothing is fetched from anywhere."""
    policy = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:"
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        f"{GENERATOR}\n"
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{part('page.css')}</style></head>\n<body>\n"
        f'<header class="page">{head}</header>\n<main>\n{body}\n</main>\n'
        f"<footer>fastlmm_core {escape(__version__)}</footer>\n"
        f"<script>{part('page.js')}</script>\n</body></html>\n"
    )


def card(title: str, body: str, more: str = "") -> str:
    """A part of a page."""
    return f'<section class="card" {more}><h2>{escape(title)}</h2>{body}</section>\n'


def boxes(figures: Sequence[tuple[str, str]], bad: Sequence[str] = ()) -> str:
    """Figures in boxes: (what it is, the figure)."""
    inner = "".join(
        f'<div class="figure-box{" bad" if name in bad else ""}"><b>{escape(value)}</b>'
        f"<span>{escape(name)}</span></div>"
        for name, value in figures
    )
    return f'<div class="figures">{inner}</div>'


def warning_box(words: Sequence[str], lost: bool = False) -> str:
    """Warnings as a list; nothing where there are none."""
    if not words:
        return ""
    items = "".join(f"<li>{escape(word)}</li>" for word in words)
    return f'<div class="warn{" lost" if lost else ""}"><ul>{items}</ul></div>'


def table(
    frame: pd.DataFrame, *, sortable: bool = False, identity: str = "",
    names: Mapping[str, str] | None = None, cells: Mapping[str, Sequence[str]] | None = None,
    kinds: Mapping[str, str] | None = None, digits: int = 3,
) -> str:  # fmt: skip
    """A DataFrame as a table.

    Parameters
    ----------
    names : mapping, optional
        Headings in place of the names of columns.
    cells : mapping, optional
        HTML of the cells of a column, in place of its formatted values.
    kinds, digits
        As of ``fastlmm_core.display.rendering.format_frame``.
    """
    kinds, cells, names = kinds or {}, cells or {}, names or {}
    shown = format_frame(frame, kinds, digits)
    numeric = {name: column_kind(str(name), frame[name], kinds) != "text" for name in frame.columns}
    heads, columns = [], []
    for name in frame.columns:
        label = escape(names.get(name, str(name)))
        kind = ' class="n"' if numeric[name] else ""
        heads.append(f"<th{kind}><button>{label}</button></th>" if sortable else f"<th{kind}>{label}</th>")
        texts = cells.get(name) or [escape(cell) for cell in shown[name]]
        if numeric[name] and sortable:
            raw = ["" if not np.isfinite(v) else repr(float(v)) for v in frame[name].to_numpy(float)]
            columns.append(
                [f'<td{kind} data-v="{v}">{cell}</td>' for v, cell in zip(raw, texts, strict=True)]
            )
        else:
            columns.append([f"<td{kind}>{cell}</td>" for cell in texts])
    rows = "".join(f"<tr>{''.join(row)}</tr>\n" for row in zip(*columns, strict=True))
    own = f' id="{identity}"' if identity else ""
    return (
        f"<table{own}{' class=sortable' if sortable else ''}><thead><tr>{''.join(heads)}</tr></thead>"
        f"<tbody>\n{rows}</tbody></table>"
    )


def data_block(identity: str, value: Any) -> str:
    """Data for the script; no text of it can end the element."""
    packed = json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    for sign, code in (
        ("<", "\\u003c"),
        (">", "\\u003e"),
        ("&", "\\u0026"),
        ("\u2028", "\\u2028"),
        ("\u2029", "\\u2029"),
    ):
        packed = packed.replace(sign, code)
    return f'<script type="application/json" id="{identity}">{packed}</script>'


def number(value: Any, digits: int = 3) -> str:
    """A figure for a box; a dash where there is none."""
    if value is None or not np.isfinite(float(value)):
        return "\N{EN DASH}"
    value = float(value)
    if value.is_integer() and abs(value) < 1e7:
        return f"{value:.0f}"
    text = f"{value:.{digits}g}"
    return f"{value:.0f}" if "e" in text and abs(value) < 1e9 and abs(value) >= 1 else text


def p_value(value: Any) -> str:
    if value is None or not np.isfinite(float(value)):
        return "\N{EN DASH}"
    return "< .0001" if float(value) < 0.5e-4 else f"{float(value):.4f}"
