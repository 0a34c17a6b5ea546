"""One random term over a dense relationship with equal weights of its levels: an orthogonal change of basis.

The rows of a level l, with weights w_i of the same sum s in every level, are reflected so that one of them
holds sum_i w_i y_i / sqrt(s) and the others what varies within the level; then the L rows that stand for the
levels are rotated by the eigenvectors of G = U diag(d) U'.  In the new rows, and with u = U sqrt(d) v:

    y* = H y,   X* = H W^(1/2) X,   Z* = sqrt(s) sqrt(d) on one row of each v,   e* ~ N(0, sigma2 I)

These are the same equations in another basis: C has a diagonal where the clique of the levels was, and an
evaluation takes O(n p) (Lippert et al. 2011, Nature Methods 8, 833-835, without repeated records).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse as sp
from scipy.linalg import eigh

from fastlmm_core.engine.terms import EngineTerm, coefficient_structure

# Levels below which the clique is as fast.
LEAST_LEVELS = 200
# Fixed columns up to which X* is worth being dense, and numbers that it may hold.
MOST_COLUMNS = 100
MOST_NUMBERS = 50_000_000
# Relative differences of the summed weights that are rounding.
EQUAL = 1e-12


@dataclass(frozen=True, eq=False)
class RowRotation:
    """H W^(1/2) and its inverse.

    Attributes
    ----------
    root : (n,) float64
        Roots of the weights.
    reflector : (L, n) csr_array
        Row l holds v_l, with I - v_l v_l' the reflection of the rows of level l.
    first : (L,) int64
        The row that stands for each level.
    vectors : (L, L) float64
        U.
    """

    root: np.ndarray
    reflector: sp.csr_array
    first: np.ndarray
    vectors: np.ndarray

    def forward(self, B: np.ndarray) -> np.ndarray:
        """H W^(1/2) B for B (n,) or (n, k)."""
        scaled = (B.T * self.root).T
        out = scaled - self.reflector.T @ (self.reflector @ scaled)
        out[self.first] = self.vectors.T @ out[self.first]
        return np.asarray(out)

    def backward(self, B: np.ndarray) -> np.ndarray:
        """W^(-1/2) H' B."""
        turned = B.copy()
        turned[self.first] = self.vectors @ B[self.first]
        turned = turned - self.reflector.T @ (self.reflector @ turned)
        return np.asarray((turned.T / self.root).T)

    def weighted(self, B: np.ndarray) -> np.ndarray:
        """W^(1/2) H' B: what `forward` is the transpose of."""
        return ((self.backward(B)).T * self.root**2).T


@dataclass(frozen=True, eq=False)
class RotatedTerm:
    """The term in the new basis, and the rotation of its rows."""

    term: EngineTerm
    rotation: RowRotation
    log_weights: float


def rotate_term(design: Any, G: np.ndarray, Z: sp.csr_array) -> RotatedTerm | None:
    """The only random term of a design in its eigenbasis; None where that is another model or no gain.

    Parameters
    ----------
    G : (L, L) float64
        As `dense_relationship` gives it.
    Z : (n, L) csr_array
        Incidence of its coefficient.
    """
    n, L = design.n, G.shape[0]
    if L < LEAST_LEVELS or design.X.shape[1] > MOST_COLUMNS or n * design.X.shape[1] > MOST_NUMBERS:
        return None
    if Z.nnz != n or not np.all(np.diff(Z.indptr) == 1) or not np.all(Z.data == 1.0):
        return None
    w = np.ones(n) if design.weights is None else np.asarray(design.weights, float)
    codes = Z.indices.astype(np.int64)
    sums = np.bincount(codes, w, minlength=L)
    least, most = float(np.min(sums)), float(np.max(sums))
    if least <= 0.0 or most - least > EQUAL * most:
        return None
    values, vectors = eigh(G, driver="evd", check_finite=False)
    root = np.sqrt(np.maximum(values, 0.0))
    first = np.full(L, n)
    np.minimum.at(first, codes, np.arange(n))
    rotation = RowRotation(np.sqrt(w), _reflector(np.sqrt(w / sums[codes]), codes, first), first, vectors)
    inside = sp.csr_array((np.sqrt(sums[0]) * root, (first, np.arange(L))), shape=(n, L))
    term = EngineTerm(coefficient_structure(design.random[0]), None, (inside,), np.eye(1), vectors * root)
    return RotatedTerm(term, rotation, float(np.sum(np.log(w))))


def dense_relationship(design: Any) -> np.ndarray | None:
    """G (L, L) of a model with one random term of one coefficient over it, and one residual variance."""
    if len(design.random) != 1 or design.residual.kind != "units" or design.residual.by is not None:
        return None
    term = design.random[0]
    if term.is_spline or term.relation is None or len(term.columns) != 1:
        return None
    if coefficient_structure(term).n_theta != 1:
        return None
    factors = term.relation.factors
    if len(factors) != 1 or factors[0].kind != "vm" or factors[0].relationship.root() is not None:
        return None
    relationship = factors[0].relationship
    matrix = getattr(getattr(relationship, "covariance", relationship), "matrix", None)
    return matrix if isinstance(matrix, np.ndarray) else None


def _reflector(share: np.ndarray, codes: np.ndarray, first: np.ndarray) -> sp.csr_array:
    """Rows v_l, v_l v_l' = 2 (a - e)(a - e)' / |a - e|^2, of the unit vectors a = `share` and e (first)."""
    n, L = codes.size, first.size
    difference = share.copy()
    difference[first] -= 1.0
    square = np.bincount(codes, difference**2, minlength=L)
    several = square > 0.0  # a single row is its own
    unit = np.sqrt(np.divide(2.0, square, out=np.zeros(L), where=several))
    return sp.csr_array((difference * unit[codes], (codes, np.arange(n))), shape=(L, n))
