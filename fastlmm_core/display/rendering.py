"""One description of a table, shown as text, as HTML or given as a DataFrame.

The frame inside is never rounded; rounding happens here, while printing.
"""

from __future__ import annotations

import html
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

#: Columns on the scale of the response: shown with common decimals, fixed by the smallest standard error.
SCALE_COLUMNS = frozenset({
    "estimate", "emmean", "se", "SE", "lower", "upper", "pev", "condvar", "Variance", "Std.Dev.",
    "fit", "bias", "from_best", "sed_best", "lsd_best", "from_kth", "sed_kth", "lsd_kth",
    "std.error", "conf.low", "conf.high", "Min", "1Q", "Median", "3Q", "Max",
})  # fmt: skip
#: Columns of fractions, which rounding alone makes whole.
FRACTIONS = frozenset({"scaling"})
#: How other well-known columns are shown; everything else by its type.
COLUMN_KINDS: Mapping[str, str] = {
    "df": "df", "df_num": "df", "df_den": "df", "numdf": "df", "dendf": "df",
    "df1": "df", "df2": "df", "npar": "df", "df_best": "df", "df_kth": "df",
    "t": "t", "z": "t", "F": "t", "chisq": "t", "p": "p", "p_value": "p", "p_boundary": "p", "p_exact": "p",
    "p_slope": "p", "p_sigma2": "p", "p_best": "p", "p_among": "p", "p_all": "p",
    "p.value": "p", "statistic": "t", "reliability": "t",
    "rank_expected": "cor", "rank_se": "cor", "Corr": "cor",
    "percent": "cor", "cumulative": "cor", "explained": "cor",  # two decimals
}  # fmt: skip


@dataclass(frozen=True)
class Table:
    """A titled table with its footnotes.

    Parameters
    ----------
    frame : DataFrame
        The figures, unrounded.
    title : str
        One line above the table; may be empty.
    notes : tuple of str
        Lines below it.
    by : tuple of str
        Columns that split the display into blocks with a line of their own.
    hidden : tuple of str
        Columns of the frame that are not displayed.
    kinds : mapping
        Column to "scale", "df", "t", "p", "cor" or "text", where the name alone does not tell.
    digits : int
        Significant digits of the smallest standard error (or figure, without one).
    decimals : int or None
        Decimals of the columns on the response's scale, in place of `digits`.
    max_rows : int or None
        Rows shown in text and HTML; the rest is counted in a note.
    max_width : int or None
        Characters of a line of text; columns beyond it follow in a block of their own, with the labels again.
    trim : bool
        Figures that were rounded before show no more decimals than that left them.
    all_rows : str
        What the note on rows left out says that shows them.
    """

    frame: pd.DataFrame
    title: str = ""
    notes: tuple[str, ...] = ()
    by: tuple[str, ...] = ()
    hidden: tuple[str, ...] = ()
    kinds: Mapping[str, str] = field(default_factory=dict)
    digits: int = 4
    decimals: int | None = None
    max_rows: int | None = None
    max_width: int | None = None
    trim: bool = False
    all_rows: str = ".to_frame()"

    def to_frame(self) -> pd.DataFrame:
        """A copy of the unrounded figures."""
        return self.frame.copy()

    def to_text(self) -> str:
        """The table for a terminal: labels to the left, figures to the right."""
        lines = [self.title] if self.title else []
        for heading, header, rows, numeric in self._blocks():
            if heading:
                lines.append(f"{heading}:")
            lines += wrapped_columns(header, rows, numeric, self.max_width)
            if heading:
                lines.append("")
        lines += list(self._all_notes())
        return "\n".join(line.rstrip() for line in _squeezed(lines))

    def to_html(self) -> str:
        """The table as HTML without style sheets or ids."""
        parts = ["<div>"]
        if self.title:
            parts.append(f"<p><b>{html.escape(self.title)}</b></p>")
        for heading, header, rows, numeric in self._blocks():
            if heading:
                parts.append(f"<p>{html.escape(heading)}:</p>")
            parts.append("<table>")
            parts.append("<thead><tr>" + _html_cells(header, numeric, "th") + "</tr></thead><tbody>")
            parts += ["<tr>" + _html_cells(row, numeric, "td") + "</tr>" for row in rows]
            parts.append("</tbody></table>")
        if notes := [html.escape(note) for note in self._all_notes()]:
            parts.append(f"<p>{'<br>'.join(notes)}</p>")
        return "\n".join([*parts, "</div>"])

    __str__ = to_text

    def __repr__(self) -> str:
        return self.to_text()

    def _repr_html_(self) -> str:
        return self.to_html()

    def _rows_left_out(self) -> int:
        return 0 if self.max_rows is None else max(0, len(self.frame) - self.max_rows)

    def _all_notes(self) -> tuple[str, ...]:
        left_out = self._rows_left_out()
        return self.notes + ((f"({left_out:,} more rows: {self.all_rows} shows all)",) if left_out else ())

    def _blocks(self) -> Iterable[tuple[str, list[str], list[list[str]], list[bool]]]:
        """(heading, header, rows of cells, which columns are figures) per block of `by`."""
        shown = self.frame.iloc[: self.max_rows] if self._rows_left_out() else self.frame
        shown = shown.drop(columns=[name for name in self.hidden if name in shown.columns])
        cells = format_frame(shown, self.kinds, self.digits, self.decimals, self.trim)
        names = [str(name) for name in shown.columns if name not in self.by]
        numeric = [column_kind(name, shown[name], self.kinds) != "text" for name in names]
        if not self.by:
            yield "", names, _rows(cells, names, range(len(shown))), numeric
            return
        keys = [tuple(str(v) for v in row) for row in shown[list(self.by)].itertuples(index=False)]
        blocks: dict[tuple[str, ...], list[int]] = {}
        for i, key in enumerate(keys):
            blocks.setdefault(key, []).append(i)
        titles = {name: _titles(list(shown[name])) for name in self.by}
        for positions in blocks.values():
            heading = ", ".join(f"{name} = {titles[name][positions[0]]}" for name in self.by)
            yield heading, names, _rows(cells, names, positions), numeric


