"""Fixed effects beside penalized splines, whose polynomials are columns of the fixed part.

By definition a spline has no share in the null space of its penalty: its coefficients are orthogonal to it
(ps), or its values at the knots are (spl; Verbyla et al. 1999). That basis is dense. The equations take a
sparse one, in which as many coefficients are zero as there are polynomials; the model is the same, but beta
is another. With v the coefficients by definition, w those of the equations, T the polynomials on the rows and
A w the share of B w in them,

    B w = B_defined v + T A w = B_defined v + X L w,     L = M A,  X M = T
    beta_defined = beta + L w

so that a row K of fixed effects is the function K beta + K L w of the unknowns of the equations. Under ML,
where |V| itself counts, the equations take the dense columns B - T A, and L is zero.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastlmm_core.engine.equations.least_squares import WeightedRegression


@dataclass(frozen=True)
class NullSpace:
    """Polynomials that the penalty of a spline does not see.

    Attributes
    ----------
    values : (n, j) float64
        T, on the rows used.
    coordinates : (j, b) float64
        A: the share of B w in them is T A w.
    reduced : bool
        The columns of the term are B; else B - T A.
    """

    values: np.ndarray
    coordinates: np.ndarray
    reduced: bool


@dataclass(frozen=True)
class NullShare:
    """L = M A of one spline.

    Attributes
    ----------
    rows : (b,) int64
        Natural scalars of w.
    columns : (p, j) float64
        M: the polynomials in the inside fixed columns.
    coordinates : (j, b) float64
    reduced : bool
    """

    rows: np.ndarray
    columns: np.ndarray
    coordinates: np.ndarray
    reduced: bool


def null_shares(
    regression: WeightedRegression, spaces: Sequence[NullSpace | None], rows: Sequence[np.ndarray]
) -> dict[int, NullShare]:
    """What inside fixed columns and each spline have in common, by random term.

    Parameters
    ----------
    regression : WeightedRegression
        On the inside fixed columns.
    spaces : by random term, None for those that are no splines
    rows : by random term (b, 1) int64, its natural scalars
    """
    out = {}
    for k, space in enumerate(spaces):
        if space is not None:
            M, _ = regression.fit(space.values)
            out[k] = NullShare(rows[k][:, 0], M, space.coordinates, space.reduced)
    return out


def shared_values(
    K: Any, shares: dict[int, NullShare], beside: Collection[int] = ()
) -> list[tuple[np.ndarray, np.ndarray]]:
    """K L by splines, for rows K (r, p): the natural scalars (b,) of w and the values (r, b) there.

    Of the splines `beside`, B w itself is added to the function: it leaves out the polynomials there.
    """
    return [
        (share.rows, times * (K @ share.columns @ share.coordinates))
        for share, times in _counted(shares, beside)
    ]


def shares_at(natural: np.ndarray, shares: dict[int, NullShare], beside: Collection[int]) -> Any:
    """L w at natural unknowns (q, r): (p, r), or 0 without splines."""
    return sum(
        times * (share.columns @ (share.coordinates @ natural[share.rows]))
        for share, times in _counted(shares, beside)
    )


def _counted(shares: dict[int, NullShare], beside: Collection[int]) -> list[tuple[NullShare, int]]:
    """Shares with the factor at which L w stands in the functions, where it is not zero."""
    found = [(share, int(share.reduced) - int(k in beside)) for k, share in shares.items()]
    return [(share, times) for share, times in found if times]
