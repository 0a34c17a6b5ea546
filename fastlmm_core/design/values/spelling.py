"""Labels that differ only in blanks or capitals: two levels to a program, mostly one to who wrote them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import numpy as np

from fastlmm_core.design.values.variables import Raw
from fastlmm_core.errors import SpellingWarning

SHOWN = 3


def spelled_alike(labels: Iterable[str]) -> list[list[str]]:
    """Groups of labels that are the same but for blanks and capitals.

    Examples
    --------
    >>> spelled_alike(["L1", "L2", "l1", "L2 ", "L3"])
    [['L1', 'l1'], ['L2', 'L2 ']]
    """
    groups: dict[str, list[str]] = {}
    for label in labels:
        groups.setdefault(" ".join(label.split()).casefold(), []).append(label)
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
