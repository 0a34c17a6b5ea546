"""Labels of the rows that the compiled path leaves, for all units of a run at once."""

from __future__ import annotations

import math
from collections.abc import Collection
from functools import lru_cache
from typing import Any

import numpy as np

from fastlmm_core.batch.compiled.coded import CodedTrials
from fastlmm_core.batch.compiled.runs import UnitArrays
from fastlmm_core.batch.tables import text_column
from fastlmm_core.design.grouping import combined_labels, occurring_cells
from fastlmm_core.formula.expressions import label_of
from fastlmm_core.means.contrast_families import in_parentheses
from fastlmm_core.means.table_labels import distinct_names, free_name, looks_numeric


def expand(starts: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows start:start + count of every unit: (row numbers, unit's place, position within the unit)."""
    place = np.repeat(np.arange(counts.size), counts)
    within = np.arange(place.size) - np.repeat(np.cumsum(counts) - counts, counts)
    return starts[place] + within, place, within


def level_codes(
    coded: CodedTrials, arrays: UnitArrays, u: np.ndarray, factor: str, local: np.ndarray
) -> np.ndarray:
    """Labels of the levels `local` (r,) of a factor in the units `u` (r,)."""
    f = coded.factors.index(factor)
    return arrays.results.levels[arrays.results.offsets[u, 1 + f] + local]


def coefficient_labels(
    coded: CodedTrials, arrays: UnitArrays, good: np.ndarray
) -> tuple[list[str], np.ndarray, np.ndarray]:
    """(labels, code of every coefficient, place of its unit in `good`), those that were dropped included."""
    _, place, within = expand(np.zeros_like(good), arrays.n_columns[good])
    u = good[place]
    labels = ["(Intercept)"]
    codes = np.zeros(u.size, np.int64)
    start = np.full(good.size, int(coded.intercept), np.int64)
    for term in coded.terms:
        widths = []
        for name, kind in zip(term.names, term.kinds, strict=True):
            if kind < 2:
                widths.append(arrays.level_counts[good, coded.factors.index(name)] - (kind == 0))
        width = np.prod(widths, axis=0) if widths else np.ones(good.size, np.int64)
        own = np.flatnonzero((within >= start[place]) & (within < (start + width)[place]))
        rest = within[own] - start[place[own]]
        atoms: list[tuple[list[str], np.ndarray]] = []
        s = 0
        for name, kind in zip(term.names, term.kinds, strict=True):
            if kind == 2:
                atoms.append(([label_of(name)], np.zeros(own.size, np.int64)))
            else:
                size = widths[s][place[own]]
                label = [label_of(name) + level for level in coded.levels[coded.factors.index(name)]]
                local = rest % size + (kind == 0)
                atoms.append((label, level_codes(coded, arrays, u[own], name, local)))
                rest = rest // size
                s += 1
        found, own_codes = join_labels(atoms, ":")
        codes[own] = own_codes + len(labels)
        labels += found
        start = start + width
    return labels, codes, place


def join_labels(parts: list[tuple[list[str], np.ndarray]], separator: str) -> tuple[list[str], np.ndarray]:
    """Texts and codes of labels joined row by row; every combination that occurs is written once.

    Parameters
    ----------
    parts : list of (labels, codes (r,))
    """
    if len(parts) == 1:
        return list(parts[0][0]), parts[0][1]
    cell = np.zeros(parts[0][1].size, np.int64)
    for labels, codes in parts:
        cell = cell * len(labels) + codes
    cells, inverse = occurring_cells(cell, math.prod(len(labels) for labels, _ in parts))
    return combined_labels(cells, [labels for labels, _ in parts], separator).tolist(), inverse


def contrast_labels(
    coded: CodedTrials, arrays: UnitArrays, members: np.ndarray, s: int, k: int, size: int,
    figures: Collection[str],
) -> dict[str, Any]:  # fmt: skip
    """Columns that name the contrasts of specification `s`, as ``EmmeansTable.contrast`` names them.

    Parameters
    ----------
    members : (m,) int64
        Units with k means in each of their groups, and `size` contrasts among these.
    figures : collection of str
        Other columns of the table.
    """
    assert coded.family is not None
    spec, sizes = coded.specs[s], arrays.means[s].sizes[members]
    _, place, within = expand(np.zeros_like(members), sizes[:, 1])
    u = members[place]
    families = {c: coded.family.among(k, c) for c in np.unique(sizes[:, 3]).tolist()}
    some = next(iter(families.values()))
    if some.names:
        text = text_column(some.names, within % size)
    else:
        repeats = sizes[:, 1] // size
        tiles = zip(sizes[:, 3].tolist(), repeats.tolist(), strict=True)
        places = np.concatenate([np.tile(families[c].places, (times, 1)) for c, times in tiles])
        parts = [mean_labels(coded, arrays, members, u, spec.main, local) for local in places.T]
        labels, codes = join_labels(parts, some.words[1])
        text = text_column([some.words[0] + label + some.words[-1] for label in labels], codes)
    titles = [coded.column_of[name] for name in spec.by]
    columns = {free_name(titles): text}
    renamed = distinct_names([*columns, *titles], figures)
    rest = within // size
    for name, title in zip(spec.by, titles, strict=True):
        f = coded.factors.index(name)
        levels = arrays.level_counts[u, f]
        codes = level_codes(coded, arrays, u, name, rest % levels)
        columns[renamed.get(title, title)] = text_column(coded.levels[f], codes)
        rest = rest // levels
    return columns


def mean_labels(
    coded: CodedTrials, arrays: UnitArrays, members: np.ndarray, u: np.ndarray, names: tuple[str, ...],
    local: np.ndarray,
) -> tuple[list[str], np.ndarray]:  # fmt: skip
    """Labels and codes of the means `local` (r,) of factors `names` in the units `u` (r,) among `members`."""
    parts = []
    for name in names:
        f = coded.factors.index(name)
        numeric, words, shown = contrast_words(coded.column_of[name], tuple(coded.levels[f]))
        counts = arrays.level_counts[members, f]
        codes = arrays.results.levels[expand(arrays.results.offsets[members, 1 + f], counts)[0]]
        titled = np.zeros(arrays.units.size, bool)
        titled[members] = np.logical_and.reduceat(numeric[codes], np.cumsum(counts) - counts)
        size = arrays.level_counts[u, f]
        own = level_codes(coded, arrays, u, name, local % size)
        parts.append((words if len(names) > 1 else shown, own + np.where(titled[u], numeric.size, 0)))
        local = local // size
    labels, codes = join_labels(parts, " ")
    return (labels if len(names) == 1 else in_parentheses(labels)), codes


@lru_cache(maxsize=16)
def contrast_words(name: str, levels: tuple[str, ...]) -> tuple[np.ndarray, list[str], list[str]]:
    """Which levels (L,) of a factor read as numbers, and its words (2 L,), plain and as contrasts show them.

    The second half of the words has the factor's name in front.
    """
    numeric = np.array([looks_numeric([level]) for level in levels])
    both = [*levels, *(f"{name}{level}" for level in levels)]
    return numeric, both, in_parentheses(both)


def group_labels(coded: CodedTrials, arrays: UnitArrays, u: np.ndarray, k: int, cells: np.ndarray) -> Any:
    """Labels "R1:B1" of grouping cells (r,) in the units `u` (r,)."""
    parts: list[tuple[list[str], np.ndarray]] = []
    rest = cells
    for name in reversed(coded.random[k].factors):
        f = coded.factors.index(name)
        size = arrays.level_counts[u, f]
        local = rest if len(coded.random[k].factors) == 1 else rest % size
        parts.append((coded.levels[f].tolist(), level_codes(coded, arrays, u, name, local)))
        rest = rest // size
    return text_column(*join_labels(parts[::-1], ":"))
