"""A pedigree in numbers."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True)
class ParentCodes:
    """A checked pedigree in numbers.

    Attributes
    ----------
    names : tuple of str
        Genetic groups, then parents without a row of their own, then the rows of the table in its order.
    sire, dam : (n,) int32
        Positions in `names`, -1 for unknown.
    selfings : (n,) float64
        Generations of selfing after the cross.
    generation : (n,) int32
        0 for founders and groups.
    group_variances : (k,) float64
        Of the genetic groups, which are the first k of all, in units of the additive variance; inf for fixed.
    """

    names: tuple[str, ...]
    sire: np.ndarray
    dam: np.ndarray
    selfings: np.ndarray
    generation: np.ndarray
    group_variances: np.ndarray = field(default_factory=lambda: np.zeros(0))