def _rows(cells: Mapping[str, list[str]], names: Sequence[str], positions: Iterable[int]) -> list[list[str]]:
    return [[cells[name][i] for name in names] for i in positions]


def _titles(values: Sequence[Any]) -> list[str]:
    """Values that head a block: numbers with six digits, as in the notes, where these tell them apart."""
    short = [f"{value:g}" if isinstance(value, float) else str(value) for value in values]
    return short if len(set(short)) == len(set(map(str, values))) else [str(value) for value in values]


def _squeezed(lines: Iterable[str]) -> list[str]:
    """Never two empty lines in a row, none at the end."""
    out: list[str] = []
    for line in lines:
        if line or (out and out[-1]):
            out.append(line)
    while out and not out[-1]:
        out.pop()
    return out


def _html_cells(cells: Sequence[str], numeric: Sequence[bool], tag: str) -> str:
    side = {True: "right", False: "left"}
    return "".join(
        f'<{tag} style="text-align:{side[number]}">{html.escape(cell)}</{tag}>'
        for cell, number in zip(cells, numeric, strict=True)
    )


def align_columns(header: Sequence[str], rows: Sequence[Sequence[str]], numeric: Sequence[bool]) -> list[str]:
    """Lines of a text table: one space before each column, two between, figures to the right."""
    widths = [max([len(name), *(len(row[j]) for row in rows)]) for j, name in enumerate(header)]

    def line(cells: Sequence[str]) -> str:
        padded = [
            cell.rjust(width) if number else cell.ljust(width)
            for cell, width, number in zip(cells, widths, numeric, strict=True)
        ]
        return (" " + "  ".join(padded)).rstrip()

    return [line(header), *(line(row) for row in rows)]


def wrapped_columns(
    header: Sequence[str], rows: Sequence[Sequence[str]], numeric: Sequence[bool], width: int | None
) -> list[str]:
    """Lines of a text table; columns that do not fit into `width` stand below, beside the labels again."""
    lines = align_columns(header, rows, numeric)
    if width is None or len(lines[0]) <= width or max(map(len, lines)) <= width:
        return lines
    labels = list(range(next((j for j, number in enumerate(numeric) if number), len(numeric))))
    sizes = [2 + max([len(name), *(len(row[j]) for row in rows)]) for j, name in enumerate(header)]
    blocks: list[list[int]] = [[]]
    for j in range(len(labels), len(header)):
        if blocks[-1] and sum(sizes[i] for i in (*labels, *blocks[-1], j)) > width:
            blocks.append([])
        blocks[-1].append(j)
    out: list[str] = []
    for block in blocks:
        chosen = [*labels, *block]
        own = [[row[j] for j in chosen] for row in rows]
        out += align_columns([header[j] for j in chosen], own, [numeric[j] for j in chosen])
    return out


def column_kind(name: str, values: pd.Series, kinds: Mapping[str, str]) -> str:
    """How a column is shown: "scale", "df", "t", "p", "cor", "number" or "text"."""
    if name in kinds:
        return kinds[name]
    if not pd.api.types.is_numeric_dtype(values) or pd.api.types.is_bool_dtype(values):
        return "text"
    if name in SCALE_COLUMNS:
        return "scale"
    return COLUMN_KINDS.get(name, "number")


