"""What the effects of a model with empty cells leave over: comparisons that belong to no single effect."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from fastlmm_core.inference.row_spaces import estimable_part
from fastlmm_core.means.reference_grid import ReferenceGrid, grid_codes

Floats = NDArray[np.floating]

RELATIVE = 1e-8  # of the largest variance: below, a comparison is one of those tested already
BLOCK = 2_000


def grid_comparisons(grid: ReferenceGrid, null_basis: Floats, at: Mapping[str, int]) -> Floats:
    """Basis (r, p) of the estimable comparisons among the grid points with the values `at`."""
    codes = dict(zip(grid.values, grid_codes(grid.shape()), strict=True))
    inside = np.ones(grid.counts.size, dtype=bool)
    for name, level in at.items():
        inside &= codes[name] == level
    if grid.nesting is not None:
        inside &= grid.nesting.occurs
    points = np.flatnonzero(inside)
    triangle = np.zeros((0, grid.X.shape[1]))
    for first in range(0, points.size, BLOCK):  # the triangle has the same row space, and at most p rows
        rows = grid.X[points[first : first + BLOCK]] - sp.csr_array(
            np.ones((min(BLOCK, points.size - first), 1))
        ) @ sp.csr_array(grid.X[points[:1]])
        triangle = np.asarray(np.linalg.qr(np.vstack([triangle, rows.toarray()]), mode="r"))
    return estimable_part(triangle, null_basis)[0]


def confounded_rows(fit: Any, everything: Floats, tested: Floats, ddf: str, information: str) -> Floats:
    """Comparisons (d, p) whose estimates do not correlate with those of the effects tested.

    Parameters
    ----------
    fit : LMMFit
    everything : ndarray (r, p)
        All estimable comparisons.
    tested : ndarray (t, p)
        Those of the effects; they lie in the space of `everything`.
    ddf, information : str
        As of `joint_tests`.

    Returns
    -------
    ndarray (d, p)
        d = r - rank(tested); their Wald statistic is what that of `everything` has beyond that of `tested`.
    """
    t = tested.shape[0]
    functions = fit.linear_functions(np.vstack([tested, everything]), ddf=ddf, information=information)
    cov = np.asarray(functions.cov)
    slopes = cov[t:, :t] @ np.linalg.pinv(cov[:t, :t], rcond=RELATIVE, hermitian=True)
    rest = cov[t:, t:] - slopes @ cov[:t, t:]
    size, vectors = np.linalg.eigh(0.5 * (rest + rest.T))
    kept = size > RELATIVE * np.abs(np.diag(cov[t:, t:])).max(initial=0.0)
    return np.asarray(vectors[:, kept].T @ (everything - slopes @ tested))
