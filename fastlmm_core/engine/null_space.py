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

from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import scipy.sparse as sp

from fastlmm_core.engine.least_squares import least_squares

if TYPE_CHECKING:
    from fastlmm_core.engine.equations import StructuredEquations


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


def null_shares(e: StructuredEquations) -> dict[int, NullShare]:
    """What the fixed effects and each spline have in common, by random term."""
    X = sp.csc_array(e.matrix[: e.n][:, e.natural.fixed])
    out = {}
    for k, term in enumerate(e.terms):
        if term.null is not None:
            M, _ = least_squares(X, np.ones(e.n), term.null.values)
            out[k] = NullShare(e.natural.rows[k][:, 0], M, term.null.coordinates, term.null.reduced)
    return out


def unknowns_of(e: StructuredEquations, K: np.ndarray, beside: Collection[int] = ()) -> np.ndarray:
    """Rows K (r, p) of inside fixed effects as functions of the natural unknowns (q, r).

    Of the splines `beside` the function leaves out the polynomials in B w, for a sum with B w itself.
    """
    out = np.zeros((e.natural.size, K.shape[0]))
    out[e.natural.fixed] = K.T
    for share, times in _shares(e, beside):
        out[share.rows] = times * (share.coordinates.T @ (share.columns.T @ K.T))
    return out


def fixed_coefficients(
    e: StructuredEquations, natural: np.ndarray, beside: Collection[int] = ()
) -> np.ndarray:
    """The functions `unknowns_of` the identity at natural unknowns (q, r): inside coefficients (p, r)."""
    out = natural[e.natural.fixed].copy()
    for share, times in _shares(e, beside):
        out += times * (share.columns @ (share.coordinates @ natural[share.rows]))
    return out


def _shares(e: StructuredEquations, beside: Collection[int]) -> list[tuple[NullShare, int]]:
    """Shares with the factor at which L w stands in the functions, where it is not zero."""
    found = [(share, int(share.reduced) - int(k in beside)) for k, share in e.null_shares.items()]
    return [(share, times) for share, times in found if times]
