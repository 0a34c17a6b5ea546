"""Levels of a model that differ only in blanks, capitals or the encoding of a character."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from fastlmm_core.design.values.variables import Raw
from fastlmm_core.errors import SpellingWarning
from fastlmm_core.reading.spelling import spelled_alike, spelling_words


def spelling_warnings(variables: Mapping[str, Raw], rows: np.ndarray | None) -> Iterator[SpellingWarning]:
    """A warning for every factor of a model with such levels among its rows used."""
    for name, own in variables.items():
        if own.levels is None or not spelled_alike(own.levels):
            continue
        used = np.unique(own.on_rows(rows))
        words = spelling_words(name, [own.levels[code] for code in used if code >= 0])
        if words:
            yield SpellingWarning(words)