def format_frame(
    frame: pd.DataFrame, kinds: Mapping[str, str], digits: int, decimals: int | None = None,
    trim: bool = False,
) -> dict[str, list[str]]:  # fmt: skip
    """Every cell as text, keyed by column name; arguments as of `Table`.

    Columns of kind "scale" share their decimals, so that an estimate and its standard error line up.
    """
    shown = {str(name): column_kind(str(name), frame[name], kinds) for name in frame.columns}
    scale = [name for name, kind in shown.items() if kind == "scale"]
    errors = [name for name in scale if name in ("se", "SE")]
    if decimals is None:
        sizes = [np.asarray(frame[name], float) for name in errors or scale] or [np.zeros(0)]
        decimals = shared_decimals(np.concatenate(sizes), digits)
        if errors and not any(np.any(size > 0.0) for size in sizes):  # a perfect fit
            figures = np.concatenate([np.asarray(frame[name], float) for name in scale])
            largest = np.max(np.abs(figures[np.isfinite(figures)]), keepdims=True, initial=0.0)
            decimals = shared_decimals(largest, digits)
    if trim and scale:
        figures = np.concatenate([np.asarray(frame[name], float) for name in scale])
        decimals = fewest_decimals(figures, decimals)
    cells: dict[str, list[str]] = {}
    for name, kind in shown.items():
        values = frame[name]
        if kind == "text":
            cells[name] = [_text_cell(v) for v in values]
            continue
        numbers = np.asarray(values, dtype=float)
        if kind == "scale":
            cells[name] = [format_fixed(v, decimals) for v in numbers]
        elif kind == "df":
            cells[name] = _format_df(numbers)
        elif kind in ("t", "cor"):
            cells[name] = [format_fixed(v, 3 if kind == "t" else 2) for v in numbers]
        elif kind == "p":
            cells[name] = [format_p(v) for v in numbers]
        else:
            fraction = name in FRACTIONS
            whole = not fraction and all(float(v).is_integer() for v in numbers if math.isfinite(v))
            own = 0 if whole else shared_decimals(numbers, digits)
            own = fewest_decimals(numbers, own) if trim and not fraction else own
            cells[name] = [format_fixed(v, own) for v in numbers]
    return cells


def shared_decimals(values: np.ndarray, digits: int) -> int:
    """Decimals that show the smallest nonzero figure with `digits` significant digits.

    A figure a thousand times below the median no longer counts: it would fill the table with digits
    that say nothing.
    """
    size = np.abs(values[np.isfinite(values) & (values != 0)])
    if size.size == 0:
        return 0
    smallest = size[size >= np.median(size) / 1000].min()
    return int(digits - 1 - math.floor(math.log10(float(f"{smallest:.{digits - 1}e}"))))


def fewest_decimals(values: np.ndarray, most: int) -> int:
    """Decimals up to `most` beyond which no figure has a digit: 2 for 0.25 and 0.5."""
    finite = values[np.isfinite(values)]
    for decimals in range(max(0, most)):
        if np.array_equal(np.round(finite, decimals), finite):
            return decimals
    return most


def format_fixed(value: float, decimals: int) -> str:
    """`value` with the decimals given; scientific where that would not be readable; empty for NaN."""
    if math.isnan(value):
        return ""
    if math.isinf(value):
        return "Inf" if value > 0 else "-Inf"
    if value != 0 and (decimals > 8 or abs(value) >= 1e9):
        return f"{value:.3e}"
    # figures halfway between two printed ones would be rounded by their last bits, which differ by machine
    value = float(f"{value:.12g}")
    text = f"{value:.{min(max(decimals, 0), 8)}f}"
    return text.lstrip("-") if float(text) == 0 else text


def _format_df(numbers: np.ndarray) -> list[str]:
    finite = numbers[np.isfinite(numbers)]
    whole = bool(np.all(np.abs(finite - np.round(finite)) < 5e-3))
    return [format_fixed(v, 0 if whole else 2) for v in numbers]


def format_p(value: float) -> str:
    """A p-value with four decimals, "<.0001" below."""
    if math.isnan(value):
        return ""
    return "<.0001" if value < 0.5e-4 else f"{value:.4f}"


def _text_cell(value: Any) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)) or value is pd.NA:
        return ""
    if isinstance(value, (float, np.floating)):
        return f"{value:.6g}"
    return str(value)


def format_significant(value: float, digits: int) -> str:
    """`value` with significant digits as R's print shows it (trailing zeros kept)."""
    if not math.isfinite(value):
        return "NA" if math.isnan(value) else format_fixed(value, 0)
    return format_fixed(value, shared_decimals(np.array([value]), digits))
