"""Trials and levels of a batch that are spelled in several ways."""

from __future__ import annotations

from collections.abc import Iterable

import pandas as pd

from fastlmm_core.batch.plan import BatchPlan
from fastlmm_core.reading.spelling import spelling_words


def spelling_notes(frame: pd.DataFrame, plan: BatchPlan) -> tuple[str, ...]:
    """What there is to say of labels that differ only in blanks or capitals, over all trials of a table.

    One entry spelled in two ways is two where trials are brought together, also where each trial has one of
    them.
    """
    words = []
    for name in dict.fromkeys((*plan.by, *(name for own in plan.models for name in own.explanatory))):
        column = frame[name] if name in frame else pd.Series()
        if pd.api.types.is_numeric_dtype(column.dtype):
            continue
        cells: Iterable[object]
        try:
            cells = column.unique()
        except TypeError:  # a cell may hold anything, also what has no hash
            cells = column
        words.append(spelling_words(name, dict.fromkeys(cell for cell in cells if isinstance(cell, str))))
    return tuple(filter(None, words))
