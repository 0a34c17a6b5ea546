"""Labels that differ only in blanks, capitals or the encoding of a character.

They are two levels to a program, mostly one to who wrote them, and some look the same on every screen: an
umlaut as one character or as two, a blank of no width, a dash for a hyphen.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence

SHOWN = 3
# Blanks that tell no labels apart: all but those between two figures, as 1 11 is not 11 1.
IDLE_BLANKS = re.compile(r"(?<!\d)\s+|\s+(?!\d)")
# Characters that programs put in place of those of a keyboard, or that nobody sees.
PLAIN = {
    **dict.fromkeys(map(ord, "\u200b\u200c\u200d\u2060\ufeff\u00ad\u200e\u200f"), None),
    **dict.fromkeys(map(ord, "\u2010\u2011\u2012\u2013\u2014\u2015\u2212"), "-"),
    **dict.fromkeys(map(ord, "\u2018\u2019\u02bc\u00b4\u2032"), "'"),
    **dict.fromkeys(map(ord, "\u201c\u201d\u201e"), '"'),
    **{code: chr(code - 0xFEE0) for code in range(0xFF01, 0xFF5F)},  # as wide as Chinese characters
}


def plain_characters(label: str) -> str:
    """A label with every character written in one way, as a keyboard does.

    Examples
    --------
    >>> plain_characters("Mu\u0308ller") == plain_characters("M\u00fcller"), plain_characters("A\u20131")
    (True, 'A-1')
    """
    return label if label.isascii() else unicodedata.normalize("NFC", label.translate(PLAIN))


def spelling_key(label: str) -> str:
    """What labels have in common that differ in blanks, capitals and encodings of a character only.

    Examples
    --------
    >>> spelling_key("Check 1") == spelling_key("check1 "), spelling_key("1 11") == spelling_key("11 1")
    (True, False)
    """
    label = plain_characters(label)
    if not label.isalnum():
        label = IDLE_BLANKS.sub("", " ".join(label.split()))
    return label.casefold()


def spelled_alike(labels: Iterable[str]) -> list[list[str]]:
    """Groups of labels that are the same but for blanks, capitals and encodings of a character.

    Examples
    --------
    >>> spelled_alike(["L1", "L2", "l1", "L2 ", "L3"])
    [['L1', 'l1'], ['L2', 'L2 ']]
    """
    groups: dict[str, list[str]] = {}
    for label in labels:
        groups.setdefault(spelling_key(label), []).append(label)
    return [group for group in groups.values() if len(group) > 1]


def spelling_words(name: str, labels: Iterable[str]) -> str | None:
    """What there is to say of the labels of a column."""
    groups = spelled_alike(labels)
    if not groups:
        return None
    shown = "; ".join(" and ".join(map(shown_label, group)) for group in groups[:SHOWN])
    encoded = any(plain_characters(label) != label for group in groups for label in group)
    how = "blanks, capitals or how characters are encoded" if encoded else "blanks or capitals"
    more = "" if len(groups) <= SHOWN else f"; and {len(groups) - SHOWN} more"
    return (
        f"labels of '{name}' differ only in {how} and are levels of their own: {shown}{more}; "
        "where they are the same, give them one spelling"
    )


def shown_label(label: str) -> str:
    """A label in quotes, with escapes for characters that look like others or like nothing."""
    same = plain_characters(label) == label
    return f"'{label}'" if same else ascii(label)


def spelled_otherwise(names: Sequence[str], known: Iterable[str]) -> list[tuple[str, str]]:
    """Pairs of a name and the one among those known that differs from it in spelling only.

    Examples
    --------
    >>> spelled_otherwise(["l1", "L3"], ["L1", "L2"])
    [('l1', 'L1')]
    """
    keys = {spelling_key(own): own for own in names}
    spelled: dict[str, str] = {}
    for own in known:
        key = spelling_key(own)
        if key in keys:
            spelled[key] = own
    pairs = [(own, spelled[key]) for own in names if (key := spelling_key(own)) in spelled]
    return [(own, other) for own, other in pairs if own != other]
