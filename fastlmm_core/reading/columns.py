"""The type of a column of text, numbers or labels: decided once over all of it, before any rounding."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd

from fastlmm_core.reading.options import MISSING_AMONG_NUMBERS, WORDS_OF_MISSING
from fastlmm_core.reading.source import Labels

NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?|[+-]?inf(?:inity)?", re.ASCII | re.IGNORECASE)
COMMA_NUMBER = re.compile(r"[+-]?\d*,\d+(?:[eE][+-]?\d+)?", re.ASCII)
THOUSANDS = re.compile(r"[+-]?[1-9]\d{0,2}(?:(?:,\d{3})+|(?:\.\d{3})+)", re.ASCII)
WHOLE_LIMIT = 2**53  # whole numbers up to here are exact as float64
MANY_TEXTS = 10_000  # distinct cells of a numeric column whose text is kept whatever it is


def is_number_text(text: str) -> bool:
    """Whether a text reads as a number: 7, 007, -1.5, 1E1, Inf."""
    return NUMBER.fullmatch(text) is not None


def label_key(text: str) -> tuple[Decimal, str]:
    """What labels that are all numbers are sorted by: 2 before 10, 1 before 1.0."""
    return Decimal(text), text


def ordered_labels(labels: Iterable[str]) -> list[str]:
    """Labels in the order of their numbers when all are numbers, else sorted as text."""
    labels = list(labels)
    return sorted(labels, key=label_key if all(map(is_number_text, labels)) else None)


def takes_labels(whole: bool, coded: bool, numbers: int, distinct: int, words: int) -> bool:
    """Whether a column of numbers and words is one of labels.

    Labels it is where words are the majority, and where the numbers are whole and come back or begin with
    zeros, as the codes of varieties do beside the name of a check.  All else is a column of measurements
    with a few words in it, and these are wrong.

    Parameters
    ----------
    whole, coded : bool
        Whether all numbers are whole, and any begins with a zero.
    numbers, distinct, words : int
        Cells that hold numbers, different ones among them, and cells that hold something else.
    """
    return words >= numbers or (whole and (coded or 2 * numbers >= 3 * distinct))


@dataclass(frozen=True)
class TypedColumn:
    """A column with its type.

    Attributes
    ----------
    values : Series or array (n,)
        int64 or float64; text or categories for labels; objects for numbers with words among them.
    labels : Labels or None
        The text, where the values do not give it back.
    notes : tuple of str
    commas : bool
        Whether its numbers have decimal commas, as nobody said.
    parted : str
        The first cell that may part thousands, where these are why it is none of numbers; else "".
    """

    values: Any
    labels: Labels | None = None
    notes: tuple[str, ...] = ()
    commas: bool = False
    parted: str = ""


@dataclass(frozen=True)
class CellKinds:
    """The k distinct cells of a column, sorted out.

    Attributes
    ----------
    missing, number, comma, odd : (k,) bool
        Missing; a number with a point or none; one with a decimal comma; missing if the rest are numbers.
    value : (k,) float64
        NaN where the cell is no number.
    """

    missing: np.ndarray
    number: np.ndarray
    comma: np.ndarray
    odd: np.ndarray
    value: np.ndarray


def typed_column(
    name: str, cells: np.ndarray, quoted: np.ndarray | None, missing: frozenset[str], *,
    decimal: str | None = None, comma_separated: bool = True, quotes_tell: bool = False,
    as_labels: bool = False, thousands: str = "",
) -> TypedColumn:  # fmt: skip
    """Decide what a column is.

    Parameters
    ----------
    name : str
        For notes.
    cells : (n,) object array of str
    quoted : (n,) bool or None
        Cells in quotes that they did not need.
    missing : frozenset of str
    decimal : str, optional
        "." or "," when it is known.
    comma_separated : bool
        Whether a comma in a number may part thousands.
    quotes_tell : bool
        Whether quotes mean labels, since the file leaves other cells bare.
    as_labels : bool
        Whether it is a factor anyway.
    thousands : str
        The sign that parts thousands, as other columns of the table tell; "" where they tell nothing.
    """
    codes, texts = pd.factorize(cells)
    kinds = cell_kinds(texts, missing, decimal)
    counts = np.bincount(codes, minlength=texts.size)
    notes: list[str] = []
    present = ~kinds.missing
    numeric = kinds.number | comma_numbers(texts, kinds, decimal, comma_separated)
    if thousands:
        numeric &= np.array([thousands not in text for text in texts], dtype=bool)
    words = present & ~numeric
    if words.any() and numeric.any() and not (words & ~kinds.odd).any():
        listed = ", ".join(f"{counts[k]} '{texts[k].strip()}'" for k in np.flatnonzero(words))
        notes.append(f"column '{name}': {listed} read as missing among numbers")
        present, words = present & ~words, np.zeros(texts.size, dtype=bool)
    if not present.any():
        return TypedColumn(np.full(cells.size, np.nan))
    if words.any():
        notes += missing_notes(name, texts, kinds.missing, counts)
    told = quotes_tell and quoted is not None and not words.any() and numeric[np.unique(codes[quoted])].any()
    if told and quoted is not None and not as_labels:
        notes += quoted_notes(name, cells, quoted, present[codes])
    if as_labels or told:
        return TypedColumn(make_labels(codes, texts, present).categories(), None, tuple(notes))
    if not words.any():
        commas = decimal is None and bool((kinds.comma & numeric).any())
        if commas:
            notes.append(f"column '{name}' is read with decimal commas")
        numbers = np.where(present, kinds.value, np.nan)
        return TypedColumn(*number_values(codes, texts, numbers), tuple(notes), commas)
    found = kinds.value[numeric]
    labels = make_labels(codes, texts, present)
    n_numbers, n_words = int(counts[numeric].sum()), int(counts[words].sum())
    digits = [text.strip() for text in texts[numeric]]
    coded = any(text[0] == "0" and len(text) > 1 for text in digits)
    told_words = [text.strip() for text in texts[words]]
    parted = told_words[0] if decimal is None and all(map(THOUSANDS.fullmatch, told_words)) else ""
    commas = bool(n_numbers) and bool(kinds.comma[words].all())  # 12,5 and 12.5: of which sign are they?
    whole = all(map(str.isdigit, digits))
    measured = commas or bool(parted and n_numbers and parted.count(".") < 2)  # 1.001.003 is a code
    if not measured and takes_labels(whole, coded, n_numbers, int(numeric.sum()), n_words):
        if n_numbers and n_words < n_numbers:
            first = texts[int(np.argmax(words))].strip()
            notes.append(f"column '{name}' holds whole numbers and text ('{first}'): taken as labels")
        notes += blank_notes(name, labels)
        return TypedColumn(label_values(labels), None, tuple(notes), parted=parted)
    mixed = np.array([None] * texts.size, dtype=object)
    mixed[numeric] = found
    mixed[words] = texts[words]
    return TypedColumn(mixed[codes], labels, tuple(notes), parted=parted)


def quoted_notes(name: str, cells: np.ndarray, quoted: np.ndarray, present: np.ndarray) -> list[str]:
    """A note where some numbers of a column stand in quotes and others do not: one was enough for labels."""
    within, total = int((quoted & present).sum()), int(present.sum())
    if within == total:
        return []
    first = str(cells[int(np.argmax(quoted & present))]).strip()
    return [f"column '{name}': {within} of {total} numbers in quotes (the first '{first}'): taken as labels"]


def comma_numbers(
    texts: np.ndarray, kinds: CellKinds, decimal: str | None, comma_separated: bool
) -> np.ndarray:  # fmt: skip
    """(k,) bool, which cells with a comma are numbers; none where it may part thousands."""
    none = np.zeros(texts.size, dtype=bool)
    if not kinds.comma.any() or decimal is not None:
        return kinds.comma if decimal is not None else none
    if any("." in texts[k] for k in np.flatnonzero(kinds.number)):
        return none
    if comma_separated and all(THOUSANDS.fullmatch(texts[k].strip()) for k in np.flatnonzero(kinds.comma)):
        return none
    return kinds.comma


def cell_kinds(texts: np.ndarray, missing: frozenset[str], decimal: str | None) -> CellKinds:
    """Sort out distinct cells; a column of plain numbers goes the fast way."""
    none = np.zeros(texts.size, dtype=bool)
    if decimal != ",":
        absent, numbers = none, plain_numbers(texts, none)
        if numbers is None:
            absent = np.fromiter((text in missing for text in texts), dtype=bool, count=texts.size)
            numbers = plain_numbers(np.where(absent, "nan", texts), absent) if absent.any() else None
        if numbers is not None:
            absent = absent | np.isin(numbers, coded_numbers(missing))
            return CellKinds(absent, ~absent, none, none, np.where(absent, np.nan, numbers))
    bare = [text.strip() for text in texts]
    absent = np.array([text in missing for text in bare], dtype=bool)
    number = np.array([is_number_text(text) for text in bare], dtype=bool) & ~absent
    comma = np.array([COMMA_NUMBER.fullmatch(text) is not None for text in bare], dtype=bool) & ~absent
    if decimal == ".":
        comma = none
    elif decimal == ",":
        number &= np.array(["." not in text for text in bare], dtype=bool)
    odd = np.array([text in MISSING_AMONG_NUMBERS for text in bare], dtype=bool)
    value = np.full(texts.size, np.nan)
    for k in np.flatnonzero(number | comma):
        value[k] = float(bare[k].replace(",", "."))
    coded = np.isin(value, coded_numbers(missing))
    return CellKinds(absent | coded, number & ~coded, comma & ~coded, odd, value)


def coded_numbers(missing: frozenset[str]) -> list[float]:
    """Codes of missing values that are numbers: -9 stands for -9.0 too."""
    return [float(code) for code in missing if is_number_text(code)]


def plain_numbers(texts: np.ndarray, absent: np.ndarray) -> np.ndarray | None:
    """(k,) float64 with NaN where absent; None unless all other cells are numbers as `is_number_text` says.

    Python's own ``float`` reads them, which also knows digits of other scripts, 1_000 and nan.
    """
    try:
        numbers = texts.astype(np.float64)
    except (ValueError, TypeError):
        return None
    joined = "".join(texts)
    if "_" in joined or not joined.isascii() or (np.isnan(numbers) & ~absent).any():
        return None
    return numbers


def make_labels(codes: np.ndarray, texts: np.ndarray, present: np.ndarray) -> Labels:
    """The present cells as labels, numbers without blanks around them."""
    shown = [text.strip() if present[k] and is_number_text(text.strip()) else text
             for k, text in enumerate(texts)] if may_be_padded(texts) else list(texts)  # fmt: skip
    levels = sort_labels({shown[k] for k in np.flatnonzero(present)})
    place = {level: i for i, level in enumerate(levels)}
    table = np.array([place[shown[k]] if present[k] else -1 for k in range(len(shown))], dtype=np.int32)
    return Labels(table[codes], tuple(levels))


def sort_labels(labels: set[str]) -> list[str]:
    """As `ordered_labels`; short whole numbers without its price."""
    if all(text.isascii() and text.isdigit() for text in labels):
        return sorted(labels, key=lambda text: (int(text) if len(text) < 4000 else 0, text))
    return ordered_labels(labels)


def may_be_padded(texts: np.ndarray) -> bool:
    """Whether any cell has blanks."""
    joined = "".join(texts)
    return any(blank in joined for blank in " \t\xa0")


def number_values(
    codes: np.ndarray, texts: np.ndarray, numbers: np.ndarray
) -> tuple[np.ndarray, Labels | None]:
    """(numbers of the rows, their labels where these cannot be had back from the numbers).

    Parameters
    ----------
    codes : (n,) int64
        Places in `texts`.
    texts : (k,) object array
    numbers : (k,) float64
        NaN where missing.
    """
    present = ~np.isnan(numbers)
    known = numbers[present]
    if bool((known == np.floor(known)).all()) and np.abs(known).max(initial=0.0) <= WHOLE_LIMIT:
        whole = known.astype(np.int64)
        if list(map(str, whole.tolist())) == texts[present].tolist():
            if known.size == numbers.size:
                return whole[codes], None
            return numbers[codes], None
    few = known.size <= max(MANY_TEXTS, codes.size // 4)
    if few or np.unique(known).size < known.size:
        return numbers[codes], make_labels(codes, texts, present)
    return numbers[codes], None


def label_values(labels: Labels) -> Any:
    """Labels as pandas keeps text."""
    return pd.Series([*labels.levels, None], dtype="str").array.take(labels.codes)


def missing_notes(name: str, texts: np.ndarray, missing: np.ndarray, counts: np.ndarray) -> list[str]:
    """A note where words beside labels are read as missing that may be one of them, as a treatment None."""
    found = [k for k in np.flatnonzero(missing) if texts[k].strip() in WORDS_OF_MISSING]
    if not found:
        return []
    listed = ", ".join(f"{counts[k]} '{texts[k].strip()}'" for k in found)
    keep = f"--na {name}= (na_values={{'{name}': []}})"
    return [f"column '{name}': {listed} read as missing among labels; {keep} makes them labels"]


def blank_notes(name: str, labels: Labels) -> list[str]:
    """A note where labels differ by blanks only."""
    bare: dict[str, str] = {}
    for level in labels.levels:
        other = bare.setdefault(level.strip(), level)
        if other != level:
            return [f"column '{name}': the labels '{other}' and '{level}' differ by blanks only"]
    return []
