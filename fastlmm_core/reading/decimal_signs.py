"""Decimal commas beside points that part thousands, and the reverse: told by all columns of a table together.

12,5 in one column says that 1.013 in another is a thousand and thirteen, which that column alone cannot know.
Of a folder each file has a sign of its own, as stations of several countries write them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from fastlmm_core.errors import name_list
from fastlmm_core.reading.columns import COMMA_NUMBER, THOUSANDS, TypedColumn, is_number_text
from fastlmm_core.reading.files import RawTable
from fastlmm_core.reading.options import MISSING_AMONG_NUMBERS
from fastlmm_core.reading.source import Source

WORDS = {",": "commas", ".": "points"}


def settle_signs(
    raw: RawTable, found: list[TypedColumn], retype: Callable[[int, str], TypedColumn]
) -> tuple[list[TypedColumn], tuple[str, ...]]:
    """Columns of numbers as they are once all decimal signs are known, and what there is to say of it.

    A column whose signs may all part thousands is none of numbers where the other sign is surely a decimal
    one, or nothing tells which of them is.

    Parameters
    ----------
    raw : RawTable
    found : list of TypedColumn
        As each column alone tells.
    retype : callable
        (place of a column, sign that parts thousands in it) -> TypedColumn.
    """
    signs: dict[int, str] = {}
    sure: dict[str, list[str]] = {",": [], ".": []}
    if any(column.commas for column in found):
        for j, column in enumerate(found):
            sign, certain = decimal_sign(raw, j) if is_numeric(column) else ("", False)
            if certain:
                sure[sign].append(raw.names[j])
            elif sign:
                signs[j] = sign
    known = [sign for sign, names in sure.items() if names]
    mixed = len({*known, *signs.values()}) == 2
    out = list(found)
    for j, sign in signs.items():
        if mixed and known != [sign]:
            out[j] = retype(j, sign)
    # 1.001.002 is a code where no other column has a decimal sign
    notes = [
        parted_note(raw, j, column.parted, sure)
        for j, column in enumerate(out) if column.parted and (known or signs or column.parted.count(".") < 2)
    ]
    if len(known) == 2:
        both = " and ".join(f"decimal {WORDS[sign]} in {name_list(sure[sign], 3)}" for sign in known)
        notes.append(f"{both}: each column is read by its own")
    return out, tuple(notes)


def is_numeric(column: TypedColumn) -> bool:
    """Whether a column was taken for numbers."""
    return getattr(column.values, "dtype", np.dtype(object)).kind in "if"


def decimal_sign(raw: RawTable, j: int) -> tuple[str, bool]:
    """The sign within the numbers of a column, "" for none, and whether it can part no thousands."""
    signed = (text.strip() for text in pd.unique(raw.cells[j]) if "," in text or "." in text)
    texts = [text for text in signed if is_number_text(text) or COMMA_NUMBER.fullmatch(text)]
    if not texts:
        return "", False
    if "." in texts[0] and raw.sep == "" and raw.quoted[j] is None:
        return ".", True  # numbers of a spreadsheet, written by the reader
    return "," if "," in texts[0] else ".", not all(map(THOUSANDS.fullmatch, texts))


def parted_note(raw: RawTable, j: int, text: str, sure: Mapping[str, Sequence[str]]) -> str:
    """What is said of a column that is not read as numbers, with the first cell that may part thousands."""
    row = int(np.argmax([cell.strip() == text for cell in raw.cells[j]]))
    place = Source(raw.files, raw.lines, {}, ()).place(row)
    other = "," if "." in text else "."
    beside = f" beside decimal {WORDS[other]} in {name_list(sure[other], 3)}" if sure[other] else ""
    return (
        f"column '{raw.names[j]}' is not read as numbers: '{text}' ({place}) may part thousands{beside}; "
        "remove the separators of thousands, say the sign with --decimal (decimal=), or name the column in "
        "--factor (factors=) where these are codes"
    )


def with_one_sign(raw: RawTable, missing: Sequence[frozenset[str]], as_labels: set[str]) -> RawTable:
    """The files of a folder with decimal points where some of them have commas and others points.

    A column is left as it is unless the sign of every file is sure, by the column itself or by the others of
    that file.

    Parameters
    ----------
    raw : RawTable
    missing : list of frozenset of str
        Codes of missing values of each column.
    as_labels : set of str
        Columns that stay as they are written.
    """
    starts = [first for _, first in raw.files]
    if len(starts) < 2 or not any("," in text for cells in raw.cells for text in pd.unique(cells)):
        return raw
    parts = [slice(lo, hi) for lo, hi in zip(starts, [*starts[1:], raw.n], strict=True)]
    found = [
        [sign_of_cells(cells[part], gone) for part in parts]
        for cells, gone in zip(raw.cells, missing, strict=True)
    ]
    sure = [{own[f][0] for own in found if own[f][1]} for f in range(len(parts))]
    cells, notes = list(raw.cells), []
    for j, signs in enumerate(found):
        settled = all(sign in ("", ",", ".") and (not sign or certain or sure[f] == {sign})
                      for f, (sign, certain) in enumerate(signs))  # fmt: skip
        if not settled or raw.names[j] in as_labels or {sign for sign, _ in signs if sign} != {",", "."}:
            continue
        cells[j] = cells[j].copy()
        of_commas = [f for f, (sign, _) in enumerate(signs) if sign == ","]
        for f in of_commas:
            cells[j][parts[f]] = with_points(cells[j][parts[f]])
        names = name_list([raw.files[f][0] for f in of_commas], 3)
        told = f"column '{raw.names[j]}' is read with decimal commas in {names}"
        notes.append(f"{told}, with points in the other files")
    return replace(raw, cells=cells, notes=(*raw.notes, *notes))


def sign_of_cells(cells: np.ndarray, missing: frozenset[str]) -> tuple[str, bool]:
    """The decimal sign of the (n,) cells of one file, "" where they have none or are labels, ",." for both.

    And whether it can part no thousands.
    """
    codes, texts = pd.factorize(cells)
    counts = np.bincount(codes, minlength=texts.size)
    signs: dict[str, list[str]] = {",": [], ".": []}
    numbers = words = 0
    for text, count in zip(map(str.strip, texts), counts, strict=True):
        comma = COMMA_NUMBER.fullmatch(text) is not None
        if comma or is_number_text(text):
            numbers += int(count)
            for sign, own in signs.items():
                if sign in text:
                    own.append(text)
        elif text not in missing and text not in MISSING_AMONG_NUMBERS:
            words += int(count)
    if words >= numbers:
        return "", False
    sign = "".join(sign for sign, own in signs.items() if own)
    return sign, len(sign) == 1 and not all(map(THOUSANDS.fullmatch, signs[sign]))


def with_points(cells: np.ndarray) -> np.ndarray:
    """The (n,) cells with decimal commas as points."""
    codes, texts = pd.factorize(cells)
    points = [text.replace(",", ".") if COMMA_NUMBER.fullmatch(text.strip()) else text for text in texts]
    return np.array(points, dtype=object)[codes]
