"""Labels of the rows of a table of means: groups, texts, names."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fastlmm_core.errors import OptionError


def group_codes(labels: pd.DataFrame, by: Sequence[str]) -> NDArray[np.integer]:
    """Group (c,) of each row, numbered in order of appearance."""
    if not by:
        return np.zeros(len(labels), dtype=np.int64)
    return np.asarray(labels.groupby(list(by), sort=False, observed=True).ngroup().to_numpy())


def group_members(labels: pd.DataFrame, by: Sequence[str]) -> list[NDArray[np.integer]]:
    """Rows of each group, in order of appearance."""
    group = group_codes(labels, by)
    order = np.argsort(group, kind="stable")
    return np.split(order, np.cumsum(np.bincount(group))[:-1])


def same_labels(labels: pd.DataFrame, by: Sequence[str], members: Sequence[NDArray[np.integer]]) -> bool:
    """Whether all groups have the same labels besides those of `by`, in the same order."""
    if len(members) == 1:
        return True
    if len({rows.size for rows in members}) > 1:
        return False
    place = np.array(members)
    columns = [labels[name].to_numpy()[place] for name in labels.columns if name not in by]
    return all(bool(np.all(values == values[0])) for values in columns)


def group_rows(labels: pd.DataFrame, by: Sequence[str]) -> tuple[NDArray[np.integer], NDArray[np.integer]]:
    """Group (c,) of each row and the rows (n_groups, m) of each group, in order of appearance.

    Raises
    ------
    OptionError
        When the groups differ in size.
    """
    if not by:
        return np.zeros(len(labels), dtype=np.int64), np.arange(len(labels))[None, :]
    group = group_codes(labels, by)
    sizes = np.bincount(group)
    if np.unique(sizes).size > 1:
        raise OptionError(
            f"by={list(by)!r}: groups of {np.min(sizes)} to {np.max(sizes)} rows; they must be of equal "
            "size. Take them one at a time by at="
        )
    return group, np.argsort(group, kind="stable").reshape(sizes.size, -1)


def level_text(value: object) -> str:
    """A level as it is written in labels."""
    return f"{value:.15g}" if isinstance(value, (float, np.floating)) else str(value)


def looks_numeric(texts: Sequence[str]) -> bool:
    """Whether every label reads as a number."""
    try:
        return all("_" not in text and np.isfinite(float(text)) for text in texts)
    except ValueError:
        return False


def row_labels(block: pd.DataFrame, by: Sequence[str]) -> list[str]:
    """Label of each row without the `by` columns; levels that are numbers carry the variable's name."""
    parts = []
    for name in block.columns:
        if name in by:
            continue
        values = [level_text(v) for v in block[name]]
        parts.append([f"{name}{v}" for v in values] if looks_numeric(values) else values)
    return [" ".join(words) for words in zip(*parts, strict=True)]


def joined_labels(rows: pd.DataFrame, between: str) -> NDArray[np.object_]:
    """Labels (n,) of rows: their cells one after another; rows that differ have different labels.

    Where cells hold what stands between them, so that "A 1", "2" and "A", "1 2" would be one label, all are
    in quotes.
    """
    texts = rows.astype(str)
    different = list(texts.drop_duplicates().itertuples(index=False, name=None))
    labels = [between.join(cells) for cells in different]
    if len(set(labels)) < len(labels):
        labels = [between.join(json.dumps(cell, ensure_ascii=False) for cell in row) for row in different]
    return np.array(labels, dtype=object)[group_codes(texts, list(texts.columns))]


def distinct_names(labels: Sequence[str], figures: Collection[str]) -> dict[str, str]:
    """New names of label columns that are called as a column of figures is: factor "t" gives "t_level"."""
    out = {}
    for name in labels:
        new = name
        while new in figures or (new != name and new in labels):
            new += "_level"
        if new != name:
            out[name] = new
    return out


def free_name(by: Sequence[str]) -> str:
    """ "contrast", or "contrast1" and so on when a `by` column has that name."""
    name, i = "contrast", 0
    while name in by:
        i += 1
        name = f"contrast{i}"
    return name
