"""Contrasts with weighted averages of k means, as they are named in the R package multcomp.

Bretz, Hothorn & Westfall (2010), Multiple Comparisons Using R, section 4.2 and table 4.1.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fastlmm_core.errors import OptionError

Floats = NDArray[np.floating]


def check_weights(wts: object, k: int) -> Floats:
    """Weights (k,) of the means, equal ones without `wts`.

    Raises
    ------
    OptionError
        Unless they are k numbers above zero.
    """
    if wts is None:
        return np.ones(k)
    try:
        weights = np.asarray(wts, dtype=np.float64)
    except (TypeError, ValueError):
        weights = np.empty(0)
    if weights.shape != (k,) or not np.isfinite(weights).all() or not (weights > 0).all():
        raise OptionError(f"wts must be {k} numbers above zero, one for each mean")
    return weights


def grand_mean(wts: Floats) -> Floats:
    """Each mean minus the weighted mean of all, (k, k)."""
    return np.asarray(np.eye(wts.size) - wts / wts.sum())


def average_of_others(wts: Floats) -> Floats:
    """Each mean minus the weighted mean of the others, (k, k)."""
    others = np.tile(wts, (wts.size, 1))
    np.fill_diagonal(others, 0.0)
    return np.asarray(np.eye(wts.size) - others / others.sum(axis=1, keepdims=True))


def change_points(wts: Floats) -> Floats:
    """Weighted mean of the means after each cut minus that of those before it, (k - 1, k)."""
    rows = []
    for cut in range(1, wts.size):
        before, after = wts.copy(), wts.copy()
        before[cut:], after[:cut] = 0.0, 0.0
        rows.append(after / after.sum() - before / before.sum())
    return np.array(rows)


def williams(wts: Floats) -> Floats:
    """Weighted mean of the last 1, 2, ... means minus the first one, (k - 1, k)."""
    rows = []
    for count in range(1, wts.size):
        last = wts.copy()
        last[: wts.size - count] = 0.0
        last /= last.sum()
        last[0] -= 1.0
        rows.append(last)
    return np.array(rows)
