"""Fixed factors that are nested in others: locations in regions, entries in the groups they belong to.

A factor is nested in another when each of its levels occurs with one level of the other only. A mean over a
grid of all combinations would then be over cells that cannot exist; it is taken within the groups instead, as
R's emmeans does (Lenth, "Nested" in its vignettes on interactions).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Codes = Mapping[str, NDArray[np.integer]]


@dataclass(frozen=True)
class Nesting:
    """Which factors of a grid are nested.

    Attributes
    ----------
    groups : dict
        Nested factor to the factors it is nested in, the finer first.
    occurs : ndarray (m,) of bool
        Grid points whose nested levels belong to their groups.
    siblings : dict
        Nested factor to the number (m,) of its levels in the group of each grid point; 0 where none are.
    """

    groups: Mapping[str, tuple[str, ...]]
    occurs: NDArray[np.bool_]
    siblings: Mapping[str, NDArray[np.integer]]

    def with_groups(self, names: Sequence[str]) -> tuple[str, ...]:
        """The names with the groups of nested ones: nested factors first, their groups, then the others."""
        nested = [name for name in names if name in self.groups]
        around = [group for name in nested for group in self.groups[name]]
        return tuple(dict.fromkeys([*nested, *around, *names]))

    def words(self) -> tuple[str, ...]:
        """One remark for each nested factor."""
        return tuple(f"{name} is nested in {', '.join(groups)}" for name, groups in self.groups.items())


def find_nesting(rows: Codes, size: Mapping[str, int], points: Codes) -> Nesting | None:
    """Nesting among factors in the data, on the points of a grid; None without any.

    Parameters
    ----------
    rows : dict
        Level (n,) of each factor in the rows of the data.
    size : dict
        Number of levels of each factor.
    points : dict
        Level (m,) of each factor at the points of a grid, which need not have all levels.
    """
    groups = nested_factors(rows, size)
    if not groups:
        return None
    occurs = np.ones(next(iter(points.values())).size, dtype=bool)
    siblings = {}
    for name, around in groups.items():
        existing = np.unique(within(rows, name, around, size))
        chosen = existing[np.isin(existing % size[name], points[name])]
        pair = within(points, name, around, size)
        occurs &= np.isin(pair, chosen)
        per_group = np.unique(chosen // size[name], return_counts=True)
        place = np.searchsorted(per_group[0], pair // size[name]).clip(max=per_group[0].size - 1)
        found = per_group[0][place] == pair // size[name]
        siblings[name] = np.where(found, per_group[1][place], 0)
    return Nesting(groups, occurs, siblings)


def nested_factors(rows: Codes, size: Mapping[str, int]) -> dict[str, tuple[str, ...]]:
    """Each nested factor with the factors it is nested in, those of more levels first."""
    found: dict[str, list[str]] = {}
    for name in rows:
        around = [
            other
            for other in rows
            if other != name
            and size[other] > 1
            and name not in found.get(other, ())
            and one_to_one(rows[name], rows[other], size[other])
        ]
        if around:
            found[name] = around
    return {name: tuple(sorted(around, key=lambda g: -size[g])) for name, around in found.items()}


def within(codes: Codes, name: str, around: Sequence[str], size: Mapping[str, int]) -> NDArray[np.integer]:
    """One number for the level of a factor together with those of its groups, the factor's own fastest."""
    out = np.zeros(codes[name].size, dtype=np.int64)
    for other in around:
        out = out * size[other] + codes[other]
    return out * size[name] + codes[name]


def one_to_one(inner: NDArray[np.integer], outer: NDArray[np.integer], n_outer: int) -> bool:
    """Whether every level of `inner` occurs with one level of `outer` only."""
    pairs = np.unique(inner * np.int64(n_outer) + outer)
    return pairs.size == np.unique(inner).size
