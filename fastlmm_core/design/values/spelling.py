"""Labels that differ only in blanks or capitals: two levels to a program, mostly one to who wrote them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping

import numpy as np

from fastlmm_core.design.values.variables import Raw
from fastlmm_core.errors import SpellingWarning

SHOWN = 3
# Blanks that tell no labels apart: all but those between two figures, as 1 11 is not 11 1.
IDLE_BLANKS = re.compile(r"(?<!\d)\s+|\s+(?!\d)")


def spelling_key(label: str) -> str:
    """What labels have in common that differ in blanks and capitals only.

    Examples
    --------
    >>> spelling_key("Check 1") == spelling_key("check1 "), spelling_key("1 11") == spelling_key("11 1")
    (True, False)
    """
    if not label.isalnum():
        label = IDLE_BLANKS.sub("", " ".join(label.split()))
    return label.casefold()


def spelled_alike(labels: Iterable[str]) -> list[list[str]]:
    """Groups of labels that are the same but for blanks and capitals.

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
    shown = "; ".join(" and ".join(f"'{label}'" for label in group) for group in groups[:SHOWN])
    more = "" if len(groups) <= SHOWN else f"; and {len(groups) - SHOWN} more"
    return (
        f"labels of '{name}' differ only in blanks or capitals and are levels of their own: {shown}{more}; "
        "where they are the same, give them one spelling"
    )


def spelling_warnings(variables: Mapping[str, Raw], rows: np.ndarray | None) -> Iterator[SpellingWarning]:
    """A warning for every factor of a model with such levels among its rows used."""
    for name, own in variables.items():
        if own.levels is None or not spelled_alike(own.levels):
            continue
        used = np.unique(own.on_rows(rows))
        words = spelling_words(name, [own.levels[code] for code in used if code >= 0])
        if words:
            yield SpellingWarning(words)
