"""Numbers that enter a formula as classes: ``cut(x, 3)``, ``ifelse(x > 5, "high", "low")``."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from fastlmm_core.design.values.table import Table
from fastlmm_core.design.values.variables import Atom

CONDITIONS = (("FALSE", "TRUE"), ("FALSE",), ("TRUE",))


def points_of(
    atoms: Iterable[Atom], name: str, values: np.ndarray, every: bool
) -> tuple[tuple[float, ...] | None, np.ndarray | None]:
    """Values of a numeric column that stand for its levels or classes, (k,) ascending, and that of each row.

    All values where each is a level (`every`). Else, for each class that the atoms make, the value of the
    column (n,) nearest to the class's mean: a mean alone may lie in another class. So means over a reference
    grid are over classes, as if these were a column. A condition, ``I(x > 5)``, makes no classes: as in R's
    emmeans it is true or false at the mean of x.
    """
    makers = [a for a in atoms if a.is_factor and a.columns_read == (name,) and a.levels not in CONDITIONS]
    if not every and not makers:
        return None, None
    distinct, place = np.unique(values, return_inverse=True)
    if every:
        return tuple(distinct.tolist()), place
    codes = np.column_stack([atom.read(Table({name: distinct})) for atom in makers])
    classes = np.unique(codes, axis=0, return_inverse=True)[1].reshape(-1)
    of_row = classes[place]
    mean = np.bincount(of_row, values) / np.bincount(of_row)
    members = [distinct[classes == k] for k in range(mean.size)]
    chosen = np.array([x[np.argmin(np.abs(x - m))] for x, m in zip(members, mean, strict=True)])
    return tuple(np.sort(chosen).tolist()), np.argsort(np.argsort(chosen))[of_row]
